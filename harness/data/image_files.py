"""Folders of images, train/CLASS/ and test/CLASS/, decoded to arrays; all faults in them are reported at once.

Links are followed, in classes and below them, and EXIF orientation is not applied: both as torchvision's ImageFolder
does. What is left out is counted by reason, and whatever cannot be read is an error.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinbench.harness.data.dataset_cache import LeftOut, new_array, save_array
from twinbench.sweeps.errors import InvalidInput, Mistake, printable

LAYOUT = "a folder with train/CLASS/*.jpg and test/CLASS/*.jpg (or .png, ...), the same classes in both"
SUFFIXES = frozenset({".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Names that systems and network storage add, in lower case.
_BINS = ("#recycle", "@recycle", "$recycle.bin", "lost+found", "@tmp")
NOT_DATA = frozenset({"@eadir", "__macosx", "desktop.ini", "system volume information", "thumbs.db", *_BINS})
SHOWN = 10  # bad images, and reasons to leave something out, that are named; the rest are counted
DECODING = 2  # version of `as_rgb`: a new number makes the caches of image folders anew
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_SPLITS = ("train", "test")
_BLOCK = 256  # images that a thread decodes at a time

FileFacts = tuple[str, int, int]  # path below a folder, bytes, nanoseconds of the last change


@dataclass(frozen=True)
class Listing:
    """The images of a folder: for each split the files and their classes, by class and then by path."""

    folder: Path
    classes: tuple[str, ...]
    files: dict[str, list[tuple[Path, int]]]
    signature: str  # hash of names, sizes and modification times
    left_out: tuple[LeftOut, ...]


def list_images(where: str, folder: Path, class_count: int | None = None) -> Listing:
    """Find the images without opening them. InvalidInput (about `where`) lists everything wrong with the folder."""
    finder = _Finder(folder)
    here = [split for split in _SPLITS if (folder / split).is_dir()]
    mistakes = [_mistake(where, f"{folder / split} is not a folder", LAYOUT) for split in _SPLITS if split not in here]
    found = {split: finder.classes(folder / split) for split in here}
    mistakes += _mistakes(where, sorted(finder.troubles), "files and folders")
    if not finder.troubles:  # they may be why a class seems to be empty or missing
        mistakes += _class_mistakes(where, folder, found, class_count)
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
    signature = hashlib.sha256(repr(found).encode(errors="surrogateescape")).hexdigest()
    return Listing(folder, classes, files, signature, finder.left_out.all())


class _LeftOutCounts:
    """Counts what is left out of a dataset by reason, with one example each."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, path: Path | str, number: int = 1) -> None:
        """Count a file or folder, or so many parts of it; the example is the first in the order of the paths."""
        count, example = self._found.get(reason, (0, str(path)))
        self._found[reason] = (count + number, min(example, str(path)))

    def all(self) -> tuple[LeftOut, ...]:
        """Return an entry for each of the most frequent reasons, and one for all others."""
        frequent = sorted(self._found, key=lambda reason: (-self._found[reason][0], reason))
        for reason in frequent[SHOWN:]:  # numbered endings, for example
            number, example = self._found.pop(reason)
            self.add("for other reasons", example, number)
        found = sorted(self._found.items())
        return tuple(LeftOut(reason, n, os.path.relpath(example, self._folder)) for reason, (n, example) in found)


class _Finder:
    """Walks through the folders of a dataset, and collects what is left out and what cannot be read."""

    def __init__(self, folder: Path):
        self.left_out = _LeftOutCounts(folder)
        self.troubles: list[str] = []
        with contextlib.suppress(OSError):  # a folder that may not be listed can be used
            for entry in os.scandir(folder):
                if entry.name not in _SPLITS and entry.is_dir() and not _why_no_data(entry.name):
                    self.left_out.add("folders beside train and test", entry.path)

    def classes(self, split: Path) -> dict[str, list[FileFacts]]:
        """Return the images of each class, by name."""
        found = {}
        for path, facts in self._entries(str(split)):
            if stat.S_ISDIR(facts.st_mode):
                found[os.path.basename(path)] = self._images(path, facts)
            else:
                self.left_out.add("files outside the folders of classes", path)
        return dict(sorted(found.items()))

    def _images(self, top: str, facts: os.stat_result) -> list[FileFacts]:
        """Return the images below a folder in the order of their paths."""
        images = []
        folders: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset({_identity(facts)}))]
        while folders:
            folder, above = folders.pop()
            for path, facts in self._entries(folder):
                suffix = os.path.splitext(path)[1].lower()
                if stat.S_ISDIR(facts.st_mode):
                    if _identity(facts) in above:
                        self.troubles.append(f"{path} leads back to a folder that it is in")
                    else:
                        folders.append((path, above | {_identity(facts)}))
                elif suffix not in SUFFIXES:
                    kind = f"files that end in {printable(suffix)}" if suffix else "files without an ending"
                    self.left_out.add(kind, path)
                elif not stat.S_ISREG(facts.st_mode):
                    self.troubles.append(f"{path} is not a file")  # opening a pipe would wait forever
                else:
                    below = path[len(top) + 1 :].replace(os.sep, "/")
                    images.append((below, facts.st_size, facts.st_mtime_ns))
        return sorted(images)

    def _entries(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield path and facts of what is in the folder, links followed; without what is hidden or not data."""
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            self.troubles.append(f"{folder} cannot be read: {error.strerror}")
            return
        for entry in entries:
            if reason := _why_no_data(entry.name):
                self.left_out.add(reason, entry.path)
                continue
            try:
                yield entry.path, os.stat(entry.path)
            except OSError as error:
                kind = "is a broken link" if entry.is_symlink() else "cannot be read"
                self.troubles.append(f"{entry.path} {kind}: {error.strerror}")


def _why_no_data(name: str) -> str:
    """Return why a file or folder of this name is left out wherever it is; empty if it is not."""
    if name.startswith("."):
        return "hidden files and folders"
    return f"files and folders named {name}" if name.lower() in NOT_DATA else ""


def _identity(facts: os.stat_result) -> tuple[int, int]:
    """Return what distinguishes a folder from all others."""
    return facts.st_dev, facts.st_ino


def file_facts(source: Path) -> list[FileFacts]:
    """Return a file, or all files below a folder except hidden ones, in the order of their paths."""
    folder, paths = (source.parent, [source]) if source.is_file() else (source, sorted(source.rglob("*")))
    files = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    return [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _class_mistakes(
    where: str, folder: Path, found: dict[str, dict[str, list[FileFacts]]], class_count: int | None
) -> list[Mistake]:
    mistakes = []
    kinds = f"files that end in {' '.join(sorted(SUFFIXES))}"
    for split, classes in found.items():
        if not classes:
            mistakes.append(_mistake(where, f"{folder / split} holds no folders of classes", LAYOUT))
            continue
        empty = [name for name, files in classes.items() if not files]
        mistakes += [_mistake(where, f"class with no images: {folder / split / name}", kinds) for name in empty]
        if class_count is not None and len(classes) != class_count:
            problem = f"wrong number of classes in {folder / split}"
            mistakes.append(Mistake(where, "--data", problem, len(classes), str(class_count)))
    if len(found) == 2:
        for here, there in (("train", "test"), ("test", "train")):
            lacking = sorted(found[here].keys() - found[there].keys())
            mistakes += [_mistake(where, f"{folder / here / name} has no {folder / there / name}") for name in lacking]
    return mistakes


def decode(where: str, listing: Listing, out: Path, image_size: int | None) -> tuple[LeftOut, ...]:
    """Write {train,test}_{images,labels}.npy to `out`. InvalidInput names the images that cannot be used.

    With `image_size` images become squares of that size (see `fitted`); without it, all must have the first one's size.
    Returns what is left out of files that hold several images.
    """
    troubles: list[str] = []
    left_out = _LeftOutCounts(listing.folder)
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
        for path, number in decoder.more_frames:
            left_out.add("images after the first of their file", path, number)
        save_array(out / f"{split}_labels.npy", np.array([label for _, label in files], dtype=np.int64))
    if troubles:
        raise InvalidInput(_mistakes(where, troubles, "images"))
    return left_out.all()


@dataclass(frozen=True)
class _Decoder:
    """Decodes images into one array; several threads may fill blocks of it."""

    paths: list[Path]
    images: NDArray[np.uint8]  # [n, 3, H, W]
    example: Path  # the image whose size all must have without `image_size`
    image_size: int | None
    more_frames: list[tuple[Path, int]] = field(default_factory=list)  # files of several images, and how many more

    def fill(self, block: Iterable[int]) -> list[str]:
        """Decode the images of these positions. Return what is wrong with those that could not be decoded."""
        return [trouble for place in block if (trouble := self._fill_one(place))]

    def _fill_one(self, place: int) -> str:
        path, (height, width) = self.paths[place], self.images.shape[2:]
        try:
            with Image.open(path) as opened:
                image = as_rgb(opened)
                more = getattr(opened, "n_frames", 1) - 1
            if self.image_size is not None:
                image = fitted(image, self.image_size)
        except Exception as error:  # a damaged file can make a decoder raise anything
            return f"{path} cannot be read as an image ({error})"
        if (image.height, image.width) != (height, width):
            sizes = f"is {image.width}x{image.height} and {self.example} is {width}x{height}"
            return f"{path} {sizes}: the protocol's dataset.image_size would bring all to one size"
        if more and opened.format != "MPO":  # JPEG with previews, as cameras and telephones write it
            self.more_frames.append((path, more))
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
        raise ValueError(f"its values are {kind}, whose range is unknown: save it with 8 or 16 unsigned bits")
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


def _mistakes(where: str, troubles: list[str], kind: str) -> list[Mistake]:
    """Return a mistake for each of the first troubles, and one that counts the others, of this kind."""
    more = [f"and {len(troubles) - SHOWN} more {kind}"] if len(troubles) > SHOWN else []
    return [_mistake(where, text) for text in (*troubles[:SHOWN], *more)]


def _mistake(where: str, problem: str, allowed: str = "") -> Mistake:
    return Mistake(where, "--data", problem, allowed=allowed)
