"""One update as a CUDA graph: recorded once, then replayed, so that no kernel waits for Python to launch it."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from twinbench.harness.data.augmentation import ViewParameters
from twinbench.harness.training.batches import Batch


class NotRecordable(Exception):
    """A loss asks for what is another thing at each step, which a recording would repeat as it once was."""


class StandingStep:
    """Stands for a `Step` while an update is recorded: gives the samples' indices and nothing else."""

    def __init__(self, sample_indices: Tensor) -> None:
        self.sample_indices = sample_indices

    def __getattr__(self, name: str) -> Any:
        raise NotRecordable(f"its loss reads the step's {name}")


class RecordedUpdate:
    """Replays `update`, as it was recorded on the first batch, on others of the same shape.

    `update` takes a batch and gives a tensor. It must neither wait for the device nor depend on a number that Python
    keeps: learning rates are tensors, and what `numbers_of` finds in a module must stand still. Recording runs nothing,
    and a recording that fails leaves everything as it was.
    """

    def __init__(self, update: Callable[[Batch], Tensor], batch: Batch) -> None:
        self._batch = _copied(batch)
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # other threads may go on with the device: images are pinned and hearts beat meanwhile
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._given = update(self._batch)

    def __call__(self, batch: Batch) -> Tensor:
        for there, here in zip(_tensors(self._batch), _tensors(batch), strict=True):
            there.copy_(here, non_blocking=True)
        self._graph.replay()
        return self._given.clone()


def on_a_side_stream(work: Callable[[], None]) -> None:
    """Runs `work` as it is: what libraries set up at their first calls must be there before a recording."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)


def numbers_of(module: nn.Module) -> dict[str, Any]:
    """The numbers and strings that a module and its parts keep in Python, by name."""
    return {
        f"{where}.{name}": value
        for where, part in module.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, bool | int | float | str)
    }


def _tensors(batch: Batch) -> list[Tensor]:
    drawn = [getattr(one, part.name) for one in batch.parameters for part in fields(ViewParameters)]
    return [batch.images, batch.ids, *drawn]


def _copied(batch: Batch) -> Batch:
    parameters = tuple(
        ViewParameters(**{part.name: getattr(one, part.name).clone() for part in fields(ViewParameters)})
        for one in batch.parameters
    )
    return Batch(batch.images.clone(), batch.ids.clone(), parameters)
