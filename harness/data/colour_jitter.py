"""ColorJitter, greyscale and solarisation of whole batches, with torchvision's semantics.

Images are planar, as in resampling.py. Brightness, contrast and saturation are blends: one operation serves all images
of a batch, whichever of the three each image needs. Hue is expensive, and is computed once per image.
"""

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the operations' numbers in an order of jitter, as in torchvision


def jitter_dense_(x: Tensor, order: Tensor, factors: Tensor, hue: Tensor, jitter: Tensor) -> Tensor:
    """Jitter x [3, N, H, W] in place, in any order per image, without waiting for a device.

    order [N, 4], factors [N, 3] of the blends, hue [N] in turns, jitter bool [N]: whether an image is jittered at all.
    Three blends run before the hue and three after it; where an image has its blend on the other side of the hue, the
    factor is 1, which changes nothing.
    """
    factors = torch.where(jitter[:, None], factors, 1.0)
    hue_place = (order == HUE).long().argmax(dim=1)
    steps = []
    for place in range(3):
        operation = order.gather(1, (place + (hue_place <= place))[:, None])
        steps.append((operation[:, 0], factors.gather(1, operation)[:, 0], hue_place > place))
    for operation, factor, before in steps:
        blend_(x, operation, torch.where(before, factor, 1.0))
    x.copy_(torch.where(jitter[:, None, None], shift_hue_(x.clone(), hue), x))
    for operation, factor, before in steps:
        blend_(x, operation, torch.where(before, 1.0, factor))
    return x


def jitter_grouped_(x: Tensor, order: Tensor, factors: Tensor, hue: Tensor, groups: list[int]) -> Tensor:
    """Jitter x in place with images in the order of `jitter_groups`: each operation works on a slice of the batch.

    `groups` holds the numbers of images with their hue first, second, third and last, and of those not jittered.
    """
    start, jittered = 0, sum(groups[:4])
    factors = torch.nn.functional.pad(factors, (0, 1))  # the hue's column is never read
    for place in range(4):
        end = start + groups[place]
        operation = order[:, place]
        factor = factors.gather(1, operation[:, None])[:, 0]
        for part in (slice(0, start), slice(end, jittered)):
            blend_(x[:, part], operation[part], factor[part])
        shift_hue_(x[:, start:end], hue[start:end])
        start = end
    return x


def jitter_groups(order: Tensor, jitter: Tensor) -> tuple[Tensor, list[int]]:
    """Return the order of images for `jitter_grouped_`, int64 [N], and the five groups' sizes. Waits for a device."""
    group = torch.where(jitter, (order == HUE).long().argmax(dim=1), 4)
    return torch.argsort(group, stable=True), torch.bincount(group, minlength=5).tolist()


def blend_(x: Tensor, operation: Tensor, factor: Tensor) -> None:
    """Set x to factor * x + (1 - factor) * other, clamped; other is black, the mean grey or the pixel's grey."""
    if not len(factor):
        return
    grey = luma(x)
    rest = 1 - factor
    of_mean = rest * (operation == CONTRAST).to(torch.float32)
    of_pixel = rest * (operation == SATURATION).to(torch.float32)
    # in two steps, since a sum over one whole image would be split over threads, which changes its last bits
    mean = grey.mean(dim=2).mean(dim=1)
    other = (of_mean * mean)[:, None, None] + grey.mul_(of_pixel[:, None, None])
    x.mul_(factor[:, None, None]).add_(other).clamp_(0, 1)


def luma(x: Tensor) -> Tensor:
    """Return the luma [N, H, W] of [3, N, H, W], with torchvision's coefficients (ITU-R 601-2)."""
    return (x[0] * 0.2989).add_(x[1], alpha=0.587).add_(x[2], alpha=0.114)


def shift_hue_(x: Tensor, hue: Tensor) -> Tensor:
    """Shift the HSV hue of [3, N, H, W] by hue [N] turns, in place.

    HSV's value and chroma do not change, so a channel is low + (high - low) * share, where the share is a trapezium
    over the hue. This avoids the six cases of the conversion back from HSV.
    """
    red, green, blue = x
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    is_red, is_green = (red == high).to(torch.float32), (green == high).to(torch.float32)
    sixths = (red - green).add_(chroma, alpha=4)  # where blue is highest
    sixths.lerp_((blue - red).add_(chroma, alpha=2), is_green).lerp_(green - blue, is_red)
    # grey pixels: chroma is zero, and so is the result
    sixths.div_(chroma.clamp(min=1e-12)).add_(6 * hue[:, None, None])
    sixths.sub_(torch.floor(sixths / 6), alpha=6)
    red_share = (sixths - 3).abs_().sub_(1).clamp_(0, 1)
    green_share = (sixths - 2).abs_().neg_().add_(2).clamp_(0, 1)
    blue_share = sixths.sub_(4).abs_().neg_().add_(2).clamp_(0, 1)
    for channel, share in zip((red, green, blue), (red_share, green_share, blue_share), strict=True):
        torch.addcmul(low, chroma, share, out=channel)
    return x


def grey_(x: Tensor, which: Tensor) -> None:
    """Turn the images of [3, N, H, W] that `which` [N] selects grey, in place."""
    x.lerp_(luma(x), which.to(torch.float32)[:, None, None])


def solarise_(x: Tensor, which: Tensor, threshold: float) -> None:
    """Replace values from `threshold` up by 1 - value, in place, in the images of [3, N, H, W] that `which` selects."""
    turned = (x >= threshold).to(torch.float32).mul_(which.to(torch.float32)[:, None, None])
    x.lerp_(1 - x, turned)
