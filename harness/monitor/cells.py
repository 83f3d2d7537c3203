"""Table of a run's cells and the remaining time of the sweep: the parts of a snapshot that need the reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from twinbench.harness.monitor.labels import axis_values
from twinbench.harness.run_folder.progress import RecordSummary
from twinbench.reports.statistics.intervals import t_interval
from twinbench.reports.tables.cells import BASELINES, REPORTED_ON, SELECTED_BY
from twinbench.reports.tables.frames import estimate_text
from twinbench.sweeps.metrics import KNN, LINEAR, METRICS
from twinbench.sweeps.trial import Trial

SHOWN = (KNN, LINEAR)  # without ridge regression: few protocols use it and a terminal is narrow
COLUMNS = tuple((metric.name, split) for split in (SELECTED_BY[1], REPORTED_ON) for metric in SHOWN)
HEADINGS = tuple(f"{METRICS[metric].title}, {split}" for metric, split in COLUMNS)
TEST_COLUMNS = tuple(place for place, (_, split) in enumerate(COLUMNS) if split == REPORTED_ON)


@dataclass(frozen=True)
class CellRow:
    """A row of the table: the cell's trials with their states, and the estimates so far.

    A cell of the confirm stage (`confirms`) has a row of its own, with "+" after its id.
    """

    cell_id: str
    method: str
    is_baseline: bool
    values: tuple[str, ...]  # of the axes; empty where the cell does not have the axis
    trials: tuple[tuple[int, str, str], ...]  # seed, trial id, state
    estimates: tuple[str, ...]  # as COLUMNS; empty where nothing is measured
    confirms: bool = False


def cell_row(
    trials: Sequence[Trial],
    axes: tuple[str, ...],
    recorded: Mapping[str, RecordSummary],
    states: Mapping[str, str],
    confirms: bool,
) -> CellRow:
    """Return the row of one cell from its trials, their records and the states of those without a record."""
    values = axis_values(trials[0], axes)
    records = [recorded[trial.trial_id] for trial in trials if trial.trial_id in recorded]
    done = [record for record in records if record.status == "done"]

    def state(trial_id: str) -> str:
        return recorded[trial_id].status if trial_id in recorded else states.get(trial_id, "planned")

    return CellRow(
        cell_id=trials[0].cell_id + "+" * confirms,
        method=trials[0].method,
        is_baseline=trials[0].method in BASELINES,
        values=tuple(values.get(axis, "") for axis in axes),
        trials=tuple((trial.seed, trial.trial_id, state(trial.trial_id)) for trial in trials),
        estimates=tuple(
            _estimate(tuple(record.metrics[column] for record in done if column in record.metrics))
            for column in COLUMNS
        ),
        confirms=confirms,
    )


@lru_cache(maxsize=100_000)  # every poll asks for the same cells
def _estimate(values: tuple[float, ...]) -> str:
    return estimate_text(t_interval(values)) if values else ""


def sweep_seconds_left(
    trials: Mapping[str, Trial], recorded: Mapping[str, RecordSummary], running: Mapping[str, float]
) -> float | None:
    """Return the time until all trials are recorded; None before one is recorded or while none is running.

    Assumes that a trial takes as long as the recorded ones of its method (of all methods, if there is none), and that
    as many trials run at a time as now. `running` has the finished share of each running trial.
    """
    took: dict[str, list[float]] = {}
    for trial_id, record in recorded.items():
        if record.seconds and trials[trial_id].method not in BASELINES:  # baselines take next to no time
            took.setdefault(trials[trial_id].method, []).append(record.seconds)
    if not took or not running:
        return None
    means = {method: sum(values) / len(values) for method, values in took.items()}
    mean = sum(map(sum, took.values())) / sum(map(len, took.values()))
    left = [
        means.get(trial.method, mean) * max(0.0, 1 - running.get(trial_id, 0.0))
        for trial_id, trial in trials.items()
        if trial_id not in recorded
    ]
    return sum(left) / len(running)
