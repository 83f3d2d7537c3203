"""Records of different seeds with byte-identical results: one must be a copy of the other."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from twinbench.reports.tables.cells import WITHOUT_SEEDS

Outputs = Mapping[str, npt.NDArray[Any]]  # per-example arrays of one trial, by name


@dataclass(frozen=True)
class Result:
    """One trial and the artefact files that its record names; a file is empty where there is none to compare."""

    trial_id: str
    method: str
    seed: int
    curves: str
    outputs: str  # empty too where two honest seeds may agree in them; see `may_agree`

    def __str__(self) -> str:
        return f"{self.method} seed {self.seed} ({self.trial_id})"


def shared_files(results: Iterable[Result], kind: str) -> list[list[Result]]:
    """Return the groups of trials whose records name one and the same file of that kind, "curves" or "outputs"."""
    by_file: dict[str, list[Result]] = {}
    for result in results:
        file = getattr(result, kind)
        if file and result.method != WITHOUT_SEEDS:
            by_file.setdefault(file, []).append(result)
    return [group for group in by_file.values() if len(group) > 1]


def copied_seeds(results: Iterable[Result]) -> Iterator[str]:
    """Yield one sentence for each group of trials of different seeds with identical curves or outputs.

    Trials of different seeds never have the same losses bit for bit, nor the same predictions unless `may_agree`.
    A group that shares both kinds of file is named once. Trials of `raw_pixels` are equal for every seed and exempt.
    """
    results, named = list(results), set()
    for kind in ("curves", "outputs"):
        for group in shared_files(results, kind):
            key = frozenset(result.trial_id for result in group)
            if len({result.seed for result in group}) > 1 and key not in named:
                named.add(key)
                yield f"{' and '.join(map(str, group))} have identical {kind}: one is a copy of another"


def may_agree(outputs: Outputs) -> bool:
    """Whether honest trials of different seeds may both have these outputs: every probe is trivial, or there is none.

    A probe is trivial where it predicts one class alone or is always right; without predictions, where it is always
    right or always wrong.
    """
    probes = {name.rpartition("_")[0] for name in outputs if name.endswith(("_prediction", "_correct"))}
    return all(_is_trivial(outputs, probe) for probe in probes)


def _is_trivial(outputs: Outputs, probe: str) -> bool:
    predicted, correct = outputs.get(f"{probe}_prediction"), outputs.get(f"{probe}_correct")
    if predicted is None:
        return correct is not None and bool(correct.all() or not correct.any())
    labels = outputs.get("labels")
    always_right = labels is not None and labels.shape == predicted.shape and (predicted == labels).all()
    return bool(always_right or (predicted == predicted[:1]).all())
