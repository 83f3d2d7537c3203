"""Write files that appear whole or not at all."""

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from twinbench.sweeps.hashing import to_utf8

STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


def is_storage_error(error: Exception) -> bool:
    """Return whether the file system refused to write: disk full, over quota, read-only, or a lost mount."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in STORAGE_ERRORS
    return os.strerror(errno.ENOSPC) in str(error)  # DuckDB raises its own error, with the system's text in it


def write_bytes_atomically(path: Path | str, data: bytes, durable: bool = True) -> Path:
    """Write `data` to `path`, whole or not at all, as `atomic_file` does, and return the path."""
    path = Path(path)
    with atomic_file(path, durable) as file:
        file.write(data)
    return path


@contextlib.contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a file to write. A reader of `path` sees either the old file or the new one, also after a power cut.

    Without `durable` a power cut may lose the file; that saves two waits for the disk, and is enough for files that
    only inform. OSError where a device, a pipe, a socket or a link is at `path`: it would be gone.
    """
    _check_replaceable(path)
    # The name is hidden, so that what a killed process leaves is never taken for a record. `tempfile` would make files
    # of mode 0600, which other members of a lab could not read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with _new_file(temporary) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def write_json_atomically(path: Path | str, obj: object, durable: bool = True) -> Path:
    """Write `obj` as `json_bytes` gives it, whole or not at all."""
    return write_bytes_atomically(path, json_bytes(obj), durable)


def json_bytes(obj: object) -> bytes:
    """Return indented JSON with sorted keys, as in records. NaN and infinity raise ValueError."""
    return to_utf8(json.dumps(obj, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)) + b"\n"


def _check_replaceable(path: Path) -> None:
    """Raise OSError for what is no regular file: at once, and not when all is written."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # mostly because there is nothing yet; anything else shows when the file is opened
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "a device, pipe or socket"
        raise OSError(errno.EEXIST, f"{kind} is there, and only a regular file is replaced", str(path))


def _new_file(path: Path) -> BinaryIO:
    """Open a new file for writing. Its folder is made only where opening fails, which saves a look at the disk."""
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder and needs no such call
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
