"""What every worker does, whoever started it: takes trial after trial from the run folder until none is left."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from twinbench.harness.launchers.isolation import run_pack_apart
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import planned_trials
from twinbench.harness.run_folder.leases import Others, is_recorded
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.packs import packs
from twinbench.harness.trial.worker import Execute, run_pack
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
    with contextlib.suppress(Exception):  # the trial will say it
        import torchvision  # noqa: F401  (seconds, which would count as the first trial's)

    folder = surroundings.run_folder
    others, run = Others(), run_pack_apart if surroundings.isolate else run_pack
    given_up: set[str] = set()  # they run elsewhere
    left = _missing(folder, given_up)
    while left:
        held = []
        for pack in packs(left, surroundings):
            if should_stop() or is_cancelled(folder):
                return
            statuses = run(pack, surroundings, should_stop, others, execute)
            held += [trial for trial, is_ in zip(pack, statuses, strict=True) if is_ in ("taken", "interrupted")]
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
