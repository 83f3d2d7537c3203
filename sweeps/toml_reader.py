"""Reads TOML into frozen dataclasses. All mistakes in a file are reported at once, each with the allowed values."""

import dataclasses
import functools
import json
import math
import re
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

from twinbench.sweeps.errors import MOST_MISTAKES, InvalidInput, Mistake, first_ones, nearest
from twinbench.sweeps.file_reader import read_regular

T = TypeVar("T")
LARGEST = 2**20  # bytes of a file: parsing takes up to two seconds per MiB
MOST_VALUES = 50_000  # in one file: each wrong one costs kilobytes of errors
DEEPEST = 50  # levels of nested tables and lists
MOST_DOTS = 10  # in one key: parsing it takes quadratic time and memory
TOO_MANY_DOTS = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % (MOST_DOTS + 1)  # noqa: UP031
)
BOUNDS = {
    "ge": "at least",
    "gt": "more than",
    "le": "at most",
    "lt": "less than",
    "min_length": "at least",
    "max_length": "at most",
}
_MEMBER = re.compile(r"bool|int|float|str|none|Range|constrained-\w+|[\w-]+\[.*\]")  # of a union; not a key `a-b`
WRONG_KIND = "is of the wrong kind"  # the problem of a value that fits no member of a union
KINDS = {  # of errors at the members of a union, by pydantic's names
    "bool_type": "true or false",
    "int_type": "a number",
    "float_type": "a number",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "a list with at least one of them",
    "dict_type": "a table",
    "dataclass_type": "a table",
}


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's tables. InvalidInput if it is missing, not UTF-8, not TOML, nested too deeply, or too large."""
    where = str(path)
    try:
        return _tables(read_regular(path, LARGEST).decode("utf-8"), where)
    except OSError as error:
        raise InvalidInput([Mistake(where, "", f"cannot be read: {error.strerror}")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput([Mistake(where, "", f"is not TOML: {error}")]) from None


def read_value(text: str, where: str) -> Any:
    """Return the one TOML value in the text as a JSON type; text that is not one value is a string, as dates are.

    InvalidInput if it is nested too deeply or too large.
    """
    try:
        tables = _tables(f"whole = {{ value = {text} }}", where)  # in an inline table a comment or a second line fails
    except tomllib.TOMLDecodeError:
        return text
    whole = tables.pop("whole")
    is_one = not tables and whole.keys() == {"value"}
    return json.loads(json.dumps(whole["value"], default=str)) if is_one else text


def _tables(text: str, where: str) -> dict[str, Any]:
    """Return the tables of a TOML text. InvalidInput for what is too large; TOMLDecodeError for what is not TOML."""
    problem, allowed = "is nested too deeply", f"at most {DEEPEST} levels, and {MOST_DOTS} dots in a key"
    if not TOO_MANY_DOTS.search(text):
        try:
            data = tomllib.loads(text)
            if not _is_deeper(data, DEEPEST):
                if (values := _count(data)) <= MOST_VALUES:
                    return data
                problem, allowed = f"holds {values:,} values", f"at most {MOST_VALUES:,}"
        except RecursionError:
            pass
        except tomllib.TOMLDecodeError:
            raise
        except ValueError:  # from int()
            problem, allowed = "has an integer with too many digits", f"at most {sys.get_int_max_str_digits():,}"
    raise InvalidInput([Mistake(where, "", problem, allowed=allowed)])


def _is_deeper(value: object, most: int) -> bool:
    """Return whether tables and lists are nested more than `most` deep."""
    return bool(parts := _parts(value)) and (most == 0 or any(_is_deeper(part, most - 1) for part in parts))


def _count(value: object) -> int:
    """Return the number of values, tables and lists."""
    return 1 + sum(map(_count, _parts(value)))


def _parts(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def parse(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """Return `data` as a `cls`, with strict types ("1" and true are not numbers). InvalidInput lists every mistake."""
    from pydantic import ValidationError

    # TOML has inf and nan; no setting takes them, and records and the database hold neither them nor wider integers.
    if outside := [Mistake(where, key, problem, str(seen)) for key, problem, seen in _outside(data)]:
        raise InvalidInput(outside)
    try:
        # via JSON, where strict mode still accepts a list for a tuple and 1 for 1.0
        return cast(T, _adapter(cast(Any, cls)).validate_json(json.dumps(data, default=str), strict=True))
    except ValidationError as error:
        found = error.errors(include_url=False)
    # A list with wrong items is called too short as well: the items' own mistakes are enough.
    own = [one for one in found if one["type"] != "too_short" or len(one["input"]) < one["ctx"]["min_length"]]
    groups = _by_key(own)
    first = dict.fromkeys(one for group in groups[:MOST_MISTAKES] for one in _mistakes(cls, group, where))
    raise InvalidInput(first_ones([*first], more=len(groups[MOST_MISTAKES:])))


def _by_key(errors: Sequence[Any]) -> list[list[Any]]:
    """Return the errors of each key; those that a union's members have in a whole value only where no part is wrong."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for one in errors:
        groups.setdefault(tuple(part for part in one["loc"] if not _is_union_branch(part)), []).append(one)
    holders = {key[:length] for key in groups for length in range(len(key))}
    return [
        group
        for key, group in groups.items()
        if key not in holders or not all(_is_union_branch(one["loc"][-1]) for one in group if one["loc"])
    ]


def _mistakes(cls: type, errors: Sequence[Any], where: str) -> list[Mistake]:
    """Return the mistakes of one key: one where a value fits no member of a union."""
    if len(errors) == 1 or not all(_is_union_branch(one["loc"][-1]) for one in errors):
        return [_mistake(cls, one, where) for one in errors]
    allowed = dict.fromkeys(KINDS.get(one["type"], one["msg"]) for one in errors)
    first = _mistake(cls, errors[0], where)
    return [replace(first, problem=WRONG_KIND, allowed=", ".join(allowed), nearest="")]


def _outside(value: Any, key: str = "") -> Iterator[tuple[str, str, float]]:
    """Yield key, problem and value of each number that is not finite or needs more than 64 bits."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key, "is not a finite number", value
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield key, "is not an integer of 64 bits", value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, item in items:
        yield from _outside(item, f"{key}.{name}" if key else str(name))


@functools.cache  # building an adapter takes milliseconds, and a large sweep needs thousands
def _adapter(cls: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _mistake(cls: type, details: Any, where: str) -> Mistake:
    location = [part for part in details["loc"] if not _is_union_branch(part)]
    key = ".".join(map(str, location))
    name = str(location[-1]) if location else ""
    kind, context = details["type"], details.get("ctx", {})
    seen = details["input"] if isinstance(details["input"], bool | int | float | str) else str(details["input"])
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _field_names(cls, location[:-1])
        return Mistake(where, key, "unknown key", seen, ", ".join(known), nearest(name, known))
    if kind in ("missing", "missing_argument"):
        hint = get_type_hints(cls).get(name) if len(location) == 1 else None
        return Mistake(where, key, "is missing", allowed=getattr(hint, "__name__", ""))
    bound = next((f"{words} {context[name]}" for name, words in BOUNDS.items() if name in context), "")
    allowed = str(context.get("expected", bound)).replace(" or ", ", ")
    close = nearest(str(seen), [part.strip(" '") for part in allowed.split(",")]) if kind == "literal_error" else ""
    problem = details["msg"][0].lower() + details["msg"][1:]
    problem = {"too_short": "needs more items", "too_long": "has too many items"}.get(kind, problem)
    return Mistake(where, key, problem, seen, allowed, close)


def _is_union_branch(part: object) -> bool:
    """Return whether a part of a location names a union's member: 'float', 'Range', 'constrained-int', 'list[...]'."""
    return bool(_MEMBER.fullmatch(str(part)))


def _field_names(cls: Any, location: list[Any]) -> list[str]:
    """Return the fields of the dataclass at `location` within `cls`."""
    for part in location:
        if dataclasses.is_dataclass(cls) and isinstance(part, str):
            cls = get_type_hints(cls).get(part, cls)
        else:
            cls = _member(cls)
    cls = _member(cls)
    return [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


def _member(cls: Any) -> Any:
    """Return the dataclass among the arguments of a type such as tuple[Grid, ...]; other types as they are."""
    return next((arg for arg in get_args(cls) if dataclasses.is_dataclass(arg)), cls)
