"""Deviations: values of a protocol that one sweep changes. Each has a reason and is carried by every trial."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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

NAMING = ("name", "version", *PROSE)  # identify the protocol; a sweep cannot deviate from them
OPEN_TABLES = ("methods", "movable", "backbone.options", "evaluation.metrics")  # a deviation may add keys to these


@dataclass(frozen=True)
class Deviation(Section):
    """One `[[deviations]]` table of a sweep: dotted key, new value and reason."""

    key: str
    value: object
    reason: str


@dataclass(frozen=True)
class DeviatingProtocol(Protocol):
    """A protocol with a sweep's deviations applied. Name and version are the original's; the hash differs."""

    deviations: tuple[AppliedDeviation, ...] = ()
    base_hash: str = ""  # of the protocol without the deviations

    @property
    def carried(self) -> CarriedProtocol:
        """Return what a trial carries: the protocol, the deviations, and the hash of the protocol without them."""
        return {**super().carried, "deviations": list(self.deviations), "base_hash": self.base_hash}


def deviate(protocol: Protocol, deviations: Sequence[Deviation], where: str) -> DeviatingProtocol:
    """Return the protocol with these deviations, checked as a whole. InvalidInput lists every mistake."""
    before, after = protocol.content, cast(dict[str, Any], protocol.content)
    mistakes = [
        Mistake(where, f"deviations.{number}.reason", "is empty: it is shown with every number of this sweep")
        for number, deviation in enumerate(deviations)
        if not deviation.reason.strip()
    ]
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
    parsed = effective.content  # where 1 for a float field is 1.0
    resolved = tuple(
        AppliedDeviation(
            key=one.key, value=_get(parsed, one.key), protocol_value=_get(before, one.key), reason=one.reason
        )
        for one in placed
    )
    for one in resolved:
        if one["value"] == one["protocol_value"]:
            problem = f"changes nothing: protocol {protocol.name} has this value"
            mistakes.append(Mistake(where, f"deviations: {one['key']}", problem, one["value"]))
    if mistakes:
        raise InvalidInput(mistakes)
    return DeviatingProtocol(**vars(effective), deviations=resolved, base_hash=protocol.hash)


def undone(content: Mapping[str, object], deviations: Iterable[AppliedDeviation]) -> dict[str, Any]:
    """Return a protocol's content with the deviations undone; one in a key that does not exist changes nothing."""
    before: dict[str, Any] = copy.deepcopy(dict(content))
    for key, value in ((one["key"], one["protocol_value"]) for one in deviations):
        if _get(before, key) is None:
            continue
        _put(before, key, value)
        if value is None and _may_be_new(key):  # elsewhere None is a value
            *path, name = key.split(".")
            del _get(before, ".".join(path))[name]
            if path[:1] == ["methods"] and len(path) == 2 and not before["methods"][path[1]]:
                del before["methods"][path[1]]
    return before


def deviations_text(deviations: Iterable[AppliedDeviation]) -> str:
    """Return the deviations as one text: "training.warmup_epochs = 10 (protocol: 0)"."""
    return ", ".join(f"{one['key']} = {one['value']} (protocol: {one['protocol_value']})" for one in deviations)


def _key_mistakes(
    number: int, deviations: Sequence[Deviation], content: Mapping[str, object], where: str
) -> list[Mistake]:
    """Return why the deviation with that number cannot be applied; nothing if it can."""
    key, place = deviations[number].key, f"deviations.{number}.key"
    if key.partition(".")[0] in NAMING:
        return [Mistake(where, place, "identifies the protocol and cannot be changed", key)]
    known = _keys(content)
    if key not in known and not _may_be_new(key):
        table = key
        while table and table not in known:
            table = table.rpartition(".")[0]
        allowed = [name for name in known if name.rpartition(".")[0] == table]
        return [Mistake(where, place, "is not a key of the protocol", key, ", ".join(allowed), nearest(key, known))]
    for other in deviations[:number]:
        if f"{key}.".startswith(f"{other.key}.") or f"{other.key}.".startswith(f"{key}."):
            return [Mistake(where, place, f"is changed twice, by {other.key} too", key)]
    return []


def _keys(content: Mapping[str, object]) -> list[str]:
    """Return the dotted keys of all values and tables that a sweep may change."""
    keys: dict[str, None] = {}
    for key, _ in flat(content, ""):
        parts = key.split(".")
        if parts[0] not in NAMING:
            keys |= dict.fromkeys(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return list(keys)


def _may_be_new(key: str) -> bool:
    """Return whether a deviation may add the key: an axis, option or metric, or a setting of a method."""
    return (
        key.rpartition(".")[0] in OPEN_TABLES or key in LEFT_OUT or (key.startswith("methods.") and key.count(".") == 2)
    )


def _get(content: Mapping[str, object], key: str) -> Any:
    """Return the value under a dotted key; None if there is none."""
    value: object = content
    for part in key.split("."):
        if isinstance(value, list):
            value = dict(zip(map(str, range(len(value))), value, strict=True))
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def _put(content: dict[str, Any], key: str, value: object) -> None:
    """Set the value under a dotted key that `_key_mistakes` has accepted."""
    *path, last = key.split(".")
    table: Any = content
    for part in path:
        table = table[int(part)] if isinstance(table, list) else table.setdefault(part, {})
    table[int(last) if isinstance(table, list) else last] = value
