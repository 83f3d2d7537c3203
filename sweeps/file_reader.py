"""Read whole files, but only regular ones of a bounded size: a pipe may never end, and a device gives bytes forever."""

import errno
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from twinbench.sweeps.errors import shortened

LARGEST = 256 * 2**20  # bytes; a plan of 250,000 trials, the largest there is, is smaller
LONGEST_NUMBER = 60  # characters of a number in an error
O_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # Windows has none, and no pipes among its files


def open_regular(path: Path | str, mode: str = "rb") -> BinaryIO:
    """Open the file at `path`, where links are followed. OSError if that fails, or if it is no regular file."""
    if "\0" in str(path):  # for which `open` raises ValueError
        raise OSError(errno.EINVAL, "its name has a zero character", str(path))
    return cast(BinaryIO, open(path, mode, opener=_regular))


def _regular(path: str, flags: int) -> int:
    # Without waiting: the opening of a pipe would wait for somebody at its other end.
    descriptor = os.open(path, flags | O_NONBLOCK, 0o666)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # `open` itself refuses a folder
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def read_regular(path: Path | str, largest: int = LARGEST) -> bytes:
    """Return the bytes of the file at `path`. OSError as for `open_regular`, or if it has more than `largest` bytes."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest / 2**20:,.0f} MiB", str(path))
        return file.read()


def parse_json(
    data: bytes,
    parse_int: Callable[[str], object] | None = None,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], object] | None = None,
) -> Any:
    """Return the value of a JSON text. ValueError also for numbers that are not finite, and for too deep a text.

    The two functions make the values of whole numbers and of tables, as those of `json.loads`.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            parse_int=parse_int,
            parse_float=_finite,
            parse_constant=_refuse_constant,
            object_pairs_hook=object_pairs_hook,
        )
    except RecursionError:
        raise ValueError("lists and tables are nested too deeply") from None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{shortened(text, LONGEST_NUMBER)} is too large a number")
    return value


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's JSON parser takes and JSON does not have."""
    raise ValueError(f"{name} is not a JSON number")


def as_mapping(value: object) -> Mapping[str, object]:
    """Return a value that was read from JSON if it is a table, else an empty table."""
    return value if isinstance(value, Mapping) else {}
