"""Frozen features: what the backbone makes of undistorted images."""

from collections.abc import Callable

import torch
from torch import Tensor

from twinbench.harness.data.augmentation import normalise, plain_view
from twinbench.harness.data.images import Images
from twinbench.methods.method import Method
from twinbench.sweeps.protocol import DatasetRule

BATCH = 512  # batches do not change features in evaluation mode, beyond the last bits


@torch.no_grad()
def extract(method: Method, images: Images, rule: DatasetRule, look_up: Callable[[], None] = lambda: None) -> Tensor:
    """float32 [n, feature_dim] on the images' device, the method in evaluation mode.

    `look_up` is called before every batch, and may raise.
    """
    method.eval()
    parts = []
    for start in range(0, len(images), BATCH):
        look_up()
        batch = images.batch(torch.arange(start, min(start + BATCH, len(images))))
        view = normalise(plain_view(batch), rule.mean, rule.std)
        parts.append(method.embed(view.contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(parts)
