"""Cache of decoded datasets: a folder each, with memory-mapped .npy files and what identifies the dataset.

A folder is renamed into place once it is complete. If two processes prepare one dataset, both do the work, and the
second discards its own copy.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYOUT = 1  # version of a cache folder and of what is hashed; a new number invalidates all caches
_SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [N, 3, H, W] and labels int64 [N] (indices of `Dataset.classes`), memory-mapped and read-only."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with labels, divided into train and test.

    `fingerprint` ("sha256:...") covers the classes, images and labels, but neither name nor folder. For `shapes`,
    `factors` maps "train" and "test" to structured arrays [N] of what each image was drawn from.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str
    factors: Mapping[str, NDArray[np.void]] | None = None


def cached(cache: Path, name: str, identity: object, prepare: Callable[[Path], tuple[str, ...]]) -> Dataset:
    """Return the dataset from its folder in `cache`, which `prepare(folder)` first fills if it is missing.

    `identity` (JSON) says where the data come from, and must change when they do. `prepare` writes
    `{train,test}_{images,labels}.npy` and optionally `{train,test}_factors.npy`, and returns the classes.
    """
    text = json.dumps([LAYOUT, name, identity], sort_keys=True)
    folder = cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    found = _opened(folder, name)
    if found is not None:
        return found
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache))
    try:
        _complete(partial, prepare(partial))
        if _opened(folder, name) is None:  # or another process was faster
            _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    made = _opened(folder, name)
    if made is None:
        raise RuntimeError(f"{folder} was written but cannot be read back")
    return made


def _opened(folder: Path, name: str) -> Dataset | None:
    """Return the dataset in the folder, or None if it is missing or damaged."""
    try:
        about: dict[str, Any] = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        arrays = {stem: np.load(folder / f"{stem}.npy", mmap_mode="r", allow_pickle=False) for stem in about["arrays"]}
        train, test = (Split(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in _SPLITS)
        factors = {split: arrays[f"{split}_factors"] for split in _SPLITS if f"{split}_factors" in arrays}
        return Dataset(name, tuple(about["classes"]), train, test, about["fingerprint"], factors or None)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _complete(folder: Path, classes: tuple[str, ...]) -> None:
    """Add dataset.json, then flush all files to disk, before the folder gets its final name."""
    stems = sorted(path.stem for path in folder.glob("*.npy"))
    about = {"arrays": stems, "classes": classes, "fingerprint": fingerprint(folder, classes)}
    (folder / "dataset.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


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
    try:
        os.replace(partial, folder)
    except OSError:
        if _opened(folder, folder.name) is not None:
            return
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
