"""Where the output of processes goes: to an attempt's log, or nowhere if nobody reads it."""

import contextlib
import errno
import io
import os
import stat
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any


def open_closed_streams() -> None:
    """Open the standard streams that this process was started without (`>&-`), so that they lead nowhere.

    Otherwise printing fails, and what the workers' C libraries print goes to the next file that happens to be opened.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the smallest that is free, which is that of the stream
            os.set_inheritable(descriptor, True)
            # Not closed with the object, which `keep_running_without_output` replaces.
            stream = open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def keep_running_without_output() -> None:
    """Let printing never fail from now on: a pipe that nobody reads, or a full disk, must not end a run."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream.flush()
        raw = _Output(stream.fileno(), "w", closefd=False)
        raw.name = f"<{name}>"
        text = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)
        setattr(sys, name, text)


class _Output(io.FileIO):
    """An open file. What cannot be written to it is lost; standard error says so, unless a reader has left."""

    _has_said_so = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EPIPE and not self._has_said_so:
                self._has_said_so = True
                with contextlib.suppress(OSError):
                    os.write(2, f"what was to be printed is lost: {error.strerror}; the run continues\n".encode())
            return memoryview(data).nbytes


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


def usable_log(log: Path) -> Path:
    """Return `log`, or /dev/null, saying so, if a folder, a pipe or a link has its name.

    That is not the trial's fault, so it must not end the trial. Opening a pipe would wait for a reader.
    """
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(log.lstat().st_mode):
            text = f"{log} is not a regular file: what this attempt prints is lost; the run continues\n"
            os.write(2, text.encode())
            return Path(os.devnull)
    return log


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
