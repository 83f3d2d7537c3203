"""Runs trials in warm processes on this machine: each imports torch once and then takes trial after trial."""

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from twinbench.harness.worker import Surroundings, record_failure, run_trial
from twinbench.sweeps.trial import Trial

DEATHS_ALLOWED = 3  # a trial whose process has died so often is recorded as failed
LOOK_EVERY_SECONDS = 0.2


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    trial: Trial | None = None


class LocalLauncher:
    """Keeps `workers` processes busy with trials until none is left or `stop` is called."""

    def __init__(self, surroundings: Surroundings, workers: int, devices: list[str]):
        self._surroundings, self._devices = surroundings, devices
        self._context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and CUDA's state
        self._count = workers
        self._workers: list[_Worker] = []

    def run(
        self,
        trials: Iterable[Trial],
        started: Callable[[Trial], None],
        ended: Callable[[Trial, str], None],
        look: Callable[[], None],
    ) -> None:
        """Tells `started` and `ended` of each trial with its status; calls `look` several times a second.

        A trial whose process dies is given to a new one, where it goes on from its saved state. On any exception,
        KeyboardInterrupt among them, the running trials save their state and end before it goes on up.
        """
        waiting = deque(trials)
        deaths: dict[str, int] = {}
        try:
            self._workers = [self._start(number) for number in range(min(self._count, len(waiting)))]
            while waiting or any(worker.trial for worker in self._workers):
                for number, worker in enumerate(self._workers):
                    if worker.trial is None and waiting:
                        started(waiting[0])
                        self._give(number, waiting.popleft())
                for trial, status in self._answers():
                    if status == "died":
                        deaths[trial.trial_id] = deaths.get(trial.trial_id, 0) + 1
                        if deaths[trial.trial_id] < DEATHS_ALLOWED:
                            waiting.appendleft(trial)
                            continue
                        status = "failed"
                        with contextlib.suppress(OSError):  # no record where none can be written: still missing then
                            record_failure(trial, self._surroundings, f"its process died {DEATHS_ALLOWED} times")
                    ended(trial, status)
                look()
        finally:
            self._stop(ended)

    def _start(self, number: int) -> _Worker:
        here, there = self._context.Pipe()
        surroundings = replace(self._surroundings, device=self._devices[number % len(self._devices)])
        process = self._context.Process(target=_work, args=(there, surroundings, os.getpid()), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)

    def _give(self, number: int, trial: Trial) -> None:
        worker = self._workers[number]
        worker.trial = trial  # first, so that a Ctrl-C right here finds it
        try:
            worker.connection.send(trial.content())
        except OSError:  # it died while it had nothing to do
            worker = self._workers[number] = self._start(number)
            worker.trial = trial
            worker.connection.send(trial.content())

    def _answers(self) -> list[tuple[Trial, str]]:
        """Trials that ended since the last look, and those whose process died."""
        busy = {worker.connection: worker for worker in self._workers if worker.trial}
        answers = []
        for connection in wait(list(busy), timeout=LOOK_EVERY_SECONDS):
            worker = busy[connection]  # type: ignore[index]
            trial, worker.trial = worker.trial, None
            try:
                status = str(worker.connection.recv())
            except (EOFError, ConnectionResetError):
                worker.process.join()
                status = "died"
            answers.append((trial, status))
        return answers  # type: ignore[return-value]

    def _stop(self, ended: Callable[[Trial, str], None]) -> None:
        """Asks what runs to save its state and end; a second Ctrl-C kills instead."""
        try:
            for worker in self._workers:
                if worker.trial and worker.process.is_alive():
                    os.kill(worker.process.pid, signal.SIGTERM)  # type: ignore[arg-type]
            while any(worker.trial for worker in self._workers):
                for trial, status in self._answers():
                    ended(trial, "interrupted" if status == "died" else status)
        except KeyboardInterrupt:
            for worker in self._workers:
                worker.process.kill()
            raise
        finally:
            for worker in self._workers:
                worker.connection.close()  # an idle worker ends when its pipe does
                worker.process.join(timeout=5)
                if worker.process.is_alive():
                    worker.process.kill()


def _work(connection: Connection, surroundings: Surroundings, parent: int) -> None:
    """A worker's life: take a trial, run it, say how it ended; until the pipe closes."""
    asked_to_stop = False

    def note(*_: Any) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the launcher decides

    def should_stop() -> bool:
        return asked_to_stop or os.getppid() != parent  # a launcher that was killed leaves its workers to another

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while not should_stop():
            trial = Trial(**connection.recv())
            connection.send(run_trial(trial, surroundings, should_stop))
