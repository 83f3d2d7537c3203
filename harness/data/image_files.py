"""Folders of images, train/CLASS/ and test/CLASS/, decoded to arrays; all faults in them are reported at once."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinbench.harness.data.dataset_cache import new_array, save_array
from twinbench.sweeps.errors import InvalidInput, Mistake

LAYOUT = "a folder with train/CLASS/*.jpg and test/CLASS/*.jpg (or .png, ...), the same classes in both"
SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SHOWN = 10  # bad images named in one error; the rest are counted
_SPLITS = ("train", "test")
DECODING = 2  # version of `as_rgb`: a new number makes the caches of image folders anew
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_BLOCK = 256  # images that a thread decodes at a time

FileFacts = tuple[str, int, int]  # path below a folder, bytes, nanoseconds of the last change


@dataclass(frozen=True)
class Listing:
    """The images of a folder: for each split the files and their classes, by class and then by path."""

    folder: Path
    classes: tuple[str, ...]
    files: dict[str, list[tuple[Path, int]]]
    signature: str  # hash of names, sizes and modification times


def list_images(where: str, folder: Path, class_count: int | None = None) -> Listing:
    """Find the images without opening them. InvalidInput (about `where`) lists everything wrong with the classes."""
    mistakes: list[Mistake] = []
    found: dict[str, dict[str, list[FileFacts]]] = {}
    for split in _SPLITS:
        if not (folder / split).is_dir():
            mistakes.append(_mistake(where, f"{folder / split} is not a folder", LAYOUT))
            continue
        names = sorted(e.name for e in os.scandir(folder / split) if e.is_dir() and not e.name.startswith("."))
        found[split] = {name: file_facts(folder / split / name, SUFFIXES) for name in names}
        mistakes += _class_mistakes(where, folder / split, found[split], class_count)
    if len(found) == 2:
        for here, there in (("train", "test"), ("test", "train")):
            lacking = sorted(found[here].keys() - found[there].keys())
            mistakes += [_mistake(where, f"{folder / here / name} has no {folder / there / name}") for name in lacking]
    if mistakes:
        raise InvalidInput(mistakes)
    classes = tuple(found["train"])
    files = {
        split: [
            (folder / split / name / path, label)
            for label, name in enumerate(classes)
            for path, _, _ in found[split][name]
        ]
        for split in _SPLITS
    }
    return Listing(folder, classes, files, hashlib.sha256(repr(found).encode(errors="surrogateescape")).hexdigest())


def file_facts(folder: Path, suffixes: frozenset[str] | None = None) -> list[FileFacts]:
    """Return all files below the folder (with these endings) in the order of their paths, except hidden ones."""
    facts = []
    for parent, _, files in os.walk(folder):
        below = parent[len(str(folder)) + 1 :].replace(os.sep, "/")
        for file in files:
            if not file.startswith(".") and (suffixes is None or os.path.splitext(file)[1].lower() in suffixes):
                stat = os.stat(os.path.join(parent, file))
                facts.append((f"{below}/{file}" if below else file, stat.st_size, stat.st_mtime_ns))
    return sorted(facts)


def _class_mistakes(
    where: str, folder: Path, found: dict[str, list[FileFacts]], class_count: int | None
) -> list[Mistake]:
    if not found:
        return [_mistake(where, f"{folder} holds no folders of classes", LAYOUT)]
    kinds = f"files that end in {' '.join(sorted(SUFFIXES))}"
    empty = [
        _mistake(where, f"class with no images: {folder / name}", kinds) for name, files in found.items() if not files
    ]
    if class_count is not None and len(found) != class_count:
        empty.append(Mistake(where, "--data", f"wrong number of classes in {folder}", len(found), str(class_count)))
    return empty


def decode(where: str, listing: Listing, out: Path, image_size: int | None) -> None:
    """Write {train,test}_{images,labels}.npy to `out`. InvalidInput names the images that cannot be used.

    With `image_size` images become squares of that size (see `fitted`); without it, all must have the first one's size.
    """
    troubles: list[str] = []
    example = listing.files["train"][0][0]
    size = (image_size, image_size) if image_size else _size_of(where, example)
    for split, files in listing.files.items():
        images = new_array(out / f"{split}_images.npy", np.uint8, (len(files), 3, *size))
        decoder = _Decoder([path for path, _ in files], images, example, image_size)
        blocks = [range(start, min(start + _BLOCK, len(files))) for start in range(0, len(files), _BLOCK)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL releases the interpreter's lock while it decodes
            for bad in pool.map(decoder.fill, blocks):
                troubles += bad
        images.flush()
        save_array(out / f"{split}_labels.npy", np.array([label for _, label in files], dtype=np.int64))
    if troubles:
        shown = troubles[:SHOWN] + ([f"and {len(troubles) - SHOWN} more images"] if len(troubles) > SHOWN else [])
        raise InvalidInput([_mistake(where, text) for text in shown])


@dataclass(frozen=True)
class _Decoder:
    """Decodes images into one array; several threads may fill blocks of it."""

    paths: list[Path]
    images: NDArray[np.uint8]  # [n, 3, H, W]
    example: Path  # the image whose size all must have without `image_size`
    image_size: int | None

    def fill(self, block: Iterable[int]) -> list[str]:
        """Decode the images of these positions. Return what is wrong with those that could not be decoded."""
        return [trouble for place in block if (trouble := self._fill_one(place))]

    def _fill_one(self, place: int) -> str:
        path, (height, width) = self.paths[place], self.images.shape[2:]
        try:
            with Image.open(path) as opened:
                image = as_rgb(opened)
            if self.image_size is not None:
                image = fitted(image, self.image_size)
        except Exception as error:  # a damaged file can make a decoder raise anything
            return f"{path} cannot be read as an image ({error})"
        if (image.height, image.width) != (height, width):
            sizes = f"is {image.width}x{image.height} and {self.example} is {width}x{height}"
            return f"{path} {sizes}: the protocol's dataset.image_size would bring all to one size"
        self.images[place] = planes(image)
        return ""


def _size_of(where: str, path: Path) -> tuple[int, int]:
    """Return an image's height and width."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise InvalidInput([_mistake(where, f"{path} cannot be read as an image ({error})")]) from None


def as_rgb(image: Image.Image) -> Image.Image:
    """Return the first frame as 8-bit RGB, without transparency. ValueError if its values have no known range.

    Of 16-bit grey values the upper byte is kept, as Pillow does for 16-bit colours; it clips 16-bit grey at 255.
    """
    tags = getattr(image, "tag_v2", {})  # of a TIFF file
    bits, is_unsigned = max(tags.get(_BITS, (16,))), set(tags.get(_SAMPLE_FORMAT, (1,))) == {1}
    # Pillow opens 16-bit PGM, and before version 11 16-bit PNG, in the mode of 32-bit integers
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not is_unsigned or (image.mode in ("I", "F") and not is_16_bit):
        kind = "floating-point numbers" if image.mode == "F" else "signed or 32-bit integers"
        raise ValueError(
            f"its values are {kind}, whose black and white are unknown: save it with 8 or 16 unsigned bits"
        )
    if not is_16_bit:
        return image.convert("RGB")
    values = np.asarray(image).astype(np.uint16) >> (bits - 8)
    if tags.get(_PHOTOMETRIC) == 0:  # white is 0
        values = 255 - values
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def fitted(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` and return the central square; bicubic, as usual for evaluation crops."""
    if image.width == image.height == size:
        return image
    scale = size / min(image.width, image.height)
    width, height = max(size, round(image.width * scale)), max(size, round(image.height * scale))
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


def planes(image: Image.Image) -> NDArray[np.uint8]:
    """Return an RGB image as uint8 [3, H, W]."""
    return np.asarray(image).transpose(2, 0, 1)


def _mistake(where: str, problem: str, allowed: str = "") -> Mistake:
    return Mistake(where, "--data", problem, allowed=allowed)
