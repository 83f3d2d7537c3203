"""Crop, resize, flip and blur as two small matrix products per image and channel.

Images are planar here, float32 [3, N, H, W]: each channel of the batch is contiguous, so that operations on one channel
read memory in order, and no product has to rearrange channels. Masks are float32, zero or one: on a CPU `torch.where`,
or a product with a bool tensor, costs as much as twenty products of floats.
"""

import torch
from torch import Tensor


def resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows [N, R, H] @ x [3, N, H, W] @ columns^T [N, W, C] for each channel: [3, N, R, C]."""
    if x.is_cuda:
        return rows @ x @ columns.transpose(1, 2)
    # on a CPU one product with broadcast weights would first copy them for each channel
    turned = columns.transpose(1, 2)
    return torch.stack([torch.bmm(torch.bmm(rows, channel), turned) for channel in x])


def resize_weights(
    start: Tensor, length: Tensor, extent: int, size: int, interpolation: str, mirrored: Tensor | None = None
) -> Tensor:
    """Return float32 [N, size, extent]: row s holds the weights of the axis's `extent` pixels in output pixel s.

    The pixels `start` to `start + length` (int64 [N]) are resized to `size`, with the antialiasing weights of
    torch.nn.functional.interpolate(antialias=True): a triangle, or Keys' cubic with a = -0.5, stretched when shrinking.
    """
    scale = (length.to(torch.float32) / size)[:, None]
    place = torch.arange(size, device=start.device)
    if mirrored is not None:
        place = torch.where(mirrored[:, None], size - 1 - place, place)
    centre = scale * (place + 0.5)
    pixel = torch.arange(extent, device=start.device) - start[:, None]  # [N, extent], counted from the crop's edge
    stretch = scale.clamp(min=1)
    distance = (((pixel + 0.5) / stretch)[:, None, :] - (centre / stretch)[:, :, None]).abs_()
    weights = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp_(min=0)
    inside = ((pixel >= 0) & (pixel < length[:, None])).to(torch.float32)
    weights *= inside[:, None, :]
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _cubic(x: Tensor) -> Tensor:
    """Return Keys' kernel with a = -0.5 at distances x >= 0; zero from 2 on."""
    near = (1.5 * x - 2.5).mul_(x).mul_(x).add_(1)
    is_far = (x >= 1).to(torch.float32)
    x = x.clamp(max=2)
    far = ((x - 5).mul_(x).add_(8).mul_(x).sub_(4)).mul_(-0.5)
    return near.lerp_(far, is_far)


def blur_weights(sigma: Tensor, kernel_size: int, extent: int) -> Tensor:
    """Return float32 [N, extent, extent]: torchvision's Gaussian of sigma [N] pixels on one axis, edges reflected."""
    radius = blur_radius(kernel_size, extent)
    taps = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = torch.softmax(-(((taps / sigma[:, None]) ** 2) / 2), dim=1)
    source = (torch.arange(extent, device=sigma.device) + taps[:, None]).abs()  # [kernel_size, extent]
    source = torch.where(source >= extent, 2 * (extent - 1) - source, source)
    moves = torch.nn.functional.one_hot(source, extent).to(torch.float32)  # [kernel_size, extent, extent]
    return (kernel @ moves.flatten(1)).view(-1, extent, extent)


def blur_radius(kernel_size: int, extent: int) -> int:
    """Return the pixels that a kernel reaches to each side. ValueError if it is too wide for reflection at edges."""
    radius = kernel_size // 2
    if radius >= extent:
        raise ValueError(f"a blur of {kernel_size} pixels needs a view of more than {radius} pixels, not {extent}")
    return radius
