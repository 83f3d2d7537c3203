"""Send what this process prints to an attempt's log, including what C libraries print."""

import contextlib
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path


def log_output(run: Generator[None, None, str], log: Path) -> Generator[None, None, str]:
    """Return `run` with what is printed during each of its turns appended to `log`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)  # once, since every update is a turn
    try:
        while True:
            with _redirected(file):
                try:
                    next(run)
                except StopIteration as end:
                    return str(end.value)
            yield
    finally:
        os.close(file)


@contextlib.contextmanager
def _redirected(file: int) -> Iterator[None]:
    """Send standard output and error to the open `file`."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    try:
        for stream in (1, 2):
            os.dup2(file, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in zip((1, 2), before, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
