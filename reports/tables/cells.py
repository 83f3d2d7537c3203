"""What tables and figures are made of: the run as frames, parted into sections, its trials gathered into cells."""

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

BASELINES = ("raw_pixels", "untrained")
WITHOUT_SEEDS = "raw_pixels"  # draws nothing at random: its result is the same for every seed
SELECTED_BY = (LINEAR.name, "validation")  # metric and split that choose a method's cell
REPORTED_ON = "test"
NOT_DONE = ("diverged", "collapsed", "failed")

Record = dict[str, Any]


def is_packed(trial: Mapping[str, Any]) -> bool:
    """Whether it took turns with others in its process: its seconds are not what it takes, and rank no method."""
    return (trial.get("pack") or 1) > 1


def has_own_seconds(trial: Mapping[str, Any]) -> bool:
    """Whether no pack added to its seconds. Turns on a CPU do not overlap; in a pack on a GPU one waits for others."""
    return not is_packed(trial) or trial.get("device") == "cpu"


@dataclass(frozen=True)
class Run:
    """The tables of one run folder's database, each in a stable order."""

    name: str
    question: str
    axes: tuple[str, ...]
    commands: tuple[str, ...]  # that the folder was run by, in their order; none where its plan does not say
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
    """All that a report needs of `store`, which must have been ingested. `curves`: another query, where few are."""
    frames = store.queries({"run": "SELECT name, question, axes, commands FROM run"} | TABLES | {"curves": curves})
    head = frames.pop("run")
    axes, commands = (tuple(map(str, head[name][0])) for name in ("axes", "commands"))
    return Run(str(head["name"][0]), str(head["question"][0]), axes, commands, **frames)


@dataclass(frozen=True)
class Value:
    """One setting of a cell: as text, and as a number where it is one."""

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
    """The trials that differ in nothing but the seed, and what they measured."""

    cell_id: str
    method: str
    label: str  # the method's name, with its version where the section holds several
    values: dict[str, Value]  # settings and training, by name
    trials: tuple[Record, ...]  # by seed
    measured: dict[tuple[str, str], tuple[Measured, ...]]  # of the trials that are done, by (metric, split)

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
        """Whether it ran at any seed."""
        return self.statuses["missing"] < self.planned

    @property
    def is_recorded(self) -> bool:
        """Whether it ran at all its seeds, however they ended."""
        return not self.statuses["missing"]

    @property
    def seeds_text(self) -> str:
        """ "3 of 3", or "2 of 3, 1 diverged": a cell with seeds missing is never shown as a whole one."""
        others = [f"{count} {status}" for status, count in sorted(self.statuses.items()) if status != "done"]
        return ", ".join([f"{self.done} of {self.planned}", *others])

    def interval(self, metric: str, split: str) -> Interval | None:
        """Mean and t interval over the seeds that are done; None without any, or if they were not measured alike."""
        if (metric, split) not in self._intervals:
            measured = self._alike(metric, split)
            self._intervals[metric, split] = t_interval([one.value for one in measured]) if measured else None
        return self._intervals[metric, split]

    @cached_property
    def _intervals(self) -> dict[tuple[str, str], Interval | None]:
        """Those asked for so far: tables and figures ask for the same many times."""
        return {}

    @cached_property
    def means(self) -> dict[tuple[str, str], float]:
        """By (metric, split), as far as a choice among many cells needs them: with a rounding more than `interval`."""
        return {
            key: statistics.fmean(one.value for one in measured)
            for key in self.measured
            if (measured := self._alike(*key))
        }

    def _alike(self, metric: str, split: str) -> tuple[Measured, ...]:
        measured = self.measured.get((metric, split), ())
        return measured if len({one.variant for one in measured}) == 1 else ()


@dataclass(frozen=True)
class Section:
    """The part of a run that may share a table: one protocol, one dataset fingerprint."""

    protocol_name: str
    protocol_version: int | None
    protocol_hash: str
    dataset_fingerprint: str
    content: dict[str, Any]
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]  # baselines first, then by method, the axes' values and id
    deviations: tuple[Record, ...] = ()  # {key, value, protocol_value, reason} of each value that is not the protocol's
    base_hash: str = ""  # of the protocol without them

    @property
    def protocol_id(self) -> str:
        """Name, version and the hash's beginning, and in what it deviates: what a caption says."""
        version = "" if self.protocol_version is None else f" v{self.protocol_version}"
        deviating = f", deviating in {deviations_text(self.deviations)}" if self.deviations else ""
        return f"{self.protocol_name}{version} ({self.protocol_hash[:12]}{deviating})"

    @property
    def selected_by(self) -> tuple[str, str]:
        """Metric and split that choose a method's cell: SELECTED_BY, on the split that the protocol selects on.

        A protocol without that linear probe chooses by kNN, and without either by ridge regression.
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
        """Cells by the method's label, in the order of the tables."""
        by_label: dict[str, list[Cell]] = {}
        for cell in self.cells:
            by_label.setdefault(cell.label, []).append(cell)
        return {label: tuple(cells) for label, cells in by_label.items()}

    @cached_property
    def chosen(self) -> dict[str, Cell]:
        """The cell of each method that validation chose."""
        return {label: choose(cells, self.selected_by) for label, cells in self.methods.items()}

    @cached_property
    def _places(self) -> dict[tuple[str, float | str], set[int]]:
        """Of the cells with a setting's value, by its name and the value as text and as number."""
        places: dict[tuple[str, float | str], set[int]] = {}
        for place, cell in enumerate(self.cells):
            places.setdefault(("method", cell.method), set()).add(place)
            for name, value in cell.values.items():
                places.setdefault((name, value.text.lower()), set()).add(place)
                if value.number is not None:
                    places.setdefault((name, value.number), set()).add(place)
        return places

    def having(self, selector: Mapping[str, Any]) -> list[Cell]:
        """The cells of a method, and of the settings beside it; 1 and 1.0 are one value, and a word is in any case."""
        method = ("method", str(selector["method"]))
        asked = [method, *((name, _told(value)) for name, value in selector.items() if name != "method")]
        places = set.intersection(*(self._places.get(one, set()) for one in asked))
        return [self.cells[place] for place in sorted(places)]

    def varied(self, label: str) -> dict[str, tuple[Value, ...]]:
        """The axes on which the cells of a method differ, with their values in order."""
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


def _told(value: object) -> float | str:
    return str(value).lower() if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def choose(cells: Iterable[Cell], selected_by: tuple[str, str] = SELECTED_BY) -> Cell:
    """The cell with the highest mean of that metric on that split; equal means go to the smaller cell id.

    A cell that lacks seeds is chosen only where no cell of the method has them all: else a cell could win by the seeds
    that failed. Test data plays no part, unless the protocol says that it selects.
    """

    def rank(cell: Cell) -> tuple[bool, bool, int, float, str]:
        mean = cell.means.get(selected_by)
        return (mean is None, not cell.is_complete, cell.planned - cell.done, -(mean or 0.0), cell.cell_id)

    return min(cells, key=rank)


def sections(run: Run) -> list[Section]:
    """The run's parts, in the order of protocol name, version, hash and dataset."""
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


def deviations_text(deviations: Iterable[Mapping[str, Any]]) -> str:
    """ "training.warmup_epochs = 10 (protocol: 0)"."""
    return ", ".join(f"{one['key']} = {one['value']} (protocol: {one['protocol_value']})" for one in deviations)


def _axes(named: tuple[str, ...], trials: list[Record], settings: dict[str, dict[str, Value]]) -> tuple[str, ...]:
    """The sweep's axes, then any other setting on which cells of one method differ: no difference goes unseen."""
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
    """Numbers by size, before texts by spelling."""
    return (value.number is None, value.number or 0.0, value.text)


def _settings_by_trial(run: Run) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    asked = run.settings[run.settings["source"] != "derived"]
    distinct: dict[tuple[Any, Any], Value] = {}  # few: seeds share all of their settings, and cells most
    for trial_id, name, text, number in rows(asked, "trial_id", "name", "text", "number"):
        value = distinct.get((text, number)) or distinct.setdefault((text, number), Value(str(text), number))
        found.setdefault(trial_id, {})[name] = value
    return found


def _measured_by_trial(run: Run) -> dict[str, list[tuple[tuple[str, str], float, str]]]:
    found: dict[str, list[tuple[tuple[str, str], float, str]]] = {}
    for trial_id, name, split, value, variant in rows(run.metrics, "trial_id", "name", "split", "value", "variant"):
        found.setdefault(trial_id, []).append(((name, split), value, variant))
    return found


def records(frame: pd.DataFrame) -> list[Record]:
    """The rows of a frame as dicts, with None where pandas has one of its several words for nothing."""
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in rows(frame, *frame.columns)]


def rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The same of some columns, as tuples."""
    return zip(*(_plain(frame[column]) for column in columns), strict=True)


def _plain(column: "pd.Series[Any]") -> list[Any]:
    """The values of a column as Python has them."""
    there = column.notna().to_numpy()
    values = column.astype(object).tolist()
    return values if there.all() else [value if known else None for value, known in zip(values, there, strict=True)]
