"""The cache of datasets: what is read back is what was written, and a folder that cannot be used is named."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinbench.harness.data import dataset_cache
from twinbench.harness.data.datasets import load_dataset
from twinbench.harness.system.user_cache import CacheUnusable

DIGITS = "sha256:3b2d315f628bb8cf644d50319d30ef9a03b931f3acedf106ece9c3c39c30c42a"
ARRAYS = tuple(f"{split}_{what}.npy" for split in ("train", "test") for what in ("images", "labels"))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder of the digits in a new cache."""
    load_dataset("digits", cache=tmp_path)
    (folder,) = tmp_path.iterdir()
    return folder


def _assert_made_again(folder: Path, capsys: pytest.CaptureFixture[str], reason: str) -> None:
    before = folder.stat().st_ino
    digits = load_dataset("digits", cache=folder.parent)
    assert f"{folder}: {reason}; the dataset is prepared again" in capsys.readouterr().err
    assert digits.fingerprint == DIGITS and np.bincount(digits.test.labels).sum() == 359
    assert folder.stat().st_ino != before
    assert list(folder.parent.iterdir()) == [folder]
    load_dataset("digits", cache=folder.parent)
    assert capsys.readouterr().err == "", "the second time it is read from the cache"


@pytest.mark.parametrize("name", [*ARRAYS, "dataset.json"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_file_that_was_cut_short_is_made_again(
    name: str, share: float, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(made / name, int((made / name).stat().st_size * share))
    reason = "is damaged or of an earlier version" if name == "dataset.json" else "has changed since it was made"
    _assert_made_again(made, capsys, f"{name} {reason}")


@pytest.mark.parametrize("name", [*ARRAYS, "dataset.json"])
def test_a_missing_file_is_made_again(name: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / name).unlink()
    _assert_made_again(made, capsys, f"it has no {name}")


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "dataset.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(name: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / name).unlink()
    os.mkfifo(made / name)
    _assert_made_again(made, capsys, f"it has no {name}")


@pytest.mark.parametrize("kind", ["an empty file", "a pipe", "a broken link", "a loop"])
def test_what_is_in_place_of_the_folder_is_replaced(kind: str, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(made)
    if kind == "a pipe":
        os.mkfifo(made)
    elif kind == "an empty file":
        made.touch()
    else:
        made.symlink_to(made if kind == "a loop" else "nowhere")
    assert load_dataset("digits", cache=made.parent).fingerprint == DIGITS
    assert f"{made}: it has no dataset.json; the dataset is prepared again" in capsys.readouterr().err
    assert list(made.parent.iterdir()) == [made] and made.is_dir() and not made.is_symlink()


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_was_changed_in_place_is_made_again(
    name: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stat = (made / name).stat()
    array = np.load(made / name, mmap_mode="r+")
    array[0] = 9 - array[0]
    array.flush()
    os.utime(made / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    _assert_made_again(made, capsys, f"{name} has changed since it was made")


def test_labels_are_compared_even_where_size_and_times_are_as_they_were(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # a clock that is set back, or a disk that returns other bytes
    monkeypatch.setattr(dataset_cache, "_stat", lambda _: [0, 0, 0])
    shutil.rmtree(made)
    load_dataset("digits", cache=made.parent)
    labels = np.load(made / "test_labels.npy", mmap_mode="r+")
    labels[:] = labels[::-1].copy()
    labels.flush()
    _assert_made_again(made, capsys, "test_labels.npy has changed since it was made")


def test_an_edited_fingerprint_is_not_believed(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (made / "dataset.json").read_text()
    (made / "dataset.json").write_text(text.replace(DIGITS, "sha256:" + "0" * 64))
    _assert_made_again(made, capsys, "dataset.json has changed since it was made")


def test_a_copied_cache_is_hashed_once_and_then_trusted(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy / made.name, copy_function=shutil.copyfile)
    hashed: list[str] = []
    sha256 = dataset_cache._sha256
    monkeypatch.setattr(dataset_cache, "_sha256", lambda file: hashed.append(file.name) or sha256(file))
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: pytest.fail("prepared again"))
    for expected in (set(ARRAYS), {"train_labels.npy", "test_labels.npy"}):
        hashed.clear()
        assert load_dataset("digits", cache=copy).fingerprint == DIGITS
        assert set(hashed) == expected
    assert capsys.readouterr().err == ""


def test_the_cache_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        load_dataset("digits", cache=tmp_path)
    finally:
        os.umask(before)
    (folder,) = tmp_path.iterdir()
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())] == ["0o755", *["0o644"] * 5]


# --- folders that cannot be used --------------------------------------------------------------------------------------


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(CacheUnusable, match=rf"TWINBENCH_CACHE: .* Not a directory .seen: '{tmp_path}/cache"):
        load_dataset("digits", cache=tmp_path / "cache")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for the labels of `_image_folder` below and not for its images."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("name", ["digits", "image_folder"])
def test_a_full_disk_is_named_and_nothing_is_left_there(name: str, small_disk: Path, tmp_path: Path) -> None:
    for place in (tmp_path / f"images/{split}/{label}" for split in ("train", "test") for label in "ab"):
        place.mkdir(parents=True)
        Image.new("RGB", (200, 200)).save(place / "0.png")
    with pytest.raises(CacheUnusable, match=r"TWINBENCH_CACHE: .* No space left on device"):
        load_dataset(name, tmp_path / "images" if name == "image_folder" else None, cache=small_disk / "cache")
    assert list((small_disk / "cache").iterdir()) == []
