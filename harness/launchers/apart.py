"""Runs trials in processes of their own, forked from a worker that has imported all they need and computed nothing.

A fork costs milliseconds where an import of torch costs seconds. It is safe as long as the worker itself neither
computes, which would start threads that a fork does not copy, nor speaks to a GPU.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from twinbench.harness.attempts import Others, is_free, machine
from twinbench.harness.execute import Surroundings
from twinbench.harness.provenance import code_hash, commit, versions
from twinbench.harness.worker import BrokenDevice, Execute, Unwritable, run_pack
from twinbench.sweeps.trial import Trial

T = TypeVar("T")
ShouldStop = Callable[[], bool]
LOOK_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class _Raised:
    words: str


def run_pack_apart(
    trials: Sequence[Trial],
    surroundings: Surroundings,
    should_stop: ShouldStop,
    others: Others,
    execute: Execute | None = None,
) -> list[str]:
    """`run_pack` in a process that ends with it. Trials whose process died count as interrupted: their leases tell.

    None is started for trials that others hold, of whom this process keeps what it has seen.
    """
    if not any([is_free(surroundings.run_folder, trial.trial_id, others) for trial in trials]):
        return ["taken"] * len(trials)

    for fact in (code_hash, commit, versions, machine):
        fact()  # kept here, or every process would find it out anew

    def run(should_stop: ShouldStop) -> list[str]:
        return run_pack(trials, surroundings, should_stop, others, execute)

    return apart(run, should_stop) or ["interrupted"] * len(trials)


def apart(work: Callable[[ShouldStop], T], should_stop: ShouldStop = lambda: False) -> T | None:
    """What `work` returns in a process of its own; None where that died or broke its device. Unwritable if it raised.

    Once `should_stop`, so does what `work` is given; this waits until it has ended.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, work, os.getpid()))
    process.start()
    there.close()
    while not here.poll(LOOK_EVERY_SECONDS):  # also readable once the process has ended
        if should_stop():
            process.terminate()
    told: Any = None
    with contextlib.suppress(EOFError):
        told = here.recv()
    process.join()
    here.close()
    if isinstance(told, _Raised):
        raise Unwritable(told.words)
    return told  # type: ignore[no-any-return]


def _work(connection: Any, work: Callable[[ShouldStop], Any], parent: int) -> None:
    asked_to_stop = False

    def note(*_: Any) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, note)
    try:
        told = work(lambda: asked_to_stop or os.getppid() != parent)  # a worker that was killed leaves its trials
    except BrokenDevice:  # the attempt says why; the next process has the device anew
        return
    except Unwritable as error:
        told = _Raised(str(error))
    except Exception as error:  # no trial's fault, since those are recorded
        told = _Raised(f"{type(error).__name__}: {error}")
    connection.send(told)
