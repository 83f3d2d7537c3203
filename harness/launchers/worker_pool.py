"""Keeps worker processes on this machine: each imports torch once and then runs trials until none is left.

The local launcher has one pool; on SLURM each array task has one on its allocation.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from twinbench.harness.launchers.isolation import run_in_fork
from twinbench.harness.launchers.launcher import CannotStart
from twinbench.harness.launchers.worker_loop import drain
from twinbench.harness.run_folder.heartbeat import TIME_LIMIT_EXIT, stop_requested
from twinbench.harness.system.devices import spread
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.ranks import exit_text
from twinbench.harness.trial.worker import BrokenDevice, Unwritable, why_unusable

LOOK_EVERY_SECONDS = 0.2
FAILED_STARTS_ALLOWED = 3
BROKEN_DEVICE_EXIT = 76
EXIT_TEXTS: dict[int | None, str] = {
    TIME_LIMIT_EXIT: "its trial reached its time limit",
    BROKEN_DEVICE_EXIT: "its device can be used by a new process only",
}
READY = "ready"  # the first message of a worker; any other says why no worker can go on


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    device: str
    is_ready: bool = False


class WorkerPool:
    """`workers` processes, spread over `devices`. A process that dies is replaced, and its trial is run again.

    With `stay` workers wait for trials that other workers run, to take over those whose worker dies; without, they end
    once no trial is free.
    """

    def __init__(self, surroundings: Surroundings, workers: int, devices: Sequence[str], stay: bool = True):
        self._surroundings, self._stay = surroundings, stay
        self._context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and CUDA's state
        self._devices = spread(workers, devices)
        self._workers: list[_Worker] = []
        self._failed_starts: Counter[str] = Counter()  # in a row, by device
        self._found_no_more = False

    def run(self, is_over: Callable[[], bool]) -> None:
        """Work until `is_over`, called several times a second, or until the workers find no more trials.

        On any exception, KeyboardInterrupt among them, the running trials save their state and end before the exception
        is passed on. Raises Unwritable when the run folder cannot be written, CannotStart when every worker died as it
        started.
        """
        try:
            for device in self._devices:  # one by one, so that _stop knows each, whenever a Ctrl-C comes
                self._workers.append(self._start(device))
            while not is_over() and self._workers:
                self._wait()
                self._replace_ended()
        finally:
            self._stop()

    def _start(self, device: str) -> _Worker:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, replace(self._surroundings, device=device), os.getpid(), self._stay)
        process = self._context.Process(target=_work, args=arguments)
        process.start()
        theirs.close()
        return _Worker(process, ours, device)

    def _wait(self) -> None:
        """Wait until a worker sends a message or ends, at most LOOK_EVERY_SECONDS."""
        sources: list[Connection | int] = [worker.process.sentinel for worker in self._workers]
        sources += [worker.connection for worker in self._workers]
        ended = time.monotonic() + LOOK_EVERY_SECONDS
        wait(sources, timeout=LOOK_EVERY_SECONDS)
        for worker in self._workers:
            self._read_messages(worker)
            if not worker.process.is_alive():
                return
        time.sleep(max(0.0, ended - time.monotonic()))  # a closed pipe is always readable

    def _read_messages(self, worker: _Worker) -> None:
        """Read what the worker has sent. Raises Unwritable with its reason if it cannot go on."""
        with contextlib.suppress(EOFError, OSError):
            while worker.connection.poll():
                message = worker.connection.recv()
                if message != READY:
                    raise Unwritable(message)
                worker.is_ready, self._failed_starts[worker.device] = True, 0

    def _replace_ended(self) -> None:
        """Replace workers that died, except on a device where they keep dying as they start."""
        remaining, given_up = [], ""
        for worker in self._workers:
            if worker.process.is_alive():
                remaining.append(worker)
                continue
            worker.process.join()
            self._read_messages(worker)
            worker.connection.close()
            code = worker.process.exitcode
            ended = EXIT_TEXTS.get(code) or exit_text(code)
            if code == 0:
                self._found_no_more = True
                continue
            self._failed_starts[worker.device] += not worker.is_ready
            failed = self._failed_starts[worker.device]
            if not worker.is_ready and failed >= FAILED_STARTS_ALLOWED:
                given_up = f"{failed} workers in a row ended as they started on {worker.device}: {ended}"
                print(f"{given_up}; no other is started", file=sys.stderr)
                continue
            print(f"a worker ended: {ended}; another takes over", file=sys.stderr)
            remaining.append(self._start(worker.device))
        self._workers = remaining
        if given_up and not remaining and not self._found_no_more:
            raise CannotStart(given_up)

    def _stop(self) -> None:
        """Ask all workers to save their trials and end, and wait for them; a second Ctrl-C kills them instead."""
        try:
            for worker in self._workers:
                if worker.process.is_alive():
                    os.kill(worker.process.pid, signal.SIGTERM)  # type: ignore[arg-type]
            for worker in self._workers:
                worker.process.join()
        finally:
            for worker in self._workers:
                if worker.process.is_alive():
                    worker.process.kill()
                    worker.process.join()
                worker.connection.close()


def _work(connection: Connection, surroundings: Surroundings, parent: int, stay: bool) -> None:
    """Run a worker process from start to end."""
    should_stop = stop_requested(parent)  # the worker of a pool that was killed ends too
    for ignored in (signal.SIGINT, signal.SIGUSR2):  # Ctrl-C and SLURM's warning also reach the pool, which decides
        signal.signal(ignored, signal.SIG_IGN)

    device = surroundings.device
    reason = run_in_fork(lambda _: why_unusable(device)) if surroundings.isolate else why_unusable(device)
    if reason != "":
        print(reason or f"{device} cannot be used: a process that tried it died", file=sys.stderr)
        sys.exit(BROKEN_DEVICE_EXIT)
    connection.send(READY)
    try:
        drain(surroundings, should_stop, stay)
    except Unwritable as error:
        connection.send(str(error))
    except BrokenDevice:  # the attempt's file says why
        sys.exit(BROKEN_DEVICE_EXIT)
    except Exception as error:  # the trials' own errors are recorded, so another worker would fare no better
        connection.send(f"{type(error).__name__}: {error}")
