"""Recipes as protocols write them."""

import tomllib
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from twinbench.sweeps.recipe import ViewRecipe


def _read(toml: str) -> ViewRecipe:
    return TypeAdapter(ViewRecipe).validate_python(tomllib.loads(toml))


def test_a_table_becomes_a_recipe() -> None:
    recipe = _read('crop_scale = [0.2, 1]\ninterpolation = "bilinear"\nhue = 0.1\nblur_kernel_size = 5')
    assert recipe == ViewRecipe(crop_scale=(0.2, 1.0), interpolation="bilinear", hue=0.1, blur_kernel_size=5)
    assert _read("") == ViewRecipe()


@pytest.mark.parametrize(
    ("toml", "key", "said"),
    [
        ("crop_scale = [0.0, 1.0]", "crop_scale", "greater than 0"),
        ("crop_scale = [0.9, 0.2]", "crop_scale", "must be"),
        ("flip_probability = 1.5", "flip_probability", "less than or equal to 1"),
        ("hue = 0.6", "hue", "less than or equal to 0.5"),
        ("brightness = -1", "brightness", "greater than or equal to 0"),
        ('interpolation = "nearest"', "interpolation", "'bilinear' or 'bicubic'"),
        ("blur_kernel_size = 4", "blur_kernel_size", "must be odd"),
        ("blur_sigma = [2.0, 1.0]", "blur_sigma", "must be"),
        ("flips = 0.5", "flips", "nexpected"),
    ],
)
def test_impossible_values_are_refused(toml: str, key: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _read(toml)
    error: Any = caught.value.errors()[0]
    assert key in map(str, error["loc"]) or key in error["msg"]
    assert said in error["msg"]
