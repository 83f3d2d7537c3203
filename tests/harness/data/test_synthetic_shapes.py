"""Drawn shapes have the factors that are stored with them."""

import numpy as np
import pytest

from twinbench.harness.data.synthetic_shapes import BACKGROUNDS, COLOURS, SHAPES, draw_factors, draw_shapes, render


def _one(shape: str, rotation: float = 0, scale: float = 0.3, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The share of each pixel that a shape in the image's middle covers, [size, size], and its factors."""
    factors = draw_factors(0, "test", 1, size)
    for name, value in {"shape": SHAPES.index(shape), "x": 0.5, "y": 0.5, "scale": scale, "rotation": rotation}.items():
        factors[name] = value
    factors["colour"], factors["background"] = list(COLOURS).index("red"), list(BACKGROUNDS).index("black")
    red = render(factors, size)[0, 0].astype(float)
    return (red - 10) / (220 - 10), factors


def test_the_centre_has_the_factors_colour_and_the_corners_the_backgrounds() -> None:
    images, factors = draw_shapes(0, "train", 300, 32)
    colours, backgrounds = np.array(list(COLOURS.values())), np.array(list(BACKGROUNDS.values()))
    column, row = (np.floor(factors[name] * 32).astype(int) for name in ("x", "y"))
    assert np.array_equal(images[np.arange(300), :, row, column], colours[factors["colour"]])
    for corner_row, corner_column in ((0, 0), (0, 31), (31, 0), (31, 31)):
        assert np.array_equal(images[:, :, corner_row, corner_column], backgrounds[factors["background"]])


def test_position_is_the_shapes_centre_of_mass_and_scale_its_extent() -> None:
    images, factors = draw_shapes(0, "train", 400, 32)
    backgrounds = np.array(list(BACKGROUNDS.values()))[factors["background"]][:, :, None, None]
    colours = np.array(list(COLOURS.values()))[factors["colour"]][:, :, None, None]
    # how far each pixel has gone from background to colour: the share of it that is covered
    way = ((images - backgrounds) * (colours - backgrounds)).sum(1) / ((colours - backgrounds) ** 2).sum(1)
    centres = np.arange(32) + 0.5
    mass = way.sum(axis=(1, 2))
    x, y = (way.sum(axis=1) * centres).sum(1) / mass / 32, (way.sum(axis=2) * centres).sum(1) / mass / 32
    assert np.abs(x - factors["x"]).max() < 0.006 and np.abs(y - factors["y"]).max() < 0.006  # a fifth of a pixel
    reach = np.hypot(centres[None, None, :] / 32 - x[:, None, None], centres[None, :, None] / 32 - y[:, None, None])
    extent = np.where(way > 0.05, reach, 0).max(axis=(1, 2))
    assert np.abs(extent - factors["scale"]).max() < 0.045


@pytest.mark.parametrize(
    ("shape", "area"),  # of a shape whose outermost point lies at distance 1
    [
        ("circle", np.pi),
        ("cross", 2.0),  # arms 6 by 2 of sqrt(10): (2 * 12 - 4) / 10
        ("square", 2.0),
        ("star", 5 * np.sin(np.pi / 5) * np.cos(2 * np.pi / 5) / np.cos(np.pi / 5)),
        ("triangle", 3 * np.sqrt(3) / 4),
    ],
)
def test_areas_are_those_of_geometry(shape: str, area: float) -> None:
    cover, factors = _one(shape, rotation=17)
    assert cover.sum() / (64 * factors["scale"][0]) ** 2 == pytest.approx(area, rel=0.01)


def test_rotation_is_clockwise_by_its_degrees() -> None:
    upright, _ = _one("square")
    assert np.abs(_one("square", rotation=90)[0] - upright).max() < 0.01
    triangle, _ = _one("triangle")  # points to the left and two to the right at no rotation: a corner at 180 degrees
    assert triangle[32, 64 // 2 - 18] > 0.3 and triangle[32, 64 // 2 + 17] == 0
    turned, _ = _one("triangle", rotation=90)
    assert np.abs(turned - np.rot90(triangle, -1)).mean() < 0.01


def test_factors_are_independent_and_cover_their_ranges() -> None:
    factors = draw_factors(0, "train", 4000, 32)
    columns = np.stack([factors[name].astype(float) for name in factors.dtype.names])
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 0.06
    assert np.bincount(factors["shape"]).tolist() == [800] * 5
    assert np.bincount(factors["colour"]).min() > 580 and np.bincount(factors["background"]).min() > 900
    assert 0 <= factors["rotation"].min() < 3 and 357 <= factors["rotation"].max() < 360


def test_a_row_depends_only_on_its_position_and_splits_and_seeds_differ() -> None:
    some, more = draw_factors(0, "train", 10, 32), draw_factors(0, "train", 50, 32)
    assert np.array_equal(some, more[:10])
    assert not np.array_equal(some, draw_factors(0, "test", 10, 32))
    assert not np.array_equal(some, draw_factors(1, "train", 10, 32))
