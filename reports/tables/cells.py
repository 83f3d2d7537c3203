"""The data behind tables and figures: a run's frames, split into sections, with its trials grouped into cells."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from twinbench.reports.statistics.intervals import Interval, t_interval
from twinbench.results.store import ResultStore
from twinbench.sweeps.metrics import KNN, LINEAR, RIDGE, metric_names
from twinbench.sweeps.protocol import AppliedDeviation, ProtocolContent

BASELINES = ("raw_pixels", "untrained")
WITHOUT_SEEDS = "raw_pixels"  # draws nothing at random: its result is the same for every seed
SELECTED_BY = (LINEAR.name, "validation")  # metric and split that choose a method's cell
REPORTED_ON = "test"
NOT_DONE = ("diverged", "collapsed", "failed")

Record = dict[str, Any]


def is_packed(trial: Mapping[str, Any]) -> bool:
    """Return whether the trial shared its process with others, so that its seconds say nothing about its method."""
    return (trial.get("pack") or 1) > 1


def has_own_seconds(trial: Mapping[str, Any]) -> bool:
    """Return whether the trial's seconds are its own. On a CPU trials of a pack run in turn; on a GPU they overlap."""
    return not is_packed(trial) or trial.get("device") == "cpu"


@dataclass(frozen=True)
class Run:
    """The tables of one run folder's database, each in a stable order."""

    name: str
    question: str
    axes: tuple[str, ...]
    commands: tuple[str, ...]  # that made the run, in order; empty if the plan does not record them
    trials: pd.DataFrame
    settings: pd.DataFrame
    metrics: pd.DataFrame
    curves: pd.DataFrame
    versions: pd.DataFrame
    protocols: pd.DataFrame
    set_aside: pd.DataFrame


TABLES = {
    "trials": "SELECT * FROM trials ORDER BY trial_id",
    "settings": "SELECT * FROM settings ORDER BY trial_id, source, name",
    "metrics": "SELECT * FROM metrics ORDER BY trial_id, name, split, variant",
    "curves": "SELECT * FROM curves ORDER BY trial_id, name, epoch",
    "versions": "SELECT * FROM versions ORDER BY package, version, trial_id",
    "protocols": "SELECT * FROM protocols ORDER BY name, version, hash",
    "set_aside": "SELECT file, reason FROM set_aside ORDER BY file, reason",
}


def read_run(store: ResultStore, curves: str = TABLES["curves"]) -> Run:
    """Return the frames of an ingested store. `curves`: a query for the curves, if only some are needed."""
    frames = store.queries({"run": "SELECT name, question, axes, commands FROM run"} | TABLES | {"curves": curves})
    head = frames.pop("run")
    axes, commands = (tuple(map(str, head[name][0])) for name in ("axes", "commands"))
    return Run(str(head["name"][0]), str(head["question"][0]), axes, commands, **frames)


@dataclass(frozen=True)
class Value:
    """The value of one setting: as text, and as a number if it is one."""

    text: str
    number: float | None


@dataclass(frozen=True)
class Measured:
    """One metric of one trial."""

    seed: int
    value: float
    variant: str


@dataclass(frozen=True)
class Cell:
    """The trials that differ only in the seed, with their measurements."""

    cell_id: str
    method: str
    label: str  # the method's name, with its version if the section has several
    values: dict[str, Value]  # settings and training, by name
    trials: tuple[Record, ...]  # by seed
    measured: dict[tuple[str, str], tuple[Measured, ...]]  # of completed trials, by (metric, split)

    @property
    def is_baseline(self) -> bool:
        return self.method in BASELINES

    @cached_property
    def statuses(self) -> Counter[str]:
        return Counter(str(trial["status"]) for trial in self.trials)

    @property
    def done(self) -> int:
        return self.statuses["done"]

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
    def seeds_text(self) -> str:
        """Return the completed seeds, and how the others ended: "3 of 3" or "2 of 3, 1 diverged"."""
        incomplete = [f"{count} {status}" for status, count in sorted(self.statuses.items()) if status != "done"]
        return ", ".join([f"{self.done} of {self.planned}", *incomplete])

    def interval(self, metric: str, split: str) -> Interval | None:
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

    @property
    def protocol_id(self) -> str:
        """Return name, version, 12 digits of the hash, and the deviations, as captions state them."""
        version = "" if self.protocol_version is None else f" v{self.protocol_version}"
        deviating = f", deviating in {deviations_text(self.deviations)}" if self.deviations else ""
        return f"{self.protocol_name}{version} ({self.protocol_hash[:12]}{deviating})"

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
    def trials(self) -> tuple[Record, ...]:
        return tuple(trial for cell in self.cells for trial in cell.trials)

    @cached_property
    def methods(self) -> dict[str, tuple[Cell, ...]]:
        """Return the cells by label of their method, in the order of the tables."""
        by_label: dict[str, list[Cell]] = {}
        for cell in self.cells:
            by_label.setdefault(cell.label, []).append(cell)
        return {label: tuple(cells) for label, cells in by_label.items()}

    @cached_property
    def chosen(self) -> dict[str, Cell]:
        """Return the chosen cell of each method; see `choose`."""
        return {label: choose(cells, self.selected_by) for label, cells in self.methods.items()}

    @cached_property
    def _places(self) -> dict[tuple[str, float | str], set[int]]:
        """Return the indices of the cells with a value, by name and value, both as text and as number."""
        places: dict[tuple[str, float | str], set[int]] = {}
        for place, cell in enumerate(self.cells):
            places.setdefault(("method", cell.method), set()).add(place)
            for name, value in cell.values.items():
                places.setdefault((name, value.text.lower()), set()).add(place)
                if value.number is not None:
                    places.setdefault((name, value.number), set()).add(place)
        return places

    def having(self, selector: Mapping[str, Any]) -> list[Cell]:
        """Return the cells of a method with these settings. 1 equals 1.0, and texts are compared ignoring case."""
        method = ("method", str(selector["method"]))
        wanted = [method, *((name, _comparable(value)) for name, value in selector.items() if name != "method")]
        places = set.intersection(*(self._places.get(one, set()) for one in wanted))
        return [self.cells[place] for place in sorted(places)]

    def varied(self, label: str) -> dict[str, tuple[Value, ...]]:
        """Return the axes on which the method's cells differ, with their values in order."""
        return self._varied[label]

    @cached_property
    def _varied(self) -> dict[str, dict[str, tuple[Value, ...]]]:
        return {label: self._varied_axes(label) for label in self.methods}

    def _varied_axes(self, label: str) -> dict[str, tuple[Value, ...]]:
        values = {axis: {cell.values.get(axis) for cell in self.methods[label]} for axis in self.axes}
        return {
            axis: tuple(sorted((value for value in seen if value is not None), key=value_order))
            for axis, seen in values.items()
            if len(seen) > 1
        }


def _comparable(value: object) -> float | str:
    """Return a number as float and anything else as lower-case text."""
    return str(value).lower() if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def choose(cells: Iterable[Cell], selected_by: tuple[str, str] = SELECTED_BY) -> Cell:
    """Return the cell with the highest mean of the metric on the split; ties go to the smaller cell id.

    Cells with missing seeds rank last, since otherwise a cell could win because its worst seeds failed. No test data is
    used, unless the protocol selects on it.
    """

    def rank(cell: Cell) -> tuple[bool, bool, int, float, str]:
        mean = cell.means.get(selected_by)
        return (mean is None, not cell.is_complete, cell.planned - cell.done, -(mean or 0.0), cell.cell_id)

    return min(cells, key=rank)


def sections(run: Run) -> list[Section]:
    """Return the run's sections, ordered by protocol name, version, hash and dataset."""
    settings = _settings_by_trial(run)
    measured = _measured_by_trial(run)
    contents = {str(row["hash"]): row for row in records(run.protocols)}
    groups: dict[tuple[str, str], list[Record]] = {}
    for trial in records(run.trials):
        groups.setdefault((str(trial["protocol_hash"] or ""), str(trial["dataset_fingerprint"])), []).append(trial)
    made = []
    for (hash_, fingerprint), trials in groups.items():
        protocol = contents.get(hash_, {})
        axes = _axes(run.axes, trials, settings)
        cells = _cells(trials, axes, settings, measured)
        content = json.loads(str(protocol.get("content") or "{}"))
        deviations = tuple(json.loads(str(protocol.get("deviations") or "[]")))
        name, version = trials[0]["protocol_name"], trials[0]["protocol_version"]
        made.append(
            Section(
                str(name or "unnamed"),
                None if version is None else int(version),
                hash_,
                fingerprint,
                content,
                axes,
                cells,
                deviations,
                str(protocol.get("base_hash") or ""),
            )
        )
    return sorted(
        made, key=lambda s: (s.protocol_name, s.protocol_version or 0, s.protocol_hash, s.dataset_fingerprint)
    )


def deviations_text(deviations: Iterable[AppliedDeviation]) -> str:
    """Return the deviations as one text: "training.warmup_epochs = 10 (protocol: 0)"."""
    return ", ".join(f"{one['key']} = {one['value']} (protocol: {one['protocol_value']})" for one in deviations)


def _axes(named: tuple[str, ...], trials: list[Record], settings: dict[str, dict[str, Value]]) -> tuple[str, ...]:
    """Return the sweep's axes, then every other setting on which cells of one method differ."""
    seen: dict[str, dict[tuple[str, int], set[str | None]]] = {}
    names = sorted({name for values in settings.values() for name in values})
    of_cell: dict[str, dict[str, Value]] = {}
    for trial in trials:
        method, values = (trial["method"], trial["method_version"]), settings.get(trial["trial_id"], {})
        if of_cell.get(trial["cell_id"]) == values:
            continue
        of_cell[trial["cell_id"]] = values
        for name in names:
            value = values.get(name)
            seen.setdefault(name, {}).setdefault(method, set()).add(value.text if value else None)
    varied = [name for name, methods in seen.items() if any(len(texts) > 1 for texts in methods.values())]
    return (*named, *(name for name in varied if name not in named))


def _cells(
    trials: list[Record],
    axes: tuple[str, ...],
    settings: dict[str, dict[str, Value]],
    measured: dict[str, list[tuple[tuple[str, str], float, str]]],
) -> tuple[Cell, ...]:
    versions: dict[str, set[int]] = {}
    by_cell: dict[str, list[Record]] = {}
    for trial in trials:
        versions.setdefault(trial["method"], set()).add(trial["method_version"])
        by_cell.setdefault(trial["cell_id"], []).append(trial)
    cells = []
    for cell_id, members in by_cell.items():
        members.sort(key=lambda trial: (trial["seed"], trial["trial_id"]))
        method, version = members[0]["method"], members[0]["method_version"]
        of_cell: dict[tuple[str, str], list[Measured]] = {}
        for trial in members:
            if trial["status"] == "done":
                for key, value, variant in measured.get(trial["trial_id"], []):
                    of_cell.setdefault(key, []).append(Measured(int(trial["seed"]), value, variant))
        label = method if len(versions[method]) == 1 else f"{method} (version {version})"
        values = settings.get(members[0]["trial_id"], {})
        frozen = {key: tuple(ones) for key, ones in of_cell.items()}
        cells.append(Cell(cell_id, method, label, values, tuple(members), frozen))
    absent = Value("", None)
    return tuple(
        sorted(
            cells,
            key=lambda cell: (
                BASELINES.index(cell.method) if cell.is_baseline else len(BASELINES),
                cell.label,
                [value_order(cell.values.get(axis, absent)) for axis in axes],
                cell.cell_id,
            ),
        )
    )


def value_order(value: Value) -> tuple[bool, float, str]:
    """Return a sort key: numbers by size, then texts alphabetically."""
    return (value.number is None, value.number or 0.0, value.text)


def _settings_by_trial(run: Run) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    given = run.settings[run.settings["source"] != "derived"]
    distinct: dict[tuple[Any, Any], Value] = {}  # seeds share all of their settings, and cells most
    for trial_id, name, text, number in rows(given, "trial_id", "name", "text", "number"):
        value = distinct.get((text, number)) or distinct.setdefault((text, number), Value(str(text), number))
        found.setdefault(trial_id, {})[name] = value
    return found


def _measured_by_trial(run: Run) -> dict[str, list[tuple[tuple[str, str], float, str]]]:
    found: dict[str, list[tuple[tuple[str, str], float, str]]] = {}
    for trial_id, name, split, value, variant in rows(run.metrics, "trial_id", "name", "split", "value", "variant"):
        found.setdefault(trial_id, []).append(((name, split), value, variant))
    return found


def records(frame: pd.DataFrame) -> list[Record]:
    """Return the rows of a frame as dictionaries, with None for every kind of missing value."""
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in rows(frame, *frame.columns)]


def rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Return the rows of some columns as tuples, with None for every kind of missing value."""
    return zip(*(_plain(frame[column]) for column in columns), strict=True)


def _plain(column: "pd.Series[Any]") -> list[Any]:
    """Return the values of a column as Python objects, with None for missing ones."""
    known = column.notna().to_numpy()
    values = column.astype(object).tolist()
    return (
        values if known.all() else [value if is_known else None for value, is_known in zip(values, known, strict=True)]
    )
