"""A run at one moment, read from its folder alone, for `twinbench status`, `watch` and `serve`.

`RunView.poll` returns a Snapshot; terminal.py renders it as text and server.py as JSON. Nothing here writes, locks or
opens the database. A folder that does not exist yet, or that holds damaged files, gives a snapshot, too.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from twinbench.harness.monitor.labels import thinned, trial_label
from twinbench.harness.run_folder.confirm_stage import has_confirm_stage
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.leases import DIED
from twinbench.harness.run_folder.live_curves import FILE_NAME, read_curves
from twinbench.harness.run_folder.progress import RunProgress, file_stamp, seconds_left, state_of
from twinbench.results.attempts import AttemptInfo, trial_folder
from twinbench.results.plan import read_plan
from twinbench.results.record import PLAN
from twinbench.sweeps.deviations import deviations_text
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.own_values import changed_by_cell, fixed_text, in_every_cell
from twinbench.sweeps.protocol import CarriedProtocol
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.monitor.cells import CellRow  # needs the reports, whose imports take seconds

STATES = {  # of a run
    "waiting": "waiting for `twinbench run` to write the plan",
    "idle": "planned; no worker has started yet",
    "running": "running",
    "stopped": "stopped: no worker is running; the same `run` command continues",
    "cancelled": "cancelled; the same `run` command continues",
    "unconfirmed": "the grid is recorded; the same `run` command starts the confirm stage",
    "finished": "finished",
}
HELD = ("running", "silent")  # states of a trial that a worker holds
POINTS = 60  # of the loss curve of a running trial


@dataclass(frozen=True)
class Running:
    """A trial that a worker holds."""

    trial_id: str
    label: str
    method: str
    state: str  # one of HELD
    host: str
    where: str
    attempt: int
    updated: str
    epoch: int | None
    step: int | None
    steps: int | None
    images_per_second: float | None
    seconds_left: float | None
    loss: tuple[float, ...]  # of the finished epochs, at most POINTS


@dataclass(frozen=True)
class Failure:
    """A trial that did not end as done, or a record that cannot be read (with its file's name as label)."""

    trial_id: str
    label: str
    status: str
    reason: str
    finished: str
    attempts: int = 1


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at one moment.

    `counts` are trials by state; those not yet started are "queued" while other trials run, else "planned".
    """

    state: str  # one of STATES
    problem: str = ""
    name: str = ""
    question: str = ""
    protocol: str = ""
    axes: tuple[str, ...] = ()
    planned: int = 0
    recorded: int = 0
    stages: str = ""  # how much of grid and confirm stage is recorded; empty without a confirm stage
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds_left: float | None = None
    running: tuple[Running, ...] = ()
    failures: tuple[Failure, ...] = ()  # latest first
    cells: "tuple[CellRow, ...]" = ()


@dataclass(frozen=True)
class _Plan:
    summary: Snapshot  # with what the plan alone says
    trials: dict[str, Trial]
    labels: dict[str, str]
    cells: dict[tuple[bool, str], list[Trial]]  # by whether they confirm and cell id, in the plan's order
    confirm_seeds: frozenset[int]  # empty without a confirm stage

    @property
    def confirming(self) -> set[str]:
        """The ids of the confirm stage's trials."""
        return {trial_id for trial_id, trial in self.trials.items() if trial.seed in self.confirm_seeds}


class RunView:
    """Incremental view of a run folder: each poll reads only the files that changed.

    Cells, loss curves and the remaining time are left out unless `has_tables`: they need imports that take seconds.
    """

    def __init__(self, folder: Path, has_tables: bool = True):
        self.folder, self._has_tables = folder, has_tables
        self._run = RunProgress(folder, ())
        self._plan: _Plan | None = None
        self._plan_stamp: object = None
        self._losses: dict[str, tuple[object, tuple[float, ...]]] = {}

    def trial(self, trial_id: str) -> Trial | None:
        """Return the planned trial of that id, as of the last poll."""
        return self._plan.trials.get(trial_id) if self._plan else None

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that the plan varies."""
        return self._plan.summary.axes if self._plan else ()

    def poll(self) -> Snapshot:
        """Return the run as it is now; a folder without a readable plan is `waiting`, with the problem as text."""
        try:
            return self.read()
        except InvalidInput as error:
            return Snapshot("waiting", problem="; ".join(map(str, error.mistakes)))

    def read(self) -> Snapshot:
        """Return the run as it is now. InvalidInput if the folder has no readable plan."""
        plan = self._read_plan()
        self._run.planned = plan.trials.keys()
        self._run.poll_records()
        recorded, attempts = self._run.recorded, self._run.poll_attempts()
        states = {trial_id: state_of(attempt) for trial_id, attempt in attempts.items()}
        held = [trial_id for trial_id in plan.trials if states.get(trial_id) in HELD]
        self._losses = {trial_id: self._losses[trial_id] for trial_id in held if trial_id in self._losses}
        running = tuple(self._running(plan, trial_id, attempts[trial_id], states[trial_id]) for trial_id in held)
        counts = Counter([one.status for one in recorded.values()] + list(states.values()))
        counts["queued" if running else "planned"] = len(plan.trials) - len(recorded) - len(states)
        left, cells = self._tables(plan, running, states) if self._has_tables else (None, ())
        return replace(
            plan.summary,
            state=self._state(plan, bool(running), bool(states)),
            recorded=len(recorded),
            stages=self._stages(plan),
            counts={state: count for state, count in sorted(counts.items()) if count},
            seconds_left=left,
            running=running,
            failures=self._failures(plan, attempts, states),
            cells=cells,
        )

    def _read_plan(self) -> _Plan:
        stamp = file_stamp(self.folder / PLAN)
        if self._plan is None or stamp != self._plan_stamp:
            try:
                self._plan, self._plan_stamp = _plan_of(self.folder), stamp
            except InvalidInput:
                self._plan, self._run = None, RunProgress(self.folder, ())
                raise
        return self._plan

    def _stages(self, plan: _Plan) -> str:
        if not plan.confirm_seeds:
            return ""
        confirming = plan.confirming
        done = len(confirming & self._run.recorded.keys())
        grid = f"grid {len(self._run.recorded) - done} of {len(plan.trials) - len(confirming)}"
        return f"{grid}, confirm stage {done} of {len(confirming)}" if confirming else f"{grid}, then the confirm stage"

    def _state(self, plan: _Plan, is_worked_on: bool, was_started: bool) -> str:
        if not self._run.missing:
            return "unconfirmed" if plan.confirm_seeds and not plan.confirming else "finished"
        if is_worked_on:
            return "running"
        if is_cancelled(self.folder):
            return "cancelled"
        return "stopped" if was_started or self._run.recorded else "idle"

    def _running(self, plan: _Plan, trial_id: str, attempt: AttemptInfo, state: str) -> Running:
        rate = attempt.get("images_per_second")
        return Running(
            trial_id=trial_id,
            label=plan.labels[trial_id],
            method=plan.trials[trial_id].method,
            state=state,
            host=attempt.get("host", ""),
            where=attempt.get("where", ""),
            attempt=attempt.get("number", 0),
            updated=attempt.get("updated", attempt.get("started", "")),
            epoch=attempt.get("epoch"),
            step=attempt.get("step"),
            steps=attempt.get("steps"),
            images_per_second=round(rate, 1) if rate else None,
            seconds_left=seconds_left(attempt),
            loss=self._loss(trial_id) if self._has_tables else (),
        )

    def _loss(self, trial_id: str) -> tuple[float, ...]:
        folder = trial_folder(self.folder, trial_id)
        stamp = file_stamp(folder / FILE_NAME)
        known, loss = self._losses.get(trial_id, (None, ()))
        if stamp != known:
            curve = read_curves(folder).series.get("loss", ())
            loss = tuple(thinned([value for value in curve if value is not None], POINTS))
            self._losses[trial_id] = stamp, loss
        return loss

    def _tables(
        self, plan: _Plan, running: tuple[Running, ...], states: Mapping[str, str]
    ) -> "tuple[float | None, tuple[CellRow, ...]]":
        from twinbench.harness.monitor.cells import cell_row, sweep_seconds_left

        recorded = self._run.recorded
        shares = {one.trial_id: (one.step or 0) / one.steps if one.steps else 0.0 for one in running}
        rows = tuple(
            cell_row(trials, plan.summary.axes, recorded, states, confirms)
            for (confirms, _), trials in plan.cells.items()
        )
        return sweep_seconds_left(plan.trials, recorded, shares), rows

    def _failures(
        self, plan: _Plan, attempts: Mapping[str, AttemptInfo], states: Mapping[str, str]
    ) -> tuple[Failure, ...]:
        found = [
            Failure(trial_id, plan.labels[trial_id], one.status, one.reason, one.finished, one.attempts)
            for trial_id, one in self._run.recorded.items()
            if one.status != "done"
        ]
        for trial_id in [trial_id for trial_id, state in states.items() if state == DIED]:
            attempt = attempts[trial_id]
            reason = attempt.get("reason") or f"worker lost on {attempt.get('host', '?')}; the next worker takes over"
            number, updated = attempt.get("number", 1), attempt.get("updated", "")
            found.append(Failure(trial_id, plan.labels[trial_id], DIED, reason, updated, number))
        unreadable = [*self._run.unreadable.items(), *self._run.unreadable_attempts.items()]
        found += [Failure("", name, "unreadable", problem, "") for name, problem in unreadable]
        return tuple(sorted(found, key=lambda one: (one.finished, one.trial_id, one.label), reverse=True))


def _plan_of(folder: Path) -> _Plan:
    """Return the folder's plan. InvalidInput if there is none or it cannot be read."""
    plan = read_plan(folder)
    protocol = plan.protocol
    trials = {trial.trial_id: trial for trial in plan.full_trials()}
    cells: dict[tuple[bool, str], list[Trial]] = {}
    for trial in trials.values():
        cells.setdefault((trial.seed in plan.confirm.seeds, trial.cell_id), []).append(trial)
    summary = Snapshot(
        "idle",
        name=plan.name,
        question=plan.question,
        protocol=_protocol_text(protocol, trials.values()),
        axes=plan.axes,
        planned=len(trials),
    )
    labels = {trial_id: trial_label(one, plan.axes) for trial_id, one in trials.items()}
    has_stage = has_confirm_stage(trials.values(), plan.confirm.seeds)
    return _Plan(summary, trials, labels, cells, frozenset(plan.confirm.seeds if has_stage else ()))


def _protocol_text(protocol: CarriedProtocol, trials: Iterable[Trial]) -> str:
    """Return name, version and hash of the protocol, with its deviations and the settings that all cells change."""
    deviations = deviations_text(protocol.get("deviations", []))
    deviating = f", deviating in {deviations}" if deviations else ""
    fixed = fixed_text(in_every_cell(changed_by_cell(trials, protocol)))
    whole = f"{protocol['name']} v{protocol['version']} ({protocol['hash'][:12]}{deviating})"
    return f"{whole}, with {fixed}" if fixed else whole
