"""What every worker does, whoever started it: takes trial after trial from the run folder until none is left."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from twinbench.harness.attempts import Others, attempt_numbers, is_recorded
from twinbench.harness.execute import Surroundings
from twinbench.harness.heart import is_cancelled
from twinbench.harness.launchers.apart import run_pack_apart
from twinbench.harness.run_folder import planned_trials
from twinbench.harness.worker import Execute, run_pack
from twinbench.results.record import recorded_ids
from twinbench.sweeps.identity import canonical_json
from twinbench.sweeps.trial import Trial

LOOK_AGAIN_SECONDS = 0.5

T = TypeVar("T")


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
    others, run = Others(surroundings.stale_seconds), run_pack_apart if surroundings.isolate else run_pack
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


def packs(trials: Sequence[Trial], surroundings: Surroundings) -> list[list[Trial]]:
    """`trials` in packs of at most `surroundings.pack`, in the order of the first of each.

    In a pack are trials that see the same images in the same order: equal in dataset, recipe, batch size, epochs and
    seed. A trial that was begun before goes on alone: it stands somewhere else, and may be what killed its process.
    """
    if surroundings.pack == 1:
        return [[trial] for trial in trials]
    return cut(trials, pack_keys(trials, surroundings.run_folder), surroundings.pack)


def pack_keys(trials: Sequence[Trial], run_folder: Path) -> list[bytes | None]:
    """Equal for trials that can be packed; None for one that goes alone. Looks into the folder of each."""
    return [None if attempt_numbers(run_folder, trial.trial_id) else _views_key(trial) for trial in trials]


def cut(trials: Sequence[T], keys: Sequence[bytes | None], size: int) -> list[list[T]]:
    """`trials`, or what stands for them, in packs of at most `size`, by their `pack_keys`."""
    made: list[list[T]] = []
    open_packs: dict[bytes, list[T]] = {}
    for trial, key in zip(trials, keys, strict=True):
        if key is None:
            made.append([trial])
            continue
        pack = open_packs.get(key)
        if pack is None or len(pack) == size:
            pack = open_packs[key] = []
            made.append(pack)
        pack.append(trial)
    return made


def _views_key(trial: Trial) -> bytes | None:
    """Equal for trials that train on the same views; None for one that is not trained."""
    if not trial.training:
        return None
    content = trial.protocol["content"]
    shared = [content["dataset"], content["views"], trial.dataset_fingerprint]
    return canonical_json([*shared, trial.training["batch_size"], trial.training["epochs"], trial.seed])


def _missing(folder: Path, given_up: set[str]) -> list[Trial]:
    done = given_up | recorded_ids(folder).keys()
    return [trial for trial in planned_trials(folder) if trial.trial_id not in done]


def _is_worth_waiting_for(folder: Path, trial: Trial, others: Others, stay: bool) -> bool:
    if is_recorded(folder, trial.trial_id):
        return False
    return stay or not others.beats(trial.trial_id)
