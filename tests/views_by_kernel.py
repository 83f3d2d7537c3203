"""Compare the kernel's views with `training_view`'s for many recipes and shapes; as a script, print all differences.

On a CPU, run it as a process with TRITON_INTERPRET=1, which Triton reads when it is imported.
"""

import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from twinbench.harness.data.augmentation import ViewParameters, draw_parameters, training_view
from twinbench.sweeps.protocol import DatasetRule
from twinbench.sweeps.recipe import ViewRecipe

RULE = DatasetRule("invented", (0.4914, 0.4822, 0.4465), (0.5, 0.6, 0.75), 0.1)
CROP: dict[str, Any] = {"crop_scale": (0.08, 1.0), "flip_probability": 0.5}
JITTER: dict[str, Any] = {
    "jitter_probability": 0.8,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
}
BLUR: dict[str, Any] = {"blur_probability": 0.8, "blur_kernel_size": 7, "solarise_probability": 0.5}
STRONG: dict[str, Any] = {"brightness": 1.5, "contrast": 1.5, "saturation": 1.5, "hue": 0.5}
RECIPES = {
    "nothing": ViewRecipe(),
    "flip": ViewRecipe(flip_probability=0.5),
    "SimCLR": ViewRecipe(**CROP, **JITTER, greyscale_probability=0.2),
    "BYOL": ViewRecipe(**CROP, **JITTER, greyscale_probability=0.2, **BLUR),
    "bilinear": ViewRecipe(**CROP, interpolation="bilinear", solarise_probability=0.5),
    "strong jitter": ViewRecipe(jitter_probability=1.0, **STRONG),
    "blur": ViewRecipe(**BLUR),
}
SMALL_BLOCK = 64  # pixels: blocks end in the middle of a row
CASES: dict[str, tuple[str, int, int, int, int, int | None]] = {
    # recipe, images, height, width, size of the view, block
    "nothing": ("nothing", 3, 12, 12, 12, None),
    "flip": ("flip", 6, 12, 12, 12, None),
    "SimCLR": ("SimCLR", 12, 16, 16, 16, None),
    "SimCLR, one image": ("SimCLR", 1, 16, 16, 16, None),
    "SimCLR, enlarged": ("SimCLR", 8, 9, 9, 21, None),
    "SimCLR, oblong, in pieces": ("SimCLR", 4, 21, 16, 12, SMALL_BLOCK),
    "BYOL": ("BYOL", 12, 16, 16, 16, None),
    "BYOL, to a third, in pieces": ("BYOL", 3, 30, 30, 10, SMALL_BLOCK),
    "bilinear": ("bilinear", 8, 16, 16, 16, None),
    "bilinear, to a third": ("bilinear", 6, 60, 60, 20, None),
    "nothing but a resize": ("nothing", 3, 20, 30, 16, None),
    "strong jitter": ("strong jitter", 16, 12, 12, 12, None),
    "blur": ("blur", 6, 12, 12, 12, None),
}


def photographs(n: int, height: int, width: int) -> Tensor:
    """uint8 [n, 3, height, width]: noise, smooth colours, and pixels that are grey, black or white."""
    generator = torch.Generator().manual_seed(n + height)
    images = torch.randint(0, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)
    slope = torch.linspace(0, 255, width).expand(height, width)
    images[n // 2 :] = (slope * torch.rand((n - n // 2, 3, 1, 1), generator=generator)).round().to(torch.uint8)
    images[-1] = images[-1, :1]  # a grey image
    images[0, :, :2], images[0, :, 2:4] = 0, 255
    return images


def differences(
    recipe: ViewRecipe, n: int, height: int, width: int, size: int, block: int | None, device: str = "cpu"
) -> dict[str, float]:
    """The largest differences: of values in [0, 1] from a CPU's `training_view`, and between the kernel's own views."""
    from twinbench.harness.data import augmentation_triton

    with mock.patch.object(augmentation_triton, "BLOCK", block or augmentation_triton.BLOCK):
        return _differences(augmentation_triton.view_by_kernel, recipe, n, height, width, size, device)


def _differences(
    view_by_kernel: Callable[..., Tensor], recipe: ViewRecipe, n: int, height: int, width: int, size: int, device: str
) -> dict[str, float]:
    images = photographs(n, height, width)
    p = draw_parameters(torch.arange(n), recipe, 0, 0, 0, height, width)
    expected = _in_unit(training_view(images, p, recipe, size, RULE, torch.float32))
    on_device = images.to(device)
    there = ViewParameters(*(part.to(device) for part in p))
    made = view_by_kernel(on_device, there, recipe, size, RULE, torch.float32)
    assert made.shape == expected.shape and made.dtype == torch.float32
    assert made.is_contiguous(memory_format=torch.channels_last)
    difference = (_in_unit(made.cpu()) - expected).abs()
    if recipe.solarise_probability:  # a value within rounding of the threshold may fall on either side
        never = p._replace(solarise=torch.zeros_like(p.solarise))
        before = _in_unit(training_view(images, never, recipe, size, RULE, torch.float32))
        difference[(before - recipe.solarise_threshold).abs() < 2e-5] = 0
    some = slice(n // 3, n // 3 + 2)
    part = view_by_kernel(on_device[some], there.rows(some), recipe, size, RULE, torch.float32)
    half = view_by_kernel(on_device[:1], there.rows(slice(1)), recipe, size, RULE, torch.bfloat16)
    assert half.dtype == torch.bfloat16 and half.is_contiguous(memory_format=torch.channels_last)
    return {
        "from training_view": float(difference.max()),
        "in another batch": float((part - made[some]).abs().max()),
        "in bfloat16": float(((half.float() - made[:1]).abs() / made[:1].abs().clamp(min=0.01)).max()),
    }


def _in_unit(views: Tensor) -> Tensor:
    return views * torch.tensor(RULE.std)[:, None, None] + torch.tensor(RULE.mean)[:, None, None]


if __name__ == "__main__":
    print(json.dumps({name: differences(RECIPES[kind], *rest) for name, (kind, *rest) in CASES.items()}))
