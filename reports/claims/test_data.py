"""The test data of known datasets, locked as protocols are: how many images each class has, and the labels' digest.

    datasets.lock     JSON, dataset to images_per_class of the test split; labels: the sha256 of the labels in order, as
                      int32; fingerprint: that of the dataset at its own image size

Labels and fingerprint are locked for datasets that need no folder. Those of the others depend on the form in which the
images are published or kept. The labels of all trials with one fingerprint must agree in any case.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from twinbench.reports.claims.consistency import namesake
from twinbench.reports.tables.cells import REPORTED_ON
from twinbench.results.record import Result
from twinbench.sweeps.sweep import SHIPPED

LOCK = "datasets.lock"
MOST_CLASSES = 10_000  # a larger label is no class, and would only cost memory

Labels = npt.NDArray[Any]  # whole numbers [n]


@dataclass(frozen=True)
class LockedData:
    """What is locked of a dataset. Empty texts are not locked."""

    images_per_class: Sequence[int]
    labels: str = ""
    fingerprint: str = ""


@cache
def locked_data() -> dict[str, LockedData]:
    """Return what is locked, by the name of the dataset."""
    lock = json.loads((SHIPPED / LOCK).read_text(encoding="utf-8"))
    return {name: LockedData(**entry) for name, entry in lock.items()}


def labels_digest(labels: Labels | None) -> str:
    """Return the sha256 of test labels in their order; empty without labels."""
    return "" if labels is None else sha256(labels.astype("<i4", copy=False).tobytes()).hexdigest()


def data_problems(result: Result, labels: Labels | None) -> Iterator[str]:
    """Yield how a trial's test data contradict the locked data of its dataset; nothing for an unknown dataset.

    `labels` are those of its outputs, if there are any.
    """
    trial = result["trial"]
    rule = trial["protocol"]["content"].get("dataset", {})
    name, asked = rule.get("name", ""), rule.get("test_examples")
    locked = locked_data().get(name)
    if other := namesake(name, locked_data()):
        yield f"its dataset {name} is not the known {other}, whose name it reads as"
    if locked is None:
        return
    fingerprint = trial["dataset_fingerprint"]
    if locked.fingerprint not in ("", fingerprint) and rule.get("image_size") is None:
        yield f"its dataset has the fingerprint {fingerprint}; that of {name} is {locked.fingerprint}"
    whole = sum(locked.images_per_class)
    size = whole if asked is None else min(asked, whole)
    stated = [one.get("n_examples") for one in result["metrics"] if one["split"] == REPORTED_ON]
    used = {number for number in stated if isinstance(number, int)} | (set() if labels is None else {len(labels)})
    if wrong := sorted(used - {size}):
        tested = " and ".join(f"{number:,}" for number in wrong)
        yield f"it was tested on {tested} images; the test split of {name} has {size:,}"
    elif labels is not None:
        yield from _label_problems(name, labels, locked, is_whole=size == whole)


def _label_problems(name: str, labels: Labels, locked: LockedData, is_whole: bool) -> Iterator[str]:
    """Yield classes with more images than there are, or other labels than the whole test split has."""
    expected = locked.images_per_class
    found = np.bincount(np.clip(labels, 0, MOST_CLASSES).astype(np.int64), minlength=len(expected))
    for label, number in enumerate(found):
        most = expected[label] if label < len(expected) else 0
        if number > most:
            yield f"{number:,} of its test images have the label {label}; the test split of {name} has {most:,}"
            return
    if is_whole and locked.labels not in ("", labels_digest(labels)):
        yield f"the labels of its test images are not those of {name}, or in another order"
