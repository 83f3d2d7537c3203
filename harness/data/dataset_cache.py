"""Cache of decoded datasets: a folder each, with memory-mapped .npy files and what identifies the dataset.

A folder is renamed into place once it is complete. If two processes prepare one dataset, both do the work, and the
second discards its own copy.

    CACHE/NAME-KEY/dataset.json       classes, fingerprint, and for each array its size, times of change and sha256
    CACHE/NAME-KEY/train_images.npy   and the other arrays

An array with the size and times that dataset.json states is taken to be unchanged, except labels, which are small and
are hashed whenever they are opened. If size or times differ, the array is hashed. A dataset of which anything was
changed, cut short or deleted is prepared again.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from twinbench.harness.system.user_cache import cache_errors
from twinbench.sweeps.file_reader import open_regular, parse_json, read_regular

LAYOUT = 1  # version of a cache folder and of what is hashed; a new number invalidates all caches
_ABOUT = "dataset.json"
_SPLITS = ("train", "test")
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)  # the last from `open_regular`


class LeftOut(NamedTuple):
    """What is left out of a dataset's source for one reason: how many, and one example's path below the source."""

    reason: str
    number: int
    example: str


Prepared = tuple[tuple[str, ...], tuple[LeftOut, ...]]  # classes, and what was left out of the source


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [N, 3, H, W] and labels int64 [N] (indices of `Dataset.classes`), memory-mapped and read-only."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, divided into train and test.

    `fingerprint` ("sha256:...") covers the classes, images and labels, but neither name nor folder. For `shapes`,
    `factors` maps "train" and "test" to structured arrays [N] of what each image was drawn from. `left_out` has
    an entry for each reason why something of the source was left out.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str
    factors: Mapping[str, NDArray[np.void]] | None = None
    left_out: tuple[LeftOut, ...] = ()


def cached(cache: Path, name: str, identity: object, prepare: Callable[[Path], Prepared]) -> Dataset:
    """Return the dataset from its folder in `cache`, which `prepare(folder)` first fills if it is missing or damaged.

    `identity` (JSON) says where the data come from, and must change when they do. `prepare` writes
    `{train,test}_{images,labels}.npy` and optionally `{train,test}_factors.npy` by `save_array`, and returns the
    classes and what it left out. Raises CacheUnusable.
    """
    text = json.dumps([LAYOUT, name, identity], sort_keys=True)
    folder = cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    with cache_errors(cache):
        found = _opened(folder, name)
        if isinstance(found, Dataset):
            return found
        if found:
            print(f"{folder}: {found}; the dataset is prepared again", file=sys.stderr)
        partial = cache / f".{folder.name}-{secrets.token_hex(8)}"  # `tempfile` would keep it from other users
        try:
            partial.mkdir(parents=True)
            _complete(partial, *prepare(partial))
            _rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        made = _opened(folder, name)
    if not isinstance(made, Dataset):
        raise RuntimeError(f"{folder} was written but cannot be read back: {made}")
    return made


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file."""
    made = new_array(path, array.dtype, array.shape)
    made[...] = array
    made.flush()


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> "np.memmap[Any, Any]":
    """Create a .npy file to be filled through the array returned, whose `flush` ends the writing.

    All of the file's space is taken from the disk at once: a process that fills a memory map on a full disk would be
    killed without a word.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _opened(folder: Path, name: str) -> Dataset | str:
    """Return the dataset in the folder, or what is wrong with it; an empty string if there is no such folder."""
    if not os.path.lexists(folder):
        return ""
    try:
        about = parse_json(read_regular(folder / _ABOUT))
        if about.pop("digest") != _digest(about):
            return f"{_ABOUT} has changed since it was made"
        if changed := _changed_array(folder, about):
            return f"{changed} has changed since it was made"
        arrays = {stem: np.load(folder / f"{stem}.npy", mmap_mode="r") for stem in about["arrays"]}
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return f"it has no {Path(error.filename).name}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{_ABOUT} is damaged or of an earlier version"
    train, test = (Split(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in _SPLITS)
    factors = {split: arrays[f"{split}_factors"] for split in _SPLITS if f"{split}_factors" in arrays}
    classes, left_out = tuple(about["classes"]), tuple(LeftOut(*one) for one in about["left_out"])
    return Dataset(name, classes, train, test, about["fingerprint"], factors or None, left_out)


def _changed_array(folder: Path, about: dict[str, Any]) -> str:
    """Return the first array whose bytes are not those that were written; empty if none.

    If only the times of arrays have changed, as in a copy of the cache, dataset.json is updated where it can be.
    """
    arrays, now = about["arrays"], {}
    for stem, kept in arrays.items():
        file = folder / f"{stem}.npy"
        stat = _stat(file)
        if (stat != kept["stat"] or stem.endswith("_labels")) and _sha256(file) != kept["sha256"]:
            return file.name
        now[stem] = {**kept, "stat": stat}
    if now != arrays:
        with contextlib.suppress(OSError):
            _write_about(folder, {**about, "arrays": now})
    return ""


def _stat(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _sha256(file: Path) -> str:
    total = hashlib.sha256()
    with open_regular(file) as opened:
        while piece := opened.read(2**20):
            total.update(piece)
    return total.hexdigest()


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write dataset.json with its own digest; another process sees the old file or the new one."""
    partial = folder / f".{_ABOUT}-{secrets.token_hex(8)}"
    partial.write_text(json.dumps({**about, "digest": _digest(about)}, indent=1), encoding="utf-8")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, folder / _ABOUT)


def _complete(folder: Path, classes: tuple[str, ...], left_out: tuple[LeftOut, ...]) -> None:
    """Add dataset.json, with all files flushed to disk, before the folder gets its final name."""
    files = sorted(folder.glob("*.npy"))
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    arrays = {path.stem: {"stat": _stat(path), "sha256": _sha256(path)} for path in files}
    about = {"arrays": arrays, "classes": classes, "left_out": left_out, "fingerprint": fingerprint(folder, classes)}
    _write_about(folder, about)


def fingerprint(folder: Path, classes: tuple[str, ...]) -> str:
    """Return the sha256 over classes, shapes, and the bytes of images and labels of both splits."""
    names = [f"{split}_{what}" for split in _SPLITS for what in ("images", "labels")]
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
    header = {"layout": LAYOUT, "classes": classes, "shapes": [array.shape for array in arrays]}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).data)
    return f"sha256:{digest.hexdigest()}"


def _rename(partial: Path, folder: Path) -> None:
    """Rename the finished folder, replacing a damaged one, unless another process was faster."""
    for attempt in (1, 2):
        try:
            os.replace(partial, folder)
            return
        except OSError:
            if isinstance(_opened(folder, folder.name), Dataset):
                return
            if attempt == 2:
                raise
        damaged = partial.with_name(f"{partial.name}-damaged")
        with contextlib.suppress(FileNotFoundError):  # another process has just moved it
            os.replace(folder, damaged)  # possible also where another user alone may delete its files
        shutil.rmtree(damaged) if damaged.is_dir() and not damaged.is_symlink() else damaged.unlink(missing_ok=True)
