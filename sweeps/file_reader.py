"""Read whole files, but only regular ones of a bounded size: a pipe may never end, and a device gives bytes forever."""

import errno
import os
import stat
from pathlib import Path

LARGEST = 256 * 2**20  # bytes; a plan of 500,000 trials is smaller
O_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # Windows has none, and no pipes among its files


def read_regular(path: Path | str, largest: int = LARGEST) -> bytes:
    """Return the bytes of the file at `path`, where links are followed.

    OSError, with a text in `strerror`, if it cannot be opened, is no regular file, or has more than `largest` bytes.
    """
    # Without waiting: the opening of a pipe would wait for somebody who writes into it.
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if found.st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest / 2**20:,.0f} MiB", str(path))
        return file.read()
