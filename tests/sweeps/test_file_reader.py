"""Claim: only regular files of a bounded size are read, and anything else is refused at once, with a reason."""

import os
from pathlib import Path

import pytest

from twinbench.sweeps.file_reader import parse_json, read_regular


def test_a_regular_file_is_read_whole_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 5000)
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == bytes(range(256)) * 5000


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "huge"])
def test_what_would_never_end_or_holds_no_bytes_is_refused_with_a_reason(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(kind)
    else:
        path.touch()
        os.truncate(path, 2**40)
    reasons = {"folder": "Is a directory", "loop": "Too many levels of symbolic links", "huge": "larger than 256 MiB"}
    with pytest.raises(OSError) as refused:
        read_regular(path)
    assert refused.value.strerror == reasons.get(kind, "not a regular file")


def test_a_file_of_just_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", largest=5) == b"12345"
    with pytest.raises(OSError, match="larger than"):
        read_regular(tmp_path / "file", largest=4)


def test_a_name_with_a_zero_character_is_one_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="its name has a zero character"):
        read_regular(f"{tmp_path}/a\0b")


@pytest.mark.parametrize("text", ["1e999", "[-1e999]", "NaN", '{"a": Infinity}', "[" * 3000])
def test_json_with_a_number_that_is_not_finite_or_too_deep_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"too large a number|is not a JSON number|nested too deep"):
        parse_json(text.encode())


def test_json_with_numbers_that_a_double_holds_is_read_exactly() -> None:
    assert parse_json(b"[1.7976931348623157e308, 5e-324, 123456789012345678901]") == [
        1.7976931348623157e308,
        5e-324,
        123456789012345678901,
    ]
