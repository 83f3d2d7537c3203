"""What a printed number may be of the records: the exact value, the trials behind it, and the SQL that gives it."""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from twinbench.reports.statistics.intervals import CONFIDENCE, t_interval
from twinbench.reports.table_check.labels import Settings
from twinbench.reports.tables.cells import SELECTED_BY, Cell, Record, Run, Section, Value, choose, read_run, sections
from twinbench.reports.tables.frames import TRAIN_SECONDS, images_per_second, train_seconds
from twinbench.results.record import PLAN, RECORDS
from twinbench.results.store import ResultStore
from twinbench.sweeps.errors import InvalidInput, Mistake

COSTS: dict[str, tuple[str, Callable[[Sequence[Record]], float]]] = {
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


@dataclass(frozen=True)
class Place:
    """A section of a run folder: one protocol, one dataset fingerprint."""

    folder: Path
    run: Run
    section: Section

    @property
    def key(self) -> tuple[str, str]:
        """Equal for the places whose numbers may share a table."""
        return self.section.protocol_hash, self.section.dataset_fingerprint


@dataclass(frozen=True)
class Meaning:
    """One number of the records. `exact` is in the store's unit: accuracies are fractions."""

    place: Place
    label: str  # of the method
    cell: Cell | None
    metric: str  # empty for counts and costs
    split: str
    what: str  # "mean", "half width", "seed 2", "seeds done", "train_seconds"
    exact: float
    trials: tuple[Record, ...]
    expression: str
    source: str

    def query(self, scale: int = 1) -> str:
        """SQL for `twinbench query`: one row, the number times `scale`."""
        factor = "" if scale == 1 else f"{scale} * "
        return f"select {factor}{self.expression} as value {self.source}"

    def __str__(self) -> str:
        if not self.metric:
            return self.what
        of, n = f"{self.metric} on {self.split}", len(self.trials)
        seeds = f"{n} seed{'' if n == 1 else 's'}"
        if self.what.startswith("seed "):
            return f"{of} of {self.what} alone"
        if self.what in ("best", "n"):
            return f"best of {seeds} in {of}" if self.what == "best" else f"count of the seeds with {of}"
        kinds = {"half width": f"half of the {CONFIDENCE:.0%} t interval", "low": "lower end", "high": "upper end"}
        kind = kinds.get(self.what, self.what) + (" of the interval" if self.what in ("low", "high") else "")
        return f"{kind} of {of} over {seeds}"


Pair = tuple[Place, Cell]


def read_places(run_folders: Sequence[Path]) -> list[Place]:
    """The sections of all folders, what is new in them ingested. InvalidInput for a folder that is no run folder."""
    strangers = [folder for folder in run_folders if not (folder / PLAN).exists() and not (folder / RECORDS).is_dir()]
    if strangers or not run_folders:
        problem = f"is no run folder: it has neither {PLAN} nor {RECORDS}/"
        nothing = [Mistake("run folders", "", "none is given")]
        raise InvalidInput([Mistake(str(folder), "", problem) for folder in strangers] or nothing)
    places = []
    for folder in dict.fromkeys(run_folders):
        with ResultStore(folder) as store:
            store.ingest()
            run = read_run(store)
        places += [Place(folder, run, section) for section in sections(run)]
    return places


class Recorded:
    """The cells of all places by what a table says of them, and what was measured on them."""

    def __init__(self, places: Sequence[Place]):
        self.places = places
        self.by_method: dict[str, list[Pair]] = {}
        for place in places:
            for cell in place.section.cells:
                self.by_method.setdefault(cell.method, []).append((place, cell))
        self.metrics = sorted({name for p in places for c in p.section.cells for name, _ in c.measured})
        self.seeds = {
            trial["trial_id"]: trial["seed"] for p in places for cell in p.section.cells for trial in cell.trials
        }
        self._moved: dict[tuple[int, str], tuple[str, ...]] = {}
        self._chosen: dict[frozenset[str], str] = {}
        self._cells: dict[tuple[object, ...], list[Pair]] = {}
        self._meanings: dict[tuple[int, str, str, str], Meaning | None] = {}

    def cells(
        self,
        methods: frozenset[str],
        version: int | None = None,
        settings: Settings = (),
        ids: frozenset[str] = frozenset(),
    ) -> list[Pair]:
        """The cells that agree with all of it. Each of `settings` may be of several names; one of them must agree."""
        asked = (methods, version, settings, ids)
        if asked not in self._cells:
            found = [pair for method in sorted(methods) for pair in self.by_method.get(method, [])]
            self._cells[asked] = [(p, cell) for p, cell in found if _agrees(cell, version, settings, ids)]
        return self._cells[asked]

    def meaning(self, pair: Pair, metric: str, split: str, what: str) -> Meaning | None:
        """A statistic over the cell's seeds; None if there is none, or if they were not measured alike."""
        place, cell = pair
        key = (id(cell), metric, split, what)
        if key not in self._meanings:
            self._meanings[key] = _measured(place, cell, metric, split, what)
        return self._meanings[key]

    def chosen(self, pairs: Sequence[Pair]) -> Pair:
        """The one of `pairs` that validation chooses."""
        by_id = {pair[1].cell_id: pair for pair in pairs}
        asked = frozenset(by_id)
        if asked not in self._chosen:
            self._chosen[asked] = choose(cell for _, cell in self._contenders(list(by_id.values()))).cell_id
        return by_id[self._chosen[asked]]

    def name(self, pair: Pair) -> str:
        """The method, and the values of the axes on which its cells differ."""
        section, cell = pair[0].section, pair[1]
        key = (id(section), cell.label)
        if key not in self._moved:
            self._moved[key] = tuple(section.moved(cell.label))
        values = [f"{axis} = {cell.values[axis].text}" for axis in self._moved[key] if axis in cell.values]
        return ", ".join([cell.label, *values])

    def _contenders(self, pairs: list[Pair]) -> list[Pair]:
        """Those that can win: `choose` looks at intervals, which for a thousand cells takes a second."""
        whole = [(pair, self.meaning(pair, *SELECTED_BY, "mean")) for pair in pairs if pair[1].is_complete]
        highest = max((meaning.exact for _, meaning in whole if meaning), default=None)
        return [pair for pair, meaning in whole if meaning and meaning.exact == highest] or pairs


def _agrees(cell: Cell, version: int | None, settings: Settings, ids: frozenset[str]) -> bool:
    if version is not None and cell.trials[0]["method_version"] != version:
        return False
    if ids and cell.cell_id not in ids and not any(trial["trial_id"] in ids for trial in cell.trials):
        return False
    return all(any(is_equal(cell.values.get(name), text) for name in names) for names, text in settings)


def is_equal(value: Value | None, text: str) -> bool:
    """Whether a table's text is the value: as numbers where both are, else letter by letter."""
    if value is None:
        return False
    number = as_number(text)
    if value.number is not None and number is not None:
        return math.isclose(value.number, number, rel_tol=1e-9)
    return value.text.strip().lower() == text.strip().lower()


@functools.cache
def as_number(text: str) -> float | None:
    """The number that a setting is printed as, or None."""
    try:
        return float(text.replace("\u2009", "").replace("−", "-").replace(",", "").replace("_", " ").strip())
    except ValueError:
        return None


# --- statistics over seeds ------------------------------------------------------------------------------------------

_STATISTICS: dict[str, tuple[str, Callable[[Sequence[float]], float | None]]] = {
    "mean": ("avg(value)", lambda values: float(statistics.mean(values))),
    "best": ("max(value)", max),
    "median": ("median(value)", statistics.median),
    "standard deviation": ("stddev_samp(value)", lambda values: statistics.stdev(values) if len(values) > 1 else None),
    "standard error": (
        "stddev_samp(value) / sqrt(count(*))",
        lambda values: statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
    ),
    "half width": ("", lambda values: t_interval(values).half_width),
    "low": ("avg(value) - ", lambda values: _end(values, -1)),
    "high": ("avg(value) + ", lambda values: _end(values, 1)),
}


def _end(values: Sequence[float], sign: int) -> float | None:
    interval = t_interval(values)
    return None if interval.half_width is None else interval.mean + sign * interval.half_width


def _measured(place: Place, cell: Cell, metric: str, split: str, what: str) -> Meaning | None:
    measured = cell.measured.get((metric, split), ())
    alike = len({one.variant for one in measured}) == 1
    where = f"name = {_literal(metric)} and split = {_literal(split)}"
    source = f"from metrics join trials using (trial_id) where cell_id = {_literal(cell.cell_id)} and status = 'done'"
    source = f"{source} and {where}"
    if what == "n":
        expression = "case when count(distinct variant) > 1 then 0 else count(*) end"
        exact: float | None = len(measured) if alike else 0
    elif not alike:
        return None
    elif what.startswith("seed "):
        measured = tuple(one for one in measured if f"seed {one.seed}" == what)
        expression, exact = "max(value)", measured[0].value if measured else None
        source += f" and seed = {what.removeprefix('seed ')}"
    else:
        expression, of = _STATISTICS[what]
        exact = of([one.value for one in measured])
        if what in ("half width", "low", "high") and exact is not None:
            quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(measured) - 1))
            expression = f"({expression}{quantile!r} * stddev_samp(value) / sqrt(count(*)))"
    if exact is None:
        return None
    seeds = {one.seed for one in measured}
    trials = tuple(trial for trial in cell.trials if trial["status"] == "done" and trial["seed"] in seeds)
    return Meaning(place, cell.label, cell, metric, split, what, exact, trials, expression, source)


# --- counts and costs -----------------------------------------------------------------------------------------------


def count_of_seeds(pair: Pair, what: str) -> Meaning:
    """ "seeds planned", "seeds done", or seeds of another status: "seeds diverged"."""
    place, cell = pair
    status = what.removeprefix("seeds ")
    trials = tuple(trial for trial in cell.trials if status in ("planned", trial["status"]))
    source = f"from trials where cell_id = {_literal(cell.cell_id)}"
    source += "" if status == "planned" else f" and status = {_literal(status)}"
    return Meaning(place, cell.label, cell, "", "", what, len(trials), trials, "count(*)", source)


def of_method(place: Place, label: str, what: str) -> Meaning:
    """The number of a method's cells ("candidates"), or one of COSTS over its recorded trials."""
    cells = place.section.methods[label]
    first = cells[0].trials[0]
    source = f"from trials where method = {_literal(cells[0].method)} and method_version = {first['method_version']}"
    source += _of_section(place)
    if what == "candidates":
        trials = tuple(trial for cell in cells for trial in cell.trials)
        return Meaning(place, label, None, "", "", what, len(cells), trials, "count(distinct cell_id)", source)
    recorded = tuple(trial for cell in cells for trial in cell.trials if trial["status"] != "missing")
    expression, of = COSTS[what]
    if what != "trials":
        expression = f"coalesce({expression}, 0)"
    source += " and status <> 'missing'"
    return Meaning(place, label, None, "", "", what, of(recorded), recorded, expression, source)


def with_provenance(place: Place, what: str, text: str) -> Meaning:
    """How many recorded trials of the section ran with this commit, device, version of a package, and so on."""
    recorded = [trial for trial in place.section.trials if trial["status"] != "missing"]
    if recorded and what in recorded[0]:
        trials = tuple(trial for trial in recorded if _shown(trial[what]) == text)
        shown = f"coalesce(nullif(cast(\"{what}\" as varchar), ''), '–')"  # a key of the trials table, not any text
        source = f"from trials where {shown} = {_literal(text)}"
    else:
        versions = place.run.versions
        of = versions[(versions["package"] == what) & (versions["version"] == text)]
        having = set(of["trial_id"])
        trials = tuple(trial for trial in recorded if trial["trial_id"] in having)
        source = "from trials join versions using (trial_id) where "
        source += f"package = {_literal(what)} and versions.version = {_literal(text)}"
    source += _of_section(place) + " and status <> 'missing'"
    return Meaning(place, what, None, "", "", "trials", len(trials), trials, "count(*)", source)


def _shown(value: object) -> str:
    return "–" if value is None or value == "" else str(int(value)) if isinstance(value, float) else str(value)


def _of_section(place: Place) -> str:
    hash_, fingerprint = place.key
    return f" and coalesce(protocol_hash, '') = {_literal(hash_)} and dataset_fingerprint = {_literal(fingerprint)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
