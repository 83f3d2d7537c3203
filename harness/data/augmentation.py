"""Augmented views of a whole batch at once, on the batch's device, each sample with its own random parameters.

What is drawn depends on (seed, epoch, view, sample) alone, so the same image gets the same distortions whatever the
batch, the method or the process it is in. Each operation is torchvision's on the same parameters, within float
rounding; the order is crop, flip, jitter, greyscale, blur, solarise (BYOL, arXiv 2006.07733, appendix B; Barlow Twins).

Shapes: N images, S pixels a side of the view, H and W of the image.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from twinbench.harness.data import streams
from twinbench.sweeps.recipe import ViewRecipe

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the operations' numbers in `jitter_order`, as in torchvision

_TRIES = 10  # of RandomResizedCrop
# Which columns of a sample's stream hold what. Fixed, so that no switch in a recipe moves another operation's draws.
_CROP_AREA = slice(0, 10)
_CROP_RATIO = slice(10, 20)
_CROP_TOP, _CROP_LEFT, _FLIP, _JITTER = 20, 21, 22, 23
_JITTER_ORDER = slice(24, 28)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _GREYSCALE, _BLUR, _BLUR_SIGMA, _SOLARISE = range(28, 36)
_COLUMNS = 36


@dataclass(frozen=True, eq=False)
class ViewParameters:
    """What was drawn for each of N samples: int64 pixels, bool, float32; all [N] but the order."""

    crop_top: Tensor
    crop_left: Tensor
    crop_height: Tensor
    crop_width: Tensor
    flip: Tensor
    jitter: Tensor
    jitter_order: Tensor  # [N, 4]: BRIGHTNESS, CONTRAST, SATURATION and HUE in the order they are applied
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # turns
    greyscale: Tensor
    blur: Tensor
    blur_sigma: Tensor  # pixels
    solarise: Tensor


def make_view(
    images: Tensor, sample_indices: Tensor, recipe: ViewRecipe, seed: int, epoch: int, view: int, size: int
) -> Tensor:
    """View number `view` of images uint8 [N, 3, H, W], as float32 [N, 3, size, size] in [0, 1].

    `sample_indices` int64 [N] are the images' places in the dataset: the key of what is drawn.
    """
    height, width = images.shape[-2:]
    drawn = draw_parameters(sample_indices.to(images.device), recipe, seed, epoch, view, height, width)
    return apply_view(plain_view(images), drawn, recipe, size)


def plain_view(images: Tensor) -> Tensor:
    """uint8 [N, 3, H, W] as float32 in [0, 1], undistorted."""
    return images.to(torch.float32).div_(255)


def normalise(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """(images - mean) / std for each channel of [N, 3, H, W]."""
    shift = images.new_tensor(mean)[:, None, None]
    return (images - shift).div_(images.new_tensor(std)[:, None, None])


def draw_parameters(
    sample_indices: Tensor, recipe: ViewRecipe, seed: int, epoch: int, view: int, height: int, width: int
) -> ViewParameters:
    """Parameters for samples int64 [N] whose images are `height` x `width`, on the samples' device."""
    u = streams.uniforms(streams.key(seed, "augmentation", epoch, view), sample_indices, _COLUMNS)
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
    """The view of images float32 [N, 3, H, W] in [0, 1] as float32 [N, 3, size, size] in [0, 1], contiguous.

    The recipe says which operations can be skipped for the whole batch. The products run in float32 even under
    autocast. On a GPU with TF32 allowed they are good to about 1e-3, a quarter of a step of 8 bits.
    """
    p = parameters
    with torch.autocast(images.device.type, enabled=False):
        x = _cropped_and_flipped(images, p, recipe, size)
        if recipe.jitter_probability > 0:
            x = _jittered(x, p, recipe)
        if recipe.greyscale_probability > 0:
            x = torch.where(_per_image(p.greyscale), _grey(x), x)
        if recipe.blur_probability > 0:
            weights = blur_weights(p.blur_sigma, recipe.blur_kernel_size, size)
            x = torch.where(_per_image(p.blur), _resample(x, weights, weights), x)
        if recipe.solarise_probability > 0:
            x = torch.where(_per_image(p.solarise) & (x >= recipe.solarise_threshold), 1 - x, x)
    return x.contiguous()


# --- crop, resize, flip -----------------------------------------------------------------------------------------------


def _draw_crop(u: Tensor, recipe: ViewRecipe, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height, width int64 [N]: RandomResizedCrop.get_params for all samples at once.

    As there: up to ten draws of area and ratio, the first that fits the image is taken, and where none fits the
    largest central crop of an allowed ratio. Unlike there, an area of exactly (1, 1) always means the whole image.
    """
    n = len(u)
    whole_height, whole_width = (torch.full((n,), side, device=u.device) for side in (height, width))
    if recipe.crop_scale == (1, 1):
        return torch.zeros_like(whole_height), torch.zeros_like(whole_width), whole_height, whole_width
    # float64, so that no device's rounding of a square root moves a crop by a pixel; Apple's GPUs have none
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
    return (
        torch.where(found, top, free_rows // 2),
        torch.where(found, left, free_columns // 2),
        crop_height,
        crop_width,
    )


def _central_crop(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int]:
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return height, width


def _cropped_and_flipped(images: Tensor, p: ViewParameters, recipe: ViewRecipe, size: int) -> Tensor:
    height, width = images.shape[-2:]
    if recipe.crop_scale == (1, 1) and height == width == size:
        return torch.where(_per_image(p.flip), images.flip(-1), images) if recipe.flip_probability > 0 else images
    rows = resize_weights(p.crop_top, p.crop_height, height, size, recipe.interpolation)
    columns = resize_weights(p.crop_left, p.crop_width, width, size, recipe.interpolation, mirrored=p.flip)
    return _resample(images, rows, columns).clamp_(0, 1)  # bicubic overshoots at edges


def resize_weights(
    start: Tensor, length: Tensor, extent: int, size: int, interpolation: str, mirrored: Tensor | None = None
) -> Tensor:
    """float32 [N, size, extent]: row s weighs the `extent` pixels of one axis into output pixel s.

    The pixels `start` to `start + length` (int64 [N]) are resized to `size`, with the antialiasing weights of
    torch.nn.functional.interpolate(antialias=True): a triangle, or Keys' cubic with a = -0.5, stretched when shrinking.
    """
    scale = (length.to(torch.float32) / size)[:, None]
    place = torch.arange(size, device=start.device)
    if mirrored is not None:
        place = torch.where(mirrored[:, None], size - 1 - place, place)
    centre = scale * (place + 0.5)
    pixel = torch.arange(extent, device=start.device) - start[:, None]  # [N, extent], counted from the crop's edge
    distance = (((pixel + 0.5)[:, None, :] - centre[:, :, None]) / scale.clamp(min=1)[:, :, None]).abs_()
    weights = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp_(min=0)
    weights *= ((pixel >= 0) & (pixel < length[:, None]))[:, None, :]
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5 at distances x >= 0; nought from 2 on."""
    near = (1.5 * x - 2.5).mul_(x).mul_(x).add_(1)
    x = x.clamp(max=2)
    far = ((x - 5).mul_(x).add_(8).mul_(x).sub_(4)).mul_(-0.5)
    return torch.where(x < 1, near, far)


def _resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows [N, R, H] @ images [N, 3, H, W] @ columns^T [N, W, C], for each channel: [N, 3, R, C].

    Two batched products over all channels together. The result is a permuted view of [N, R, 3, C].
    """
    n, channels, height, width = images.shape
    x = images.permute(0, 2, 1, 3).reshape(n, height, channels * width)
    x = torch.bmm(rows, x).view(n, -1, width)
    x = torch.bmm(x, columns.transpose(1, 2))
    return x.view(n, -1, channels, x.shape[-1]).permute(0, 2, 1, 3)


# --- colour -----------------------------------------------------------------------------------------------------------


def _jittered(x: Tensor, p: ViewParameters, recipe: ViewRecipe) -> Tensor:
    """ColorJitter with each sample's own factors in its own order.

    Each of brightness, contrast and saturation is a blend. Hue, the dear one, is done once for all samples: those
    blends that a sample has before it go in front, the others behind, and a blend with factor 1 changes nothing.
    So no sample is gathered or scattered, and a GPU is never waited for.
    """
    factors = torch.stack([p.brightness, p.contrast, p.saturation], dim=1)
    factors = torch.where(p.jitter[:, None], factors, torch.ones_like(factors))
    hue_place = (p.jitter_order == HUE).long().argmax(dim=1)
    steps = []
    for place in range(3):
        operation = p.jitter_order.gather(1, (place + (hue_place <= place))[:, None])
        steps.append((operation[:, 0], factors.gather(1, operation)[:, 0], hue_place > place))
    blends = recipe.brightness > 0 or recipe.contrast > 0 or recipe.saturation > 0
    if recipe.hue == 0:
        for operation, factor, _ in steps if blends else ():
            x = _blended(x, operation, factor)
        return x
    for operation, factor, before in steps if blends else ():
        x = _blended(x, operation, torch.where(before, factor, torch.ones_like(factor)))
    x = torch.where(_per_image(p.jitter), _hue_shifted(x, p.hue), x)
    for operation, factor, before in steps if blends else ():
        x = _blended(x, operation, torch.where(before, torch.ones_like(factor), factor))
    return x


def _blended(x: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """factor * x + (1 - factor) * other, clamped; other is black, the image's mean grey, or each pixel's grey."""
    grey = _grey(x)
    of_mean = torch.where(operation == CONTRAST, 1 - factor, torch.zeros_like(factor))
    of_pixel = torch.where(operation == SATURATION, 1 - factor, torch.zeros_like(factor))
    other = _per_image(of_pixel) * grey + _per_image(of_mean) * grey.mean(dim=(1, 2, 3), keepdim=True)
    return (x * _per_image(factor)).add_(other).clamp_(0, 1)


def _grey(x: Tensor) -> Tensor:
    """Luma [N, 1, H, W] of [N, 3, H, W], with torchvision's coefficients (ITU-R 601-2)."""
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)


def _hue_shifted(x: Tensor, hue: Tensor) -> Tensor:
    """The HSV hue of [N, 3, H, W] turned by hue [N] turns.

    HSV's value and chroma stay, so a channel is low + (high - low) * share, and its share is a trapezium over the hue:
    back from HSV without its six cases. In place where it can be: this is the dearest step on a CPU.
    """
    red, green, blue = x.unbind(dim=1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    sixths = torch.where(
        high == red,
        green - blue,
        torch.where(high == green, torch.add(blue - red, chroma, alpha=2), torch.add(red - green, chroma, alpha=4)),
    )
    sixths.div_(chroma.clamp(min=1e-12)).add_(6 * hue[:, None, None])  # grey pixels: nought, times their chroma, nought
    sixths.sub_(torch.floor(sixths / 6), alpha=6)
    shares = ((sixths - 3).abs_().sub_(1), (sixths - 2).abs_().neg_().add_(2), (sixths - 4).abs_().neg_().add_(2))
    return torch.stack([torch.addcmul(low, chroma, share.clamp_(0, 1)) for share in shares], dim=1)


# --- blur -------------------------------------------------------------------------------------------------------------


def blur_weights(sigma: Tensor, kernel_size: int, extent: int) -> Tensor:
    """float32 [N, extent, extent]: the Gaussian of sigma [N] pixels along one axis, edges reflected (torchvision's)."""
    radius = kernel_size // 2
    if radius >= extent:
        raise ValueError(f"a blur of {kernel_size} pixels needs a view of more than {radius} pixels, not {extent}")
    taps = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = torch.softmax(-(((taps / sigma[:, None]) ** 2) / 2), dim=1)
    source = (torch.arange(extent, device=sigma.device) + taps[:, None]).abs()  # [kernel_size, extent]
    source = torch.where(source >= extent, 2 * (extent - 1) - source, source)
    moves = torch.nn.functional.one_hot(source, extent).to(torch.float32)  # which pixel each tap of each place reads
    return (kernel @ moves.flatten(1)).view(-1, extent, extent)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
