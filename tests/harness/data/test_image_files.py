"""Every value of an image is scaled to its right place, and every file of a folder is read, counted or named."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinbench.harness.data.datasets import Dataset, load_dataset
from twinbench.harness.data.image_files import NOT_DATA, SUFFIXES
from twinbench.sweeps.errors import InvalidInput

DOCUMENTED = Path(__file__).parents[3] / "docs/datasets.md"
GREY = np.random.default_rng(0).integers(0, 2**16, (6, 6), dtype=np.uint16)
GREY[0, :2] = 0, 2**16 - 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two images each in train and in test, every image of another colour."""
    for number, split in enumerate(("train", "test")):
        for label, name in enumerate(("ant", "bee")):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for image in range(2):
                colour = (100 * number, 100 * label, 50 * image + 7)
                Image.new("RGB", (6, 6), colour).save(place / f"{image}.png")
    return tmp_path / "images"


def _load(folder: Path) -> Dataset:
    return load_dataset("image_folder", folder, cache=folder.parent / "cache")


def _mistakes(folder: Path) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        _load(folder)
    return [str(mistake) for mistake in caught.value.mistakes]


def _first(folder: Path) -> np.ndarray:
    """The first image as grey [6, 6]."""
    image = _load(folder).train.images[0]
    assert (image == image[:1]).all()
    return np.asarray(image[0])


# --- values -----------------------------------------------------------------------------------------------------------


def _pgm(path: Path, values: np.ndarray, largest: int) -> None:
    path.write_bytes(b"P5 6 6 %d\n" % largest + values.astype(">u2").tobytes())


def _tiff(path: Path, values: np.ndarray, bits: int, sample_format: int = 1, photometric: int = 1) -> None:
    """Write a grey TIFF of one strip by hand: Pillow writes few of the kinds that it reads."""
    data = values.tobytes()
    tags = [(256, 6), (257, 6), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 6)]
    tags += [(279, len(data)), (339, sample_format)]
    entries = b"".join(np.array([tag, 3, 1, 0, value, 0], "<u2").tobytes() for tag, value in tags)
    start = np.array([42, 0], "<u2").tobytes()[:2] + np.array([8 + len(data)], "<u4").tobytes()
    path.write_bytes(b"II" + start + data + np.array([len(tags)], "<u2").tobytes() + entries + bytes(4))


def test_16_bit_grey_becomes_its_upper_byte(folder: Path) -> None:
    upper = GREY >> 8
    file = folder / "train/ant/0.png"
    Image.fromarray(GREY).save(file)
    assert np.array_equal(_first(folder), upper)
    file.unlink()
    for other in (GREY, GREY.astype(">u2")):
        Image.fromarray(other).save(file.with_suffix(".tif"))
        assert np.array_equal(_first(folder), upper)
    file.with_suffix(".tif").unlink()
    _pgm(file.with_suffix(".pgm"), GREY, 65535)
    assert np.array_equal(_first(folder), upper)


def test_12_bit_grey_becomes_its_upper_byte(folder: Path) -> None:
    (folder / "train/ant/0.png").unlink()
    twelve = GREY >> 4
    pairs = twelve.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    _tiff(folder / "train/ant/0.tif", packed.astype(np.uint8), 12)
    assert np.array_equal(_first(folder), twelve >> 4)
    (folder / "train/ant/0.tif").unlink()
    _pgm(folder / "train/ant/0.pgm", twelve, 4095)
    assert np.abs(_first(folder).astype(int) - (twelve >> 4)).max() <= 1  # Pillow scales 4,095 to 65,535


def test_white_is_0_where_a_tiff_says_so(folder: Path) -> None:
    (folder / "train/ant/0.png").unlink()
    for bits, values in ((16, GREY), (8, (GREY >> 8).astype(np.uint8))):
        _tiff(folder / "train/ant/0.tif", values, bits, photometric=0)
        assert np.array_equal(_first(folder), 255 - (GREY >> 8))


def test_16_bit_colour_becomes_its_upper_byte(folder: Path) -> None:
    (folder / "train/ant/0.png").unlink()
    colours = np.random.default_rng(1).integers(0, 2**16, (6, 6, 3), dtype=np.uint16)
    (folder / "train/ant/0.ppm").write_bytes(b"P6 6 6 65535\n" + colours.astype(">u2").tobytes())
    found = _load(folder).train.images[0].transpose(1, 2, 0)
    assert np.abs(found.astype(int) - (colours >> 8)).max() <= 1  # Pillow rounds in this format


@pytest.mark.parametrize(
    ("dtype", "bits", "sample_format", "kind"),
    [
        ("<i4", 32, 2, "signed or 32-bit integers"),
        ("<u4", 32, 1, "signed or 32-bit integers"),
        ("<i2", 16, 2, "signed or 32-bit integers"),
        ("i1", 8, 2, "signed or 32-bit integers"),
        ("<f4", 32, 3, "floating-point numbers"),
    ],
)
def test_images_whose_values_have_no_known_range_are_named(
    dtype: str, bits: int, sample_format: int, kind: str, folder: Path
) -> None:
    _tiff(folder / "test/bee/9.tif", (GREY >> 9).astype(dtype), bits, sample_format)
    (mistake,) = _mistakes(folder)
    assert str(folder / "test/bee/9.tif") in mistake and f"its values are {kind}" in mistake
    assert "save it with 8 or 16 unsigned bits" in mistake


def test_transparency_and_orientation_are_not_applied(folder: Path) -> None:
    """As torchvision's ImageFolder reads images."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(folder / "train/ant/0.png", exif=orientation)
    assert np.array_equal(_load(folder).train.images[0], pixels[:, :, :3].transpose(2, 0, 1))


def test_images_after_the_first_of_a_file_are_counted(folder: Path) -> None:
    pages = [Image.new("L", (6, 6), value) for value in (30, 60, 90)]
    (folder / "train/ant/0.png").unlink()
    for _ in range(2):  # decoded, then read from the cache
        pages[0].save(folder / "train/ant/0.tif", save_all=True, append_images=pages[1:])
        os.utime(folder / "train/ant/0.tif", ns=(1, 1))
        assert (_first(folder) == 30).all()
        assert _load(folder).left_out == (("images after the first of their file", 2, "train/ant/0.tif"),)


def test_the_preview_in_a_photograph_is_not_counted(folder: Path) -> None:
    photo = Image.new("RGB", (6, 6), (30, 60, 90))
    photo.save(folder / "train/ant/0.jpg", format="MPO", save_all=True, append_images=[photo])
    assert _load(folder).left_out == ()


# --- files ------------------------------------------------------------------------------------------------------------


def _colours(folder: Path) -> set[tuple[int, ...]]:
    return {tuple(image[:, 0, 0].tolist()) for image in _load(folder).train.images}


def test_links_to_images_and_folders_are_followed(folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    (more / "below").mkdir(parents=True)
    Image.new("RGB", (6, 6), (1, 2, 3)).save(more / "0.png")
    Image.new("RGB", (6, 6), (4, 5, 6)).save(more / "below/0.png")
    (folder / "train/ant/more").symlink_to(more)
    (folder / "train/bee").rename(tmp_path / "bee")
    (folder / "train/bee").mkdir()
    (folder / "train/bee/all").symlink_to(tmp_path / "bee")
    (folder / "train/bee/2.png").symlink_to(tmp_path / "bee/0.png")
    assert _load(folder).train.labels.tolist() == [0] * 4 + [1] * 3
    assert {(1, 2, 3), (4, 5, 6)} < _colours(folder)
    assert _load(folder).left_out == ()


def test_jpegs_of_other_endings_are_read(folder: Path) -> None:
    for ending in ("jfif", "jpe", "JPG"):
        Image.new("RGB", (6, 6)).save(folder / f"train/ant/9.{ending}", format="JPEG")
    assert len(_load(folder).train.labels) == 7


def test_what_is_left_out_is_counted_by_reason(folder: Path) -> None:
    image = (folder / "train/ant/0.png").read_bytes()
    names = ["train/ant/.ipynb_checkpoints/0.png", "test/bee/.1.png", "train/.cache/0.png", "train/@eaDir/0.png"]
    names += ["train/ant/@eaDir/0.png", "__MACOSX/ant/0.png", "train/__MACOSX/ant/0.png", "test/ant/Thumbs.db"]
    names += ["train/ant/0.gif", "test/bee/below/1.GIF", "train/bee/README", "train/0.png", "val/ant/0.png"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image)
    found = _load(folder)
    assert len(found.train.labels) == len(found.test.labels) == 4 and found.classes == ("ant", "bee")
    assert found.left_out == (
        ("files and folders named @eaDir", 2, "train/@eaDir"),
        ("files and folders named Thumbs.db", 1, "test/ant/Thumbs.db"),
        ("files and folders named __MACOSX", 1, "train/__MACOSX"),
        ("files outside the folders of classes", 1, "train/0.png"),
        ("files that end in .gif", 2, "test/bee/below/1.GIF"),
        ("files without an ending", 1, "train/bee/README"),
        ("folders beside train and test", 1, "val"),
        ("hidden files and folders", 3, "test/bee/.1.png"),
    )
    assert _load(folder).left_out == found.left_out, "read from the cache"


@pytest.mark.parametrize(
    "name", ["#recycle", "@Recycle", "$RECYCLE.BIN", "lost+found", "@tmp", "System Volume Information"]
)
def test_recycle_bins_hold_no_data_and_are_no_class(folder: Path, name: str) -> None:
    for split in ("train", "test"):
        for place in (folder / split / name, folder / split / "ant" / name):
            place.mkdir()
            Image.new("RGB", (6, 6)).save(place / "deleted.png")
    found = _load(folder)
    assert len(found.train.labels) == len(found.test.labels) == 4 and found.classes == ("ant", "bee")
    assert [one[:2] for one in found.left_out] == [(f"files and folders named {name}", 4)]


def test_ten_reasons_are_named_and_what_is_left_out_for_others_is_counted(folder: Path) -> None:
    for number in range(14):
        (folder / f"train/ant/scan.{number:03}").touch()
    (folder / "train/ant/more.013").touch()
    (folder / "train/ant/a.\x1b").touch()
    found = _load(folder).left_out
    assert len(found) == 11
    assert found[0] == ("files that end in .000", 1, "train/ant/scan.000")
    assert ("files that end in .013", 2, "train/ant/more.013") in found
    assert found[-1] == ("for other reasons", 5, "train/ant/a.\x1b")


def test_what_is_left_out_changes_neither_fingerprint_nor_cache(folder: Path) -> None:
    before = _load(folder).fingerprint
    (folder / "train/ant/notes.txt").touch()
    after = _load(folder)
    assert after.fingerprint == before and after.left_out and len(list((folder.parent / "cache").iterdir())) == 1


def test_links_that_lead_nowhere_or_back_and_what_is_no_file_are_named(folder: Path) -> None:
    (folder / "train/ant/zz.png").symlink_to("/nowhere/x.png")
    (folder / "train/gone").symlink_to("/nowhere/gone")
    (folder / "test/bee/self.png").symlink_to("self.png")
    (folder / "test/bee/up").symlink_to(folder / "test/bee")
    os.mkfifo(folder / "test/bee/pipe.png")
    mistakes = "\n".join(_mistakes(folder))
    assert f"{folder}/train/ant/zz.png is a broken link: No such file or directory" in mistakes
    assert f"{folder}/train/gone is a broken link: No such file or directory" in mistakes
    assert f"{folder}/test/bee/self.png is a broken link: Too many levels of symbolic links" in mistakes
    assert f"{folder}/test/bee/up leads back to a folder that it is in" in mistakes
    assert f"{folder}/test/bee/pipe.png is not a file" in mistakes
    assert mistakes.count("\n") == 4


def test_ten_troubles_are_named_and_the_others_counted(folder: Path) -> None:
    for number in range(14):
        (folder / f"train/ant/{number}.jpg").symlink_to("/nowhere")
    mistakes = _mistakes(folder)
    assert len(mistakes) == 11 and "and 4 more files and folders" in mistakes[10]


WITHOUT_PRIVILEGES = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
READ = """
import sys
from pathlib import Path
from twinbench.harness.data.datasets import load_dataset
from twinbench.sweeps.errors import InvalidInput
try:
    load_dataset("image_folder", Path(sys.argv[1]))
except InvalidInput as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="giving a folder away needs root")
@pytest.mark.parametrize("closed", ["train", "train/ant", "train/ant/below"])
def test_a_folder_that_cannot_be_read_is_named(closed: str, folder: Path) -> None:
    (folder / "train/ant/below").mkdir()
    os.chown(folder / closed, 1000, 1000)
    (folder / closed).chmod(0o700)
    command = [*WITHOUT_PRIVILEGES, sys.executable, "-c", READ, folder]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    assert read.stdout == f"dataset image_folder: --data: {folder / closed} cannot be read: Permission denied\n"


def test_the_documentation_lists_what_is_read_and_what_is_left_out() -> None:
    row = dict(re.findall(r"(?m)^\| (.*?) \| (read|left out, also as classes) \|$", DOCUMENTED.read_text("utf-8")))
    read, left_out = row
    assert set(re.findall(r"\.\w+", read)) == SUFFIXES
    assert {name.lower() for name in re.findall("`(.*?)`", left_out)} == NOT_DATA
