"""Runs trials in processes of their own, forked from a worker that has imported all they need and computed nothing.

A fork costs milliseconds where an import of torch costs seconds. It is safe as long as the worker itself neither
computes, which would start threads that a fork does not copy, nor speaks to a GPU.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from twinbench.harness.run_folder.heartbeat import told_to_stop
from twinbench.harness.run_folder.leases import Others, attempt_numbers, is_free, machine
from twinbench.harness.system.provenance import code_hash, commit, versions
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.ranks import close_other_ranks
from twinbench.harness.trial.worker import BrokenDevice, Execute, Unwritable, run_pack, why_unusable
from twinbench.methods.registry import get_method
from twinbench.sweeps.trial import Trial

T = TypeVar("T")
ShouldStop = Callable[[], bool]
LOOK_EVERY_SECONDS = 0.2
ENDING_SECONDS = 10.0  # that a process may take once it has said how its trials ended


@dataclass(frozen=True)
class _Raised:
    words: str
    broken_device: bool = False


def run_pack_apart(
    trials: Sequence[Trial],
    surroundings: Surroundings,
    should_stop: ShouldStop,
    others: Others,
    execute: Execute | None = None,
) -> list[str]:
    """`run_pack` in a process that ends with it. Trials whose process died count as interrupted: their leases tell.

    None is started for trials that others hold, of whom this process keeps what it has seen. Raises BrokenDevice also
    where the device computes nothing, and where a process died before it began a trial.
    """
    if not any([is_free(surroundings.run_folder, trial.trial_id, others) for trial in trials]):
        return ["taken"] * len(trials)

    for fact in (code_hash, commit, versions, machine):
        fact()  # kept here, or every process would find it out anew
    for trial in trials:
        with contextlib.suppress(Exception):  # the trial will say it
            get_method(trial.method)  # its code stays what `code_hash` tells

    def begun() -> list[int]:
        return [len(attempt_numbers(surroundings.run_folder, trial.trial_id)) for trial in trials]

    def run(should_stop: ShouldStop) -> list[str]:
        if reason := why_unusable(surroundings.device):
            raise BrokenDevice(reason)
        return run_pack(trials, surroundings, should_stop, others, execute)

    before = begun()
    statuses = apart(run, should_stop)
    if statuses is None and begun() == before:
        raise BrokenDevice(f"a process on {surroundings.device} died before it began a trial")
    return statuses or ["interrupted"] * len(trials)


def apart(work: Callable[[ShouldStop], T], should_stop: ShouldStop = lambda: False) -> T | None:
    """What `work` returns in a process of its own; None where that died. BrokenDevice or Unwritable if it raised.

    Once `should_stop`, so does what `work` is given; this waits until it has ended.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, work, os.getpid()))
    process.start()
    there.close()
    while process.is_alive() and not here.poll(LOOK_EVERY_SECONDS):
        if should_stop():
            process.terminate()
    told: Any = None
    with contextlib.suppress(EOFError):
        if here.poll():
            told = here.recv()
    process.join(ENDING_SECONDS)
    if process.is_alive():  # a thread that somebody left there
        process.kill()
        process.join()
    here.close()
    if isinstance(told, _Raised):
        raise BrokenDevice(told.words) if told.broken_device else Unwritable(told.words)
    return told  # type: ignore[no-any-return]


def _work(connection: Any, work: Callable[[ShouldStop], Any], parent: int) -> None:
    try:
        told = work(told_to_stop(parent))  # a worker that was killed leaves its trials
    except BrokenDevice as error:
        told = _Raised(str(error), broken_device=True)
    except Unwritable as error:
        told = _Raised(str(error))
    except Exception as error:  # no trial's fault, since those are recorded
        told = _Raised(f"{type(error).__name__}: {error}")
    close_other_ranks()  # which multiprocessing would ask to end, and wait for
    connection.send(told)
