"""Procedural images with known factors: shape, colour, background, position, scale and rotation.

The factors are drawn independently from a seed, so that an embedding cannot reveal one of them through another. All
drawing uses integers: the same seed gives the same bytes on every machine.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from twinbench.harness.data import random_streams

SHAPES = ("circle", "cross", "square", "star", "triangle")  # the class label
COLOURS = {  # RGB
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 50),
    "magenta": (210, 60, 200),
    "cyan": (60, 200, 210),
}
BACKGROUNDS = {"black": (10, 10, 10), "dark": (75, 75, 75), "light": (160, 160, 160), "white": (245, 245, 245)}

FACTORS = np.dtype(
    [
        ("shape", "u1"),  # place in SHAPES
        ("colour", "u1"),  # place in COLOURS
        ("background", "u1"),  # place in BACKGROUNDS
        ("x", "<f4"),  # centre, as a share of the image's width, from the left
        ("y", "<f4"),  # centre, as a share of the image's height, from the top
        ("scale", "<f4"),  # distance from the centre to the outermost point, as a share of the image's side
        ("rotation", "<f4"),  # whole degrees, clockwise; visible only up to the shape's own symmetry
    ]
)

SEED, TRAIN, TEST, SIZE = 0, 4000, 1000, 32  # of the dataset "shapes"

_UNITS = 8  # integer units per pixel
_SAMPLES = 4  # a pixel is the mean of 4 x 4 points, which are at odd units
_POSITION = (0.35, 0.65)
_SCALE = (0.18, 0.34)  # with _POSITION, no shape reaches beyond the edge
_ONE = 4096  # sines and cosines are integer multiples of 1 / 4096
_COSINE = np.array([round(math.cos(math.radians(degrees)) * _ONE) for degrees in range(360)], dtype=np.int32)
_CHUNK = 256  # images drawn at once

_Ints = NDArray[np.int32]
_Bools = NDArray[np.bool_]


def draw_shapes(seed: int, split: str, n: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.void]]:
    """Return n images uint8 [n, 3, size, size] and their factors (FACTORS) [n], with balanced classes."""
    factors = draw_factors(seed, split, n, size)
    images = [render(factors[start : start + _CHUNK], size) for start in range(0, n, _CHUNK)]
    return np.concatenate(images), factors


def draw_factors(seed: int, split: str, n: int, size: int) -> NDArray[np.void]:
    """Return the factors of n images of `size` pixels. Position and scale are multiples of 1/8 pixel."""
    key = random_streams.key(seed, f"shapes/{split}")
    u = random_streams.uniforms(key, torch.arange(n), 6).numpy().astype(np.float64)
    side = size * _UNITS
    factors = np.empty(n, dtype=FACTORS)
    factors["shape"] = np.arange(n) % len(SHAPES)
    factors["colour"] = np.floor(u[:, 0] * len(COLOURS))
    factors["background"] = np.floor(u[:, 1] * len(BACKGROUNDS))
    for name, column, (low, high) in (("x", 2, _POSITION), ("y", 3, _POSITION), ("scale", 4, _SCALE)):
        first, last = round(low * side), round(high * side)
        factors[name] = (first + np.floor(u[:, column] * (last - first + 1))) / side
    factors["rotation"] = np.floor(u[:, 5] * 360)
    return factors


def render(factors: NDArray[np.void], size: int) -> NDArray[np.uint8]:
    """Return images uint8 [n, 3, size, size] of these factors, antialiased by 4 x 4 points per pixel."""
    points = _SAMPLES**2
    inside = _inside(factors, size).reshape(len(factors), size, _SAMPLES, size, _SAMPLES)
    cover = inside.sum(axis=(2, 4), dtype=np.int32)[:, None]
    colour = np.array(list(COLOURS.values()), dtype=np.int32)[factors["colour"]][:, :, None, None]
    background = np.array(list(BACKGROUNDS.values()), dtype=np.int32)[factors["background"]][:, :, None, None]
    mixed: _Ints = (colour * cover + background * (points - cover) + points // 2) // points
    return mixed.astype(np.uint8)


def _inside(factors: NDArray[np.void], size: int) -> _Bools:
    """Return which points lie within the shape, [n, size * 4, size * 4]."""
    side = size * _UNITS
    point = np.arange(size * _SAMPLES, dtype=np.int32) * 2 + 1
    x = point[None, :] - np.rint(factors["x"] * side).astype(np.int32)[:, None]
    y = point[None, :] - np.rint(factors["y"] * side).astype(np.int32)[:, None]
    radius = np.rint(factors["scale"] * side).astype(np.int32)
    rotation = factors["rotation"].astype(np.int32)
    inside = np.empty((len(factors), len(point), len(point)), dtype=bool)
    for number, name in enumerate(SHAPES):
        these = factors["shape"] == number
        inside[these] = _OUTLINES[name](x[these], y[these], radius[these], rotation[these])
    return inside


def _half_plane(x: _Ints, y: _Ints, reach: _Ints, angle: _Ints) -> _Bools:
    """Return the points at most `reach` (in units / 4096) from the centre in the direction of `angle` degrees."""
    across = reach[:, None] - x * _COSINE[angle % 360][:, None]
    down = y * _COSINE[(angle - 90) % 360][:, None]
    return down[:, :, None] <= across[:, None, :]


def _circle(x: _Ints, y: _Ints, radius: _Ints, rotation: _Ints) -> _Bools:
    return (y**2)[:, :, None] <= (radius[:, None] ** 2 - x**2)[:, None, :]


def _star(corners: int, apothem: float, needed: int, x: _Ints, y: _Ints, radius: _Ints, rotation: _Ints) -> _Bools:
    """Return the points in at least `needed` of `corners` half-planes, whose edges are at `apothem` of the radius."""
    held = np.zeros((len(x), y.shape[1], x.shape[1]), dtype=np.int8)
    for k in range(corners):
        held += _half_plane(x, y, radius * round(apothem * _ONE), rotation + 360 * k // corners)
    return held >= needed


def _cross(x: _Ints, y: _Ints, radius: _Ints, rotation: _Ints) -> _Bools:
    """Return two bars, a third as wide as long, with their corners on the radius."""
    long, short = radius * round(_ONE * 3 / math.sqrt(10)), radius * round(_ONE / math.sqrt(10))

    def bar(first: _Ints, second: _Ints) -> _Bools:
        sides = zip((first, second, first, second), (0, 90, 180, 270), strict=True)
        within: _Bools = np.logical_and.reduce([_half_plane(x, y, reach, rotation + turn) for reach, turn in sides])
        return within

    return bar(long, short) | bar(short, long)


_OUTLINES = {
    "circle": _circle,
    "cross": _cross,
    "square": lambda *where: _star(4, math.cos(math.pi / 4), 4, *where),
    # a pentagram: a point is on the centre's side of at least four of its five lines
    "star": lambda *where: _star(5, math.cos(2 * math.pi / 5), 4, *where),
    "triangle": lambda *where: _star(3, math.cos(math.pi / 3), 3, *where),
}
