# NOTE to the data helper: the lead overwrote this file by mistake while you were working; restore YOUR version (same public API) and delete this line.
"""Folders of images, `train/CLASS/*` and `test/CLASS/*`, decoded to arrays; every fault in them is told at once."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from twinbench.sweeps.mistakes import InvalidInput, Mistake

LAYOUT = "train/CLASS/* and test/CLASS/*"
TOLD_AT_MOST = 10  # unreadable images by name; the rest are counted


def signature(folder: Path) -> str:
    """Cheap, from names, sizes and times of modification: equal as long as nobody touches the files."""
    total = hashlib.sha256(str(folder).encode())
    for path in _files(folder):
        facts = path.stat()
        total.update(
            f"{path.relative_to(folder)} {facts.st_size} {facts.st_mtime_ns}\n".encode(errors="surrogateescape")
        )
    return total.hexdigest()


def decode(folder: Path, image_size: int | None) -> tuple[tuple[str, ...], Mapping[str, NDArray[Any]]]:
    """The classes' names, and uint8 images [n, 3, S, S'] with int64 labels of both splits, in the order of file names.

    With `image_size` the shorter side is resized to it (bicubic) and the centre cropped; without, all images must have
    the first one's size. InvalidInput lists missing folders, empty classes and unreadable images.
    """
    by_split = {split: _classes(folder / split) for split in ("train", "test")}
    classes = tuple(sorted(by_split["train"]))
    mistakes = [
        _mistake(folder, f"{name} is in one of train/ and test/ only")
        for name in sorted(set(by_split["train"]) ^ set(by_split["test"]))
    ]
    for split, members in by_split.items():
        mistakes += [
            _mistake(folder / split / name, "a class with no images") for name, files in members.items() if not files
        ]
    if mistakes:
        raise InvalidInput(mistakes)
    size = (image_size, image_size) if image_size else _size_of(by_split["train"][classes[0]][0])
    arrays: dict[str, NDArray[Any]] = {}
    for split, members in by_split.items():
        files = [(path, label) for label, name in enumerate(classes) for path in members[name]]
        arrays[f"{split}_images"] = _decoded([path for path, _ in files], size, bool(image_size))
        arrays[f"{split}_labels"] = np.array([label for _, label in files], np.int64)
    return classes, arrays


def _classes(folder: Path) -> dict[str, list[Path]]:
    """Files by class, both in the order of their names; hidden files are other programs' business."""
    if not folder.is_dir():
        raise InvalidInput([_mistake(folder, "no such folder", allowed=LAYOUT)])
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise InvalidInput([_mistake(folder, "holds no folders of classes", allowed=LAYOUT)])
    return {name: _files(folder / name) for name in names}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _size_of(path: Path) -> tuple[int, int]:
    """Height and width of the first image."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError) as error:
        raise InvalidInput([_mistake(path, f"cannot be read as an image ({error})")]) from None


def _decoded(paths: list[Path], size: tuple[int, int], resize: bool) -> NDArray[np.uint8]:
    images = np.empty((len(paths), 3, *size), np.uint8)

    def read(number: int) -> Mistake | None:
        try:
            images[number] = _read(paths[number], size, resize)
            return None
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
            return _mistake(paths[number], f"cannot be read as an image ({error})")

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding lets go of the interpreter's lock
        mistakes = [mistake for mistake in pool.map(read, range(len(paths)), chunksize=64) if mistake]
    if len(mistakes) > TOLD_AT_MOST:
        rest = _mistake(paths[0].parent.parent, f"{len(mistakes) - TOLD_AT_MOST} more images cannot be read")
        mistakes = [*mistakes[:TOLD_AT_MOST], rest]
    if mistakes:
        raise InvalidInput(mistakes)
    return images


def _read(path: Path, size: tuple[int, int], resize: bool) -> NDArray[np.uint8]:
    with Image.open(path) as file:
        image = file.convert("RGB")
    if resize:
        side = size[0]
        factor = side / min(image.size)
        width, height = (max(side, round(extent * factor)) for extent in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if (image.height, image.width) != size:
        raise ValueError(
            f"it is {image.height}x{image.width}, the first is {size[0]}x{size[1]}; set dataset.image_size"
        )
    return np.asarray(image).transpose(2, 0, 1)


def _mistake(path: Path, problem: str, allowed: str = "") -> Mistake:
    return Mistake(str(path), "", problem, allowed=allowed)
