"""The other ranks of a trial: child processes, on the same machine, of the worker, which is rank 0.

The processes are kept from trial to trial, so that torch is imported once. Every trial forms its own process group.
Only rank 0 claims, saves, measures and records; the others compute their share of every batch.

Messages over a child's pipe, per trial: rank 0 sends the work; each child prepares it and sends "ready"; all form the
group and train; each child sends "ended"; rank 0 sends "leave"; all leave the group; each child sends "left". A child
that raises sends its error and ends; a child that dies closes its pipe. Both make the collectives of all ranks fail.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist

from twinbench.harness.training.loop import Interrupted
from twinbench.harness.training.loss_log import Diverged

# How long a rank waits for another that is alive: while rank 0 saves and measures, the others wait in a collective.
# A rank that dies is noticed at once, since its connections close; for one that hangs there is the trial's time limit.
LONGEST_WAIT = timedelta(minutes=30)
# After a collective failed, how long to wait until the rank that caused it is found dead or has sent its error.
CAUSE_SECONDS = 3.0

Prepare = Callable[..., Callable[[], None]]
"""Called with a device and the other arguments sent; returns the function to run once the process group is formed."""


class RankDied(Exception):
    """Another rank's process died. The trial may not have caused it, so its state is kept."""


class RankFailed(Exception):
    """Another rank raised an error. Its traceback is in this error's notes."""


@dataclass(frozen=True, order=True)
class _Failure:
    """The error of a rank: when it was raised (monotonic clock), its type and text, its traceback."""

    time: float
    error: str
    traceback: str


class _Child:
    """The process of another rank, seen from rank 0."""

    def __init__(self, rank: int, device: torch.device):
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and CUDA's state
        self.rank, self.device = rank, device
        self.connection, there = context.Pipe()
        # daemonic: it ends with the worker; if the worker is killed, _end_with_parent ends it
        self.process: BaseProcess = context.Process(target=_serve, args=(there, rank), daemon=True, name=f"rank {rank}")
        self.process.start()
        there.close()
        self.died = False
        self.failure: _Failure | None = None

    def receive(self) -> str:
        """Return its next message; empty if it died or failed instead."""
        try:
            message: str | _Failure = self.connection.recv()
        except (EOFError, OSError):
            self.died = True
            return ""
        if isinstance(message, str):
            return message
        self.failure = message
        return ""


class OtherRanks:
    """The `count - 1` processes that are ranks 1 and up of the trials that this process trains as rank 0."""

    def __init__(self, count: int, device: torch.device):
        self.count, self.device = count, device
        self._children = [_Child(rank, device_of(rank, device, count)) for rank in range(1, count)]

    @property
    def are_alive(self) -> bool:
        """Whether every process is alive."""
        return all(child.process.is_alive() for child in self._children)

    def close(self) -> None:
        """Kill the processes: they have nothing to save."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.join()
            child.connection.close()

    @contextlib.contextmanager
    def together(self, prepare: Prepare, *arguments: object, log: Path | None = None) -> Iterator[None]:
        """Make this process rank 0 of a process group within the context; the other ranks run what `prepare` returns.

        All ranks come to Diverged and Interrupted at the same step, so these leave the processes alive. Any other
        exception ends them; if another rank caused it, RankDied or RankFailed is raised instead.
        """
        end: Exception | None = None
        try:
            # The folder must exist as long as the group: when one rank has joined, another may still read in it.
            with tempfile.TemporaryDirectory(prefix="twinbench-ranks-") as folder, self._abort_if_one_dies():
                rendezvous = Path(folder) / "rendezvous"
                for child in self._children:
                    child.connection.send((self.count, rendezvous, child.device, prepare, arguments, log))
                self._wait_for("ready")  # before joining, so that none waits there for a rank that has failed
                _join(rendezvous, 0, self.count, device_of(0, self.device, self.count))
                try:
                    yield
                except (Diverged, Interrupted) as error:
                    end = error
                self._wait_for("ended")
                for child in self._children:
                    child.connection.send("leave")
                _leave()
                for child in self._children:  # the folder must stay until each has left, since leaving reads it
                    child.receive()
        except BaseException as error:
            cause = self._cause(time.monotonic()) if isinstance(error, Exception) else None
            if self.device.type == "cuda":
                _abort()
            self.close()
            if cause is not None:
                raise cause from error
            raise
        finally:
            _leave()
        if end is not None:
            raise end

    def _wait_for(self, message: str) -> None:
        """Wait until every other rank has sent `message`."""
        silent = {child.connection: child for child in self._children}
        while silent:
            for connection in wait(list(silent)):
                child = silent.pop(connection)  # type: ignore[call-overload]
                if child.receive() != message:
                    raise RankDied(f"rank {child.rank} is lost")  # the caller finds the cause

    def _cause(self, failed_at: float) -> Exception | None:
        """Return as an error how another rank made this one fail at `failed_at`; None if none did.

        Waits up to CAUSE_SECONDS for the other ranks to send their errors.
        """
        while silent := {child.connection: child for child in self._children if not (child.died or child.failure)}:
            left = failed_at + CAUSE_SECONDS - time.monotonic()
            readable = wait(list(silent), max(0.0, left))
            if not readable:
                break
            for connection in readable:
                silent[connection].receive()  # type: ignore[index]
        for child in self._children:
            if child.died:
                child.process.join(CAUSE_SECONDS)
                return RankDied(f"rank {child.rank} died ({exit_text(child.process.exitcode)})")
        # A rank that fails makes all others fail, so the first failure is the cause.
        failures = sorted((child.failure, child.rank) for child in self._children if child.failure is not None)
        if not failures or failures[0][0].time > failed_at:
            return None
        failure, rank = failures[0]
        cause = RankFailed(f"rank {rank} raised {failure.error}")
        cause.add_note(f"On rank {rank}:\n{failure.traceback}")
        return cause

    @contextlib.contextmanager
    def _abort_if_one_dies(self) -> Iterator[None]:
        """Abort the process group when a rank dies: on GPUs a collective would wait for it as for a slow rank."""
        if self.device.type != "cuda":
            yield
            return
        over = threading.Event()
        sentinels = [child.process.sentinel for child in self._children]

        def watch() -> None:
            while not over.wait(0.5):
                if wait(sentinels, 0):
                    _abort()
                    return

        thread = threading.Thread(target=watch, daemon=True, name="watch ranks")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


_kept: OtherRanks | None = None


def other_ranks(count: int, device: torch.device) -> OtherRanks:
    """Return the other ranks of this process: those of the last trial, if they fit this one."""
    global _kept
    if _kept is None or (_kept.count, _kept.device) != (count, device) or not _kept.are_alive:
        close_other_ranks()
        _kept = OtherRanks(count, device)
    return _kept


def close_other_ranks() -> None:
    """End the processes that are kept. The next trial starts new ones."""
    global _kept
    if _kept is not None:
        _kept.close()
        _kept = None


def device_of(rank: int, device: torch.device, count: int) -> torch.device:
    """Return the device of a rank: the CPU, or one GPU each from `device` on. ValueError if there are too few GPUs."""
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ValueError(f"{count} ranks need a CPU or CUDA devices, not {device}")
    first, available = device.index or 0, torch.cuda.device_count()
    if first + count > available:
        problem = f"{count} ranks from cuda:{first} on need {first + count} GPUs, one each; there are {available}"
        raise ValueError(problem)
    return torch.device("cuda", first + rank)


def _join(rendezvous: Path, rank: int, count: int, device: torch.device) -> None:
    """Make this process a rank of a new process group."""
    with _on_loopback():
        on_gpu = device.type == "cuda"
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            f"file://{rendezvous}",
            rank=rank,
            world_size=count,
            timeout=LONGEST_WAIT,
            device_id=device if on_gpu else None,
        )


def _leave() -> None:
    """Leave the process group, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _abort() -> None:
    """Abort a process group on GPUs that has lost a rank: leaving it normally would wait for that rank."""
    if dist.is_initialized():
        dist.distributed_c10d._abort_process_group()


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Let process groups that are made in this context use loopback, unless the environment names an interface.

    By default gloo would listen on the address of the host's name.
    """
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    wanted = {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    wanted["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "0"  # NCCL's own watchdog would end the worker
    added = {name: value for name, value in wanted.items() if value and name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def exit_text(code: int | None) -> str:
    """Return the exit code of a process as text, with the name of the signal that ended it."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


# --- in the other ranks ---------------------------------------------------------------------------------------------


def _serve(connection: Connection, rank: int) -> None:
    """Run the process of another rank: train one trial after another until rank 0 ends."""
    for ignored in (signal.SIGINT, signal.SIGUSR2):  # Ctrl-C and SLURM's warning reach rank 0, too, which decides
        signal.signal(ignored, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True, name="end with rank 0").start()
    with contextlib.suppress(EOFError, BrokenPipeError):  # rank 0 has ended
        while True:
            count, rendezvous, device, prepare, arguments, log = connection.recv()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM sends it to every process; rank 0 decides
            try:
                _append_output_to(log)
                run = prepare(device, *arguments)
                connection.send("ready")
                _join(rendezvous, rank, count, device)
                run()
                del run
            except BaseException as error:
                failure = _Failure(time.monotonic(), f"{type(error).__name__}: {error}", traceback.format_exc())
                connection.send(failure)  # before the connections of the process group close
                os._exit(1)  # closes them, even if some thread hangs
            connection.send("ended")
            connection.recv()  # "leave": every rank has finished the last collective
            _leave()
            connection.send("left")
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a worker that ends sends it to its children


def _end_with_parent() -> None:
    """End this process when the worker ends, even if this process hangs in a call."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)


def _append_output_to(log: Path | None) -> None:
    """Append everything that this process prints from now on to `log`, if there is one."""
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (1, 2):
            os.dup2(file, stream)
        os.close(file)
