"""A run as `watch` and `serve` show it, from its folder alone: the plan, the records, and what the attempts tell.

Nothing here writes, locks, or opens the database. A folder that does not exist yet, and whatever is torn, foreign or
rubbish in it, is a picture too.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from twinbench.harness.monitor.progress_bars import label, moved
from twinbench.harness.monitor.record_cache import Recorded, SeenRecords, number, stamp
from twinbench.harness.monitor.status import seconds_left
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.leases import last_attempt, trial_folder
from twinbench.harness.run_folder.live_curves import FILE_NAME
from twinbench.harness.run_folder.progress import state_of
from twinbench.reports.statistics.intervals import t_interval
from twinbench.reports.tables.cells import BASELINES, REPORTED_ON, SELECTED_BY, deviations_text
from twinbench.reports.tables.frames import estimate_text
from twinbench.results.plan import read_plan
from twinbench.results.record import PLAN
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.metrics import KNN, LINEAR, METRICS
from twinbench.sweeps.trial import Trial

UNDER_WAY = ("running", "silent")
SHOWN = (KNN, LINEAR)  # a terminal has no room for ridge regression, which few protocols name
COLUMNS = tuple((metric.name, split) for split in (SELECTED_BY[1], REPORTED_ON) for metric in SHOWN)
HEADINGS = tuple(f"{METRICS[metric].title}, {split}" for metric, split in COLUMNS)
POINTS = 60  # of the loss that is shown beside a running trial


@dataclass(frozen=True)
class Running:
    """A trial that a worker holds."""

    trial_id: str
    label: str
    method: str
    state: str  # running, or silent
    host: str
    where: str
    attempt: int
    epoch: int | None
    step: int | None
    steps: int | None
    images_per_second: float | None
    seconds_left: float | None
    loss: tuple[float, ...]  # of its finished epochs, thinned


@dataclass(frozen=True)
class Failure:
    """A trial that ended otherwise than done, or a file that should be a record and is none."""

    trial_id: str
    label: str
    status: str
    reason: str
    finished: str


@dataclass(frozen=True)
class CellRow:
    """A line of the table: the seeds with what became of each, and the estimates so far."""

    cell_id: str
    method: str
    is_baseline: bool
    values: tuple[str, ...]  # of the moved axes; empty where the cell has none
    trials: tuple[tuple[int, str, str], ...]  # seed, trial id, state
    estimates: tuple[str, ...]  # as COLUMNS; empty where nothing is measured


@dataclass(frozen=True)
class Picture:
    """The run at one moment."""

    state: str  # waiting, idle, running, stopped, cancelled, finished
    problem: str = ""
    name: str = ""
    question: str = ""
    protocol: str = ""
    axes: tuple[str, ...] = ()
    planned: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    seconds_left: float | None = None
    running: tuple[Running, ...] = ()
    failures: tuple[Failure, ...] = ()  # the latest first
    cells: tuple[CellRow, ...] = ()


@dataclass(frozen=True)
class _Plan:
    name: str
    question: str
    protocol: str
    axes: tuple[str, ...]
    trials: dict[str, Trial]
    cells: dict[str, list[str]]  # the ids of a cell's trials, in the plan's order


class Overview:
    """Looks at a run folder again and again, and reads only what is new."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._records = SeenRecords(folder)
        self._plan: _Plan | None = None
        self._plan_stamp: object = None
        self._losses: dict[str, tuple[object, tuple[float, ...]]] = {}

    def trial(self, trial_id: str) -> Trial | None:
        """The planned trial of that id, as of the last look."""
        return self._plan.trials.get(trial_id) if self._plan else None

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that the plan moves."""
        return self._plan.axes if self._plan else ()

    def look(self) -> Picture:
        """The run as it is now."""
        try:
            self._read_plan()
        except InvalidInput as error:
            self._plan, self._records = None, SeenRecords(self.folder)
            return Picture("waiting", problem="; ".join(map(str, error.mistakes)))
        assert self._plan
        plan = self._plan
        self._records.look(plan.trials.keys())
        recorded = self._records.recorded
        attempts = self._attempts(plan)
        states = {trial_id: _state(attempt) for trial_id, attempt in attempts.items()}
        counts = Counter(one.status for one in recorded.values()) + Counter(states.values())
        counts["planned"] = len(plan.trials) - len(recorded) - len(states)
        running = tuple(
            self._running(plan, trial_id, attempts[trial_id], states[trial_id])
            for trial_id in plan.trials
            if states.get(trial_id) in UNDER_WAY
        )
        self._losses = {one.trial_id: self._losses[one.trial_id] for one in running if one.trial_id in self._losses}
        return Picture(
            state=self._state(plan, bool(running), bool(states)),
            name=plan.name,
            question=plan.question,
            protocol=plan.protocol,
            axes=plan.axes,
            planned=len(plan.trials),
            counts=tuple(sorted((state, count) for state, count in counts.items() if count)),
            seconds_left=_sweep_left(plan, recorded, running),
            running=running,
            failures=self._failures(plan, attempts, states),
            cells=tuple(_row(plan, ids, recorded, states) for ids in plan.cells.values()),
        )

    def _read_plan(self) -> None:
        now = stamp(self.folder / PLAN)
        if self._plan is None or now != self._plan_stamp:
            self._plan, self._plan_stamp = _plan_of(self.folder), now

    def _attempts(self, plan: _Plan) -> dict[str, dict[str, Any]]:
        """The last attempt of every trial that was started and has no record."""
        started = {name for name in self._records.started() if name in plan.trials}
        started -= self._records.recorded.keys()
        return {trial_id: attempt for trial_id in started if (attempt := _last_attempt(self.folder, trial_id))}

    def _state(self, plan: _Plan, is_worked_on: bool, was_started: bool) -> str:
        if len(self._records.recorded) == len(plan.trials):
            return "finished"
        if is_worked_on:
            return "running"
        if is_cancelled(self.folder):
            return "cancelled"
        return "stopped" if was_started or self._records.recorded else "idle"

    def _running(self, plan: _Plan, trial_id: str, attempt: Mapping[str, Any], state: str) -> Running:
        trial = plan.trials[trial_id]
        rate = number(attempt.get("images_per_second"))
        return Running(
            trial_id=trial_id,
            label=label(trial, plan.axes),
            method=trial.method,
            state=state,
            host=str(attempt.get("host", "")),
            where=str(attempt.get("where", "")),
            attempt=_whole(attempt.get("number")) or 0,
            epoch=_whole(attempt.get("epoch")),
            step=_whole(attempt.get("step")),
            steps=_whole(attempt.get("steps")),
            images_per_second=round(rate, 1) if rate else None,
            seconds_left=_left(attempt),
            loss=self._loss(trial_id),
        )

    def _loss(self, trial_id: str) -> tuple[float, ...]:
        file = trial_folder(self.folder, trial_id) / FILE_NAME
        now = stamp(file)
        if trial_id not in self._losses or self._losses[trial_id][0] != now:
            curve = read_curves(file).get("series", {}).get("loss", [])
            self._losses[trial_id] = (now, _thinned([value for value in curve if value is not None]))
        return self._losses[trial_id][1]

    def _failures(
        self, plan: _Plan, attempts: Mapping[str, Mapping[str, Any]], states: Mapping[str, str]
    ) -> tuple[Failure, ...]:
        found = [
            Failure(trial_id, label(plan.trials[trial_id], plan.axes), one.status, one.reason, one.finished)
            for trial_id, one in self._records.recorded.items()
            if one.status != "done"
        ]
        for trial_id, state in states.items():
            if state == "died":
                told = attempts[trial_id]
                reason = str(told.get("reason") or "its process is gone; the next `run` takes it over")
                name = label(plan.trials[trial_id], plan.axes)
                found.append(Failure(trial_id, name, state, reason, str(told.get("updated", ""))))
        found += [Failure("", file, "unreadable", why, "") for file, why in self._records.torn.items()]
        return tuple(sorted(found, key=lambda one: (one.finished, one.trial_id, one.label), reverse=True))


def read_curves(file: Path) -> dict[str, Any]:
    """Epochs and series of a trial that runs; empty where there are none, or the file is not what it should be."""
    try:
        return checked_curves(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}


def checked_curves(found: object) -> dict[str, Any]:
    """The curves with nothing but numbers in them; empty where they are no curves."""
    if not isinstance(found, dict) or not isinstance(found.get("epoch"), list):
        return {}
    series = found.get("series")
    return {
        "epoch": [number(value) for value in found["epoch"]],
        "series": {
            name: [number(value) for value in curve]
            for name, curve in (series.items() if isinstance(series, dict) else ())
            if isinstance(curve, list)
        },
    }


def _plan_of(folder: Path) -> _Plan:
    """The folder's plan. InvalidInput where there is none that can be understood."""
    try:
        plan = read_plan(folder)
        trials = {trial.trial_id: trial for trial in plan.full_trials()}
        cells: dict[str, list[str]] = {}
        for trial_id, trial in trials.items():
            cells.setdefault(trial.cell_id, []).append(trial_id)
            label(trial, plan.axes)
        protocol = plan.protocol
        deviations = deviations_text(protocol.get("deviations", ()))
        deviating = f", deviating in {deviations}" if deviations else ""
        shown = f"{protocol['name']} {protocol['version']} ({protocol['hash'][:12]}{deviating})"
        return _Plan(plan.name, plan.question, shown, plan.axes, trials, cells)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidInput([Mistake(str(folder / PLAN), "", f"is no plan of this version: {error!r}")]) from None


def _last_attempt(folder: Path, trial_id: str) -> dict[str, Any]:
    try:
        return last_attempt(folder, trial_id)
    except (OSError, RecursionError):
        return {}


def _state(attempt: dict[str, Any]) -> str:
    try:
        return state_of(attempt)
    except (KeyError, TypeError, ValueError, OverflowError):
        return "interrupted"  # nobody who writes such a file is at work


def _left(attempt: Mapping[str, Any]) -> float | None:
    try:
        return number(seconds_left(dict(attempt)))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _thinned(values: list[float]) -> tuple[float, ...]:
    """At most POINTS of them, the first and the last among these."""
    if len(values) <= POINTS:
        return tuple(values)
    return tuple(values[round(place * (len(values) - 1) / (POINTS - 1))] for place in range(POINTS))


def _sweep_left(plan: _Plan, recorded: Mapping[str, Recorded], running: tuple[Running, ...]) -> float | None:
    """Until all is recorded, if what is left takes as long as what is done, by method, on the workers there are."""
    took: dict[str, list[float]] = {}
    for trial_id, one in recorded.items():
        if one.seconds and plan.trials[trial_id].method not in BASELINES:  # they take no time to speak of
            took.setdefault(plan.trials[trial_id].method, []).append(one.seconds)
    if not took or not running:
        return None
    means = {method: sum(values) / len(values) for method, values in took.items()}
    usual = sum(map(sum, took.values())) / sum(map(len, took.values()))
    under_way = {one.trial_id: one for one in running}
    left = 0.0
    for trial_id, trial in plan.trials.items():
        if trial_id in recorded:
            continue
        whole = means.get(trial.method, usual)
        runs = under_way.get(trial_id)
        share = runs.step / runs.steps if runs and runs.step is not None and runs.steps else 0.0
        left += whole * max(0.0, 1 - share)
    return left / len(running)


def _row(plan: _Plan, ids: list[str], recorded: Mapping[str, Recorded], states: Mapping[str, str]) -> CellRow:
    first = plan.trials[ids[0]]
    values = moved(first, plan.axes)
    done = [recorded[trial_id] for trial_id in ids if trial_id in recorded and recorded[trial_id].status == "done"]

    def state(trial_id: str) -> str:
        return recorded[trial_id].status if trial_id in recorded else states.get(trial_id, "planned")

    return CellRow(
        cell_id=first.cell_id,
        method=first.method,
        is_baseline=first.method in BASELINES,
        values=tuple(values.get(axis, "") for axis in plan.axes),
        trials=tuple((plan.trials[trial_id].seed, trial_id, state(trial_id)) for trial_id in ids),
        estimates=tuple(
            _estimate(tuple(one.metrics[column] for one in done if column in one.metrics)) for column in COLUMNS
        ),
    )


@lru_cache(maxsize=100_000)  # the same cells are asked for at every look
def _estimate(values: tuple[float, ...]) -> str:
    return estimate_text(t_interval(values)) if values else ""
