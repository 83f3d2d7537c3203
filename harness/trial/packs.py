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
