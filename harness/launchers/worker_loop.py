"""The loop that every worker runs under every launcher: it takes trials from the run folder until none is left."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from twinbench.harness.launchers.isolation import run_pack_in_fork
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import unrecorded_trials
from twinbench.harness.run_folder.leases import LeaseObserver, is_recorded
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.packs import packs
from twinbench.harness.trial.worker import run_pack
from twinbench.sweeps.trial import Trial

LOOK_AGAIN_SECONDS = 0.5


def drain(surroundings: Surroundings, should_stop: Callable[[], bool], stay: bool) -> None:
    """Run every planned trial that no other worker runs, in the plan's order.

    With `stay`, wait for the trials of other workers, to take over those whose worker dies; without, return when every
    remaining trial has a living worker. Raises Unwritable when the run folder cannot be written.
    """
    with contextlib.suppress(Exception):  # the trial that needs it will fail and say why
        import torchvision  # noqa: F401  (takes seconds, which would count as the first trial's)

    folder = surroundings.run_folder
    leases = LeaseObserver()
    run = run_pack_in_fork if surroundings.isolate else run_pack
    left_to_others: set[str] = set()
    remaining = _without_record(folder, left_to_others)
    while remaining:
        unfinished = []
        for pack in packs(remaining, surroundings):
            if should_stop() or is_cancelled(folder):
                return
            statuses = run(pack, surroundings, should_stop, leases)
            ended = zip(pack, statuses, strict=True)
            unfinished += [trial for trial, status in ended if status in ("taken", "interrupted")]
        waited_for = [trial for trial in unfinished if stay or not leases.has_beaten(trial.trial_id)]
        remaining = [trial for trial in waited_for if not is_recorded(folder, trial.trial_id)]
        if remaining:
            time.sleep(LOOK_AGAIN_SECONDS)
        else:  # by now the plan may have grown, or a failed trial been set aside to run again
            left_to_others |= {trial.trial_id for trial in unfinished}
            remaining = _without_record(folder, left_to_others)


def _without_record(folder: Path, left_to_others: set[str]) -> list[Trial]:
    return [trial for trial in unrecorded_trials(folder) if trial.trial_id not in left_to_others]
