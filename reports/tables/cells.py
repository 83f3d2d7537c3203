"""A section: the trials of one protocol and dataset, grouped into cells, and the chosen cell of each method."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, cast

from twinbench.reports.statistics.intervals import Interval, t_interval
from twinbench.reports.tables.run import TrialRow
from twinbench.sweeps.deviations import deviations_text, undone
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.metrics import KNN, LINEAR, RIDGE, metric_names
from twinbench.sweeps.own_values import ChangedSetting, OwnValues, fixed_text, in_every_cell
from twinbench.sweeps.protocol import AppliedDeviation, ProtocolContent
from twinbench.sweeps.trial import WITHOUT_SEEDS as WITHOUT_SEEDS

BASELINES = (WITHOUT_SEEDS, "untrained")
SELECTED_BY = (LINEAR.name, "validation")  # metric and split that choose a method's cell
REPORTED_ON = "test"
NOT_DONE = ("diverged", "collapsed", "failed")
NOTHING = "–"  # printed where there is no value


@dataclass(frozen=True)
class Value:
    """The value of one setting: as text, and as a number if it is one."""

    text: str
    number: float | None

    def equals(self, wanted: object) -> bool:
        """Return whether a selector means this value: 1 equals 1.0, and texts are compared ignoring case."""
        if isinstance(wanted, int | float) and not isinstance(wanted, bool):
            return self.number == wanted
        return self.text.lower() == str(wanted).lower()


@dataclass(frozen=True)
class Measured:
    """One metric of one trial."""

    seed: int
    value: float
    variant: str


@dataclass(frozen=True)
class Cell:
    """The trials that differ only in the seed, with their measurements.

    `trials` are those of the grid, which select. `confirmed` is the same cell with those of the confirm stage, for
    which `confirms` is true.
    """

    cell_id: str
    method: str
    label: str  # the method's name, with its version if the section has several
    values: dict[str, Value]  # settings and training, by name
    trials: tuple[TrialRow, ...]  # by seed
    measured: dict[tuple[str, str], tuple[Measured, ...]]  # of completed trials, by (metric, split)
    changed: tuple[ChangedSetting, ...] = ()  # settings that differ from the protocol's own values
    confirmed: "Cell | None" = None
    confirms: bool = False

    @property
    def is_baseline(self) -> bool:
        return self.method in BASELINES

    @cached_property
    def statuses(self) -> Counter[str]:
        return Counter(trial["status"] for trial in self.trials)

    @property
    def done(self) -> int:
        return self.statuses["done"]

    @property
    def parts(self) -> "tuple[Cell, ...]":
        """Return the cell with the trials of the grid, and with those of the confirm stage if it has any."""
        return (self, self.confirmed) if self.confirmed else (self,)

    @property
    def all_trials(self) -> tuple[TrialRow, ...]:
        """Return the trials of the grid, then those of the confirm stage."""
        return tuple(trial for part in self.parts for trial in part.trials)

    @property
    def planned(self) -> int:
        return len(self.trials)

    @property
    def is_complete(self) -> bool:
        return self.done == self.planned

    @property
    def is_begun(self) -> bool:
        """Return whether any of its trials has a record."""
        return self.statuses["missing"] < self.planned

    @property
    def is_recorded(self) -> bool:
        """Return whether all of its trials have a record, whatever their status."""
        return not self.statuses["missing"]

    @property
    def seed_numbers(self) -> str:
        """Return the seeds of its trials: "0, 1, 2"."""
        return numbers_text(trial["seed"] for trial in self.trials)

    @property
    def seeds_text(self) -> str:
        """Return the completed seeds, and how the others ended: "3 of 3" or "2 of 3, 1 diverged"."""
        incomplete = [f"{count} {status}" for status, count in sorted(self.statuses.items()) if status != "done"]
        return ", ".join([f"{self.done} of {self.planned}", *incomplete])

    def text(self, axis: str) -> str:
        """Return the value of an axis, or NOTHING if the cell has none."""
        return self.values[axis].text if axis in self.values else NOTHING

    @property
    def changed_text(self) -> str:
        """Return what differs from the protocol: "epochs = 2 (protocol: 12)"; empty if nothing does."""
        return ", ".join(map(str, self.changed))

    def settings_text(self, axes: Iterable[str]) -> str:
        """Return the values of those axes that the cell has: "epochs = 2 (protocol: 12), temperature = 0.1"."""
        changed = {one.name: str(one) for one in self.changed}
        return ", ".join(
            changed.get(axis, f"{axis} = {self.values[axis].text}") for axis in axes if axis in self.values
        )

    def by_seed(self, metric: str, split: str = REPORTED_ON) -> dict[int, float]:
        """Return the metric's value at each completed seed that has one."""
        return {one.seed: one.value for one in self.measured.get((metric, split), ())}

    def interval(self, metric: str, split: str = REPORTED_ON) -> Interval | None:
        """Return mean and t interval over completed seeds; None without any, or if variants of the metric are mixed."""
        if (metric, split) not in self._intervals:
            measured = self._of_one_variant(metric, split)
            self._intervals[metric, split] = t_interval([one.value for one in measured]) if measured else None
        return self._intervals[metric, split]

    @cached_property
    def _intervals(self) -> dict[tuple[str, str], Interval | None]:
        """A cache: tables and figures use the same intervals many times."""
        return {}

    @cached_property
    def means(self) -> dict[tuple[str, str], float]:
        """Return means by (metric, split). Faster than `interval`, and less exact in the last digit."""
        return {
            key: statistics.fmean(one.value for one in measured)
            for key in self.measured
            if (measured := self._of_one_variant(*key))
        }

    def _of_one_variant(self, metric: str, split: str) -> tuple[Measured, ...]:
        """Return the measurements; none if they are of several variants, which must not be averaged."""
        measured = self.measured.get((metric, split), ())
        return measured if len({one.variant for one in measured}) == 1 else ()


@dataclass(frozen=True)
class Section:
    """The trials of one protocol and dataset fingerprint, whose numbers may share a table."""

    protocol_name: str
    protocol_version: int | None
    protocol_hash: str
    dataset_fingerprint: str
    content: ProtocolContent
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]  # baselines first, then by method, the axes' values and id
    deviations: tuple[AppliedDeviation, ...] = ()
    base_hash: str = ""  # of the protocol without its deviations
    confirm_seeds: tuple[int, ...] = ()  # of the plan, whether the confirm stage has begun or not

    @property
    def protocol_id(self) -> str:
        """Return name, version, 12 digits of the hash, and the deviations, as captions state them."""
        version = "" if self.protocol_version is None else f" v{self.protocol_version}"
        deviating = f", deviating in {deviations_text(self.deviations)}" if self.deviations else ""
        return f"{self.protocol_name}{version} ({self.protocol_hash[:12]}{deviating})"

    @property
    def ran_as(self) -> str:
        """Return `protocol_id` with the settings that the sweep fixes at other values, as every caption states them."""
        fixed = fixed_text(self.fixed)
        return f"{self.protocol_id}, with {fixed}" if fixed else self.protocol_id

    @cached_property
    def fixed(self) -> dict[str, tuple[ChangedSetting, ...]]:
        """Return the settings that differ from the protocol in every cell of a method; see `in_every_cell`."""
        trained = {label: [cell for cell in cells if cell.values] for label, cells in self.methods.items()}
        return in_every_cell({label: [cell.changed for cell in cells] for label, cells in trained.items()})

    def varied_text(self, cell: Cell) -> str:
        """Return what differs from the protocol in this cell, without what every caption states: see `ran_as`."""
        stated = {one for name in ("", cell.label) for one in self.fixed.get(name, ())}
        return ", ".join(str(one) for one in cell.changed if one not in stated)

    @property
    def short_id(self) -> str:
        """Return eight hex digits that identify protocol and dataset."""
        return digest([self.protocol_hash, self.dataset_fingerprint])[:8]

    @property
    def selected_by(self) -> tuple[str, str]:
        """Return the metric and split that choose a method's cell: SELECTED_BY, on the protocol's selection split.

        Without a linear probe kNN is used, and without both ridge regression.
        """
        metric, split = SELECTED_BY
        metrics = self.content.get("evaluation", {}).get("metrics", {metric: ""})
        fallback = RIDGE.name if RIDGE.name in metrics and KNN.name not in metrics else KNN.name
        return metric if metric in metrics else fallback, str(self.content.get("selected_on", split))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the section's tables have columns for: ridge regression only if the protocol names it."""
        named = self.content.get("evaluation", {}).get("metrics", {})
        return tuple(metric for metric in metric_names("probe") if metric != RIDGE.name or metric in named)

    @cached_property
    def trials(self) -> tuple[TrialRow, ...]:
        return tuple(trial for cell in self.cells for trial in cell.all_trials)

    @cached_property
    def methods(self) -> dict[str, list[Cell]]:
        """Return the cells by label of their method, in the order of the tables."""
        return by_label(self.cells)

    @cached_property
    def chosen(self) -> dict[str, Cell]:
        """Return the chosen cell of each method; see `choose`."""
        return {label: choose(cells, self.selected_by) for label, cells in self.methods.items()}

    @property
    def has_confirm_stage(self) -> bool:
        """Return whether chosen cells are or will be trained on the confirm seeds: some method has several cells."""
        return bool(self.confirm_seeds) and any(len(cells) > 1 for cells in self.methods.values())

    @cached_property
    def reported(self) -> dict[str, Cell]:
        """Return each method's chosen cell, on the seeds that confirm the choice where it was trained on them."""
        return {label: cell.confirmed or cell for label, cell in self.chosen.items()}

    def is_chosen(self, cell: Cell) -> bool:
        """Return whether the cell is the chosen one of its method."""
        return self.chosen[cell.label].cell_id == cell.cell_id

    def departures(self, cell: Cell) -> tuple[ChangedSetting, ...]:
        """Return the settings in which the cell differs from the protocol before the sweep's deviations."""
        if not self.deviations or not cell.trials:
            return cell.changed
        texts = {name: value.text for name, value in cell.values.items()}
        return self._without_deviations.changed(cell.method, cell.trials[0]["method_version"], texts)

    @cached_property
    def _without_deviations(self) -> OwnValues:
        return OwnValues(cast(ProtocolContent, undone(self.content, self.deviations)))

    def having(self, selector: Mapping[str, Any]) -> list[Cell]:
        """Return the cells of a method with these settings; see `Value.equals`."""
        key = repr(sorted(selector.items()))  # not the items themselves: 1, 1.0 and True are equal
        if key not in self._having:
            cells = [cell for cell in self.cells if cell.method == str(selector["method"])]
            for name, value in selector.items():
                if name != "method":
                    cells = [cell for cell in cells if name in cell.values and cell.values[name].equals(value)]
            self._having[key] = cells
        return self._having[key]

    @cached_property
    def _having(self) -> dict[str, list[Cell]]:
        """Hold what `having` found: the rules ask for the same cells again and again, among thousands."""
        return {}

    def varied(self, label: str) -> dict[str, tuple[Value, ...]]:
        """Return the axes on which the method's cells differ, with their values in order."""
        return self._varied[label]

    @cached_property
    def _varied(self) -> dict[str, dict[str, tuple[Value, ...]]]:
        return {label: axes_that_differ(cells, self.axes) for label, cells in self.methods.items()}

    def own_value(self, axis: str, labels: Iterable[str] = ()) -> str:
        """Return the protocol's value of a varied axis for these methods, or for all that vary it: " (protocol: 12)".

        Where methods have different values, they are named. Empty where the protocol's values are not known.
        """
        varying = list(labels) or [label for label in self.methods if axis in self.varied(label)]
        own = {
            label: one.protocol_value
            for label in varying
            for cell in self.methods[label]
            for one in cell.changed
            if one.name == axis
        }
        values = set(own.values()) if own.keys() >= set(varying) else set()
        named = values if len(values) == 1 else (f"{label} {value}" for label, value in own.items())
        return f" (protocol: {', '.join(named)})" if own else ""

    @property
    def varied_axes(self) -> list[str]:
        """Return the axes on which the cells of any method differ."""
        return [axis for axis in self.axes if any(axis in varied for varied in self._varied.values())]


def numbers_text(numbers: Iterable[int]) -> str:
    """Return distinct numbers in order, with four or more in a row as a range: "0 to 9, 100, 101"."""
    rows: list[list[int]] = []
    for number in sorted(set(numbers)):
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    parts = ([f"{row[0]} to {row[-1]}"] if len(row) > 3 else map(str, row) for row in rows)
    return ", ".join(chain.from_iterable(parts))


def seeds_of(cells: Iterable[Cell]) -> str:
    """Return the seeds of the cells' completed trials: "seeds 0, 1, 2", or "seed 0"; "seeds" without any."""
    done = {trial["seed"] for cell in cells for trial in cell.trials if trial["status"] == "done"}
    return f"seed{'' if len(done) == 1 else 's'} {numbers_text(done)}".rstrip()


def by_label(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Return the cells by label of their method, in their order."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.label, []).append(cell)
    return found


def axes_that_differ(cells: Sequence[Cell], axes: Iterable[str]) -> dict[str, tuple[Value, ...]]:
    """Return those of the axes on which the cells differ, with their values in order."""
    values = {axis: {cell.values.get(axis) for cell in cells} for axis in axes}
    return {
        axis: tuple(sorted(filter(None, found), key=value_order)) for axis, found in values.items() if len(found) > 1
    }


def choose(cells: Iterable[Cell], selected_by: tuple[str, str] = SELECTED_BY) -> Cell:
    """Return the cell with the highest mean of the metric on the split; ties go to the smaller cell id.

    Cells with missing seeds rank last, since otherwise a cell could win because its worst seeds failed. No test data is
    used, unless the protocol selects on it.
    """

    def rank(cell: Cell) -> tuple[bool, bool, int, float, str]:
        mean = cell.means.get(selected_by)
        return (mean is None, not cell.is_complete, cell.planned - cell.done, -(mean or 0.0), cell.cell_id)

    return min(cells, key=rank)


def value_order(value: Value) -> tuple[bool, float, str]:
    """Return a sort key: numbers by size, then texts alphabetically."""
    return (value.number is None, value.number or 0.0, value.text)
