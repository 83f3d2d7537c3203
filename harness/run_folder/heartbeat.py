"""The heart of a running attempt: a thread that beats, and looks whether the attempt should end."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from twinbench.harness.run_folder.leases import BEAT_SECONDS, Attempt

LOOK_SECONDS = 1.0
TIME_LIMIT_EXIT = 75
CANCELLED = "cancelled"
LOST = "another worker took the trial over"


def is_cancelled(run_folder: Path) -> bool:
    """Whether `twinbench cancel` was called since the last `run`."""
    return (run_folder / CANCELLED).exists()


def told_to_stop(parent: int) -> Callable[[], bool]:
    """From here on, whether this process was sent SIGTERM, or the `parent` that started it is gone."""
    told = False

    def note(*_: object) -> None:
        nonlocal told
        told = True

    signal.signal(signal.SIGTERM, note)
    return lambda: told or os.getppid() != parent


class Heart:
    """Use as a context. `asks_to_stop` turns true when the lease is lost or the sweep is cancelled.

    An attempt over its time limit may hang in a call that nothing can interrupt, so the heart records the failure and
    ends the whole process; whoever started it starts another.
    """

    def __init__(self, attempt: Attempt, time_limit: float | None, fail: Callable[[str], None]):
        self._attempt, self._limit, self._fail = attempt, time_limit, fail
        self._ended = threading.Event()
        self._ending = threading.Lock()  # whoever gets it writes the record
        self._thread = threading.Thread(target=self._live, daemon=True, name="heart")
        self.reason = ""

    @property
    def asks_to_stop(self) -> bool:
        """Whether the trial should save its state and end."""
        return bool(self.reason)

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def let_end(self) -> None:
        """From here on the trial itself writes its record, and no time limit does."""
        self._ending.acquire()

    def _live(self) -> None:
        beaten = time.monotonic()
        while not self._ended.wait(LOOK_SECONDS):
            with contextlib.suppress(OSError):  # a file system that is away for a moment stops no trial
                if self._attempt.is_lost():
                    self.reason = LOST
                elif self._limit is not None and self._attempt.seconds > self._limit:
                    self._end_everything()
                elif is_cancelled(self._attempt.run_folder):
                    self.reason = "cancelled"
                if time.monotonic() - beaten >= BEAT_SECONDS:
                    beaten = time.monotonic()
                    self._attempt.beat()

    def _end_everything(self) -> None:
        if not self._ending.acquire(blocking=False):
            return
        try:
            self._fail(f"it ran longer than its time limit of {self._limit:g} s")
        finally:
            os._exit(TIME_LIMIT_EXIT)
