"""Datasets are decoded once, memory-mapped and identified by content; faulty folders are reported."""

import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from twinbench.harness.data import dataset_cache as caching
from twinbench.harness.data.datasets import (
    DATASETS,
    Dataset,
    Split,
    count_training_images,
    load_dataset,
    split_train,
)
from twinbench.reports.claims.test_data import labels_digest, locked_data
from twinbench.sweeps.errors import InvalidInput


def _pixels(split: str, label: int, number: int, height: int = 6, width: int = 6) -> np.ndarray:
    seed = [len(split), label, number, height]
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _image_folder(folder: Path, classes: tuple[str, ...] = ("ant", "bee"), size: tuple[int, int] = (6, 6)) -> Path:
    for split, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(_pixels(split, label, number, *size)).save(folder / split / name / f"{number}.png")
    return folder


def _mistakes(name: str, data: Path | None, cache: Path, image_size: int | None = None) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load_dataset(name, data, image_size, cache)
    assert list(cache.glob("*")) == [], "nothing may be left in the cache"
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that keeps what several tests only look at."""
    return tmp_path_factory.mktemp("shared")


def _assert_sound(dataset: Dataset) -> None:
    for split in (dataset.train, dataset.test):
        assert isinstance(split.images, np.memmap) and not split.images.flags.writeable
        assert isinstance(split.labels, np.memmap) and not split.labels.flags.writeable
        assert split.images.dtype == np.uint8 and split.images.ndim == 4 and split.images.shape[1] == 3
        assert split.labels.dtype == np.int64 and split.labels.shape == (len(split.images),)
        assert np.array_equal(np.unique(split.labels), np.arange(len(dataset.classes)))
    assert dataset.fingerprint.startswith("sha256:") and len(dataset.fingerprint) == 71


# --- what needs no folder ---------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_scaled_to_255_and_split_evenly(shared: Path) -> None:
    digits = load_dataset("digits", cache=shared)
    _assert_sound(digits)
    assert digits.train.images.shape == (1438, 3, 8, 8) and digits.test.images.shape == (359, 3, 8, 8)
    scans = load_digits()
    known = {(scan.astype(int).tobytes(), int(label)) for scan, label in zip(scans.images, scans.target, strict=True)}
    found = set()
    for split in (digits.train, digits.test):
        assert (split.images == split.images[:, :1]).all()
        sixteenths = np.rint(split.images[:, 0] * 16.0 / 255).astype(int)
        assert np.array_equal(split.images[:, 0], np.rint(sixteenths * 255 / 16))
        found |= {(scan.tobytes(), int(label)) for scan, label in zip(sixteenths, split.labels, strict=True)}
    assert found == known
    assert np.abs(np.bincount(digits.test.labels) - 0.2 * np.bincount(scans.target)).max() <= 0.5


def test_shapes_come_with_their_factors(shared: Path) -> None:
    shapes = load_dataset("shapes", cache=shared)
    _assert_sound(shapes)
    assert shapes.train.images.shape == (4000, 3, 32, 32) and shapes.test.images.shape == (1000, 3, 32, 32)
    assert shapes.factors is not None
    for split, factors in ((shapes.train, shapes.factors["train"]), (shapes.test, shapes.factors["test"])):
        assert np.array_equal(factors["shape"], split.labels)
    assert load_dataset("shapes", image_size=8, cache=shared).test.images.shape == (1000, 3, 8, 8)


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [
        ("digits", "3b2d315f628bb8cf644d50319d30ef9a03b931f3acedf106ece9c3c39c30c42a"),
        ("shapes", "c4279f8df6f8b69291db2dcdce474abc3c1090515c2c2241f29b39cbddf0a77b"),
    ],
)
def test_fingerprints_do_not_change(name: str, fingerprint: str, shared: Path) -> None:
    # they are part of every trial's identity: another value here orphans all records made before
    assert load_dataset(name, cache=shared).fingerprint == f"sha256:{fingerprint}"


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_the_test_data_of_datasets_without_a_folder_are_those_that_are_locked(name: str, shared: Path) -> None:
    dataset, locked = load_dataset(name, cache=shared), locked_data()[name]
    assert np.bincount(dataset.test.labels).tolist() == locked.images_per_class
    assert (labels_digest(dataset.test.labels), dataset.fingerprint) == (locked.labels, locked.fingerprint)


def test_the_number_of_test_images_of_each_published_dataset_is_locked() -> None:
    counts = {name: (len(entry.images_per_class), sum(entry.images_per_class)) for name, entry in locked_data().items()}
    published = {"cifar10": (10, 10_000), "cifar100": (100, 10_000), "stl10": (10, 8_000), "svhn": (10, 26_032)}
    assert counts == {"digits": (10, 359), "shapes": (5, 1_000), "fashion_mnist": (10, 10_000)} | published
    assert counts.keys() == DATASETS.keys() - {"image_folder"}


# --- folders of images ------------------------------------------------------------------------------------------------


def test_a_folder_of_images_is_read_in_the_order_of_class_and_path(tmp_path: Path, cache: Path) -> None:
    dataset = load_dataset("image_folder", _image_folder(tmp_path / "images"), cache=cache)
    _assert_sound(dataset)
    assert dataset.classes == ("ant", "bee") and dataset.factors is None
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and dataset.test.labels.tolist() == [0, 0, 1, 1]
    expected = np.stack([_pixels("train", label, number) for label in range(2) for number in range(3)])
    assert np.array_equal(dataset.train.images, expected.transpose(0, 3, 1, 2))


def test_the_fingerprint_is_of_the_content_not_of_the_folder(tmp_path: Path, cache: Path) -> None:
    here = _image_folder(tmp_path / "here")
    first = load_dataset("image_folder", here, cache=cache)
    there = shutil.copytree(here, tmp_path / "there")
    assert load_dataset("image_folder", there, cache=cache).fingerprint == first.fingerprint
    assert len(list(cache.iterdir())) == 2
    Image.fromarray(_pixels("train", 0, 99)).save(there / "train/ant/0.png")
    assert load_dataset("image_folder", there, cache=cache).fingerprint != first.fingerprint
    renamed = shutil.copytree(here, tmp_path / "renamed")
    for split in ("train", "test"):
        (renamed / split / "bee").rename(renamed / split / "cow")
    assert load_dataset("image_folder", renamed, cache=cache).fingerprint != first.fingerprint


def test_the_second_load_decodes_and_hashes_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _image_folder(tmp_path / "images")
    first = load_dataset("image_folder", folder, cache=cache)
    digits = load_dataset("digits", cache=cache)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("decoded again")

    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(caching, "fingerprint", refuse)
    monkeypatch.setattr("sklearn.datasets.load_digits", refuse)
    second = load_dataset("image_folder", folder, cache=cache)
    assert second.fingerprint == first.fingerprint and np.array_equal(second.train.images, first.train.images)
    assert load_dataset("digits", cache=cache).fingerprint == digits.fingerprint


def test_the_cache_folder_is_set_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "elsewhere"))
    load_dataset("digits")
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_a_damaged_cache_is_made_again(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    first = load_dataset("image_folder", folder, cache=cache)
    (made,) = cache.iterdir()
    for file, content in (("train_images.npy", b"\x93NUMPY"), ("dataset.json", b"{")):
        (made / file).write_bytes(content)
        again = load_dataset("image_folder", folder, cache=cache)
        assert again.fingerprint == first.fingerprint and again.train.images.shape == (6, 3, 6, 6)
    assert list(cache.iterdir()) == [made]


def test_two_processes_can_prepare_a_dataset_at_the_same_time(cache: Path) -> None:
    together = threading.Barrier(2, timeout=20)
    found: list[Dataset] = []

    def prepare(out: Path) -> caching.Prepared:
        together.wait()  # neither is done before the other has begun
        for split in ("train", "test"):
            np.save(out / f"{split}_images.npy", np.zeros((2, 3, 4, 4), np.uint8))
            np.save(out / f"{split}_labels.npy", np.arange(2))
        return ("a", "b"), ()

    threads = [
        threading.Thread(target=lambda: found.append(caching.cached(cache, "both", 0, prepare))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0].fingerprint == found[1].fingerprint
    assert len(list(cache.iterdir())) == 1


def test_images_are_resized_to_the_image_size(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images", size=(20, 30))
    wide = load_dataset("image_folder", folder, cache=cache)
    assert wide.train.images.shape == (6, 3, 20, 30)
    square = load_dataset("image_folder", folder, image_size=10, cache=cache)
    assert square.train.images.shape == (6, 3, 10, 10)
    image = Image.fromarray(_pixels("train", 0, 0, 20, 30)).resize((15, 10), Image.Resampling.BICUBIC)
    expected = np.asarray(image.crop((2, 0, 12, 10))).transpose(2, 0, 1)
    assert np.array_equal(square.train.images[0], expected)


def test_grey_and_palette_images_get_three_channels(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    grey = Image.fromarray(_pixels("train", 0, 0)[:, :, 0])
    grey.save(folder / "train/ant/0.png")
    Image.fromarray(_pixels("train", 0, 1)).quantize(8).save(folder / "train/ant/1.png")
    images = load_dataset("image_folder", folder, cache=cache).train.images
    assert np.array_equal(images[0], np.repeat(np.asarray(grey)[None], 3, axis=0))
    assert not (images[1] == images[1, :1]).all()


def test_files_without_an_image_suffix_are_skipped(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    (folder / "train/ant/notes.txt").write_text("two legs missing")
    (folder / "train/ant/.hidden.png").write_text("")
    (folder / "train/.cache").mkdir()
    (folder / "train/bee/more").mkdir()
    Image.fromarray(_pixels("train", 1, 9)).save(folder / "train/bee/more/9.PNG")
    assert load_dataset("image_folder", folder, cache=cache).train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_the_error_for_an_unknown_dataset_names_the_nearest_and_all(cache: Path) -> None:
    (told,) = _mistakes("cifar_10", None, cache)
    assert "'cifar_10'" in told and "did you mean 'cifar10'?" in told and all(name in told for name in DATASETS)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "svhn", "fashion_mnist", "image_folder"])
def test_a_missing_folder_says_what_it_should_hold_and_where_to_get_it(name: str, tmp_path: Path, cache: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for data, named in ((None, "is missing"), (tmp_path / "nowhere", str(tmp_path / "nowhere")), (empty, str(empty))):
        told = "\n".join(_mistakes(name, data, cache))
        assert named in told
        assert ("train/CLASS/" in told) == (name in ("cifar10", "cifar100", "image_folder"))
        assert ("http" in told) == (name != "image_folder")


def test_unreadable_images_are_all_named(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    (folder / "train/bee/1.png").write_bytes(b"not an image")
    whole = (folder / "test/ant/0.png").read_bytes()
    (folder / "test/ant/0.png").write_bytes(whole[: len(whole) // 2])
    told = _mistakes("image_folder", folder, cache)
    assert len(told) == 2
    assert str(folder / "train/bee/1.png") in told[0] and str(folder / "test/ant/0.png") in told[1]
    assert all("cannot be read as an image" in text for text in told)


def test_ten_unreadable_images_are_named_and_the_others_counted(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    for number in range(14):
        (folder / f"train/bee/bad{number:02}.jpg").write_bytes(b"")
    told = _mistakes("image_folder", folder, cache)
    assert len(told) == 11 and "bad09.jpg" in told[9] and "and 4 more images" in told[10]


def test_an_unreadable_first_image_is_named(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    (folder / "train/ant/0.png").write_bytes(b"")
    (told,) = _mistakes("image_folder", folder, cache)
    assert str(folder / "train/ant/0.png") in told


def test_the_error_for_images_of_several_sizes_names_image_size(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    Image.fromarray(_pixels("train", 1, 7, 8, 9)).save(folder / "test/bee/1.png")
    (told,) = _mistakes("image_folder", folder, cache)
    assert f"{folder / 'test/bee/1.png'} is 9x8 and {folder / 'train/ant/0.png'} is 6x6" in told
    assert "image_size" in told
    assert load_dataset("image_folder", folder, image_size=6, cache=cache).test.images.shape == (4, 3, 6, 6)


def test_empty_classes_and_classes_of_one_split_are_reported_together(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    (folder / "train/cow").mkdir()
    shutil.rmtree(folder / "test/bee")
    told = _mistakes("image_folder", folder, cache)
    assert len(told) == 3
    assert f"class with no images: {folder / 'train/cow'}" in told[0]
    assert f"{folder / 'train/bee'} has no {folder / 'test/bee'}" in told[1]
    assert f"{folder / 'train/cow'} has no {folder / 'test/cow'}" in told[2]


def test_cifar10_must_have_ten_classes(tmp_path: Path, cache: Path) -> None:
    told = _mistakes("cifar10", _image_folder(tmp_path / "images"), cache)
    assert len(told) == 2 and all("wrong number of classes" in text and "seen: 2" in text for text in told)


def test_cifar10_may_be_a_folder_of_images(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images", tuple("abcdefghij"))
    dataset = load_dataset("cifar10", folder, cache=cache)
    assert dataset.name == "cifar10" and dataset.classes == tuple("abcdefghij")
    assert dataset.fingerprint == load_dataset("image_folder", folder, cache=cache).fingerprint


# --- what torchvision reads -------------------------------------------------------------------------------------------


def _idx(path: Path, array: np.ndarray) -> None:
    """The format of MNIST: two zeros, the type (8: bytes), the number of axes, the lengths, the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def _fashion_mnist(folder: Path) -> tuple[Path, np.ndarray]:
    """Write 20 images of train and of test; return their folder and the images."""
    raw = folder / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    grey = np.random.default_rng(0).integers(0, 256, (20, 28, 28))
    for split in ("train", "t10k"):
        _idx(raw / f"{split}-images-idx3-ubyte", grey)
        _idx(raw / f"{split}-labels-idx1-ubyte", np.arange(20) % 10)
    return raw, grey


def test_fashion_mnist_is_read_and_its_grey_repeated(tmp_path: Path, cache: Path) -> None:
    _, grey = _fashion_mnist(tmp_path)
    dataset = load_dataset("fashion_mnist", tmp_path, cache=cache)
    _assert_sound(dataset)
    assert dataset.classes[9] == "Ankle boot"
    assert np.array_equal(dataset.train.images, np.repeat(grey[:, None], 3, axis=1))
    assert dataset.test.labels.tolist() == [*range(10), *range(10)]
    assert load_dataset("fashion_mnist", tmp_path, image_size=14, cache=cache).train.images.shape == (20, 3, 14, 14)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("images-idx3", b"", "invalid literal"),
        ("images-idx3", bytes([0, 0, 9, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7]), "should be of dtype torch.uint8"),
        ("images-idx3", bytes([0, 0, 99, 3]), "AssertionError"),
        ("labels-idx1", bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1]), "has 20 images and 2 labels for train"),
        (
            "labels-idx1",
            bytes([0, 0, 8, 1, 0, 0, 0, 20, *range(20)]),
            "has train labels that belong to no class, for example 10",
        ),
    ],
)
def test_published_files_that_do_not_hold_the_dataset_are_named(
    file: str, content: bytes, reason: str, tmp_path: Path, cache: Path
) -> None:
    raw, _ = _fashion_mnist(tmp_path)
    (raw / f"train-{file}-ubyte").write_bytes(content)
    (mistake,) = _mistakes("fashion_mnist", tmp_path, cache)
    assert str(tmp_path) in mistake and reason in mistake and "a folder with FashionMNIST/raw" in mistake


def test_files_that_torchvision_prefers_to_the_published_ones_are_refused(tmp_path: Path, cache: Path) -> None:
    raw, _ = _fashion_mnist(tmp_path)
    (raw.parent / "processed").mkdir()
    (mistake,) = _mistakes("fashion_mnist", tmp_path, cache)
    assert f"torchvision would read {raw.parent / 'processed'}" in mistake


def _cifar_batches(folder: Path) -> np.ndarray:
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
    batch = {"data": pixels.reshape(10, -1), "labels": list(range(10))}
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (batches / name).write_bytes(pickle.dumps(batch))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return pixels


def test_cifars_binary_batches_are_read(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _cifar_batches(tmp_path)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    dataset = load_dataset("cifar10", tmp_path, cache=cache)
    _assert_sound(dataset)
    assert dataset.classes == tuple("abcdefghij")
    assert np.array_equal(dataset.train.images, np.tile(pixels, (5, 1, 1, 1)))
    assert np.array_equal(dataset.test.images, pixels)


def test_batches_that_are_not_the_published_ones_are_not_unpickled(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cifar_batches(tmp_path)
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    (told,) = _mistakes("cifar10", tmp_path, cache)
    assert f"{tmp_path} cannot be read" in told and "cs.toronto.edu" in told


@pytest.mark.parametrize("name", ["cifar-10-batches-py/data_batch_1", "cifar-10-batches-py"])
def test_a_pipe_among_the_published_files_is_named_and_not_waited_for(name: str, tmp_path: Path, cache: Path) -> None:
    _cifar_batches(tmp_path)
    shutil.rmtree(tmp_path / name) if (tmp_path / name).is_dir() else (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    (told,) = _mistakes("cifar10", tmp_path, cache)
    assert f"{tmp_path / name} is neither a file nor a folder" in told


def test_svhn_is_read(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    for split in ("train", "test"):
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": np.arange(1, 11)[:, None]})  # 10 stands for 0
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    dataset = load_dataset("svhn", tmp_path, cache=cache)
    _assert_sound(dataset)
    assert dataset.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert np.array_equal(dataset.train.images, pixels.transpose(3, 2, 0, 1))


def test_stl10_is_read(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3, 96, 96), dtype=np.uint8)
    for split in ("train", "test"):
        (folder / f"{split}_X.bin").write_bytes(pixels.transpose(0, 1, 3, 2).tobytes())  # stored by columns
        (folder / f"{split}_y.bin").write_bytes(np.arange(1, 11, dtype=np.uint8).tobytes())
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    monkeypatch.setattr("torchvision.datasets.stl10.STL10._check_integrity", lambda _: True)
    dataset = load_dataset("stl10", tmp_path, cache=cache)
    _assert_sound(dataset)
    assert dataset.train.labels.tolist() == list(range(10)) and dataset.classes == tuple("abcdefghij")
    assert np.array_equal(dataset.train.images, pixels)


# --- train and validation ---------------------------------------------------------------------------------------------


def _labelled(labels: list[int]) -> Dataset:
    split = Split(np.zeros((len(labels), 3, 1, 1), np.uint8), np.array(labels, np.int64))
    return Dataset("some", ("a", "b", "c"), split, split, "sha256:")


def test_train_and_validation_never_overlap_and_share_every_class_evenly() -> None:
    dataset = _labelled([0] * 50 + [1] * 101 + [2] * 7)
    labels = dataset.train.labels
    for seed in range(5):
        train, validation = split_train(dataset, 0.1, seed)
        assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(158))
        assert np.array_equal(train, np.sort(train)) and np.array_equal(validation, np.sort(validation))
        assert np.bincount(labels[validation]).tolist() == [5, 10, 1]
        assert train.dtype == validation.dtype == np.int64


def test_the_split_depends_only_on_its_seed() -> None:
    dataset = _labelled([0, 1, 2] * 40)
    first, again, other = (split_train(dataset, 0.2, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_a_class_of_one_image_stays_in_train() -> None:
    train, validation = split_train(_labelled([0, 0, 1, 2, 2]), 0.5, 0)
    assert 2 in train and len(validation) == 2


@pytest.mark.parametrize("fraction", [0, 0.1, 0.33, 0.5])
def test_the_count_of_training_images_equals_that_of_the_split(fraction: float) -> None:
    for labels in ([0] * 50 + [1] * 101 + [2] * 7, [0, 0, 1, 2, 2], [0] * 45 + [1] * 35):
        dataset = _labelled(labels)
        assert count_training_images(dataset, fraction) == len(split_train(dataset, fraction, 3)[0])


def test_a_changed_modification_time_makes_a_new_cache_entry(tmp_path: Path, cache: Path) -> None:
    folder = _image_folder(tmp_path / "images")
    load_dataset("image_folder", folder, cache=cache)
    os.utime(folder / "train/ant/0.png", ns=(1, 1))
    load_dataset("image_folder", folder, cache=cache)
    assert len(list(cache.iterdir())) == 2
