"""A split's images as batches: kept on a GPU if they fit, or else read from the memory map, ahead of time if large."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CACHED_BYTES = 4 * 2**30  # CIFAR is 0.2 GB; a file of up to this size stays in the system's cache once read
_BLOCK_BYTES = 2**28
_RESIDENT_SHARE = 0.4  # of a GPU's free memory; ImageNet-100 at 256 pixels is 25 GB
_MOST_OF_FREE = 0.75  # of a GPU's free memory, if others use most of it: the training needs some too


class Images:
    """Images uint8 [n, 3, H, W], fetched by position as batches on `device`.

    `pixels` is the height times the width of an image. `ids`, int64 [n] on the device, are the images' positions in the
    whole split, which key their distortions. `batch` wants positions on `positions_device`; others are copied first.
    """

    def __init__(self, images: NDArray[np.uint8], positions: NDArray[np.int64], device: torch.device):
        """`positions` selects and orders the images."""
        self._images, self._positions, self.device = images, positions, device
        self.pixels = images[0, 0].size
        self.ids = torch.from_numpy(positions).to(device)
        self._resident: Tensor | None = None
        self._ahead: tuple[Tensor, Future[Tensor]] | None = None
        self._reader: ThreadPoolExecutor | None = None
        size = len(positions) * images[0].nbytes
        if device.type == "cuda" and size <= resident_bytes(device):
            self._resident = _copied(images, positions, device)
        self.positions_device = torch.device("cpu") if self._resident is None else device
        # On a CPU all processes share the memory map, and numpy gathers rows in a seventh of torch's time.
        self._reads_ahead = self._resident is None and (device.type == "cuda" or size > CACHED_BYTES)

    def __len__(self) -> int:
        return len(self._positions)

    def batch(self, which: Tensor) -> Tensor:
        """Return uint8 [len(which), 3, H, W] on the device."""
        if self._resident is not None:
            return self._resident[which.to(self.device)]
        which = which.cpu()
        ahead, self._ahead = self._ahead, None
        gathered = ahead[1].result() if ahead and torch.equal(ahead[0], which) else self._gather(which)
        return gathered.to(self.device, non_blocking=True)

    def prefetch(self, which: Tensor) -> None:
        """Start reading the images that the next `batch` will want, unless they are in memory."""
        if not self._reads_ahead:
            return
        self._reader = self._reader or ThreadPoolExecutor(1)
        which = which.cpu()
        self._ahead = which, self._reader.submit(self._gather, which)

    def _gather(self, which: Tensor) -> Tensor:
        gathered = torch.from_numpy(self._images[self._positions[which.numpy()]])
        # pinned, so that the loop does not wait for the copy to a GPU
        return gathered.pin_memory() if self.device.type == "cuda" else gathered


def _copied(images: NDArray[np.uint8], positions: NDArray[np.int64], device: torch.device) -> Tensor:
    """Copy images to the device, block by block, since a single copy would need as much of the host's memory."""
    block = max(1, _BLOCK_BYTES // images[0].nbytes)
    there = torch.empty((len(positions), *images.shape[1:]), dtype=torch.uint8, device=device)
    for begin in range(0, len(positions), block):
        there[begin : begin + block] = torch.from_numpy(images[positions[begin : begin + block]])
    return there


def resident_bytes(device: torch.device) -> int:
    """Return the size up to which a split is kept on the GPU."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(min(max(CACHED_BYTES, free * _RESIDENT_SHARE), free * _MOST_OF_FREE))
