"""Batches of a training, in order, with the views of their images."""

import functools
import importlib.util
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from twinbench.harness.data.augmentation import ViewParameters, draw_parameters, training_view
from twinbench.harness.data.random_streams import order
from twinbench.harness.training.task import Task
from twinbench.sweeps.protocol import DatasetRule
from twinbench.sweeps.recipe import ViewRecipe

DRAWN_AT_ONCE = 32  # batches: a draw takes some hundred small operations, for one batch as for many


@dataclass(frozen=True, eq=False)
class Batch:
    """One rank's rows of a batch: images uint8 [n, 3, H, W], their positions in the dataset int64 [n], and parameters.

    `parameters` are those of each view; `views`, one [n, 3, W, W] per recipe, may be made already. `seconds` is the
    time it took to make the batch, and `is_shared` says that it was made for another training.
    """

    images: Tensor
    ids: Tensor
    parameters: tuple[ViewParameters, ...]
    views: tuple[Tensor, ...] = ()
    seconds: float = 0.0
    is_shared: bool = False

    def tensors(self) -> list[Tensor]:
        """Return what an update reads: the views if there are any, or else what they are made from."""
        if self.views:
            return [self.ids, *self.views]
        return [self.ids, self.images, *itertools.chain(*self.parameters)]


class Batches:
    """The batches by epoch and step, in any order; in sequence is fastest. The order of requests changes no batch.

    Trainings that request the same batch one after the other get the same object, which is made once. None of them may
    change its tensors.
    """

    def __init__(self, task: Task, rank: int = 0, ranks: int = 1, makes_views: bool = False) -> None:
        """Without `makes_views` batches have no views. The task's batch size is that of all ranks together."""
        self._task, self._rank, self._ranks, self._makes_views = task, rank, ranks, makes_views
        self._ids = task.images.ids
        self._epoch, self._block = -1, -1
        self._positions = self._places = torch.empty(0, 0, dtype=torch.int64)
        self._drawn: tuple[ViewParameters, ...] = ()
        self._latest: tuple[tuple[int, int], Batch] | None = None
        self._made_at: torch.cuda.Event | None = None

    def at(self, epoch: int, step_in_epoch: int) -> Batch:
        """Return the batch of a step; its images may still be being copied to the device."""
        if self._latest and self._latest[0] == (epoch, step_in_epoch):
            self._wait_for_stream(self._latest[1])
            return replace(self._latest[1], is_shared=True)
        self._latest, started = None, time.perf_counter()
        batch = self._made(epoch, step_in_epoch)
        if self._makes_views:
            batch = replace(batch, views=make_views(batch, self._task))
        batch = replace(batch, seconds=time.perf_counter() - started)
        self._latest = (epoch, step_in_epoch), batch
        if self._task.device.type == "cuda":
            self._made_at = torch.cuda.current_stream(self._task.device).record_event()
        return batch

    def forget(self) -> None:
        """Drop what was made and drawn: the next request makes it anew."""
        self._latest, self._block = None, -1

    def _wait_for_stream(self, batch: Batch) -> None:
        """Make this stream wait for the one that made the batch: on a GPU each training has a stream of its own."""
        if self._made_at:
            stream = torch.cuda.current_stream(self._task.device)
            stream.wait_event(self._made_at)
            for tensor in batch.tensors():  # their memory must not be reused before this stream is done with it
                tensor.record_stream(stream)

    def _made(self, epoch: int, step_in_epoch: int) -> Batch:
        if epoch != self._epoch:
            self._epoch, self._block, self._positions = epoch, -1, self._positions_of_epoch(epoch)
            self._places = self._positions.to(self._task.device)  # once, or the host would wait at every batch
        positions = self._positions[step_in_epoch]
        images = self._task.images.batch(positions)
        if step_in_epoch + 1 < len(self._positions):
            self._task.images.prefetch(self._positions[step_in_epoch + 1])
        block, place = divmod(step_in_epoch, DRAWN_AT_ONCE)
        if block != self._block:
            self._block, self._drawn = block, self._draw(block, images.shape[-2], images.shape[-1])
        rows = slice(place * len(positions), (place + 1) * len(positions))
        parameters = tuple(drawn.rows(rows) for drawn in self._drawn)
        return Batch(images, self._ids[self._places[step_in_epoch]], parameters)

    def _positions_of_epoch(self, epoch: int) -> Tensor:
        """Return int64 [steps, n]: this rank's rows of every whole batch of the epoch."""
        images, steps = self._task.images, self._task.steps_per_epoch
        batches = order(self._task.seed, epoch, len(images))[: steps * self._task.training.batch_size].view(steps, -1)
        return batches.chunk(self._ranks, dim=1)[self._rank].to(images.positions_device)

    def _draw(self, block: int, height: int, width: int) -> tuple[ViewParameters, ...]:
        """Draw the parameters of all views for the block's batches, in order."""
        places = self._places[block * DRAWN_AT_ONCE : (block + 1) * DRAWN_AT_ONCE]
        ids = self._ids[places.flatten()]
        return tuple(
            draw_parameters(ids, recipe, self._task.seed, self._epoch, view, height, width)
            for view, recipe in enumerate(self._task.views)
        )


def make_views(batch: Batch, task: Task) -> tuple[Tensor, ...]:
    """Return one distorted, normalised batch [N, 3, W, W] per recipe, channels last, of images W pixels wide."""
    make = gpu_view_function() if batch.images.is_cuda else training_view
    return tuple(
        make(batch.images, parameters, recipe, batch.images.shape[-1], task.dataset, task.view_dtype)
        for recipe, parameters in zip(task.views, batch.parameters, strict=True)
    )


MakeView: TypeAlias = Callable[[Tensor, ViewParameters, ViewRecipe, int, DatasetRule, torch.dtype], Tensor]


@functools.cache
def gpu_view_function() -> MakeView:
    """Return what makes a GPU's views: a Triton kernel, which takes 1/12 to 1/7 of the time of torch.compile's code.

    Without Triton, as on Windows, it is `training_view`: some hundred passes over the pixels.
    """
    if importlib.util.find_spec("triton") is None:
        return training_view
    from twinbench.harness.data.augmentation_triton import view_by_kernel

    return view_by_kernel
