"""Losses of the latest updates, kept on the device until they are needed."""

import math

import torch
from torch import Tensor

from twinbench.harness.training.checkpoint import Progress


class Diverged(Exception):
    """A loss was not finite. Nothing after it is saved, measured or reported."""


class Losses:
    """The loss terms of the latest updates, before they are added to a progress."""

    def __init__(self, batch_size: int, steps_per_epoch: int, steps: int) -> None:
        self._batch_size, self._per_epoch, self._steps = batch_size, steps_per_epoch, steps
        self._kept: list[tuple[int, tuple[str, ...], Tensor]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, step: int, names: tuple[str, ...], terms: Tensor) -> None:
        """Keep the terms [1 + parts] of update `step`, the loss first."""
        self._kept.append((step, names, terms))

    def look(self, progress: Progress) -> None:
        """Add the kept terms to the epoch's sums, in order, so that it does not matter when it is called.

        Waits for the device. Raises Diverged at the first loss that is not finite, with the progress set back to the
        update before it.
        """
        kept, self._kept = self._kept, []
        values = torch.stack([terms for *_, terms in kept]).tolist() if kept else []
        for (step, names, _), row in zip(kept, values, strict=True):
            if not math.isfinite(row[0]):
                progress.step_in_epoch = step % self._per_epoch
                progress.images_seen = step * self._batch_size
                place = f"epoch {step // self._per_epoch + 1}, step {step + 1} of {self._steps}"
                raise Diverged(f"the loss was {row[0]} at {place}")
            for name, value in zip(names, row, strict=True):
                progress.sums[name] = progress.sums.get(name, 0.0) + value
