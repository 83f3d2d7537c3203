import errno
import math
import os
import socket
import stat
from pathlib import Path

import pytest

from twinbench.results.atomic_files import is_storage_error, write_bytes_atomically, write_json_atomically


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
def test_a_disk_that_cannot_be_written_is_a_storage_error(number):
    assert is_storage_error(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR])
def test_other_errors_of_a_file_are_not_storage_errors(number):
    assert not is_storage_error(OSError(number, os.strerror(number)))
    # The number decides, not the text.
    assert not is_storage_error(OSError(number, os.strerror(errno.ENOSPC)))


def test_a_full_disk_that_another_librarys_error_names_is_a_storage_error():
    assert is_storage_error(RuntimeError(f"could not write block: {os.strerror(errno.ENOSPC)}"))
    assert is_storage_error(OSError(f"could not write block: {os.strerror(errno.ENOSPC)}"))  # without a number
    assert not is_storage_error(RuntimeError("could not write block"))


def test_not_a_number_is_never_written_as_json(tmp_path):
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json_atomically(tmp_path / "x.json", {"value": value})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch):
    path = write_bytes_atomically(tmp_path / "file", b"old")

    def broken(*_: object) -> None:
        raise OSError("disk is gone")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk is gone"):
        write_bytes_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_appears_whole_in_a_folder_that_is_made_for_it_and_others_may_read_it(tmp_path, durable):
    umask = os.umask(0o022)
    try:
        path = write_bytes_atomically(tmp_path / "a" / "b" / "file", b"content", durable)
    finally:
        os.umask(umask)
    assert path.read_bytes() == b"content" and list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_link_a_pipe_or_a_socket_is_not_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    before = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    for name, kind in (("link", "a link"), ("dangling", "a link"), ("pipe", "a device, pipe"), ("socket", "a device")):
        with pytest.raises(FileExistsError, match=f"{kind}.* is there, and only a regular file is replaced"):
            write_bytes_atomically(tmp_path / name, b"new")
    assert before == {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    assert (tmp_path / "target").read_bytes() == b"kept"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_not_replaced_when_root_names_it(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:  # a container without the capability
        pytest.skip("devices cannot be made here")
    with pytest.raises(FileExistsError, match="a device"):
        write_bytes_atomically(device, b"new")
    assert stat.S_ISCHR(device.lstat().st_mode) and list(tmp_path.iterdir()) == [device]
