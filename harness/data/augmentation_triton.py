"""Training views on a GPU in one launch of a Triton kernel, one block of threads per image.

The result is that of `augmentation.training_view` up to float rounding: 2e-5 in [0, 1]. The same image and parameters
give the same bits in every batch, since a block reads only its own image and adds in a fixed order. Triton is imported
only here, so import this file only where there is a GPU.

A block first writes the resizing weights to scratch memory. It resizes along the rows and then along the columns, and
applies colour operations up to the contrast, which needs the mean of the whole image. A second pass over the pixels
applies the rest, and two more blur the images that are blurred.

Shapes: N images, S pixels a side of the view, H and W of the image; a plane is S x S float32 in scratch memory.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from twinbench.harness.data import colour_jitter
from twinbench.harness.data.augmentation import ViewParameters
from twinbench.harness.data.resampling import blur_radius
from twinbench.sweeps.protocol import DatasetRule
from twinbench.sweeps.recipe import ViewRecipe

_BRIGHTNESS = tl.constexpr(colour_jitter.BRIGHTNESS)  # kernels may read constexpr globals only
_CONTRAST = tl.constexpr(colour_jitter.CONTRAST)
_HUE = tl.constexpr(colour_jitter.HUE)


# Pixels at a time. This and the number of warps are the fastest of some thirty at 32 and 224 pixels on an H100, or
# within 5% of it; they change views only by rounding.
BLOCK = 1024


def view_by_kernel(
    images: Tensor, parameters: ViewParameters, recipe: ViewRecipe, size: int, rule: DatasetRule, dtype: torch.dtype
) -> Tensor:
    """Return `training_view` of images [N, 3, H, W], uint8 or float32 in [0, 1]: `dtype` [N, 3, S, S], channels last.

    Waits for nothing, so a CUDA graph can capture it. Scratch memory takes one or two floats per value of the views.
    """
    n, _, height, width = images.shape
    out = torch.empty((n, 3, size, size), dtype=dtype, device=images.device, memory_format=torch.channels_last)
    shape = _shape(recipe, height, width, size)
    scratch = torch.empty(n * shape["SCRATCH"], dtype=torch.float32, device=images.device)
    if n == 0:
        return out
    with torch.cuda.device_of(images):  # type: ignore[no-untyped-call]
        _view[(n,)](
            images.contiguous(),
            out,
            scratch,
            *map(_plain, parameters),
            *map(float, (recipe.solarise_threshold, *rule.mean, *rule.std)),
            **shape,
            WHITE=255.0 if images.dtype == torch.uint8 else 1.0,
            num_warps=4 if size <= 64 else 8,
            num_stages=1,
        )
    return out


def _plain(values: Tensor) -> Tensor:
    return (values.view(torch.uint8) if values.dtype == torch.bool else values).contiguous()


def _shape(recipe: ViewRecipe, height: int, width: int, size: int) -> dict[str, Any]:
    """Return the kernel's constants: sizes, operations the recipe never applies, and the scratch memory's layout."""
    blurs = recipe.blur_probability > 0
    radius = blur_radius(recipe.blur_kernel_size, size) if blurs else 0
    resizes = not (recipe.crop_scale == (1, 1) and height == width == size)
    plane = _aligned(size * size)
    most_taps = math.ceil((4 if recipe.interpolation == "bicubic" else 2) * max(1, height / size, width / size))
    table = _aligned((most_taps + 1) * size) if resizes else 0
    rows_plane = _aligned(height * size) if resizes else 0
    return {
        "HEIGHT": height,
        "WIDTH": width,
        "SIZE": size,
        "RESIZES": resizes,
        "CUBIC": recipe.interpolation == "bicubic",
        "BLURS": blurs,
        "RADIUS": radius,
        "TABLE": table,
        "ROWS_PLANE": rows_plane,
        "PLANE": plane,
        "SCRATCH": 2 * table + 3 * plane + 3 * max(rows_plane, plane if blurs else 0),
        "BLOCK": BLOCK,
        "LINE": triton.next_power_of_2(max(size, 2 * radius + 1)),
    }


def _aligned(words: int) -> int:
    return -(-words // 32) * 32


# The code must not depend on whether an address is a multiple of 16, since other code could add in another order.
# Longer than 60 lines: the entry of a kernel names every array and constant, and loads what its parts share.
@triton.jit(do_not_specialize_on_alignment=["images", *ViewParameters._fields])
def _view(
    images,  # [N, 3, H, W]
    out,  # [N, S, S, 3]
    # float32 [N, SCRATCH]: weights of rows, weights of columns, three planes, and three of resized rows or of a blur
    scratch,
    crop_top, crop_left, crop_height, crop_width, flip, jitter,  # all as in ViewParameters
    jitter_order, brightness, contrast, saturation, hue, greyscale, blur, blur_sigma, solarise,
    threshold, mean_red, mean_green, mean_blue, std_red, std_green, std_blue,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, WHITE: tl.constexpr,
    RESIZES: tl.constexpr, CUBIC: tl.constexpr, BLURS: tl.constexpr, RADIUS: tl.constexpr,
    TABLE: tl.constexpr, ROWS_PLANE: tl.constexpr, PLANE: tl.constexpr, SCRATCH: tl.constexpr,
    BLOCK: tl.constexpr, LINE: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)  # a batch can have more than 2^31 values
    pixels = images + image * (3 * HEIGHT * WIDTH)
    view = out + image * (3 * SIZE * SIZE)
    of_rows = scratch + image * SCRATCH
    of_columns = of_rows + TABLE
    planes = of_columns + TABLE
    spare = planes + 3 * PLANE
    lane = tl.arange(0, BLOCK)

    flipped = tl.load(flip + image).to(tl.int32)
    greyed = tl.load(greyscale + image) != 0
    solarised = tl.load(solarise + image) != 0
    order = jitter_order + image * 4
    bright = tl.load(brightness + image)
    saturated = tl.load(saturation + image)
    turn = tl.load(hue + image)
    # the places of its order before the contrast, and those after it; none where an image is not jittered
    before = 0
    behind = 4
    contrasted = 1.0
    if tl.load(jitter + image) != 0:
        contrasted = tl.load(contrast + image)
        for place in range(4):
            if tl.load(order + place) == _CONTRAST:
                before = place
                behind = place + 1

    grey = _crop_and_jitter(
        pixels, planes, spare, of_rows, of_columns, crop_top + image, crop_left + image, crop_height + image,
        crop_width + image, flipped, order, before, bright, saturated, turn,
        HEIGHT, WIDTH, SIZE, WHITE, RESIZES, CUBIC, ROWS_PLANE, PLANE, BLOCK, LINE,
    )  # fmt: skip
    rest = (1 - contrasted) * (tl.sum(grey, 0) / (SIZE * SIZE))
    blurred = False
    if BLURS:
        blurred = tl.load(blur + image) != 0
    for at in range(0, SIZE * SIZE, BLOCK):
        spot = at + lane
        inside = spot < SIZE * SIZE
        red, green, blue = _planar(planes + spot, PLANE, inside)
        red = _clamp(contrasted * red + rest)
        green = _clamp(contrasted * green + rest)
        blue = _clamp(contrasted * blue + rest)
        red, green, blue = _jitter(red, green, blue, order, behind, 4, bright, saturated, turn)
        luma = _luma(red, green, blue)
        red = tl.where(greyed, luma, red)
        green = tl.where(greyed, luma, green)
        blue = tl.where(greyed, luma, blue)
        if blurred:
            _keep(planes + spot, PLANE, red, green, blue, inside)
        else:
            _write(view + 3 * spot, red, mean_red, std_red, solarised, threshold, inside)
            _write(view + 3 * spot + 1, green, mean_green, std_green, solarised, threshold, inside)
            _write(view + 3 * spot + 2, blue, mean_blue, std_blue, solarised, threshold, inside)

    if BLURS:  # noqa: SIM102  (this is decided when the kernel is compiled, the other for each image)
        if blurred:
            _blur_and_write(
                view, planes, spare, tl.load(blur_sigma + image), solarised, threshold,
                mean_red, mean_green, mean_blue, std_red, std_green, std_blue, SIZE, RADIUS, PLANE, BLOCK, LINE,
            )  # fmt: skip


@triton.jit
def _crop_and_jitter(
    pixels, planes, resized_rows, of_rows, of_columns, crop_top, crop_left, crop_height, crop_width, flipped,
    order, before, bright, saturated, turn,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, WHITE: tl.constexpr, RESIZES: tl.constexpr,
    CUBIC: tl.constexpr, ROWS_PLANE: tl.constexpr, PLANE: tl.constexpr, BLOCK: tl.constexpr, LINE: tl.constexpr,
):  # fmt: skip
    """Crop, resize and flip the image into `planes`, jitter it up to the contrast, and sum its luma by lane."""
    lane = tl.arange(0, BLOCK)
    if RESIZES:
        height = tl.load(crop_height).to(tl.int32)
        width = tl.load(crop_width).to(tl.int32)
        crop = pixels + tl.load(crop_top).to(tl.int32) * WIDTH + tl.load(crop_left).to(tl.int32)
        row_taps = _lay_weights(of_rows, height, 0, SIZE, CUBIC, LINE)
        column_taps = _lay_weights(of_columns, width, flipped, SIZE, CUBIC, LINE)
        tl.debug_barrier()
        for at in range(0, height * SIZE, BLOCK):
            spot = at + lane
            inside = spot < height * SIZE
            line = crop + spot // SIZE * WIDTH
            red, green, blue = _resample(
                line, HEIGHT * WIDTH, 1, width, of_columns + spot % SIZE, column_taps, inside, SIZE, BLOCK
            )
            _keep(resized_rows + spot, ROWS_PLANE, red, green, blue, inside)
        tl.debug_barrier()
    grey = tl.zeros([BLOCK], tl.float32)
    for at in range(0, SIZE * SIZE, BLOCK):
        spot = at + lane
        inside = spot < SIZE * SIZE
        if RESIZES:
            column = resized_rows + spot % SIZE
            red, green, blue = _resample(
                column, ROWS_PLANE, SIZE, height, of_rows + spot // SIZE, row_taps, inside, SIZE, BLOCK
            )
            red = _clamp(red * (1 / WHITE))  # the cubic overshoots at edges
            green = _clamp(green * (1 / WHITE))
            blue = _clamp(blue * (1 / WHITE))
        else:
            source = pixels + spot + flipped * (SIZE - 1 - 2 * (spot % SIZE))
            red, green, blue = _planar(source, HEIGHT * WIDTH, inside)
            red = tl.div_rn(red, WHITE)
            green = tl.div_rn(green, WHITE)
            blue = tl.div_rn(blue, WHITE)
        red, green, blue = _jitter(red, green, blue, order, 0, before, bright, saturated, turn)
        grey += tl.where(inside, _luma(red, green, blue), 0.0)
        _keep(planes + spot, PLANE, red, green, blue, inside)
    tl.debug_barrier()
    return grey


@triton.jit
def _blur_and_write(
    view, planes, blurred, sigma, solarised, threshold,
    mean_red, mean_green, mean_blue, std_red, std_green, std_blue,
    SIZE: tl.constexpr, RADIUS: tl.constexpr, PLANE: tl.constexpr, BLOCK: tl.constexpr, LINE: tl.constexpr,
):  # fmt: skip
    """Blur `planes` along the rows into the planes `blurred`, then along the columns into the view."""
    lane = tl.arange(0, BLOCK)
    tap = tl.arange(0, LINE)
    total = tl.sum(tl.where(tap <= 2 * RADIUS, _bell(tap - RADIUS, sigma), 0.0), 0)
    tl.debug_barrier()
    for at in range(0, SIZE * SIZE, BLOCK):
        spot = at + lane
        inside = spot < SIZE * SIZE
        red, green, blue = _blur(planes + spot, spot % SIZE, 1, sigma, total, inside, SIZE, RADIUS, PLANE, BLOCK)
        _keep(blurred + spot, PLANE, red, green, blue, inside)
    tl.debug_barrier()
    for at in range(0, SIZE * SIZE, BLOCK):
        spot = at + lane
        inside = spot < SIZE * SIZE
        red, green, blue = _blur(blurred + spot, spot // SIZE, SIZE, sigma, total, inside, SIZE, RADIUS, PLANE, BLOCK)
        _write(view + 3 * spot, red, mean_red, std_red, solarised, threshold, inside)
        _write(view + 3 * spot + 1, green, mean_green, std_green, solarised, threshold, inside)
        _write(view + 3 * spot + 2, blue, mean_blue, std_blue, solarised, threshold, inside)


@triton.jit
def _lay_weights(table, length, mirrored, SIZE: tl.constexpr, CUBIC: tl.constexpr, LINE: tl.constexpr):
    """Write `resampling.resize_weights` along one axis of a crop to `table` [1 + taps, S]; return the number of taps.

    The table's first row is the crop's pixel at which each output pixel starts; the others are the weights from there
    on, in as many taps as can be nonzero. The operations and their rounding are those of `resize_weights`, since a
    distance is a small difference of large numbers.
    """
    lane = tl.arange(0, LINE)
    place = tl.minimum(lane, SIZE - 1)
    scale = tl.div_rn(length.to(tl.float32), SIZE * 1.0)
    stretch = tl.maximum(scale, 1.0)
    reach = stretch * (2.0 if CUBIC else 1.0)
    centre = scale * ((place + mirrored * (SIZE - 1 - 2 * place)).to(tl.float32) + 0.5)
    first = tl.floor(centre - 0.5 - reach) + 1
    taps = tl.ceil(2 * reach).to(tl.int32)
    centre = tl.div_rn(centre, stretch)
    total = tl.zeros([LINE], tl.float32)
    for tap in range(taps):
        total += _weight(first + tap, centre, stretch, length, CUBIC)
    tl.store(table + lane, first, lane < SIZE)
    for tap in range(taps):
        weight = tl.div_rn(_weight(first + tap, centre, stretch, length, CUBIC), total)
        tl.store(table + (1 + tap) * SIZE + lane, weight, lane < SIZE)
    return taps


@triton.jit
def _weight(pixel, centre, stretch, length, CUBIC: tl.constexpr):
    distance = tl.abs(tl.div_rn(pixel + 0.5, stretch) - centre)
    if CUBIC:
        near = ((1.5 * distance - 2.5) * distance) * distance + 1
        beyond = tl.minimum(distance, 2.0)
        far = (((beyond - 5) * beyond + 8) * beyond - 4) * -0.5
        weight = tl.where(distance < 1, near, far)
    else:
        weight = tl.maximum(1 - distance, 0.0)
    return tl.where((pixel >= 0) & (pixel < length), weight, 0.0)


@triton.jit
def _resample(line, plane, step, length, table, taps, inside, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Return weighted sums of the pixels `step` apart from `line` on; pixels outside the crop have weight zero."""
    first = tl.load(table, inside, 0.0).to(tl.int32)
    red = tl.zeros([BLOCK], tl.float32)
    green = tl.zeros([BLOCK], tl.float32)
    blue = tl.zeros([BLOCK], tl.float32)
    for tap in range(taps):
        weight = tl.load(table + (1 + tap) * SIZE, inside, 0.0)
        r, g, b = _planar(line + tl.minimum(tl.maximum(first + tap, 0), length - 1) * step, plane, inside)
        red += weight * r
        green += weight * g
        blue += weight * b
    return red, green, blue


@triton.jit
def _blur(place, along, step, sigma, total, inside, SIZE: tl.constexpr, RADIUS: tl.constexpr, PLANE: tl.constexpr,
          BLOCK: tl.constexpr):  # fmt: skip
    """Return the Gaussian's sums over pixels `step` apart: `place` is the `along`-th of SIZE; edges are reflected."""
    red = tl.zeros([BLOCK], tl.float32)
    green = tl.zeros([BLOCK], tl.float32)
    blue = tl.zeros([BLOCK], tl.float32)
    for tap in range(2 * RADIUS + 1):
        source = tl.abs(along + tap - RADIUS)
        source = tl.where(source >= SIZE, 2 * (SIZE - 1) - source, source)
        r, g, b = _planar(place + (source - along) * step, PLANE, inside)
        weight = _bell(tap - RADIUS, sigma) / total
        red += weight * r
        green += weight * g
        blue += weight * b
    return red, green, blue


@triton.jit
def _bell(offset, sigma):
    steps = offset / sigma
    return tl.exp(-0.5 * steps * steps)


@triton.jit
def _jitter(red, green, blue, order, begin, end, brightness, saturation, hue):
    """Apply the operations at the places `begin` to `end` of an image's order, except contrast."""
    for place in range(begin, end):
        operation = tl.load(order + place)
        if operation == _HUE:
            red, green, blue = _shift_hue(red, green, blue, hue)
        else:
            factor = tl.where(operation == _BRIGHTNESS, brightness, saturation)
            other = tl.where(operation == _BRIGHTNESS, 0.0, 1 - saturation) * _luma(red, green, blue)
            red = _clamp(factor * red + other)
            green = _clamp(factor * green + other)
            blue = _clamp(factor * blue + other)
    return red, green, blue


@triton.jit
def _shift_hue(red, green, blue, hue):
    """Shift the hue as `colour_jitter.shift_hue_` does."""
    high = tl.maximum(tl.maximum(red, green), blue)
    low = tl.minimum(tl.minimum(red, green), blue)
    chroma = high - low
    sixths = tl.where(green == high, blue - red + 2 * chroma, red - green + 4 * chroma)
    sixths = tl.where(red == high, green - blue, sixths)
    sixths = sixths / tl.maximum(chroma, 1e-12) + 6 * hue
    sixths -= 6 * tl.floor(sixths * (1 / 6))
    red_share = _clamp(tl.abs(sixths - 3) - 1)
    green_share = _clamp(2 - tl.abs(sixths - 2))
    blue_share = _clamp(2 - tl.abs(sixths - 4))
    return low + chroma * red_share, low + chroma * green_share, low + chroma * blue_share


@triton.jit
def _luma(red, green, blue):
    return 0.2989 * red + 0.587 * green + 0.114 * blue


@triton.jit
def _clamp(x):
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _planar(place, plane, inside):
    red = tl.load(place, inside, 0).to(tl.float32)
    green = tl.load(place + plane, inside, 0).to(tl.float32)
    blue = tl.load(place + 2 * plane, inside, 0).to(tl.float32)
    return red, green, blue


@triton.jit
def _keep(place, plane, red, green, blue, inside):
    tl.store(place, red, inside)
    tl.store(place + plane, green, inside)
    tl.store(place + 2 * plane, blue, inside)


@triton.jit
def _write(place, value, mean, std, solarised, threshold, inside):
    value = tl.where(solarised & (value >= threshold), 1 - value, value)
    tl.store(place, ((value - mean) / std).to(place.dtype.element_ty), inside)
