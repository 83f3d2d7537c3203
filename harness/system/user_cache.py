"""The user's cache folder, and what to do if it cannot be used."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from twinbench.sweeps.errors import NOTHING, InvalidInput, Mistake

VARIABLE = "TWINBENCH_CACHE"


class CacheUnusable(InvalidInput):
    """The cache folder cannot be found, read or written. No trial caused it."""


def cache_folder() -> Path:
    """Return $TWINBENCH_CACHE, or else ~/.cache/twinbench. Raises CacheUnusable if there is no home folder."""
    try:
        return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "twinbench")
    except RuntimeError:
        raise _unusable("not set, and this user has no home folder") from None


def share_cache() -> None:
    """Let Triton and Matplotlib keep their caches in $TWINBENCH_CACHE, where it is set and their own variables are not.

    By default they write to the home folder, which a cluster's nodes often cannot.
    """
    if folder := os.environ.get(VARIABLE):
        os.environ.setdefault("TRITON_CACHE_DIR", os.path.abspath(os.path.join(folder, "triton")))
        os.environ.setdefault("MPLCONFIGDIR", os.path.abspath(os.path.join(folder, "matplotlib")))


@contextlib.contextmanager
def cache_errors(path: Path) -> Iterator[None]:
    """Raise CacheUnusable for an error of the file system at or below `path`, a part of the cache."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not from the system: a library that cannot be loaded, for example
            raise
        problem = f"the cache cannot be used: {error.strerror}"
        raise _unusable(problem, str(error.filename or path)) from None


def _unusable(problem: str, seen: object = NOTHING) -> CacheUnusable:
    return CacheUnusable(
        [Mistake(VARIABLE, "", problem, seen, "a folder that this user can write, on a disk with room")]
    )
