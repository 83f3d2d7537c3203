"""Runs trials in processes of their own, forked from a worker that has imported all they need and computed nothing.

A fork costs milliseconds where an import of torch costs seconds. It is safe as long as the worker itself neither
computes, which would start threads that a fork does not copy, nor uses a GPU.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

from twinbench.harness.run_folder.heartbeat import stop_requested
from twinbench.harness.run_folder.leases import LeaseObserver, is_free, machine
from twinbench.harness.system.provenance import code_hash, commit, versions
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.ranks import close_other_ranks
from twinbench.harness.trial.worker import BrokenDevice, Unwritable, run_pack, why_unusable
from twinbench.methods.registry import get_method
from twinbench.results.attempts import attempt_numbers
from twinbench.sweeps.trial import Trial

T = TypeVar("T")
ShouldStop = Callable[[], bool]
LOOK_EVERY_SECONDS = 0.2
ENDING_SECONDS = 10.0  # that a process may take to end once it has sent its result


def run_pack_in_fork(
    trials: Sequence[Trial], surroundings: Surroundings, should_stop: ShouldStop, leases: LeaseObserver
) -> list[str]:
    """Run `run_pack` in a process that ends with it, and return the trials' statuses.

    If the process dies, its trials count as interrupted, and their leases show that it is gone. No process is started
    for trials that other workers hold. Raises BrokenDevice if the device cannot compute, or if the process dies before
    it begins a trial.
    """
    if not any([is_free(surroundings.run_folder, trial.trial_id, leases) for trial in trials]):
        return ["taken"] * len(trials)

    for fact in (code_hash, commit, versions, machine):
        fact()  # cached in this process, or every fork would compute it again
    for trial in trials:
        with contextlib.suppress(Exception):  # the trial will fail and say why
            get_method(trial.method)  # imported now, so that the method's code stays the one that was hashed

    def count_attempts() -> list[int]:
        return [len(attempt_numbers(surroundings.run_folder, trial.trial_id)) for trial in trials]

    def run(should_stop: ShouldStop) -> list[str]:
        if reason := why_unusable(surroundings.device):
            raise BrokenDevice(reason)
        return run_pack(trials, surroundings, should_stop, leases)

    attempts_before = count_attempts()
    statuses = run_in_fork(run, should_stop)
    if statuses is None and count_attempts() == attempts_before:
        raise BrokenDevice(f"a process on {surroundings.device} died before it began a trial")
    return statuses or ["interrupted"] * len(trials)


def run_in_fork(work: Callable[[ShouldStop], T], should_stop: ShouldStop = lambda: False) -> T | None:
    """Call `work` in a forked process and return its result; None if the process died.

    Once `should_stop` is true, so is the function that `work` is given; this waits until the process has ended. Of
    errors, BrokenDevice is raised again as it is, any other as Unwritable.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, work, os.getpid()))
    process.start()
    theirs.close()
    while process.is_alive() and not ours.poll(LOOK_EVERY_SECONDS):
        if should_stop():
            process.terminate()
    result: T | BrokenDevice | Unwritable | None = None
    with contextlib.suppress(EOFError):
        if ours.poll():
            result = ours.recv()
    process.join(ENDING_SECONDS)
    if process.is_alive():  # kept alive by a thread that the work left behind
        process.kill()
        process.join()
    ours.close()
    if isinstance(result, BrokenDevice | Unwritable):
        raise result
    return result


def _work(connection: Connection, work: Callable[[ShouldStop], object], parent: int) -> None:
    result: object
    try:
        result = work(stop_requested(parent))  # also once the worker is gone, so that its trials become free
    except (BrokenDevice, Unwritable) as error:
        result = error
    except Exception as error:  # the trials' own errors are recorded
        result = Unwritable(f"{type(error).__name__}: {error}")
    close_other_ranks()  # multiprocessing would ask them to end when this process does, and wait for them
    connection.send(result)
