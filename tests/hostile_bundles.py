"""Bundles of a stranger who wants a reviewer's machine to be busy: each is valid in form, and expensive to read.

`HOSTILE[name](members, size)` changes the members of an honest bundle; `REAL` has the sizes that took 1 to 22 GiB or
minutes. To write one:

    python tests/hostile_bundles.py NAME OUT.tar.gz [SIZE]
"""

import hashlib
import json
import random
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bundling import as_json, changed_record, genuine_run, members_of, packed

Members = dict[str, bytes]
CLAIM = """
protocol = "digits-small"
[[claims]]
name = "hostile"
sentence = "SimCLR is better than VICReg."
kind = "{kind}"
a = {{ method = "simclr" }}
"""


def wide_scope(members: Members, size: int) -> None:
    """A claim at size^4 points."""
    axes = ("batch_size", "epochs", "learning_rate", "temperature")
    scope = ", ".join(f"{axis} = {[*range(1, size + 1)]}" for axis in axes)
    members["claims.toml"] = (
        CLAIM.format(kind="better") + f'b = {{ method = "vicreg" }}\nscope = {{ {scope} }}'
    ).encode()


def long_axis(members: Members, size: int) -> None:
    """A claim on an axis of so many values."""
    text = CLAIM.format(kind="insensitive") + f'axis = "batch_size"\nvalues = {[*range(1, size + 1)]}\nwithin = 0.1'
    members["claims.toml"] = text.encode()


def dotted_keys(members: Members, size: int) -> None:
    """A claims file with so many lines of 900 dots each."""
    members["claims.toml"] = "\n".join(f"k{n}" + ".a" * 900 + " = 1" for n in range(size)).encode()


def wrong_claims(members: Members, size: int) -> None:
    """A claims file with so many mistakes."""
    members["claims.toml"] = (CLAIM.format(kind="better") + "".join(f"k{n} = 1\n" for n in range(size))).encode()


def long_string(members: Members, size: int) -> None:
    """Curves that are one string of so many bytes."""
    _replace_artefact(members, "curves", b'{"epoch": ["' + b"".join(_pieces(size)) + b'"]}')


def long_table(members: Members, size: int) -> None:
    """A table of so many lines of three characters."""
    members["report/tables/methods.csv"] = b"".join(b"%d,\n" % (n % 10) for n in range(size))


def many_dictionaries(members: Members, size: int) -> None:
    """A protocol's content of so many nested dictionaries, each key of which is new."""
    inner = ",".join(f'"{n}":{{"{n}a":{{"{n}b":{{"{n}c":0}}}}}}' for n in range(size // 4))
    members[f"protocols/{'0' * 64}.json"] = f"{{{inner}}}".encode()


def many_tensors(members: Members, size: int) -> None:
    """Per-example outputs with so many names of arrays."""
    header = ",".join(f'"{n}":{{"dtype":"U8","shape":[1],"data_offsets":[{n},{n + 1}]}}' for n in range(size))
    _replace_artefact(members, "outputs", struct.pack("<Q", len(header) + 2) + f"{{{header}}}".encode() + bytes(size))


def many_attempts(members: Members, size: int) -> None:
    """So many attempts at one trial."""
    first = json.loads(members["attempts.json"])[0]
    attempts = [{**first, "number": n, "status": "failed" if n < size else "done"} for n in range(1, size + 1)]
    members["attempts.json"] = as_json(attempts)


def many_declarations(members: Members, size: int) -> None:
    """A log of so many lines, none of which is a declaration of a claim in the bundle."""
    from dataclasses import replace

    from twinbench.reports.claims.declarations import Declaration, _content, _digest  # the chain holds

    lines, before = [], ""
    for n in range(size):
        entry = Declaration(f"c{n}", f"{n:064x}", "2026-01-01T00:00:00+00:00", 0, before)
        entry = replace(entry, digest=_digest(entry))
        before = entry.digest
        lines.append(json.dumps(_content(entry), sort_keys=True, separators=(",", ":")))
    members["declarations.jsonl"] = ("\n".join(lines) + "\n").encode()


def many_metrics(members: Members, size: int) -> None:
    """A record with so many metrics of its own names."""

    def add(result: dict[str, Any]) -> None:
        result["metrics"] += [{"name": f"m{n}", "variant": "v", "split": "test", "value": 0.5} for n in range(size)]

    name = next(name for name in members if name.startswith("records/"))
    members[name] = changed_record(members[name], add)


def _replace_artefact(members: Members, key: str, data: bytes) -> None:
    """Give the first record other curves or outputs."""
    name = next(name for name in members if name.startswith("records/"))

    def change(result: dict[str, Any]) -> None:
        suffix = result[key]["file"].rpartition(".")[2]
        del members[result[key]["file"]]
        sha256 = hashlib.sha256(data).hexdigest()
        result[key] = {"sha256": sha256, "file": f"artefacts/{sha256}.{suffix}"}
        members[result[key]["file"]] = data

    members[name] = changed_record(members[name], change)


def _pieces(size: int) -> Iterator[bytes]:
    """Yield bytes that gzip makes a hundred times smaller: fewer would be refused by the ratio alone."""
    rng = random.Random(0)
    for _ in range(size // 2**16 + 1):
        yield rng.randbytes(300).hex().encode() + b"a" * (2**16 - 600)


REAL = {
    wide_scope: 1000,
    long_axis: 100_000,
    dotted_keys: 1000,
    wrong_claims: 130_000,
    long_string: 500_000_000,
    long_table: 16_000_000,
    many_dictionaries: 900_000,
    many_tensors: 800_000,
    many_attempts: 200_000,
    many_declarations: 150_000,
    many_metrics: 100_000,
}
HOSTILE: dict[str, Callable[[Members, int], None]] = {change.__name__: change for change in REAL}


def hostile_bundle(honest: Path, name: str, size: int, out: Path) -> Path:
    """Write the honest bundle with one member changed, and a manifest that matches."""
    members = members_of(honest)
    HOSTILE[name](members, size)
    return packed(members, out)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        honest = genuine_run(Path(temporary) / "run").bundle(report=True).path
        hostile_bundle(honest, sys.argv[1], int((sys.argv[3:] or [REAL[HOSTILE[sys.argv[1]]]])[0]), Path(sys.argv[2]))
