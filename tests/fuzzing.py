"""Mutations of files: of their tree of values, of their bytes, and of what stands in their place.

Every mutation is drawn from a `random.Random`, so that a seed gives the same mutation again, and says what it did.
"""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = "@raw@"  # a string in a tree, in whose place the text of a raw value is put
DEPTHS = (5, 60, 400, 900, 3000, 100_000)
# Values as JSON. As TOML, `null` and the names of constants are mistakes of syntax, which is a case of its own.
RAW = (
    "null",
    "true",
    "0",
    "-1",
    "-0.0",
    "7",
    "0.5",
    "1e308",
    "1e999",
    "-1e-320",
    "NaN",
    "-Infinity",
    str(2**53 + 1),
    str(2**63),
    str(-(2**70)),
    "1" + "0" * 400,
    "1" + "0" * 5000,
    '""',
    '" "',
    '"x"',
    '"\\u0000"',
    '"\\ud800"',
    '"\\u001b[31mred\\u0007"',
    '"a\\nerror: b\\r"',
    '"[/red][bold]"',
    '"<script>alert(1)</script>"',
    '"{{ 7 * 7 }} %s $x \\\\input{x}"',
    '"../../x"',
    '"/dev/zero"',
    '"0001-01-01T00:00:00+23:59"',
    '"9999-12-31T23:59:59-23:59"',
    '"' + "long " * 100_000 + '"',
    "[]",
    "{}",
    "[[]]",
    '[1, "a", 0.5]',
    '{"a": 1}',
    '{"": ""}',
)
BYTES = (b"\0", b"\xff", b"\xed\xa0\x80", b"\x1b[2J", b"\xef\xbb\xbf", b"\r", b"\n", b'"', b"{", b"]", b",", b"9")


# --- trees ------------------------------------------------------------------------------------------------------------


def mutated_tree(tree: Any, rng: random.Random, as_text: Callable[[Any], str]) -> tuple[str, bytes]:
    """Return what was changed in a copy of the tree, and the copy as `as_text` writes it."""
    tree = copy.deepcopy(tree)
    holder, key, name = _place(tree, rng)
    kind = rng.choice(("drop", "retype", "retype", "retype", "nest", "swap", "rename", "twice", "near"))
    raw = json.dumps(MARK)
    if kind == "drop":
        del holder[key]
    elif kind == "retype":
        raw = rng.choice(RAW)
        holder[key] = MARK
    elif kind == "nest":
        depth, (left, right) = rng.choice(DEPTHS), rng.choice((("[", "]"), ('{"a":', "}")))
        raw, kind = left * depth + "1" + right * depth, f"nest {depth} times"
        holder[key] = MARK
    elif kind == "swap":
        other, there, where = _place(tree, rng)
        holder[key], other[there] = copy.deepcopy(other[there]), copy.deepcopy(holder[key])
        kind = f"swap with {where}"
    elif kind in ("rename", "twice") and isinstance(holder, dict):
        new = MARK if kind == "twice" else str(key)[:-1] + rng.choice("xQ_ ")
        raw = json.dumps(str(key))
        holder[new] = copy.deepcopy(holder[key]) if kind == "twice" else holder.pop(key)
    else:
        kind, holder[key] = "near", _near(holder[key], rng)
    text = as_text(tree).replace(json.dumps(MARK), raw)
    shown = f" to {raw[:40]}" if kind == "retype" else ""
    return f"{kind} {name}{shown}", text.encode("utf-8", "surrogatepass")


def _place(tree: Any, rng: random.Random) -> tuple[Any, Any, str]:
    """Return a container in the tree, a key of it, and the names that lead there; top levels are as likely as deep."""
    holder, names = tree, []
    while True:
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        names.append(str(key))
        if not isinstance(holder[key], dict | list) or not holder[key] or rng.random() < 0.3:
            return holder, key, ".".join(names)
        holder = holder[key]


def _near(value: Any, rng: random.Random) -> Any:
    """Return a value that resembles this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice((-value, value + 1, value * 10**6, str(value), [value], float(value)))
    if isinstance(value, str):
        return rng.choice((value[:-1], value * 2, value.upper(), value[::-1], [value], f"{value} "))
    if isinstance(value, list):
        return rng.choice((value[:-1], value * 2, value[::-1], dict(enumerate(value)), value * 200))
    return rng.choice(
        ([value], list(value), value | {"more": 1}, {str(key).upper(): one for key, one in value.items()})
    )


def as_json(tree: Any) -> str:
    """Return JSON as records are written."""
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)


def as_toml(tree: Any) -> str:
    """Return a table as TOML, with one key a line and everything below it inline."""
    return "".join(f"{json.dumps(str(key))} = {_inline(value)}\n" for key, value in tree.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


# --- bytes ------------------------------------------------------------------------------------------------------------


def mutated_bytes(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return what was changed, and the changed bytes."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    kind = rng.choice(("cut", "insert", "insert", "flip", "remove", "repeat", "zero", "UTF-16", "empty", "zeros"))
    if kind == "cut":
        return f"cut at byte {start}", data[:start]
    if kind == "insert":
        piece = rng.choice(BYTES)
        return f"insert {piece!r} at byte {start}", data[:start] + piece + data[start:]
    if kind == "flip" and start < len(data):
        return f"flip byte {start}", data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :]
    if kind == "UTF-16":
        return "encode as UTF-16", data.decode("utf-8", "replace").encode("utf-16")
    middle = {"remove": b"", "repeat": data[start:end] * 2, "zero": bytes(end - start)}.get(kind)
    if middle is not None:
        return f"{kind} bytes {start} to {end}", data[:start] + middle + data[end:]
    return ("empty the file", b"") if kind == "empty" else ("fill with zeros", bytes(len(data)))


# --- places -----------------------------------------------------------------------------------------------------------


def put_in_place(path: Path, rng: random.Random) -> str:
    """Put something else where the file or folder `path` is; return what. Only "no permission" keeps the content."""
    kind = rng.choice(
        ("absence", "a folder", "a file", "a FIFO", "a loop of links", "a broken link", "a link", "a lock")
    )
    if kind == "a lock":
        path.chmod(0)
        return "no permission to read"
    aside = path.with_name(f".{path.name}.aside")
    path.rename(aside)
    if kind == "a folder":
        path.mkdir()
        (path / "x").mkdir()
    elif kind == "a file":
        path.write_bytes(b"a file\n")
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a loop of links":
        path.symlink_to(path.name)
    elif kind == "a broken link":
        path.symlink_to("nowhere")
    elif kind == "a link":
        path.symlink_to(rng.choice(("/dev/zero", "/dev/null", "/", aside.name)))
        return f"a link to {path.readlink()}"
    if not kind.startswith("a link"):
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
    return f"{kind} in its place"
