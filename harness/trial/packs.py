"""Group trials that can train together on the same views."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from twinbench.harness.trial.execute import Surroundings
from twinbench.results.attempts import attempt_numbers
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.trial import Trial

T = TypeVar("T")


def packs(trials: Sequence[Trial], surroundings: Surroundings) -> list[list[Trial]]:
    """Return `trials` in packs of at most `surroundings.pack`, ordered by the first trial of each.

    The trials of a pack see the same images in the same order: they are equal in dataset, recipe, batch size, epochs
    and seed. A trial that was started before runs alone: it resumes at another step, and it may be what killed its
    process.
    """
    if surroundings.pack == 1:
        return [[trial] for trial in trials]
    return cut(trials, pack_keys(trials, surroundings.run_folder), surroundings.pack)


def pack_keys(trials: Sequence[Trial], run_folder: Path) -> list[bytes | None]:
    """Return keys that are equal for trials that can share a pack, None for a trial that runs alone.

    Lists the folder of each trial.
    """
    return [None if attempt_numbers(run_folder, trial.trial_id) else _views_key(trial) for trial in trials]


def cut(trials: Sequence[T], keys: Sequence[bytes | None], size: int) -> list[list[T]]:
    """Return `trials` (or anything in their place) in packs of at most `size`, by their `pack_keys`."""
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
    """Return a key that is equal for trials that train on the same views; None for a trial without training."""
    if not trial.training:
        return None
    content = trial.protocol["content"]
    shared = [content["dataset"], content["views"], trial.dataset_fingerprint]
    return canonical_json([*shared, trial.training["batch_size"], trial.training["epochs"], trial.seed])
