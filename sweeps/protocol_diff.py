"""The values of a protocol under dotted keys, which of them a sweep may vary, and where two protocols differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from twinbench.sweeps.errors import number_text
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.protocol import PROSE, Protocol, Range, without_prose

ABSENT = "(absent)"  # the value on the side that lacks the key
FIXED = "fixed"


@dataclass(frozen=True)
class ProtocolValue:
    """One value under its dotted key. `rule` says whether a sweep may vary it, `set_by` where the value comes from."""

    key: str
    value: object
    rule: str
    set_by: str = "protocol"


@dataclass(frozen=True)
class Differing:
    """A key whose values differ, and both values; ABSENT where one side lacks the key."""

    key: str
    left: object
    right: object


def protocol_values(
    protocol: Protocol, method_defaults: Mapping[str, Mapping[str, object]] | None = None
) -> list[ProtocolValue]:
    """Return every value but name, version and prose, in the protocol's order.

    `method_defaults` (field to value, by method) adds the settings that the protocol leaves at the methods' defaults,
    under `methods.`. Axes that a sweep may vary and that have no value come last, under `movable.`.
    """
    content = protocol.content
    skipped = ("name", "version", "movable", "methods", *PROSE)
    found = [
        ProtocolValue(key, value, rule_text(protocol, key))
        for name, part in content.items()
        if name not in skipped
        for key, value in flat(part, name)
    ]
    defaults = method_defaults or {}
    for method in dict.fromkeys((*content["methods"], *defaults)):
        own = content["methods"].get(method, {})
        for name, value in {**own, **defaults.get(method, {}), **own}.items():
            key = f"methods.{method}.{name}"
            found.append(ProtocolValue(key, value, rule_text(protocol, key), "protocol" if name in own else "method"))
    varied = {value.key.rpartition(".")[2] for value in found if value.rule != FIXED}
    without_value = [axis for axis, rule in protocol.movable.items() if rule is not False and axis not in varied]
    return found + [ProtocolValue(f"movable.{axis}", None, _words(protocol.movable[axis])) for axis in without_value]


def rule_text(protocol: Protocol, key: str) -> str:
    """Return whether a sweep may vary the value: "fixed", "may be varied" or "may be varied, 1 to 200"."""
    first, _, rest = key.partition(".")
    if first not in ("training", "methods"):
        return FIXED
    return _words(protocol.movable.get(rest.rpartition(".")[2], False))


def _words(rule: Range | bool) -> str:
    if rule is False:
        return FIXED
    return (
        f"may be varied, {number_text(rule.at_least)} to {number_text(rule.at_most)}"
        if isinstance(rule, Range)
        else "may be varied"
    )


def flat(value: object, key: str) -> Iterator[tuple[str, object]]:
    """Yield dotted keys and their values. Lists of plain values stay whole; tables in a list are keyed by position."""
    parts = _parts(value)
    if not parts:
        yield key, value
    for name, part in parts.items():
        yield from flat(part, f"{key}.{name}" if key else str(name))


def _parts(value: object) -> Mapping[str, object]:
    """Return the parts of a table or of a list of tables, by key; nothing for a plain value."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return {str(place): item for place, item in enumerate(value)}
    return {}


def differences(content_a: Mapping[str, object], content_b: Mapping[str, object]) -> list[Differing]:
    """Return where two contents differ, except in prose, sorted by key. Empty exactly if their hashes are equal."""
    return list(_differing("", without_prose(content_a), without_prose(content_b)))


def _differing(key: str, a: object, b: object) -> Iterator[Differing]:
    parts_a, parts_b = _parts(a), _parts(b)
    walked = all(_parts(side) or side in (ABSENT, {}) for side in (a, b))
    if walked and (parts_a or parts_b):
        for name in sorted({*parts_a, *parts_b}):
            yield from _differing(
                f"{key}.{name}" if key else name, parts_a.get(name, ABSENT), parts_b.get(name, ABSENT)
            )
    elif canonical_json(a) != canonical_json(b):
        yield Differing(key, a, b)
