"""The numbers in the records that a printed number may be: exact value, trials, and the SQL query for it."""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from scipy import special

from twinbench.reports.statistics.intervals import CONFIDENCE, t_interval
from twinbench.reports.table_check.labels import Settings
from twinbench.reports.tables.cells import Cell, Section, Value, choose
from twinbench.reports.tables.frames import TRAIN_SECONDS, images_per_second, train_seconds
from twinbench.reports.tables.run import Run, TrialRow, read_run
from twinbench.reports.tables.sections import sections
from twinbench.results.places import place_mistakes
from twinbench.results.record import PLAN, RECORDS
from twinbench.sweeps.errors import InvalidInput, Mistake, counted

COSTS: dict[str, tuple[str, Callable[[Sequence[TrialRow]], float]]] = {
    "trials": ("count(*)", len),
    "train_seconds": (TRAIN_SECONDS, lambda trials: train_seconds(trials) or 0.0),
    "evaluation_seconds": (
        "sum(evaluation_seconds)",
        lambda trials: sum(trial["evaluation_seconds"] or 0.0 for trial in trials),
    ),
    "images_seen": ("sum(images_seen)", lambda trials: sum(trial["images_seen"] or 0 for trial in trials)),
    "images_per_second": (
        "sum(images_seen) filter (coalesce(pack, 1) = 1) / sum(train_seconds) filter (coalesce(pack, 1) = 1)",
        lambda trials: images_per_second(trials) or 0.0,
    ),
    "peak_memory_bytes": (
        "max(peak_memory_bytes)",
        lambda trials: max((trial["peak_memory_bytes"] or 0 for trial in trials), default=0),
    ),
}


Part = tuple[str, bool]  # id of a cell, and whether its trials are those of the confirm stage


@dataclass(frozen=True)
class RunSection:
    """A section of a run folder: one protocol, one dataset fingerprint."""

    folder: Path
    run: Run
    section: Section

    @property
    def key(self) -> tuple[str, str]:
        """Return the hash of the protocol and the dataset's fingerprint: numbers with equal keys are comparable."""
        return self.section.protocol_hash, self.section.dataset_fingerprint


@dataclass(frozen=True, eq=False)
class RunCell:
    """A cell of a run folder, on the seeds of the grid or of the confirm stage, and the numbers measured on it."""

    run_section: RunSection
    cell: Cell

    @property
    def cell_id(self) -> str:
        return self.cell.cell_id

    @property
    def part(self) -> Part:
        return self.cell.cell_id, self.cell.confirms

    @property
    def key(self) -> tuple[str, str]:
        return self.run_section.key

    @property
    def name(self) -> str:
        """Return the method and the values of the axes that the sweep varies for it."""
        values, varied = self.cell.values, self.run_section.section.varied(self.cell.label)
        return ", ".join([self.cell.label, *(f"{axis} = {values[axis].text}" for axis in varied if axis in values)])

    def number(self, metric: str, split: str, statistic: str) -> "Candidate | None":
        """Return a statistic over the cell's seeds; None without values, or if the variants of the metric differ."""
        key = (metric, split, statistic)
        if key not in self._numbers:
            self._numbers[key] = _measured(self, metric, split, statistic)
        return self._numbers[key]

    @cached_property
    def _numbers(self) -> "dict[tuple[str, str, str], Candidate | None]":
        return {}


_OF_VALUES = ("mean", "median", "low", "high")  # of errors they are one minus those of accuracies
_KINDS = {
    "half width": f"half of the {CONFIDENCE:.0%} t interval",
    "low": "lower end of the interval",
    "high": "upper end of the interval",
}


@dataclass(frozen=True)
class Candidate:
    """A number in the records. `exact` has the store's unit: accuracies are fractions."""

    run_section: RunSection
    label: str  # of the method
    statistic: str  # "mean", "half width", "seed 2", "seeds done", "train_seconds"
    exact: float
    trials: tuple[TrialRow, ...]
    expression: str
    source: str
    of_cell: RunCell | None = None  # None if the number covers several cells
    metric: str = ""  # empty for counts and costs
    split: str = ""
    is_error: bool = False  # one minus the accuracy

    @property
    def cell_id(self) -> str:
        """Return the id of the cell; empty if the number covers several cells."""
        return self.of_cell.cell_id if self.of_cell else ""

    @property
    def measured_on(self) -> RunCell:
        """Return the cell of a measured number."""
        assert self.of_cell is not None
        return self.of_cell

    def as_error(self) -> "Candidate":
        """Return one minus this accuracy; a spread is the same."""
        if self.statistic not in _OF_VALUES and not self.statistic.startswith("seed "):
            return replace(self, is_error=True)
        return replace(self, exact=1 - self.exact, expression=f"(1 - {self.expression})", is_error=True)

    def query(self, scale: int = 1) -> str:
        """Return SQL for `twinbench query` whose one row is the number times `scale`."""
        factor = "" if scale == 1 else f"{scale} * "
        return f"select {factor}{self.expression} as value {self.source}"

    def __str__(self) -> str:
        if not self.metric:
            return self.statistic
        of, n = f"{'1 - ' if self.is_error else ''}{self.metric} on {self.split}", len(self.trials)
        seeds = counted(n, "seed")
        if self.statistic.startswith("seed "):
            return f"{of} of {self.statistic} alone"
        if self.statistic == "best":
            return f"best of {seeds} in {of}"
        if self.statistic == "n":
            return f"count of the seeds with {of}"
        return f"{_KINDS.get(self.statistic, self.statistic)} of {of} over {seeds}"


def read_run_sections(run_folders: Sequence[Path]) -> list[RunSection]:
    """Ingest new records and return the sections of all folders. InvalidInput for a folder that is not a run folder."""
    invalid = [folder for folder in run_folders if not (folder / PLAN).exists() and not (folder / RECORDS).is_dir()]
    problem = f"is not a run folder: it has neither {PLAN} nor {RECORDS}/"
    mistakes = [Mistake(str(folder), "", problem) for folder in invalid]
    mistakes += [mistake for folder in run_folders if folder not in invalid for mistake in place_mistakes(folder)]
    if mistakes or not run_folders:
        raise InvalidInput(mistakes or [Mistake("run folders", "", "none is given")])
    run_sections = []
    for folder in dict.fromkeys(run_folders):
        run = read_run(folder)
        run_sections += [RunSection(folder, run, section) for section in sections(run)]
    return run_sections


class Recorded:
    """The cells of all run folders, found by what a table says about them."""

    def __init__(self, run_sections: Sequence[RunSection]):
        self.run_sections = run_sections
        self.all_cells = [
            RunCell(one, part) for one in run_sections for cell in one.section.cells for part in cell.parts
        ]
        self.by_method: dict[str, list[RunCell]] = {}
        for one in self.all_cells:
            self.by_method.setdefault(one.cell.method, []).append(one)
        self.metrics = sorted({name for one in self.all_cells for name, _ in one.cell.measured})
        self.seeds = {trial["trial_id"]: trial["seed"] for one in self.all_cells for trial in one.cell.trials}
        self._cells: dict[tuple[object, ...], list[RunCell]] = {}

    def cells(
        self,
        methods: frozenset[str],
        version: int | None = None,
        settings: Settings = (),
        ids: frozenset[str] = frozenset(),
    ) -> list[RunCell]:
        """Return the cells that match all arguments. Of a setting with several possible names, one must match."""
        key = (methods, version, settings, ids)
        if key not in self._cells:
            found = [one for method in sorted(methods) for one in self.by_method.get(method, [])]
            self._cells[key] = [one for one in found if _agrees(one.cell, version, settings, ids)]
        return self._cells[key]


def best_on_validation(cells: Sequence[RunCell]) -> RunCell:
    """Return the cell that validation selects, with the seeds that confirm the choice if it was trained on them."""
    of_grid = {one.cell_id: one for one in cells if not one.cell.confirms}
    reported = of_grid | {one.cell_id: one for one in cells if one.cell.confirms}
    return reported[choose(one.cell for one in (of_grid or reported).values()).cell_id]


def _agrees(cell: Cell, version: int | None, settings: Settings, ids: frozenset[str]) -> bool:
    if version is not None and any(trial["method_version"] != version for trial in cell.trials):
        return False
    if ids and cell.cell_id not in ids and not any(trial["trial_id"] in ids for trial in cell.trials):
        return False
    return all(any(is_equal(cell.values.get(name), text) for name in names) for names, text in settings)


def is_equal(value: Value | None, text: str) -> bool:
    """Return whether the table's text is the value: compared as numbers if both are, else as text without case."""
    if value is None:
        return False
    number = as_number(text)
    if value.number is not None and number is not None:
        return math.isclose(value.number, number, rel_tol=1e-9)
    return value.text.strip().lower() == text.strip().lower()


@functools.cache
def as_number(text: str) -> float | None:
    """Return the printed setting as a number, or None."""
    try:
        return float(text.replace("\u2009", "").replace("−", "-").replace(",", "").replace("_", " ").strip())
    except ValueError:
        return None


# --- statistics over seeds ------------------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> float:
    return float(statistics.mean(values))


def _half_width(values: Sequence[float]) -> float:
    return t_interval(values).half_width or 0.0


_ERROR = "stddev_samp(value) / sqrt(count(*))"
# Each in SQL, where {t} is the quantile of the interval, and in Python. All but the first three need two seeds.
_STATISTICS: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "mean": ("avg(value)", _mean),
    "best": ("max(value)", max),
    "median": ("median(value)", statistics.median),
    "standard deviation": ("stddev_samp(value)", statistics.stdev),
    "standard error": (_ERROR, lambda values: statistics.stdev(values) / math.sqrt(len(values))),
    "half width": (f"({{t}} * {_ERROR})", _half_width),
    "low": (f"(avg(value) - {{t}} * {_ERROR})", lambda values: _mean(values) - _half_width(values)),
    "high": (f"(avg(value) + {{t}} * {_ERROR})", lambda values: _mean(values) + _half_width(values)),
}
_OF_ONE_SEED = ("mean", "best", "median")


def _measured(of_cell: RunCell, metric: str, split: str, statistic: str) -> Candidate | None:
    run_section, cell = of_cell.run_section, of_cell.cell
    measured = cell.measured.get((metric, split), ())
    same_variant = len({one.variant for one in measured}) == 1
    source = f"from metrics join trials using (trial_id) where {_of_part(of_cell)} and status = 'done'"
    source += f" and name = {_literal(metric)} and split = {_literal(split)}"
    if statistic.startswith("seed "):
        measured = tuple(one for one in measured if f"seed {one.seed}" == statistic)
        source += f" and seed = {statistic.removeprefix('seed ')}"
    values = [one.value for one in measured]
    if statistic == "n":
        expression = "case when count(distinct variant) > 1 then 0 else count(*) end"
        exact: float = len(values) if same_variant else 0
    elif not same_variant or not values:
        return None
    elif statistic.startswith("seed "):
        expression, exact = "max(value)", values[0]
    elif len(values) == 1 and statistic not in _OF_ONE_SEED:
        return None
    else:
        expression, of = _STATISTICS[statistic]
        expression = expression.format(t=float(special.stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)))
        exact = of(values)
    seeds = {one.seed for one in measured}
    trials = tuple(trial for trial in cell.trials if trial["status"] == "done" and trial["seed"] in seeds)
    return Candidate(run_section, cell.label, statistic, exact, trials, expression, source, of_cell, metric, split)


# --- counts and costs -----------------------------------------------------------------------------------------------


def seed_count(of_cell: RunCell, statistic: str) -> Candidate:
    """Return the count of a cell's seeds by status: "seeds planned", "seeds done", "seeds diverged", ..."""
    run_section, cell = of_cell.run_section, of_cell.cell
    status = statistic.removeprefix("seeds ")
    trials = tuple(trial for trial in cell.trials if status in ("planned", trial["status"]))
    source = f"from trials where {_of_part(of_cell)}"
    source += "" if status == "planned" else f" and status = {_literal(status)}"
    return Candidate(run_section, cell.label, statistic, len(trials), trials, "count(*)", source, of_cell)


def count_or_cost(run_section: RunSection, label: str, statistic: str) -> Candidate:
    """Return the number of a method's cells ("candidates"), or one of COSTS over its recorded trials."""
    cells = run_section.section.methods[label]
    trials = tuple(trial for cell in cells for trial in cell.all_trials)
    source = (
        f"from trials where method = {_literal(cells[0].method)} and method_version = {trials[0]['method_version']}"
    )
    source += _of_section(run_section)
    if statistic == "candidates":
        return Candidate(run_section, label, statistic, len(cells), trials, "count(distinct cell_id)", source)
    recorded = tuple(trial for trial in trials if trial["status"] != "missing")
    expression, of = COSTS[statistic]
    if statistic != "trials":
        expression = f"coalesce({expression}, 0)"
    source += " and status <> 'missing'"
    return Candidate(run_section, label, statistic, of(recorded), recorded, expression, source)


def provenance_count(run_section: RunSection, statistic: str, text: str) -> Candidate:
    """Return how many recorded trials of the section ran with this commit, device, package version or the like."""
    recorded = [trial for trial in run_section.section.trials if trial["status"] != "missing"]
    if recorded and statistic in recorded[0]:
        trials = tuple(trial for trial in recorded if _shown(trial.get(statistic)) == text)
        # The statistic is a column of the trials table here, not any text.
        shown = f"coalesce(nullif(cast(\"{statistic}\" as varchar), ''), '–')"
        source = f"from trials where {shown} = {_literal(text)}"
    else:
        versions = run_section.run.versions
        of = versions[(versions["package"] == statistic) & (versions["version"] == text)]
        trial_ids = set(of["trial_id"])
        trials = tuple(trial for trial in recorded if trial["trial_id"] in trial_ids)
        source = "from trials join versions using (trial_id) where "
        source += f"package = {_literal(statistic)} and versions.version = {_literal(text)}"
    source += _of_section(run_section) + " and status <> 'missing'"
    return Candidate(run_section, statistic, "trials", len(trials), trials, "count(*)", source)


def _shown(value: object) -> str:
    return "–" if value is None or value == "" else str(int(value)) if isinstance(value, float) else str(value)


def _of_part(of_cell: RunCell) -> str:
    """Return the SQL condition for the cell's trials, of the grid or of the confirm stage."""
    stage = (
        f" and {'' if of_cell.cell.confirms else 'not '}confirms" if of_cell.run_section.section.confirm_seeds else ""
    )
    return f"cell_id = {_literal(of_cell.cell_id)}{stage}"


def _of_section(run_section: RunSection) -> str:
    hash_, fingerprint = run_section.key
    return f" and coalesce(protocol_hash, '') = {_literal(hash_)} and dataset_fingerprint = {_literal(fingerprint)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
