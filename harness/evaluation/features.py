"""Frozen features of undistorted images."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from twinbench.harness.data.augmentation import normalise, plain_view
from twinbench.harness.data.images import Images
from twinbench.methods.method import Method
from twinbench.sweeps.protocol import DatasetRule

BATCH = 512  # in evaluation mode the batch changes at most the last bits of features
PIXELS_ON_CPU = 64 * 32 * 32  # per batch: a layer's output for so many stays in the cache, which takes 0.4 of the time


@torch.no_grad()
def extract(
    method: Method,
    images: Images,
    rule: DatasetRule,
    check_stop: Callable[[], None] = lambda: None,
    places: Tensor | None = None,
) -> Tensor:
    """Return features float32 [n, feature_dim] of the images at `places`, or of all, on the images' device.

    Puts the method in evaluation mode. `check_stop` is called before every batch, and may raise.
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
    """Split positions of images into batches of the size that the device embeds fastest."""
    fitting = max(1, PIXELS_ON_CPU // images.pixels) if images.device.type == "cpu" else BATCH
    return torch.split(places, min(BATCH, fitting))


def embed(method: Method, view: Tensor, rule: DatasetRule) -> Tensor:
    """Return features float32 [N, feature_dim] of a view [N, 3, H, W] with pixels in [0, 1]."""
    scaled = normalise(view, rule.mean, rule.std)
    return method.embed(scaled.contiguous(memory_format=torch.channels_last)).float()
