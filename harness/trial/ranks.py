"""The other ranks of a trial: child processes of the worker, which is rank 0, on the same machine.

They stay warm: what imports torch once serves trial after trial. Every trial forms a process group of its own. Rank 0
alone claims, saves, measures and records; the others compute their share of every batch and end when it ends.

What is said over a child's pipe, trial by trial: rank 0 sends the work; each child prepares it and says "ready"; all
form the group and train; each child says "ended"; rank 0 sends "leave", and all leave the group. A child that raises
says what it raised and ends; one that dies closes its pipe. Either makes the collectives of all other ranks fail.
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
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from twinbench.harness.training.loop import Interrupted
from twinbench.harness.training.loss_log import Diverged

# How long a rank waits for another that lives: while rank 0 saves and measures, the others wait in a collective. One
# that dies is noticed at once, since its connections close; one that hangs is a matter for the trial's time limit.
LONGEST_WAIT = timedelta(minutes=30)
# After a collective failed, how long the rank that was the cause has to be found dead or to say what it raised.
CAUSE_SECONDS = 3.0

Prepare = Callable[..., Callable[[], None]]
"""Called with a device and what else was sent; returns what is to run once the process group is formed."""


class RankDied(Exception):
    """Another rank's process is gone: no fault of the trial's as far as anybody knows; its state is kept."""


class RankFailed(Exception):
    """Another rank raised; its traceback is in the notes, and so in this one's own."""


class _Other:
    """One other rank, as rank 0 sees it."""

    def __init__(self, rank: int, device: torch.device):
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads and CUDA's state
        self.rank, self.device = rank, device
        self.connection, there = context.Pipe()
        # daemonic: it ends with the worker; what a kill leaves behind ends itself, see _end_with_parent
        self.process: BaseProcess = context.Process(target=_serve, args=(there, rank), daemon=True, name=f"rank {rank}")
        self.process.start()
        there.close()
        self.died = False
        self.failure: tuple[float, str, str] | None = None  # when, what was raised, the traceback

    @property
    def is_lost(self) -> bool:
        """Whether it has died or failed."""
        return self.died or self.failure is not None

    def listen(self) -> str:
        """The word it says next; "" where it died or failed instead."""
        try:
            said = self.connection.recv()
        except (EOFError, OSError):
            self.died = True
            return ""
        if isinstance(said, str):
            return said
        self.failure = said
        return ""


class OtherRanks:
    """`count - 1` warm processes: ranks 1 and up of the trials that this process trains as rank 0."""

    def __init__(self, count: int, device: torch.device):
        self.count, self.device = count, device
        self._others = [_Other(rank, device_of(rank, device, count)) for rank in range(1, count)]

    @property
    def is_whole(self) -> bool:
        """Whether every process lives."""
        return all(other.process.is_alive() for other in self._others)

    def close(self) -> None:
        """Kills what is left: nothing of theirs is worth saving."""
        for other in self._others:
            other.process.kill()
        for other in self._others:
            other.process.join()
            other.connection.close()

    @contextlib.contextmanager
    def together(self, prepare: Prepare, *arguments: Any, log: Path | None = None) -> Iterator[None]:
        """Within, this process is rank 0 of a process group, whose other ranks do what `prepare` returned them.

        Diverged and Interrupted are ends to which all ranks come at the same step. After any other exception the
        processes are ended, and it is RankDied or RankFailed where another rank was the cause.
        """
        end: Exception | None = None
        try:
            # the folder stays as long as the group: a rank that has joined may be ahead of one that still reads there
            with tempfile.TemporaryDirectory(prefix="twinbench-ranks-") as folder, self._watched():
                rendezvous = Path(folder) / "rendezvous"
                for other in self._others:
                    other.connection.send((self.count, rendezvous, other.device, prepare, arguments, log))
                self._hear("ready")  # nobody waits in the rendezvous for one that fails before
                _join(rendezvous, 0, self.count, device_of(0, self.device, self.count))
                try:
                    yield
                except (Diverged, Interrupted) as error:
                    end = error
                self._hear("ended")
                for other in self._others:
                    other.connection.send("leave")
                _leave()
                for other in self._others:  # each once more looks into the folder, and would wait for one that is gone
                    other.listen()
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

    def _hear(self, word: str) -> None:
        """Waits until every other rank has said `word`."""
        silent = {other.connection: other for other in self._others}
        while silent:
            for connection in wait(list(silent)):
                other = silent.pop(connection)  # type: ignore[call-overload]
                if other.listen() != word:
                    raise RankDied(f"rank {other.rank} is lost")  # the caller finds out how and why

    def _cause(self, failed_at: float) -> Exception | None:
        """Which other rank made this one fail at `failed_at`, if one did; they have a moment to say so."""
        while silent := {other.connection: other for other in self._others if not other.is_lost}:
            left = failed_at + CAUSE_SECONDS - time.monotonic()
            heard = wait(list(silent), max(0.0, left))
            if not heard:
                break
            for connection in heard:
                silent[connection].listen()  # type: ignore[index]
        for other in self._others:
            if other.died:
                other.process.join(CAUSE_SECONDS)
                return RankDied(f"rank {other.rank} died ({_ended(other.process.exitcode)})")
        # whoever fails makes all others fail: the first was the cause
        failures = sorted((other.failure, other.rank) for other in self._others if other.failure is not None)
        if not failures or failures[0][0][0] > failed_at:
            return None
        (_, what, trace), rank = failures[0]
        cause = RankFailed(f"rank {rank} raised {what}")
        cause.add_note(f"On rank {rank}:\n{trace}")
        return cause

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """On GPUs a collective waits for a dead rank as for a slow one, until somebody aborts the group."""
        if self.device.type != "cuda":
            yield
            return
        over = threading.Event()
        sentinels = [other.process.sentinel for other in self._others]

        def watch() -> None:
            while not over.wait(0.5):
                if wait(sentinels, 0):
                    _abort()
                    return

        thread = threading.Thread(target=watch, daemon=True, name="watch over ranks")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


_kept: OtherRanks | None = None


def other_ranks(count: int, device: torch.device) -> OtherRanks:
    """The other ranks of this process, kept from the last trial where they serve this one too."""
    global _kept
    if _kept is None or (_kept.count, _kept.device) != (count, device) or not _kept.is_whole:
        close_other_ranks()
        _kept = OtherRanks(count, device)
    return _kept


def close_other_ranks() -> None:
    """Ends the processes that are kept; the next trial starts others."""
    global _kept
    if _kept is not None:
        _kept.close()
        _kept = None


def device_of(rank: int, device: torch.device, count: int) -> torch.device:
    """Where a rank computes: the CPU for all, or one GPU each from `device` on. ValueError where there are too few."""
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise ValueError(f"{count} ranks need a CPU or CUDA devices, not {device}")
    first, there = device.index or 0, torch.cuda.device_count()
    if first + count > there:
        raise ValueError(f"{count} ranks from cuda:{first} on need {first + count} GPUs, one each; there are {there}")
    return torch.device("cuda", first + rank)


def _join(rendezvous: Path, rank: int, count: int, device: torch.device) -> None:
    """Makes this process a rank of a new process group."""
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
    """Out of the process group, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _abort() -> None:
    """Out of a process group on GPUs of which a rank is lost: leaving it in peace would wait for that rank."""
    if dist.is_initialized():
        dist.distributed_c10d._abort_process_group()


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Process groups made within talk over loopback, unless the environment names an interface already.

    Left alone, gloo would listen on whatever address the host's name stands for.
    """
    loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    wanted = {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    wanted["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "0"  # NCCL's own watchdog would end the whole worker
    added = {name: value for name, value in wanted.items() if value and name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _ended(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


# --- in the other ranks ---------------------------------------------------------------------------------------------


def _serve(connection: Connection, rank: int) -> None:
    """Another rank's life."""
    for ignored in (signal.SIGINT, signal.SIGUSR2):  # Ctrl-C, and SLURM's warning: rank 0 hears of it and decides
        signal.signal(ignored, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True, name="end with rank 0").start()
    with contextlib.suppress(EOFError, BrokenPipeError):  # rank 0 is gone
        while True:
            count, rendezvous, device, prepare, arguments, log = connection.recv()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM sends it to every process: again rank 0 decides
            try:
                _print_to(log)
                run = prepare(device, *arguments)
                connection.send("ready")
                _join(rendezvous, rank, count, device)
                run()
                del run
            except BaseException as error:
                failure = (time.monotonic(), f"{type(error).__name__}: {error}", traceback.format_exc())
                connection.send(failure)  # before the connections of the process group close
                os._exit(1)  # which closes them, whatever hangs
            connection.send("ended")
            connection.recv()  # "leave": all are done with the last collective
            _leave()
            connection.send("left")
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a worker that ends terminates its children


def _end_with_parent() -> None:
    """Ends this process when the worker is gone, in whatever call it hangs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)


def _print_to(log: Path | None) -> None:
    """From here on what this process prints goes to the end of `log`, if one is kept."""
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (1, 2):
            os.dup2(file, stream)
        os.close(file)
