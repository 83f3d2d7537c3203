"""What every worker does, whoever started it: takes trial after trial from the run folder until none is left."""

import time
from collections.abc import Callable
from pathlib import Path

from twinbench.harness.attempts import Others, is_recorded
from twinbench.harness.execute import Surroundings
from twinbench.harness.heart import is_cancelled
from twinbench.harness.run_folder import planned_trials
from twinbench.harness.worker import Execute, run_trial
from twinbench.results.record import recorded_ids
from twinbench.sweeps.trial import Trial

LOOK_AGAIN_SECONDS = 0.5


def drain(
    surroundings: Surroundings, should_stop: Callable[[], bool], stay: bool, execute: Execute | None = None
) -> None:
    """Runs every planned trial that nobody else runs, in the plan's order.

    With `stay` it waits for the trials of others, to take over those whose worker dies; without, it leaves when every
    trial that is left has a living worker. Raises Unwritable when the run folder takes no more.
    """
    folder = surroundings.run_folder
    others = Others(surroundings.stale_seconds)
    given_up: set[str] = set()  # they run elsewhere
    left = _missing(folder, given_up)
    while left:
        held = []
        for trial in left:
            if should_stop() or is_cancelled(folder):
                return
            if run_trial(trial, surroundings, should_stop, others, execute) in ("taken", "interrupted"):
                held.append(trial)
        left = [trial for trial in held if _is_worth_waiting_for(folder, trial, others, stay)]
        if left:
            time.sleep(LOOK_AGAIN_SECONDS)
        else:
            given_up |= {trial.trial_id for trial in held}
            left = _missing(folder, given_up)  # a plan that grew meanwhile, a failed trial that is to run again


def _missing(folder: Path, given_up: set[str]) -> list[Trial]:
    done = given_up | recorded_ids(folder).keys()
    return [trial for trial in planned_trials(folder) if trial.trial_id not in done]


def _is_worth_waiting_for(folder: Path, trial: Trial, others: Others, stay: bool) -> bool:
    if is_recorded(folder, trial.trial_id):
        return False
    return stay or not others.beats(trial.trial_id)
