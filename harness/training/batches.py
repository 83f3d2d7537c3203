"""The batches of trainings in their order, and the views of their images."""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import torch
from torch import Tensor

from twinbench.harness.data.augmentation import ViewParameters, draw_parameters
from twinbench.harness.data.images import Images
from twinbench.harness.data.random_streams import order
from twinbench.sweeps.recipe import ViewRecipe

DRAWN_AT_ONCE = 32  # batches; a draw is some hundred small operations, whether of one batch or of many


@dataclass(frozen=True, eq=False)
class Batch:
    """One rank's rows: images uint8 [n, 3, H, W], their places in the dataset int64 [n], what each view is made of.

    `views`, one [n, 3, S, S] a recipe, may be there already; `seconds` is what it took to make all this, and
    `is_shared` says that it was made for another training.
    """

    images: Tensor
    ids: Tensor
    parameters: tuple[ViewParameters, ...]
    views: tuple[Tensor, ...] = ()
    seconds: float = 0.0
    is_shared: bool = False

    def tensors(self) -> list[Tensor]:
        """What an update reads: the views where they are there, else what they are made of."""
        if self.views:
            return [self.ids, *self.views]
        drawn = [getattr(one, part.name) for one in self.parameters for part in fields(ViewParameters)]
        return [self.ids, self.images, *drawn]


MakeViews: TypeAlias = Callable[[Batch], tuple[Tensor, ...]]


class Batches:
    """Asked for by epoch and step, in any order; cheapest in turn. What is drawn depends on neither.

    Trainings that ask for the same batch one after the other are given the same one, which is made once. None of them
    may change its tensors.
    """

    def __init__(
        self,
        images: Images,
        recipes: tuple[ViewRecipe, ...],
        seed: int,
        batch_size: int,
        device: torch.device,
        rank: int,
        ranks: int,
        make_views: MakeViews | None = None,
    ) -> None:
        """`batch_size` is that of all ranks together. Without `make_views` batches come without views."""
        self._images, self._recipes, self._seed = images, recipes, seed
        self._batch_size, self._device = batch_size, device
        self._rank, self._ranks, self._make_views = rank, ranks, make_views
        self._ids = images.ids
        self._epoch, self._block = -1, -1
        self._positions = self._places = torch.empty(0, 0, dtype=torch.int64)
        self._drawn: tuple[ViewParameters, ...] = ()
        self._latest: tuple[tuple[int, int], Batch] | None = None
        self._made_at: torch.cuda.Event | None = None

    def at(self, epoch: int, step_in_epoch: int) -> Batch:
        """The batch of a step; its images may still be on their way to the device."""
        if self._latest and self._latest[0] == (epoch, step_in_epoch):
            self._wait_for_its_maker(self._latest[1])
            return replace(self._latest[1], is_shared=True)
        self._latest, started = None, time.perf_counter()
        batch = self._made(epoch, step_in_epoch)
        if self._make_views:
            batch = replace(batch, views=self._make_views(batch))
        batch = replace(batch, seconds=time.perf_counter() - started)
        self._latest = (epoch, step_in_epoch), batch
        if self._device.type == "cuda":
            self._made_at = torch.cuda.current_stream(self._device).record_event()
        return batch

    def forget(self) -> None:
        """Whoever asks next draws and makes all anew."""
        self._latest, self._block = None, -1

    def _wait_for_its_maker(self, batch: Batch) -> None:
        """On a GPU the training that made it and the one that is given it are on streams of their own."""
        if self._made_at:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._made_at)
            for tensor in batch.tensors():  # whose memory stays until this stream is through with it, too
                tensor.record_stream(stream)

    def _made(self, epoch: int, step_in_epoch: int) -> Batch:
        if epoch != self._epoch:
            self._epoch, self._block, self._positions = epoch, -1, self._epochs_positions(epoch)
            self._places = self._positions.to(self._device)  # once: the host would wait at every batch
        positions = self._positions[step_in_epoch]
        images = self._images.batch(positions)
        if step_in_epoch + 1 < len(self._positions):
            self._images.prefetch(self._positions[step_in_epoch + 1])
        block, place = divmod(step_in_epoch, DRAWN_AT_ONCE)
        if block != self._block:
            self._block, self._drawn = block, self._draw(block, images.shape[-2], images.shape[-1])
        rows = slice(place * len(positions), (place + 1) * len(positions))
        parameters = tuple(drawn.rows(rows) for drawn in self._drawn)
        return Batch(images, self._ids[self._places[step_in_epoch]], parameters)

    def _epochs_positions(self, epoch: int) -> Tensor:
        """int64 [steps, n]: this rank's rows of every whole batch of the epoch."""
        steps = len(self._images) // self._batch_size
        batches = order(self._seed, epoch, len(self._images))[: steps * self._batch_size].view(steps, -1)
        return batches.chunk(self._ranks, dim=1)[self._rank].to(self._images.positions_device)

    def _draw(self, block: int, height: int, width: int) -> tuple[ViewParameters, ...]:
        """The parameters of all views of the block's batches, one batch after the other."""
        places = self._places[block * DRAWN_AT_ONCE : (block + 1) * DRAWN_AT_ONCE]
        ids = self._ids[places.flatten()]
        return tuple(
            draw_parameters(ids, recipe, self._seed, self._epoch, view, height, width)
            for view, recipe in enumerate(self._recipes)
        )
