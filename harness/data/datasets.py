"""Load datasets by name, each decoded once into a cache, and split train into train and validation."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinbench.harness.data import image_files
from twinbench.harness.data.dataset_cache import Dataset, Prepared, Split, cached, save_array
from twinbench.harness.system.user_cache import cache_folder
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest

__all__ = ["DATASETS", "Dataset", "Split", "load_dataset", "split_train"]

DATASETS: dict[str, str] = {
    "digits": "1,797 scans of handwritten digits, 8x8 grey, 10 classes, from scikit-learn; nothing to fetch",
    "shapes": "5,000 drawings, 32x32 RGB, 5 classes, with known factors; nothing to fetch",
    "cifar10": "60,000 photographs, 32x32 RGB, 10 classes; --data: holds cifar-10-batches-py, or train/ and test/",
    "cifar100": "60,000 photographs, 32x32 RGB, 100 classes; --data: holds cifar-100-python, or train/ and test/",
    "stl10": "13,000 labelled photographs, 96x96 RGB, 10 classes; --data: holds stl10_binary",
    "svhn": "99,289 house numbers, 32x32 RGB, 10 classes; --data: holds train_32x32.mat and test_32x32.mat",
    "fashion_mnist": "70,000 articles of clothing, 28x28 grey, 10 classes; --data: holds FashionMNIST/raw",
    "image_folder": "any images; --data: holds train/CLASS/ and test/CLASS/",
}

_SPLITS = ("train", "test")
_DIGITS_TEST = 0.2


@dataclass(frozen=True)
class _Published:
    """A dataset that torchvision reads: its class there, the files that the folder must hold, and their address."""

    reader: str
    files: tuple[str, ...]
    address: str
    image_classes: int | None = None  # the number of classes, if it may also come as a folder of images


_CIFAR = "https://www.cs.toronto.edu/~kriz/cifar.html"
_FASHION = "https://github.com/zalandoresearch/fashion-mnist"
_PUBLISHED = {
    "cifar10": _Published("CIFAR10", ("cifar-10-batches-py",), _CIFAR, 10),
    "cifar100": _Published("CIFAR100", ("cifar-100-python",), _CIFAR, 100),
    "stl10": _Published("STL10", ("stl10_binary",), "https://cs.stanford.edu/~acoates/stl10/"),
    "svhn": _Published("SVHN", ("train_32x32.mat", "test_32x32.mat"), "http://ufldl.stanford.edu/housenumbers/"),
    "fashion_mnist": _Published("FashionMNIST", ("FashionMNIST/raw",), _FASHION),
}


def load_dataset(
    name: str, data: Path | None = None, image_size: int | None = None, cache: Path | None = None
) -> Dataset:
    """Return the dataset, prepared once and then read from the cache. InvalidInput names what is wrong with its source.

    `data` is the folder of the images. With `image_size`, images are resized (shorter side, bicubic) and cropped to a
    central square; shapes are drawn at that size. Grey images get three equal channels.
    """
    if name not in DATASETS:
        mistake = Mistake("dataset", "name", "unknown dataset", name, ", ".join(DATASETS), nearest(name, DATASETS))
        raise InvalidInput([mistake])
    folder = cache or cache_folder()
    if name == "digits":
        return cached(folder, name, [image_size], lambda out: _prepare_digits(out, image_size))
    if name == "shapes":
        return cached(folder, name, [image_size], lambda out: _prepare_shapes(out, image_size))
    try:
        return _load_from_folder(name, _existing(name, data), image_size, folder)
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        if error.filename is None:
            raise
        raise _unusable(name, f"{error.filename} cannot be read: {error.strerror}") from None


def _load_from_folder(name: str, source: Path, image_size: int | None, cache: Path) -> Dataset:
    if name == "image_folder" or (_PUBLISHED[name].image_classes and (source / "train").is_dir()):
        return _from_images(name, source, image_size, cache)
    identity = [str(source), _published_facts(name, source), image_size]
    return cached(cache, name, identity, lambda out: _prepare_published(out, name, source, image_size))


def split_train(
    dataset: Dataset, validation_fraction: float, split_seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sorted positions in the train split for training and for validation, stratified by class.

    Each class gives round(fraction * its size) images to validation, but at least one, and keeps at least one. A
    fraction of 0 keeps all for training.
    """
    if not validation_fraction:
        return np.arange(len(dataset.train.labels)), np.arange(0)
    return _stratified(np.asarray(dataset.train.labels), validation_fraction, split_seed, "split")


def count_training_images(dataset: Dataset, validation_fraction: float) -> int:
    """Return how many images `split_train` leaves for training, without drawing which: that needs torch."""
    sizes = np.unique(np.asarray(dataset.train.labels), return_counts=True)[1] if validation_fraction else np.array([])
    return len(dataset.train.labels) - sum(_held_out(int(size), validation_fraction) for size in sizes)


def _held_out(size: int, fraction: float) -> int:
    """Return how many images a class of this size gives to the smaller part."""
    return min(max(round(fraction * size), 1), size - 1)


def _stratified(
    labels: NDArray[np.int64], fraction: float, seed: int, purpose: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions kept and positions held out: of each class, the last in the order of that random stream."""
    from twinbench.harness.data.random_streams import key, permutation  # imports torch, which a plan does without

    drawn = permutation(key(seed, purpose), len(labels)).numpy()
    aside = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = drawn[labels[drawn] == label]
        aside[members[len(members) - _held_out(len(members), fraction) :]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)


# --- datasets without a folder ----------------------------------------------------------------------------------------


def _prepare_digits(out: Path, image_size: int | None) -> Prepared:
    """Write the scans, 0 to 16 as round(v * 255 / 16). Test is 20% of each class (359 of 1,797), by seed 0."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = np.repeat(np.rint(scans.images * 255 / 16).astype(np.uint8)[:, None], 3, axis=1)
    labels = scans.target.astype(np.int64)
    for split, places in zip(_SPLITS, _stratified(labels, _DIGITS_TEST, 0, "digits/test"), strict=True):
        _save(out, split, images[places], labels[places], image_size)
    return tuple("0123456789"), ()


def _prepare_shapes(out: Path, image_size: int | None) -> Prepared:
    from twinbench.harness.data import synthetic_shapes  # imports torch

    for split, count in (("train", synthetic_shapes.TRAIN), ("test", synthetic_shapes.TEST)):
        images, factors = synthetic_shapes.draw_shapes(
            synthetic_shapes.SEED, split, count, image_size or synthetic_shapes.SIZE
        )
        _save(out, split, images, factors["shape"].astype(np.int64), None)
        save_array(out / f"{split}_factors.npy", factors)
    return synthetic_shapes.SHAPES, ()


def _save(out: Path, split: str, images: NDArray[np.uint8], labels: NDArray[np.int64], image_size: int | None) -> None:
    if image_size is not None:
        opened = (Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images)
        images = np.stack([image_files.planes(image_files.fitted(image, image_size)) for image in opened])
    save_array(out / f"{split}_images.npy", np.ascontiguousarray(images))
    save_array(out / f"{split}_labels.npy", labels)


# --- folders ----------------------------------------------------------------------------------------------------------


def _existing(name: str, data: Path | None) -> Path:
    if data is None:
        raise _unusable(name, "is missing: the folder of its images")
    if not data.is_dir():
        raise _unusable(name, f"{data} is not a folder" if data.exists() else f"there is no folder {data}")
    return data.resolve()


def _unusable(name: str, problem: str) -> InvalidInput:
    """Return the error, with what the folder should hold and where to get it."""
    allowed = image_files.LAYOUT
    if name in _PUBLISHED:
        published = _PUBLISHED[name]
        layout = f"a folder with {' and '.join(published.files)}, unpacked from {published.address}"
        allowed = f"{layout}, or {allowed}" if published.image_classes else layout
    return InvalidInput([Mistake(f"dataset {name}", "--data", problem, allowed=allowed)])


def _from_images(name: str, source: Path, image_size: int | None, cache: Path) -> Dataset:
    where = f"dataset {name}"
    class_count = _PUBLISHED[name].image_classes if name in _PUBLISHED else None
    listing = image_files.list_images(where, source, class_count)

    def prepare(out: Path) -> Prepared:
        return listing.classes, image_files.decode(where, listing, out, image_size)

    identity = [image_files.DECODING, str(source), listing.signature, image_size]
    found = cached(cache, name, identity, prepare)
    return replace(found, left_out=(*listing.left_out, *found.left_out))


def _published_facts(name: str, source: Path) -> list[list[image_files.FileFacts]]:
    missing = [file for file in _PUBLISHED[name].files if not (source / file).exists()]
    if missing:
        raise _unusable(name, f"{source} holds no {' and no '.join(missing)}")
    places = [place for file in _PUBLISHED[name].files for place in (source / file, *(source / file).rglob("[!.]*"))]
    if odd := [place for place in places if not place.is_file() and not place.is_dir()]:  # a pipe is read without end
        raise _unusable(name, f"{odd[0]} is neither a file nor a folder")
    return [image_files.file_facts(source / file) for file in _PUBLISHED[name].files]


def _prepare_published(out: Path, name: str, source: Path, image_size: int | None) -> Prepared:
    """Read the published files by torchvision; nothing is downloaded. Of STL-10, the labelled images only."""
    from torchvision import datasets

    if (old := source / "FashionMNIST/processed").exists() and name == "fashion_mnist":
        raise _unusable(name, f"torchvision would read {old}, which is of its earlier versions, and not raw: delete it")
    classes: tuple[str, ...] = ()
    for split in _SPLITS:
        which: dict[str, Any] = {"split": split} if name in ("stl10", "svhn") else {"train": split == "train"}
        try:
            # the CIFAR batches are pickles: torchvision opens them only if their checksums are the published ones
            read = getattr(datasets, _PUBLISHED[name].reader)(source, download=False, **which)
        except Exception as error:  # a damaged file can make a reader raise anything
            raise _unusable(name, f"{source} cannot be read: {str(error) or type(error).__name__}") from None
        labels = np.asarray(read.targets if hasattr(read, "targets") else read.labels).astype(np.int64)
        images = _channels_first(np.asarray(read.data))
        classes = tuple(getattr(read, "classes", "0123456789"))
        if len(images) != len(labels):
            raise _unusable(name, f"{source} has {len(images)} images and {len(labels)} labels for {split}")
        if wrong := sorted(set(labels.tolist()) - set(range(len(classes)))):
            raise _unusable(name, f"{source} has {split} labels that belong to no class, for example {wrong[0]}")
        _save(out, split, images, labels, image_size)
    return classes, ()


def _channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grey [N, H, W], or [N, H, W, 3], or [N, 3, H, W], as [N, 3, H, W]."""
    if images.ndim == 3:
        return np.repeat(images[:, None], 3, axis=1)
    return images.transpose(0, 3, 1, 2) if images.shape[3] == 3 else images
