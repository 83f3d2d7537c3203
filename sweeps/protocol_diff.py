"""A protocol's content value by value: under dotted keys, with what a sweep may move; and where two contents differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.protocol import PROSE, Protocol, Range

ABSENT = "(absent)"  # stands for the value on the side that has no such key
FIXED = "fixed"


@dataclass(frozen=True)
class ProtocolValue:
    """One value under its dotted key. `moves` says whether a sweep may move it; `set_by` whose value it is."""

    key: str
    value: Any
    moves: str
    set_by: str = "protocol"


@dataclass(frozen=True)
class Differing:
    """A key under which two contents differ, and both values; ABSENT where one has no such key."""

    key: str
    left: Any
    right: Any


def protocol_values(
    protocol: Protocol, method_defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> list[ProtocolValue]:
    """Every value but name, version and prose, in the protocol's order.

    `method_defaults` (field to value, by method) adds what the protocol leaves to the methods, under `methods.`.
    Axes that a sweep may move and that have no value there come last, under `movable.`.
    """
    content = protocol.content
    skipped = ("name", "version", "movable", "methods", *PROSE)
    found = [
        ProtocolValue(key, value, moves(protocol, key))
        for name, part in content.items()
        if name not in skipped
        for key, value in flat(part, name)
    ]
    defaults = method_defaults or {}
    for method in dict.fromkeys((*content["methods"], *defaults)):
        own = content["methods"].get(method, {})
        for name, value in {**own, **defaults.get(method, {}), **own}.items():
            key = f"methods.{method}.{name}"
            found.append(ProtocolValue(key, value, moves(protocol, key), "protocol" if name in own else "method"))
    seen = {value.key.rpartition(".")[2] for value in found if value.moves != FIXED}
    left = [axis for axis, rule in protocol.movable.items() if rule is not False and axis not in seen]
    return found + [ProtocolValue(f"movable.{axis}", None, _words(protocol.movable[axis])) for axis in left]


def moves(protocol: Protocol, key: str) -> str:
    """Whether a sweep may move the value under `key`, in words: "fixed", "may be moved", "may be moved, 1 to 200"."""
    first, _, rest = key.partition(".")
    if first not in ("training", "methods"):
        return FIXED
    return _words(protocol.movable.get(rest.rpartition(".")[2], False))


def _words(rule: Range | bool) -> str:
    if rule is False:
        return FIXED
    return f"may be moved, {rule.at_least:g} to {rule.at_most:g}" if isinstance(rule, Range) else "may be moved"


def flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values. Lists of plain values stay whole; tables within a list are told by their place."""
    parts = _parts(value)
    if not parts:
        yield key, value
    for name, part in parts.items():
        yield from flat(part, f"{key}.{name}" if key else str(name))


def _parts(value: Any) -> Mapping[str, Any]:
    """What has keys of its own within `value`."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return {str(place): item for place, item in enumerate(value)}
    return {}


def differences(content_a: Mapping[str, Any], content_b: Mapping[str, Any]) -> list[Differing]:
    """Where two protocols' contents differ, prose aside: empty exactly when their hashes are equal. Sorted by key."""
    a, b = ({key: value for key, value in content.items() if key not in PROSE} for content in (content_a, content_b))
    return list(_differing("", a, b))


def _differing(key: str, a: Any, b: Any) -> Iterator[Differing]:
    parts_a, parts_b = _parts(a), _parts(b)
    walked = all(_parts(side) or side in (ABSENT, {}) for side in (a, b))
    if walked and (parts_a or parts_b):
        for name in sorted({*parts_a, *parts_b}):
            yield from _differing(
                f"{key}.{name}" if key else name, parts_a.get(name, ABSENT), parts_b.get(name, ABSENT)
            )
    elif canonical_json(a) != canonical_json(b):
        yield Differing(key, a, b)
