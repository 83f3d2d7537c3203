"""The protocol's own value of each setting of a method, and the settings in which a trial differs from it.

A sweep may set what the protocol lets it vary without naming a deviation. Then the trials have the protocol's hash, but
not its values, so what differs is shown with every number.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from twinbench.sweeps.deviations import undone
from twinbench.sweeps.file_reader import as_mapping
from twinbench.sweeps.protocol import AppliedDeviation, CarriedProtocol, ProtocolContent
from twinbench.sweeps.protocol_diff import ABSENT
from twinbench.sweeps.toml_reader import read_toml
from twinbench.sweeps.trial import Trial, setting_text

# Defaults by method and version: reports read results without importing torch.
METHODS_LOCK = Path(__file__).with_name("methods.lock")
_SHIPPED = read_toml(METHODS_LOCK)


class ChangedSetting(NamedTuple):
    """A setting whose value is not the protocol's own, and both values as text."""

    name: str
    value: str
    protocol_value: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value} (protocol: {self.protocol_value})"


class OwnValues:
    """A protocol's own values, by which the settings of many trials are compared.

    `content` has the sweep's `deviations` applied. Trials that follow a deviation do not differ from the protocol by
    it, since the deviation is named with their protocol. For other trials the value before the deviation is given.
    """

    def __init__(self, content: ProtocolContent, deviations: Sequence[AppliedDeviation] = ()) -> None:
        self._content = content
        self._before = undone(content, deviations) if deviations else content
        self._known: dict[tuple[str, int], tuple[dict[str, str], dict[str, str]]] = {}

    def changed(self, method: str, version: int, values: Mapping[str, str]) -> tuple[ChangedSetting, ...]:
        """Return the settings in which a trial of a method differs from the protocol, sorted by name.

        Settings for which neither protocol nor method is known to have a value are not compared. A trial with settings
        that lacks a field of the protocol's training differs in it. Baselines have no settings.
        """
        if (method, version) not in self._known:
            contents = (self._content, self._before)
            first, second = (own_values(content, method, version) for content in contents)
            self._known[method, version] = first, second
        own, before = self._known[method, version]
        absent = dict.fromkeys(as_mapping(self._content.get("training")), ABSENT) if values else {}
        values = {**absent, **values}
        changed = [name for name in sorted(values) if name in own and not is_same_text(values[name], own[name])]
        return tuple(ChangedSetting(name, values[name], before.get(name, ABSENT)) for name in changed)


def own_values(content: Mapping[str, object], method: str, version: int) -> dict[str, str]:
    """Return the protocol's value of each setting and training field of a method, as text.

    The protocol's table of the method comes before its training table, and both before the method's defaults. Settings
    of another package's method, or of a version that is not shipped, are missing where the protocol does not give them.
    """
    of_method = as_mapping(as_mapping(content.get("methods")).get(method))
    defaults = _SHIPPED.get(method, {}).get(str(version), {})
    values = {**defaults, **as_mapping(content.get("training")), **of_method}
    return {name: setting_text(value) for name, value in values.items()}


def shipped_methods() -> list[str]:
    """Return the names of the methods and baselines that are or were shipped."""
    return [*_SHIPPED]


def shipped_settings(method: str, version: int) -> Mapping[str, object] | None:
    """Return the settings of a shipped version of a method, with their defaults; None for any other method."""
    settings: Mapping[str, object] | None = _SHIPPED.get(method, {}).get(str(version))
    return settings


def shipped_versions(method: str) -> list[int]:
    """Return the versions that a shipped method or baseline has had; empty for methods of other packages."""
    return [int(version) for version in _SHIPPED.get(method, {})]


def in_every_cell(cells: Mapping[str, Sequence[Sequence[ChangedSetting]]]) -> dict[str, tuple[ChangedSetting, ...]]:
    """Return what the sweep fixes: for each method the settings that are changed alike in all of its cells.

    `cells` gives the changed settings of each cell, by method. Settings that all methods share are under "".
    """
    fixed = {
        method: tuple(one for one in changed[0] if all(one in other for other in changed[1:]))
        for method, changed in cells.items()
        if changed
    }
    shared = tuple(one for one in next(iter(fixed.values()), ()) if all(one in other for other in fixed.values()))
    apart = {method: tuple(one for one in own if one not in shared) for method, own in fixed.items()}
    return {method: own for method, own in {"": shared, **apart}.items() if own}


def changed_by_cell(trials: Iterable[Trial], protocol: CarriedProtocol) -> dict[str, list[tuple[ChangedSetting, ...]]]:
    """Return the changed settings of each cell, by method, of trials under `protocol`; without baselines."""
    own = OwnValues(protocol["content"], protocol.get("deviations", []))
    cells: dict[str, list[tuple[ChangedSetting, ...]]] = {}
    for trial in {trial.cell_id: trial for trial in trials}.values():
        if values := trial.setting_texts():
            cells.setdefault(trial.method, []).append(own.changed(trial.method, trial.method_version, values))
    return cells


def fixed_text(fixed: Mapping[str, Sequence[ChangedSetting]]) -> str:
    """Return what `in_every_cell` gives as text: "epochs = 2 (protocol: 12), byol.target_momentum = 0.9 (…)"."""
    named = ([f"{method}.{one}" if method else str(one) for one in own] for method, own in fixed.items())
    return ", ".join(chain.from_iterable(named))


def varied_text(cells: Mapping[str, Sequence[Sequence[ChangedSetting]]]) -> str:
    """Return the settings that differ from the protocol in some cells only: "byol.epochs = 2, 4 (protocol: 12)"."""
    fixed = in_every_cell(cells)
    varied: dict[tuple[str, str, str], dict[str, None]] = {}  # values by method, name and the protocol's value
    for method, changed in cells.items():
        held = {one for name in ("", method) for one in fixed.get(name, ())}
        for one in (one for of_cell in changed for one in of_cell if one not in held):
            varied.setdefault((method, one.name, one.protocol_value), {})[one.value] = None
    return "; ".join(
        f"{method}.{name} = {', '.join(values)} (protocol: {own})" for (method, name, own), values in varied.items()
    )


def is_same_text(text: str, other: str) -> bool:
    """Return whether two texts are one value: "1" is "1.0"."""
    try:
        return text == other or float(text) == float(other)
    except ValueError:
        return False
