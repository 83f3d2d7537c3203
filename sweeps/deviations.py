"""Deviations: values of a protocol that one sweep has otherwise. Named, given a reason, and carried by every trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from twinbench.sweeps.errors import InvalidInput, Mistake, nearest
from twinbench.sweeps.protocol import (
    LEFT_OUT,
    PROSE,
    AppliedDeviation,
    CarriedProtocol,
    Protocol,
    Section,
    contradictions,
)
from twinbench.sweeps.protocol_diff import flat
from twinbench.sweeps.toml_reader import parse

NAMING = ("name", "version", *PROSE)  # say which protocol it is, and hold no value to deviate from
OPEN_TABLES = ("methods", "movable", "backbone.options", "evaluation.metrics")  # a deviation may add keys to these


@dataclass(frozen=True)
class Deviation(Section):
    """One `[[deviations]]` table of a sweep: the value's dotted key in the protocol, the value instead, and why."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class DeviatingProtocol(Protocol):
    """A protocol with a sweep's deviations in it. Bears the name and version of that without them; the hash differs.

    `deviations` holds for each its key, value, protocol_value (None where the protocol has none) and reason.
    """

    deviations: tuple[AppliedDeviation, ...] = ()
    base_hash: str = ""  # of the protocol without them

    @property
    def carried(self) -> CarriedProtocol:
        """As of any protocol, with the deviations, and with the hash of the protocol without them."""
        return {**super().carried, "deviations": list(self.deviations), "base_hash": self.base_hash}


def deviate(protocol: Protocol, deviations: Sequence[Deviation], where: str) -> DeviatingProtocol:
    """The protocol with these deviations, checked whole as any other. InvalidInput lists every mistake in them."""
    before, after = protocol.content, cast(dict[str, Any], protocol.content)
    mistakes = _reason_mistakes(deviations, where)
    placed = []
    for number, deviation in enumerate(deviations):
        misplaced = _key_mistakes(number, deviations, before, where)
        mistakes += misplaced
        if not misplaced:
            placed.append(deviation)
            _put(after, deviation.key, deviation.value)
    try:
        effective = parse(Protocol, after, f"{where}: deviations")
        mistakes += contradictions(effective, f"{where}: deviations")
    except InvalidInput as error:
        raise InvalidInput([*mistakes, *error.mistakes]) from None
    resolved = tuple(_resolved(deviation, before, effective.content) for deviation in placed)
    for one in resolved:
        if one["value"] == one["protocol_value"]:
            problem = f"deviates from nothing: protocol {protocol.name} has this value"
            mistakes.append(Mistake(where, f"deviations: {one['key']}", problem, one["value"]))
    if mistakes:
        raise InvalidInput(mistakes)
    own = {field.name: getattr(effective, field.name) for field in fields(Protocol)}
    return DeviatingProtocol(**own, deviations=resolved, base_hash=protocol.hash)


def _resolved(deviation: Deviation, before: Mapping[str, object], after: Mapping[str, object]) -> AppliedDeviation:
    """What a trial carries of it. The value as it was read: 1 where a number with decimals is wanted is 1.0."""
    return {
        "key": deviation.key,
        "value": _get(after, deviation.key),
        "protocol_value": _get(before, deviation.key),
        "reason": deviation.reason,
    }


def _reason_mistakes(deviations: Sequence[Deviation], where: str) -> list[Mistake]:
    return [
        Mistake(where, f"deviations.{number}.reason", "is empty: it is shown beside every number of this sweep")
        for number, deviation in enumerate(deviations)
        if not deviation.reason.strip()
    ]


def _key_mistakes(
    number: int, deviations: Sequence[Deviation], content: Mapping[str, object], where: str
) -> list[Mistake]:
    """Why the deviation of that number has no place in the protocol's content, if it has none."""
    key, place = deviations[number].key, f"deviations.{number}.key"
    if key.partition(".")[0] in NAMING:
        return [Mistake(where, place, "says which protocol it is, which is no deviation", key)]
    known = _keys(content)
    if key not in known and not _may_be_new(key):
        table = key
        while table and table not in known:
            table = table.rpartition(".")[0]
        allowed = [name for name in known if name.rpartition(".")[0] == table]
        return [Mistake(where, place, "is no value of the protocol", key, ", ".join(allowed), nearest(key, known))]
    for other in deviations[:number]:
        if f"{key}.".startswith(f"{other.key}.") or f"{other.key}.".startswith(f"{key}."):
            return [Mistake(where, place, f"deviates twice, as {other.key} too", key)]
    return []


def _keys(content: Mapping[str, object]) -> list[str]:
    """The dotted keys of all values and tables from which a sweep may deviate."""
    keys: dict[str, None] = {}
    for key, _ in flat(content, ""):
        parts = key.split(".")
        if parts[0] not in NAMING:
            keys |= dict.fromkeys(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return list(keys)


def _may_be_new(key: str) -> bool:
    """Whether the protocol needs not have the key: one more axis, option or metric, or a setting of a method."""
    return (
        key.rpartition(".")[0] in OPEN_TABLES or key in LEFT_OUT or (key.startswith("methods.") and key.count(".") == 2)
    )


def _get(content: Mapping[str, object], key: str) -> Any:
    """The value under a dotted key; None where there is none."""
    value: Any = content
    for part in key.split("."):
        if isinstance(value, list):
            value = dict(zip(map(str, range(len(value))), value, strict=True))
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value under a dotted key whose place `_key_mistakes` has found."""
    *path, last = key.split(".")
    table: Any = content
    for part in path:
        table = table[int(part)] if isinstance(table, list) else table.setdefault(part, {})
    table[int(last) if isinstance(table, list) else last] = value
