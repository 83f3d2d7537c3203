"""Do what reads files of others in a process of its own, with bounds on memory and time that the system enforces.

The process is forked, which takes milliseconds: a new interpreter would add a tenth to a `check`. That is safe in a
command, which has one thread and has imported neither torch nor DuckDB when it begins to read. A bound within this
process would not do: what the kernel or a library ends could neither say why nor remove its temporary files.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from twinbench.sweeps.errors import InvalidInput, Mistake

T = TypeVar("T")
GIB = 2**30
OF_A_CORE = 2**25  # bytes for the stacks of the threads that NumPy, SciPy, Arrow and DuckDB start for each core
ENDING_SECONDS = 5.0  # that the process may take to end
PERHAPS_MEMORY = {
    signal.SIGABRT: "which a library sends itself, for example if it runs out of memory",
    getattr(signal, "SIGKILL", signal.SIGABRT): "which the system sends if memory runs out; so does `kill -9`",
}
TO_SAY_SO = 2**26  # bytes that it may take beyond its bound, to send what happened


@dataclass(frozen=True)
class Bounds:
    """The most that reading may take: memory in GiB, and seconds."""

    memory: int
    seconds: int


class _MetBound(Exception):
    """The process ran out of the memory that it may have."""


def within_bounds(work: Callable[[], T], what: str, bounds: Bounds, temporary: Path) -> T:
    """Return what `work` returns in a forked process, or raise what it raises.

    `temporary` is a folder for its temporary files, which the caller removes. InvalidInput about `what`, which is read,
    if a bound is met or a signal ends the process. Where there are no forks, on Windows, `work` is called here and
    without bounds. macOS does not enforce the bound on memory.
    """
    if not hasattr(os, "fork"):
        return work()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(ours, theirs, work, bounds, str(temporary)))
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # which ends the process as well
    with warnings.catch_warnings():  # of threads, which a command does not have
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    try:
        if not ours.poll(bounds.seconds):
            raise _too_much(what, f"takes more than {bounds.seconds} s", "--time-limit SECONDS")
        failed, outcome = ours.recv()
    except EOFError:  # it died
        process.join()
        if (code := process.exitcode or 0) >= 0:  # of an error that could not be sent, and was printed
            sys.exit(code or 1)
        raise InvalidInput([Mistake(what, "", _ended_by(-code))]) from None
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join(ENDING_SECONDS)
        process.kill()
        process.join()
        ours.close()
        signal.signal(signal.SIGTERM, before)
    if not failed:
        return outcome  # type: ignore[no-any-return]
    if isinstance(outcome, _MetBound):
        raise _too_much(what, f"takes more than {bounds.memory} GiB of memory", "--memory-limit GIB")
    if not isinstance(outcome, tuple):
        raise outcome
    raise InvalidInput(Mistake(text, "", "", count=count) for text, count in outcome)


def _ended_by(number: int) -> str:
    """Say which signal ended the process, and of those that may be due to its memory, that they may."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return ", ".join(filter(None, (f"the process that read it was ended by {name}", PERHAPS_MEMORY.get(number))))


def _too_much(what: str, problem: str, option: str) -> InvalidInput:
    return InvalidInput([Mistake(what, "", f"reading it {problem}", allowed=f"more with {option}")])


def _work(
    command: Connection, connection: Connection, work: Callable[[], object], bounds: Bounds, temporary: str
) -> None:
    command.close()  # or it would wait for itself to read what it sends, once the command is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command gets it too, and ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which removes what was half written
    tempfile.tempdir = temporary
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # its own would reserve a GiB
    _limit(bounds)
    outcome: tuple[bool, object]
    try:
        outcome = False, work()
    except InvalidInput as error:  # as text, since the values seen may be as large as the file
        outcome = True, tuple((str(one), one.count) for one in error.mistakes)
        if _is_out_of_memory(error.__cause__):  # of DuckDB, in a query
            outcome = True, _MetBound()
    except Exception as error:
        _limit(bounds, TO_SAY_SO)
        outcome = True, error
        if _is_out_of_memory(error):
            outcome = True, _MetBound()
        else:
            error.add_note(traceback.format_exc())  # which is not sent with it
    connection.send(outcome)


def _limit(bounds: Bounds, more: int = 0) -> None:
    """Set the bounds of this process; `more` is in bytes, at most TO_SAY_SO, for what it does after it met one."""
    import resource

    cores = os.cpu_count() or 1
    # Not the address space: threads, mapped files and libraries reserve much more of it than they use.
    _set(resource.RLIMIT_DATA, bounds.memory * GIB + cores * OF_A_CORE + more, TO_SAY_SO)
    _set(resource.RLIMIT_CPU, bounds.seconds * cores, 1)  # for the case that the command is gone and cannot end it


def _set(which: int, soft: int, more: int) -> None:
    import resource

    _, hard = resource.getrlimit(which)
    most = soft + more if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(which, (min(soft, most), most))


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, as an exception of Python or Arrow says, or DuckDB, or a thread without a stack."""
    if error is None:
        return False
    words = f"{type(error).__name__}: {error}"
    said = "OutOfMemory" in words or "can't start new thread" in words
    return isinstance(error, MemoryError) or said or _is_out_of_memory(error.__cause__ or error.__context__)
