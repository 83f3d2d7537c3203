"""Frozen features: what the backbone makes of undistorted images."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from twinbench.harness.data.augmentation import normalise, plain_view
from twinbench.harness.data.images import Images
from twinbench.methods.method import Method
from twinbench.sweeps.protocol import DatasetRule

BATCH = 512  # batches do not change features in evaluation mode, beyond the last bits
PIXELS_ON_CPU = 64 * 32 * 32  # of a batch: what a layer makes of so many stays in the cache, and takes 0.4 of the time


@torch.no_grad()
def extract(
    method: Method,
    images: Images,
    rule: DatasetRule,
    check_stop: Callable[[], None] = lambda: None,
    places: Tensor | None = None,
) -> Tensor:
    """float32 [n, feature_dim] on the images' device, the method in evaluation mode; of those at `places`, or of all.

    `check_stop` is called before every batch, and may raise.
    """
    method.eval()
    parts = []
    batches = in_batches(torch.arange(len(images)) if places is None else places, images)
    for batch, following in itertools.zip_longest(batches, batches[1:]):
        check_stop()
        pixels = images.batch(batch)
        if following is not None:
            images.prefetch(following)
        parts.append(embed(method, plain_view(pixels), rule))
    return torch.cat(parts)


def in_batches(places: Tensor, images: Images) -> tuple[Tensor, ...]:
    """Positions of images, as many at a time as the device embeds best."""
    fitting = max(1, PIXELS_ON_CPU // images.pixels) if images.device.type == "cpu" else BATCH
    return torch.split(places, min(BATCH, fitting))


def embed(method: Method, view: Tensor, rule: DatasetRule) -> Tensor:
    """float32 [N, feature_dim] of a view [N, 3, H, W] with pixels in [0, 1]."""
    scaled = normalise(view, rule.mean, rule.std)
    return method.embed(scaled.contiguous(memory_format=torch.channels_last)).float()
