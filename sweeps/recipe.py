"""How one augmented view of an image is made: a `[[views]]` table of a protocol. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

Probability = Annotated[float, Ge(0), Le(1)]
Strength = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class ViewRecipe:
    """One view: crop, flip, jitter, greyscale, blur, solarise, in this order, as in BYOL and Barlow Twins.

    The defaults leave an image unchanged. Names and meanings are torchvision's: RandomResizedCrop, ColorJitter,
    GaussianBlur, RandomSolarize. Pixel values are in [0, 1].
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    crop_scale: tuple[Annotated[float, Gt(0), Le(1)], Annotated[float, Gt(0), Le(1)]] = (1.0, 1.0)
    """Smallest and largest fraction of the image's area that is cropped; (1, 1) keeps the whole image."""
    crop_ratio: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (3 / 4, 4 / 3)
    """Smallest and largest width/height of the crop, drawn log-uniformly (torchvision's default)."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """How the crop is resized; antialiased in both cases."""
    flip_probability: Probability = 0.0
    """Probability of a horizontal flip."""
    jitter_probability: Probability = 0.0
    """Probability that brightness, contrast, saturation and hue change, in an order drawn for each image."""
    brightness: Strength = 0.0
    """The factor is drawn from [max(0, 1 - brightness), 1 + brightness]."""
    contrast: Strength = 0.0
    """As `brightness`."""
    saturation: Strength = 0.0
    """As `brightness`."""
    hue: Annotated[float, Ge(0), Le(0.5)] = 0.0
    """The shift is drawn from [-hue, hue], where 1 is a full turn of the colour circle."""
    greyscale_probability: Probability = 0.0
    """Probability that all three channels are set to the image's luma."""
    blur_probability: Probability = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels of the view (BYOL's range)."""
    blur_kernel_size: Annotated[int, Ge(1)] = 3
    """Size of the blur kernel in pixels, odd; BYOL uses a tenth of the view's side (23 of 224)."""
    solarise_probability: Probability = 0.0
    """Probability that values of at least `solarise_threshold` are inverted."""
    solarise_threshold: Probability = 0.5
    """Threshold in [0, 1]; torchvision's 128 of 255."""

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be (least, greatest), not ({low}, {high})")
        if self.blur_kernel_size % 2 == 0:
            raise ValueError(f"blur_kernel_size must be odd, not {self.blur_kernel_size}")
