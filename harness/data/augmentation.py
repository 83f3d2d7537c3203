"""Augmented views of a whole batch at once, on the batch's device, each sample with its own random parameters.

The parameters depend only on (seed, epoch, view, sample), so an image gets the same distortions in any batch, method or
process. Each operation equals torchvision's with the same parameters, up to float rounding. The order is crop, flip,
jitter, greyscale, blur, solarise (BYOL, arXiv 2006.07733, appendix B; Barlow Twins).

Shapes: N images, S pixels a side of the view, H and W of the image.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from twinbench.harness.data import random_streams
from twinbench.harness.data.colour_jitter import grey_, jitter_dense_, jitter_grouped_, jitter_groups, solarise_
from twinbench.harness.data.resampling import blur_weights, resample, resize_weights
from twinbench.sweeps.protocol import DatasetRule
from twinbench.sweeps.recipe import ViewRecipe

_TRIES = 10  # to find a crop that fits, as in torchvision's RandomResizedCrop
# Columns of a sample's random stream. They are fixed, so that no option of a recipe changes another operation's draws.
_CROP_AREA = slice(0, 10)
_CROP_RATIO = slice(10, 20)
_CROP_TOP, _CROP_LEFT, _FLIP, _JITTER = 20, 21, 22, 23
_JITTER_ORDER = slice(24, 28)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _GREYSCALE, _BLUR, _BLUR_SIGMA, _SOLARISE = range(28, 36)
_COLUMNS = 36


class ViewParameters(NamedTuple):
    """The parameters drawn for N samples: int64 pixels, bool or float32, all [N] except the order."""

    crop_top: Tensor
    crop_left: Tensor
    crop_height: Tensor
    crop_width: Tensor
    flip: Tensor
    jitter: Tensor
    jitter_order: Tensor  # [N, 4]: BRIGHTNESS, CONTRAST, SATURATION and HUE in the order of their application
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # turns
    greyscale: Tensor
    blur: Tensor
    blur_sigma: Tensor  # pixels
    solarise: Tensor

    def rows(self, which: Tensor | slice) -> "ViewParameters":
        """Return the parameters of some of the samples."""
        return ViewParameters(*(part[which] for part in self))


def make_view(
    images: Tensor, sample_indices: Tensor, recipe: ViewRecipe, seed: int, epoch: int, view: int, size: int
) -> Tensor:
    """Return view number `view` of images uint8 [N, 3, H, W], as float32 [N, 3, size, size] in [0, 1].

    `sample_indices` int64 [N] are the images' positions in the dataset, which key the random parameters.
    """
    height, width = images.shape[-2:]
    drawn = draw_parameters(sample_indices.to(images.device), recipe, seed, epoch, view, height, width)
    return apply_view(images, drawn, recipe, size)


def plain_view(images: Tensor) -> Tensor:
    """Return images uint8 [N, 3, H, W] as float32 in [0, 1], undistorted."""
    return images.to(torch.float32).div_(255)


def normalise(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Return (images - mean) / std for each channel of [N, 3, H, W]."""
    shift = images.new_tensor(mean)[:, None, None]
    return (images - shift).div_(images.new_tensor(std)[:, None, None])


def draw_parameters(
    sample_indices: Tensor, recipe: ViewRecipe, seed: int, epoch: int, view: int, height: int, width: int
) -> ViewParameters:
    """Draw the parameters for samples int64 [N] with images of `height` x `width`, on the samples' device."""
    u = random_streams.uniforms(random_streams.key(seed, "augmentation", epoch, view), sample_indices, _COLUMNS)
    top, left, crop_height, crop_width = _draw_crop(u, recipe, height, width)
    return ViewParameters(
        crop_top=top,
        crop_left=left,
        crop_height=crop_height,
        crop_width=crop_width,
        flip=u[:, _FLIP] < recipe.flip_probability,
        jitter=u[:, _JITTER] < recipe.jitter_probability,
        jitter_order=torch.argsort(u[:, _JITTER_ORDER], dim=1, stable=True),
        brightness=_between(u[:, _BRIGHTNESS], max(0.0, 1 - recipe.brightness), 1 + recipe.brightness),
        contrast=_between(u[:, _CONTRAST], max(0.0, 1 - recipe.contrast), 1 + recipe.contrast),
        saturation=_between(u[:, _SATURATION], max(0.0, 1 - recipe.saturation), 1 + recipe.saturation),
        hue=_between(u[:, _HUE], -recipe.hue, recipe.hue),
        greyscale=u[:, _GREYSCALE] < recipe.greyscale_probability,
        blur=u[:, _BLUR] < recipe.blur_probability,
        blur_sigma=_between(u[:, _BLUR_SIGMA], *recipe.blur_sigma),
        solarise=u[:, _SOLARISE] < recipe.solarise_probability,
    )


def apply_view(images: Tensor, parameters: ViewParameters, recipe: ViewRecipe, size: int) -> Tensor:
    """Return the view of images [N, 3, H, W], uint8 or float32 in [0, 1], as contiguous float32 [N, 3, size, size].

    Values are in [0, 1]. Operations that the recipe never applies are skipped for the whole batch. The matrix products
    run in float32 even under autocast. On a GPU that allows TF32 they are accurate to about 1e-3, a quarter of a step
    of 8 bits.
    """
    return _in_batch_order(*_distorted(images, parameters, recipe, size), torch.float32, torch.contiguous_format)


def training_view(
    images: Tensor, parameters: ViewParameters, recipe: ViewRecipe, size: int, rule: DatasetRule, dtype: torch.dtype
) -> Tensor:
    """Return `apply_view` normalised by the dataset's statistics, in the network's format: `dtype`, channels last."""
    x, order = _distorted(images, parameters, recipe, size)
    for channel, mean, std in zip(x, rule.mean, rule.std, strict=True):
        channel.sub_(mean).div_(std)
    return _in_batch_order(x, order, dtype, torch.channels_last)


def _distorted(images: Tensor, p: ViewParameters, recipe: ViewRecipe, size: int) -> tuple[Tensor, Tensor | None]:
    """Return the planar views, and the permutation of the batch they are in, or None.

    On a CPU the images are sorted by their order of jitter, so that each operation works on one slice of the batch.
    On a GPU, where sorting would wait for the device, all images pass through all operations.
    """
    order = None
    if recipe.jitter_probability > 0 and _can_wait(images.device):
        order, groups = jitter_groups(p.jitter_order, p.jitter)
        images, p = images[order], p.rows(order)
    with torch.autocast(images.device.type, enabled=False):
        x = _cropped_and_flipped(_planar(images), p, recipe, size)
        if recipe.jitter_probability > 0:
            factors = torch.stack([p.brightness, p.contrast, p.saturation], dim=1)
            if order is None:
                jitter_dense_(x, p.jitter_order, factors, p.hue, p.jitter)
            else:
                jitter_grouped_(x, p.jitter_order, factors, p.hue, groups)
        if recipe.greyscale_probability > 0:
            grey_(x, p.greyscale)
        if recipe.blur_probability > 0:
            weights = blur_weights(p.blur_sigma, recipe.blur_kernel_size, size)
            x.lerp_(resample(x, weights, weights), p.blur.to(torch.float32)[:, None, None])
        if recipe.solarise_probability > 0:
            solarise_(x, p.solarise, recipe.solarise_threshold)
    return x, order


def _can_wait(device: torch.device) -> bool:
    return device.type == "cpu"


def _planar(images: Tensor) -> Tensor:
    """Return a copy of [N, 3, H, W] as float32 [3, N, H, W] in [0, 1]."""
    x = images.transpose(0, 1).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return x.div_(255) if images.dtype == torch.uint8 else x


def _in_batch_order(x: Tensor, order: Tensor | None, dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    """Return planar [3, N, H, W] as [N, 3, H, W], with the images in the order of the batch."""
    out = torch.empty_like(x.transpose(0, 1), dtype=dtype, memory_format=layout)
    if order is None:
        return out.copy_(x.transpose(0, 1))
    return out.index_copy_(0, order, x.transpose(0, 1).to(dtype))


# --- crop, resize, flip -----------------------------------------------------------------------------------------------


def _draw_crop(u: Tensor, recipe: ViewRecipe, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return top, left, height, width int64 [N]: RandomResizedCrop.get_params for all samples at once.

    As in torchvision, the first of up to ten draws of area and ratio that fits the image is used, or else the largest
    central crop of an allowed ratio. Unlike in torchvision, an area of exactly (1, 1) always means the whole image.
    """
    n = len(u)
    whole_height, whole_width = (torch.full((n,), side, device=u.device) for side in (height, width))
    if recipe.crop_scale == (1, 1):
        return torch.zeros_like(whole_height), torch.zeros_like(whole_width), whole_height, whole_width
    # float64, so that rounding of a square root shifts no crop by a pixel on any device; Apple's GPUs have no float64
    u = u.to(torch.float32 if u.device.type == "mps" else torch.float64)
    area = height * width * _between(u[:, _CROP_AREA], *recipe.crop_scale)
    ratio = torch.exp(_between(u[:, _CROP_RATIO], *map(math.log, recipe.crop_ratio)))
    widths, heights = (torch.sqrt(area * ratio).round().long(), torch.sqrt(area / ratio).round().long())
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    tries = torch.arange(_TRIES, device=u.device).expand_as(fits)
    first = torch.where(fits, tries, _TRIES).amin(dim=1, keepdim=True)
    chosen = first.clamp(max=_TRIES - 1)
    found = first[:, 0] < _TRIES
    central_height, central_width = _central_crop(height, width, recipe.crop_ratio)
    crop_height = torch.where(found, heights.gather(1, chosen)[:, 0], central_height)
    crop_width = torch.where(found, widths.gather(1, chosen)[:, 0], central_width)
    free_rows, free_columns = height - crop_height, width - crop_width
    top = torch.minimum((u[:, _CROP_TOP] * (free_rows + 1)).long(), free_rows)
    left = torch.minimum((u[:, _CROP_LEFT] * (free_columns + 1)).long(), free_columns)
    top, left = torch.where(found, top, free_rows // 2), torch.where(found, left, free_columns // 2)
    return top, left, crop_height, crop_width


def _central_crop(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


def _cropped_and_flipped(x: Tensor, p: ViewParameters, recipe: ViewRecipe, size: int) -> Tensor:
    height, width = x.shape[-2:]
    if recipe.crop_scale == (1, 1) and height == width == size:
        return x.lerp_(x.flip(-1), p.flip.to(torch.float32)[:, None, None]) if recipe.flip_probability > 0 else x
    rows = resize_weights(p.crop_top, p.crop_height, height, size, recipe.interpolation)
    columns = resize_weights(p.crop_left, p.crop_width, width, size, recipe.interpolation, mirrored=p.flip)
    return resample(x, rows, columns).clamp_(0, 1)  # bicubic overshoots at edges


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u
