"""Batched augmentation against torchvision's functional operations, sample by sample, on the same parameters."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as reference
from views_by_kernel import CROP, JITTER

from twinbench.harness.data import augmentation
from twinbench.harness.data.augmentation import (
    apply_view,
    draw_parameters,
    make_view,
    normalise,
    plain_view,
    training_view,
)
from twinbench.sweeps.protocol import DatasetRule
from twinbench.sweeps.recipe import ViewRecipe

RECIPES = {
    "nothing": ViewRecipe(),
    "crop": ViewRecipe(**CROP),
    "crop bilinear": ViewRecipe(**CROP, interpolation="bilinear"),
    "flip": ViewRecipe(flip_probability=0.5),
    "jitter": ViewRecipe(**JITTER),
    "strong jitter": ViewRecipe(jitter_probability=1.0, brightness=1.5, contrast=1.5, saturation=1.5, hue=0.5),
    "hue alone": ViewRecipe(jitter_probability=0.5, hue=0.5),
    "jitter without hue": ViewRecipe(jitter_probability=0.5, brightness=0.8, contrast=0.8, saturation=0.8),
    "greyscale": ViewRecipe(greyscale_probability=0.5),
    "blur": ViewRecipe(blur_probability=0.7, blur_kernel_size=7),
    "solarise": ViewRecipe(solarise_probability=0.5, solarise_threshold=0.4),
    "everything": ViewRecipe(
        **CROP, **JITTER, greyscale_probability=0.2, blur_probability=0.5, solarise_probability=0.2
    ),
}
SHAPES = {"8": (8, 8, 8), "32": (32, 32, 32), "96 to 32": (96, 96, 32), "oblong": (40, 27, 24)}


def _photographs(n: int, height: int, width: int) -> Tensor:
    """uint8 [n, 3, height, width]: noise, smooth colours, and pixels that are grey, black or white."""
    generator = torch.Generator().manual_seed(n + height)
    noise = torch.randint(0, 256, (n, 3, height, width), generator=generator, dtype=torch.uint8)
    slope = torch.linspace(0, 255, width).expand(height, width)
    tint = torch.rand((n, 3, 1, 1), generator=generator)
    noise[n // 3 :] = (slope * tint[n // 3 :]).round().to(torch.uint8)
    noise[-1] = noise[-1, :1]  # a grey image
    noise[0, :, :2] = 0
    noise[1, :, :2] = 255
    return noise


def _by_torchvision(image: Tensor, p: dict[str, Any], recipe: ViewRecipe, size: int) -> Tensor:
    """One view of image float32 [3, H, W], by torchvision's operations one after the other."""
    modes = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
    box = (p["crop_top"], p["crop_left"], p["crop_height"], p["crop_width"])
    x = reference.resized_crop(
        image, *box, size=[size, size], interpolation=modes[recipe.interpolation], antialias=True
    )
    x = x.clamp(0, 1)
    if p["flip"]:
        x = reference.horizontal_flip(x)
    if p["jitter"]:
        for operation in p["jitter_order"]:
            if operation == 0 and recipe.brightness:
                x = reference.adjust_brightness(x, p["brightness"])
            elif operation == 1 and recipe.contrast:
                x = reference.adjust_contrast(x, p["contrast"])
            elif operation == 2 and recipe.saturation:
                x = reference.adjust_saturation(x, p["saturation"])
            elif operation == 3 and recipe.hue:
                x = reference.adjust_hue(x, p["hue"])
    if p["greyscale"]:
        x = reference.rgb_to_grayscale(x, num_output_channels=3)
    if p["blur"]:
        kernel_size = recipe.blur_kernel_size
        x = reference.gaussian_blur(x, [kernel_size, kernel_size], [p["blur_sigma"], p["blur_sigma"]])
    if p["solarise"]:
        x = reference.solarize(x, recipe.solarise_threshold)
    return x


@pytest.mark.parametrize("grouped", [True, False], ids=["as on a CPU", "as on a GPU"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_views_equal_torchvisions_with_the_same_parameters(
    recipe: ViewRecipe, shape: tuple[int, int, int], grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmentation, "_can_wait", lambda device: grouped)
    height, width, size = shape
    images = plain_view(_photographs(24, height, width))
    p = draw_parameters(torch.arange(24), recipe, 0, 0, 0, height, width)
    ours = apply_view(images, p, recipe, size)
    assert ours.shape == (24, 3, size, size) and ours.is_contiguous()
    rows = [{name: part[n].tolist() for name, part in p._asdict().items()} for n in range(24)]
    theirs = torch.stack([_by_torchvision(image, row, recipe, size) for image, row in zip(images, rows, strict=True)])
    difference = (ours - theirs).abs()
    if recipe.solarise_probability:  # a value within rounding of the threshold may fall on either side
        before = apply_view(images, p, dataclasses.replace(recipe, solarise_probability=0.0), size)
        difference[(before - recipe.solarise_threshold).abs() < 2e-5] = 0
    assert difference.max() < 2e-5


def test_all_orders_of_the_jitter_occur_evenly() -> None:
    p = draw_parameters(torch.arange(12_000), RECIPES["jitter"], 0, 0, 0, 8, 8)
    orders, counts = p.jitter_order.unique(dim=0, return_counts=True)
    assert len(orders) == 24 and counts.min() > 400 and counts.max() < 600  # 500 expected, deviation 22


def test_drawn_parameters_are_within_the_recipe() -> None:
    recipe = dataclasses.replace(RECIPES["everything"], saturation=1.4)
    p = draw_parameters(torch.arange(20_000), recipe, 1, 2, 0, 32, 32)
    bounds = {"brightness": (0.6, 1.4), "saturation": (0.0, 2.4), "hue": (-0.1, 0.1), "blur_sigma": (0.1, 2.0)}
    for name, (low, high) in bounds.items():
        values = getattr(p, name)
        assert low <= values.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.01 * (high - low)
    shares = {"flip": 0.5, "jitter": 0.8, "greyscale": 0.2, "blur": 0.5, "solarise": 0.2}
    for name, share in shares.items():
        assert abs(getattr(p, name).double().mean() - share) < 0.015
    flags = torch.stack([getattr(p, name) for name in shares]).double()
    assert (torch.corrcoef(flags) - torch.eye(5)).abs().max() < 0.03


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(32, 32, (0.08, 1.0)), (40, 27, (0.2, 1.0)), (8, 30, (0.9, 1.0))]
)
def test_crops_are_distributed_as_torchvisions(height: int, width: int, scale: tuple[float, float]) -> None:
    n = 2000
    recipe = ViewRecipe(crop_scale=scale)
    p = draw_parameters(torch.arange(n), recipe, 0, 0, 0, height, width)
    ours = torch.stack([p.crop_top, p.crop_left, p.crop_height, p.crop_width], dim=1).double()
    image = torch.zeros(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(n)]
    theirs = torch.tensor(drawn).double()
    assert (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all()
    error = ((ours.var(dim=0) + theirs.var(dim=0)) / n).sqrt()
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() <= 4.5 * error + 1e-9).all()
    areas = (ours[:, 2] * ours[:, 3]).mean(), (theirs[:, 2] * theirs[:, 3]).mean()
    assert abs(areas[0] / areas[1] - 1) < 0.04
    quantiles = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    assert (ours[:, 2].quantile(quantiles) - theirs[:, 2].quantile(quantiles)).abs().max() <= 1


def test_the_same_image_gets_the_same_view_in_every_batch() -> None:
    recipe = RECIPES["everything"]
    images, samples = _photographs(60, 32, 32), torch.arange(60) * 7 + 3
    whole = make_view(images, samples, recipe, 0, 4, 1, 32)
    some = torch.tensor([41, 3, 17, 59, 0])
    part = make_view(images[some], samples[some], recipe, 0, 4, 1, 32)
    drawn = draw_parameters(samples, recipe, 0, 4, 1, 32, 32)
    again = draw_parameters(samples[some], recipe, 0, 4, 1, 32, 32)
    for name, values in drawn._asdict().items():
        assert torch.equal(getattr(again, name), values[some]), name
    assert torch.equal(part, whole[some])
    alone = [make_view(images[n : n + 1], samples[n : n + 1], recipe, 0, 4, 1, 32) for n in range(60)]
    assert torch.equal(torch.cat(alone), whole)
    assert torch.equal(make_view(images, samples, recipe, 0, 4, 1, 32), whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_image_gets_the_same_view_alone_and_in_a_batch(threads: int) -> None:
    """Of 224 pixels, where a library would split a single image's sums over threads."""
    recipe = dataclasses.replace(RECIPES["everything"], blur_kernel_size=23)
    images, samples = _photographs(5, 256, 224), torch.arange(5)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = make_view(images, samples, recipe, 0, 0, 0, 224)
        alone = [make_view(images[n : n + 1], samples[n : n + 1], recipe, 0, 0, 0, 224) for n in range(5)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.cat(alone), whole)


@pytest.mark.parametrize("grouped", [True, False], ids=["as on a CPU", "as on a GPU"])
def test_a_training_view_is_the_view_normalised_with_channels_last(
    grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(augmentation, "_can_wait", lambda device: grouped)
    rule = DatasetRule("invented", (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), 0.1)
    images, recipe = _photographs(24, 32, 32), RECIPES["everything"]
    p = draw_parameters(torch.arange(24), recipe, 0, 0, 0, 32, 32)
    plain = normalise(apply_view(images, p, recipe, 32), rule.mean, rule.std)
    made = training_view(images, p, recipe, 32, rule, torch.float32)
    assert made.is_contiguous(memory_format=torch.channels_last) and torch.equal(made, plain)
    half = training_view(images, p, recipe, 32, rule, torch.bfloat16)
    assert torch.equal(half, plain.to(torch.bfloat16))


def test_views_epochs_seeds_and_samples_are_distorted_differently() -> None:
    image = _photographs(2, 32, 32)[:1]
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]  # sample, seed, epoch, view
    views = [make_view(image, torch.tensor([sample]), RECIPES["crop"], *rest, 32) for sample, *rest in keys]
    assert all(not torch.equal(a, b) for n, a in enumerate(views) for b in views[:n])


def test_switching_off_an_operation_does_not_change_what_others_draw() -> None:
    full, bare = RECIPES["everything"], RECIPES["crop"]
    one, other = (draw_parameters(torch.arange(50), recipe, 0, 0, 0, 32, 32) for recipe in (full, bare))
    for name in ("crop_top", "crop_left", "crop_height", "crop_width", "flip", "jitter_order"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_the_default_recipe_changes_nothing() -> None:
    images = _photographs(6, 32, 32)
    assert torch.equal(make_view(images, torch.arange(6), ViewRecipe(), 0, 0, 0, 32), images / 255)


def test_augmentation_draws_nothing_from_the_global_generator_and_leaves_images_alone() -> None:
    images = _photographs(6, 32, 32)
    before, copy = torch.get_rng_state(), images.clone()
    plain = plain_view(images)
    kept = plain.clone()
    for recipe in RECIPES.values():
        make_view(images, torch.arange(6), recipe, 0, 0, 0, 32)
        apply_view(plain, draw_parameters(torch.arange(6), recipe, 0, 0, 0, 32, 32), recipe, 32)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(images, copy) and torch.equal(plain, kept)


def test_views_are_not_made_in_lower_precision_under_autocast() -> None:
    images, recipe = _photographs(6, 32, 32), RECIPES["everything"]
    outside = make_view(images, torch.arange(6), recipe, 0, 0, 0, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = make_view(images, torch.arange(6), recipe, 0, 0, 0, 32)
    assert inside.dtype == torch.float32 and torch.equal(inside, outside)


def test_normalise_equals_torchvisions() -> None:
    images = plain_view(_photographs(4, 8, 8))
    mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    torch.testing.assert_close(normalise(images, mean, std), reference.normalize(images, list(mean), list(std)))


def test_a_blur_wider_than_the_view_is_refused() -> None:
    with pytest.raises(ValueError, match="a blur of 17 pixels needs a view of more than 8 pixels, not 8"):
        augmentation.blur_weights(torch.ones(1), 17, 8)
