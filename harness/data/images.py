"""A split's images as batches: resident on a GPU where they fit, else from the memory map, read ahead where large."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CACHED_BYTES = 4 * 2**30  # CIFAR is 0.2 GB; a map of this size stays in the system's file cache once it was read
_BLOCK_BYTES = 2**28
_RESIDENT_SHARE = 0.4  # of a GPU's free memory; ImageNet-100 at 256 pixels is 25 GB
_MOST_OF_WHAT_IS_FREE = 0.75  # where others have filled the GPU: the training needs some, too


class Images:
    """uint8 images [n, 3, H, W], asked for by position."""

    def __init__(self, images: NDArray[np.uint8], positions: NDArray[np.int64], device: torch.device):
        """`positions` picks and orders the images of `images` that this stands for."""
        self._images, self._positions, self._device = images, positions, device
        self._resident: Tensor | None = None
        self._ahead: tuple[Tensor, Future[Tensor]] | None = None
        self._reader: ThreadPoolExecutor | None = None
        size = len(positions) * images[0].nbytes
        if device.type == "cuda" and size <= resident_bytes(device):
            self._resident = _copied(images, positions, device)
        # On a CPU the map is what is shared by all processes, and numpy gathers rows in a seventh of torch's time.
        self._reads_ahead = self._resident is None and (device.type == "cuda" or size > CACHED_BYTES)

    @property
    def ids(self) -> Tensor:
        """int64 [n] on the device: where each image stands in the whole split. Keys an image's distortions."""
        return torch.from_numpy(self._positions).to(self._device)

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self._device

    @property
    def pixels(self) -> int:
        """Of one image, height times width."""
        return int(self._images.shape[-2] * self._images.shape[-1])

    @property
    def positions_device(self) -> torch.device:
        """Where the positions are wanted: asked from elsewhere, they are moved first."""
        return torch.device("cpu") if self._resident is None else self._device

    def __len__(self) -> int:
        return len(self._positions)

    def batch(self, which: Tensor) -> Tensor:
        """uint8 [len(which), 3, H, W] on the device."""
        if self._resident is not None:
            return self._resident[which.to(self._device)]
        which = which.cpu()
        ahead, self._ahead = self._ahead, None
        gathered = ahead[1].result() if ahead and torch.equal(ahead[0], which) else self._gather(which)
        return gathered.to(self._device, non_blocking=True)

    def prefetch(self, which: Tensor) -> None:
        """Begins to read what the next `batch` will ask for, where that is not at hand."""
        if not self._reads_ahead:
            return
        self._reader = self._reader or ThreadPoolExecutor(1)
        which = which.cpu()
        self._ahead = which, self._reader.submit(self._gather, which)

    def _gather(self, which: Tensor) -> Tensor:
        gathered = torch.from_numpy(self._images[self._positions[which.numpy()]])
        # pinned, so that a GPU takes it without the loop waiting
        return gathered.pin_memory() if self._device.type == "cuda" else gathered


def _copied(images: NDArray[np.uint8], positions: NDArray[np.int64], device: torch.device) -> Tensor:
    """On the device, a block at a time: at once it would take as much of the host's memory."""
    block = max(1, _BLOCK_BYTES // images[0].nbytes)
    there = torch.empty((len(positions), *images.shape[1:]), dtype=torch.uint8, device=device)
    for begin in range(0, len(positions), block):
        there[begin : begin + block] = torch.from_numpy(images[positions[begin : begin + block]])
    return there


def resident_bytes(device: torch.device) -> int:
    """How large a split may be to lie on the GPU."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(min(max(CACHED_BYTES, free * _RESIDENT_SHARE), free * _MOST_OF_WHAT_IS_FREE))
