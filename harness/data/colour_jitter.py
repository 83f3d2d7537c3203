"""ColorJitter, greyscale and solarisation of whole batches, in torchvision's semantics (planar images: resampling.py).

Each of brightness, contrast and saturation is a blend, done for all images of a batch at once whichever of the three
an image has. Hue, the dear one, is done once for each image.
"""

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the operations' numbers in an order of jitter, as in torchvision


def jitter_dense_(x: Tensor, order: Tensor, factors: Tensor, hue: Tensor, jitter: Tensor) -> Tensor:
    """Jitters x [3, N, H, W] in place, without waiting for a device: N images, whatever each one's order is.

    order [N, 4], factors [N, 3] of the blends, hue [N] turns, jitter bool [N]: which images are jittered at all. Those
    blends that an image has before its hue go in front, the others behind; a blend with factor 1 changes nothing.
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
    """The same where the images stand in the order of `jitter_groups`: each operation works on a slice of the batch.

    `groups` says how many images have their hue first, second, third and last, and how many are not jittered.
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
    """Which image comes where for `jitter_grouped_`, int64 [N], and the five groups' sizes. Waits for a device."""
    group = torch.where(jitter, (order == HUE).long().argmax(dim=1), 4)
    return torch.argsort(group, stable=True), torch.bincount(group, minlength=5).tolist()


def blend_(x: Tensor, operation: Tensor, factor: Tensor) -> None:
    """factor * x + (1 - factor) * other, clamped; other is black, the image's mean grey, or each pixel's grey."""
    if not len(factor):
        return
    grey = luma(x)
    rest = 1 - factor
    of_mean = rest * (operation == CONTRAST).to(torch.float32)
    of_pixel = rest * (operation == SATURATION).to(torch.float32)
    # rows, then their means: a sum over a single image would be split over threads, and its bits with it
    mean = grey.mean(dim=2).mean(dim=1)
    other = (of_mean * mean)[:, None, None] + grey.mul_(of_pixel[:, None, None])
    x.mul_(factor[:, None, None]).add_(other).clamp_(0, 1)


def luma(x: Tensor) -> Tensor:
    """[N, H, W] of [3, N, H, W], with torchvision's coefficients (ITU-R 601-2)."""
    return (x[0] * 0.2989).add_(x[1], alpha=0.587).add_(x[2], alpha=0.114)


def shift_hue_(x: Tensor, hue: Tensor) -> Tensor:
    """The HSV hue of [3, N, H, W] turned by hue [N] turns, in place.

    HSV's value and chroma stay, so a channel is low + (high - low) * share, and its share is a trapezium over the hue:
    back from HSV without its six cases.
    """
    red, green, blue = x
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    is_red, is_green = (red == high).to(torch.float32), (green == high).to(torch.float32)
    sixths = (red - green).add_(chroma, alpha=4)  # where blue is highest
    sixths.lerp_((blue - red).add_(chroma, alpha=2), is_green).lerp_(green - blue, is_red)
    sixths.div_(chroma.clamp(min=1e-12)).add_(6 * hue[:, None, None])  # grey pixels: nought, times their chroma, nought
    sixths.sub_(torch.floor(sixths / 6), alpha=6)
    red_share = (sixths - 3).abs_().sub_(1).clamp_(0, 1)
    green_share = (sixths - 2).abs_().neg_().add_(2).clamp_(0, 1)
    blue_share = sixths.sub_(4).abs_().neg_().add_(2).clamp_(0, 1)
    for channel, share in zip((red, green, blue), (red_share, green_share, blue_share), strict=True):
        torch.addcmul(low, chroma, share, out=channel)
    return x


def grey_(x: Tensor, which: Tensor) -> None:
    """Those images of [3, N, H, W] that `which` [N] names become their luma, in place."""
    x.lerp_(luma(x), which.to(torch.float32)[:, None, None])


def solarise_(x: Tensor, which: Tensor, threshold: float) -> None:
    """The values from `threshold` up of those images of [3, N, H, W] become 1 - value, in place."""
    turned = (x >= threshold).to(torch.float32).mul_(which.to(torch.float32)[:, None, None])
    x.lerp_(1 - x, turned)
