"""A split's images as batches on a device: resident there when they fit, else gathered from the memory map."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RESIDENT_BYTES = 4 * 2**30  # CIFAR is 0.2 GB; beyond this a batch is copied from the map when it is asked for


class Images:
    """uint8 images [n, 3, H, W], asked for by position."""

    def __init__(self, images: NDArray[np.uint8], positions: NDArray[np.int64], device: torch.device):
        """`positions` picks and orders the images of `images` that this stands for."""
        self._images, self._positions, self._device = images, positions, device
        self._resident: Tensor | None = None
        if len(positions) * images[0].nbytes <= RESIDENT_BYTES:
            self._resident = torch.from_numpy(np.ascontiguousarray(images[positions])).to(device)

    @property
    def ids(self) -> Tensor:
        """int64 [n] on the device: where each image stands in the whole split. Keys an image's distortions."""
        return torch.from_numpy(self._positions).to(self._device)

    def __len__(self) -> int:
        return len(self._positions)

    def batch(self, which: Tensor) -> Tensor:
        """uint8 [len(which), 3, H, W] on the device."""
        if self._resident is not None:
            return self._resident[which.to(self._device)]
        return torch.from_numpy(self._images[self._positions[which.cpu().numpy()]]).to(self._device)

    def subset(self, which: Tensor) -> "Images":
        """The images at these positions, in this order."""
        return Images(self._images, self._positions[which.numpy()], self._device)
