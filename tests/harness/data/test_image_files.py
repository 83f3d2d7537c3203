"""Every value of an image is scaled to its right place, and every file of a folder is read, counted or named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinbench.harness.data.datasets import Dataset, load_dataset
from twinbench.sweeps.errors import InvalidInput

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
