"""Keeps warm worker processes on this machine: each imports torch once and then drains the run folder."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from twinbench.harness.launchers.outcome import CannotStart, Outcome, _watched
from twinbench.harness.monitor.progress_bars import Watch
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.heartbeat import TIME_LIMIT_EXIT, told_to_stop
from twinbench.harness.run_folder.layout import missing
from twinbench.harness.system.devices import cores
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.worker import BrokenDevice, Execute, Unwritable, why_unusable
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.trial.execute import Surroundings


LOOK_EVERY_SECONDS = 0.2
FAILED_STARTS_ALLOWED = 3
BROKEN_DEVICE_EXIT = 76


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    device: str
    ready: bool = False


def dealt(workers: int, devices: list[str]) -> list[str]:
    """The device of each worker."""
    return [devices[number % len(devices)] for number in range(workers)]


class LocalLauncher:
    """`workers` processes, spread over `devices`. A process that dies is replaced; the folder says what it held."""

    def __init__(
        self,
        surroundings: Surroundings,
        workers: int,
        devices: list[str],
        stay: bool = True,
        execute: Execute | None = None,
    ):
        self._surroundings, self._stay, self._execute = surroundings, stay, execute
        self._context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and CUDA's state
        self._devices = dealt(workers, devices)
        self._workers: list[_Worker] = []
        self._failed_starts: Counter[str] = Counter()  # in a row, by device
        self._is_done = False

    def run(self, is_over: Callable[[], bool]) -> None:
        """Works until `is_over`, asked several times a second, or until the workers find nothing more to do.

        On any exception, KeyboardInterrupt among them, the running trials save their state and end before it goes on
        up. Raises Unwritable when the run folder takes no more, CannotStart when the last worker died as it started.
        """
        try:
            for device in self._devices:  # one by one, so that _stop knows each, whenever a Ctrl-C comes
                self._workers.append(self._start(device))
            while not is_over() and self._workers:
                self._wait()
                self._mend()
        finally:
            self._stop()

    def _start(self, device: str) -> _Worker:
        here, there = self._context.Pipe()
        arguments = (there, replace(self._surroundings, device=device), os.getpid(), self._stay, self._execute)
        process = self._context.Process(target=_work, args=arguments)
        process.start()
        there.close()
        return _Worker(process, here, device)

    def _wait(self) -> None:
        """Until a worker says something or ends, but not for long."""
        sources: list[Any] = [worker.process.sentinel for worker in self._workers]
        sources += [worker.connection for worker in self._workers]
        ended = time.monotonic() + LOOK_EVERY_SECONDS
        wait(sources, timeout=LOOK_EVERY_SECONDS)
        for worker in self._workers:
            self._listen(worker)
            if not worker.process.is_alive():
                return
        time.sleep(max(0.0, ended - time.monotonic()))  # a closed pipe is always readable

    def _listen(self, worker: _Worker) -> None:
        """Takes in what a worker has said. Raises Unwritable with its reason where it cannot go on."""
        with contextlib.suppress(EOFError, OSError):
            while worker.connection.poll():
                said = worker.connection.recv()
                if said != "ready":
                    raise Unwritable(said)
                worker.ready, self._failed_starts[worker.device] = True, 0

    def _mend(self) -> None:
        """Replaces workers that died; lets go those that found nothing more to do, or that die whenever they start."""
        workers, why = [], ""
        for worker in self._workers:
            if worker.process.is_alive():
                workers.append(worker)
                continue
            worker.process.join()
            self._listen(worker)
            worker.connection.close()
            code = worker.process.exitcode
            if code == 0:
                self._is_done = True
                continue
            self._failed_starts[worker.device] += not worker.ready
            failed = self._failed_starts[worker.device]
            if not worker.ready and failed >= FAILED_STARTS_ALLOWED:
                why = f"{failed} workers in a row ended as they started on {worker.device}, with {_ended(code)}"
                print(f"{why}; no other is started", file=sys.stderr)
                continue
            print(f"a worker ended with {_ended(code)}; another takes over", file=sys.stderr)
            workers.append(self._start(worker.device))
        self._workers = workers
        if why and not workers and not self._is_done:
            raise CannotStart(why)

    def _stop(self) -> None:
        """Asks what runs to save its state and end; a second Ctrl-C kills instead."""
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


def _ended(code: int | None) -> str:
    """An exit code in words."""
    if code == TIME_LIMIT_EXIT:
        return "its trial's time limit"
    if code == BROKEN_DEVICE_EXIT:
        return "its device in a state that only another process can use"
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _work(connection: Connection, surroundings: Surroundings, parent: int, stay: bool, execute: Execute | None) -> None:
    """A worker's life."""
    from twinbench.harness.launchers.isolation import apart
    from twinbench.harness.launchers.worker_loop import drain

    should_stop = told_to_stop(parent)  # a launcher that was killed leaves its workers' trials
    for ignored in (signal.SIGINT, signal.SIGUSR2):  # Ctrl-C, and SLURM's warning, reach the launcher, which decides
        signal.signal(ignored, signal.SIG_IGN)

    device = surroundings.device
    reason = apart(lambda _: why_unusable(device)) if surroundings.isolate else why_unusable(device)
    if reason != "":
        print(reason or f"{device} cannot be used: a process that tried it died", file=sys.stderr)
        sys.exit(BROKEN_DEVICE_EXIT)
    connection.send("ready")
    try:
        drain(surroundings, should_stop, stay, execute)
    except Unwritable as error:
        connection.send(str(error))
    except BrokenDevice:  # the attempt says why
        sys.exit(BROKEN_DEVICE_EXIT)
    except Exception as error:  # no trial's fault, since those are recorded: another worker would fare no better
        connection.send(f"{type(error).__name__}: {error}")


def run_locally(
    planned: Plan,
    surroundings: "Surroundings",
    devices: list[str],
    workers: int | None,
    watch: Watch,
    measures_packs: bool = False,
    measures_threads: bool = False,
) -> Outcome:
    """Runs what is missing in processes of this machine until every trial is recorded, by whomever.

    Packs have at most `surroundings.pack` trials, and as many as end soonest; with `measures_packs`, by measurement.
    With `measures_threads` trials have as many on a CPU.
    """
    from twinbench.harness.performance.pack_size import fit_pack, fit_threads, seconds_in_packs

    todo = missing(planned, surroundings.run_folder)
    on_cpu = devices == ["cpu"]

    def wanted(threads: int) -> int:
        per_trial = threads * surroundings.processes
        return workers or (max(1, cores() // per_trial) if on_cpu else len(devices))

    def workers_with(threads: int) -> int:
        return min(len(todo), wanted(threads))

    def measure(trial: Trial, threads: int, most: int) -> Mapping[int, float]:
        # By all that may share the device, however few trials are left: what is measured serves the next command.
        beside = dealt(wanted(threads), devices).count(devices[0])
        return seconds_in_packs(trial, planned.image_size, devices[0], threads, most, watch.say, beside)

    if measures_threads and on_cpu:
        surroundings = fit_threads(surroundings, todo, cores(), workers_with, measure, watch.say)
    threads = surroundings.threads
    count = workers_with(threads)
    costs = (lambda trial, most: measure(trial, threads, most)) if measures_packs else None
    surroundings = fit_pack(surroundings, todo, count, costs, watch.say)
    launcher = LocalLauncher(surroundings, count, devices)

    def work() -> None:
        if todo:
            launcher.run(watch.look)

    return _watched(planned, surroundings.run_folder, watch, work)
