"""Heartbeat thread of a running attempt: renews the lease and checks whether the attempt should stop."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from twinbench.harness.run_folder.leases import BEAT_SECONDS, Attempt

CHECK_SECONDS = 1.0
TIME_LIMIT_EXIT = 75
CANCELLED = "cancelled"
LOST = "another worker took the trial over"


def is_cancelled(run_folder: Path) -> bool:
    """Whether `twinbench cancel` was called after the last `run`."""
    return (run_folder / CANCELLED).exists()


def stop_requested(parent: int) -> Callable[[], bool]:
    """Handle SIGTERM from now on; return a function that says whether one came or the `parent` process has ended."""
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    return lambda: bool(received) or os.getppid() != parent


class Heartbeat:
    """Use as a context around an attempt. `reason` says why the trial should save its state and end, once it should.

    An attempt over its time limit may hang in a call that cannot be interrupted. The thread then records the failure
    with `fail` and ends the whole process; the launcher starts another worker.
    """

    def __init__(self, attempt: Attempt, time_limit: float | None, fail: Callable[[str], None]):
        self._attempt, self._limit, self._fail = attempt, time_limit, fail
        self._ended = threading.Event()
        self._writes_record = threading.Lock()  # acquired once, by the thread that writes the trial's record
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")
        self.reason = ""

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def disarm_time_limit(self) -> None:
        """Stop enforcing the time limit; the trial writes its record itself."""
        self._writes_record.acquire()

    def _run(self) -> None:
        last_beat = time.monotonic()
        while not self._ended.wait(CHECK_SECONDS):
            with contextlib.suppress(OSError):  # a file system that fails for a moment must not stop the trial
                if self._attempt.is_lost():
                    self.reason = LOST
                elif self._limit is not None and self._attempt.seconds > self._limit:
                    self._end_process()
                elif is_cancelled(self._attempt.run_folder):
                    self.reason = CANCELLED
                if time.monotonic() - last_beat >= BEAT_SECONDS:
                    last_beat = time.monotonic()
                    self._attempt.beat()

    def _end_process(self) -> None:
        if not self._writes_record.acquire(blocking=False):
            return
        try:
            self._fail(f"it ran longer than its time limit of {self._limit:g} s")
        finally:
            os._exit(TIME_LIMIT_EXIT)
