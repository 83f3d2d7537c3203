"""Runs trials: data, training, evaluation, record. Every launcher calls this on the same trials and folder."""

import contextlib
import os
import socket
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from twinbench.harness.run_folder.heartbeat import LOST, Heartbeat
from twinbench.harness.run_folder.leases import DIED, Attempt, LeaseObserver, claim, is_recorded, now, why_hopeless
from twinbench.harness.run_folder.live_curves import delete_curves
from twinbench.harness.system import provenance
from twinbench.harness.system.memory import Room, has_run_out
from twinbench.harness.training.checkpoint import drop_state, saved_progress
from twinbench.harness.training.cuda_graphs import own_streams
from twinbench.harness.training.loop import Interrupted, finished_curves, precision_on
from twinbench.harness.training.loss_log import Diverged
from twinbench.harness.training.schedule import scaled_learning_rate
from twinbench.harness.trial.execute import Found, Report, Surroundings, mode_of, train_and_evaluate
from twinbench.harness.trial.ranks import RankDied
from twinbench.harness.trial.reporter import reporter
from twinbench.results.atomic_files import is_storage_error
from twinbench.results.attempts import trial_folder
from twinbench.results.record import Result, write_artefact, write_record
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.protocol import Training
from twinbench.sweeps.trial import Trial


class BrokenDevice(Exception):
    """The process can use its device no more: after an illegal access, say, every later call fails too."""


class Unwritable(Exception):
    """The run folder takes no more: a full disk, a quota, a lost mount. No trial's fault, and no trial can go on."""


Execute = Callable[
    [Trial, Surroundings, Path, Report, Callable[[], bool], Found, Path | None], Generator[None, None, tuple[str, str]]
]
"""`train_and_evaluate`, or what tests put in its place."""


def why_unusable(device: str) -> str:
    """Why the device computes nothing, so that a worker on it would fail trial after trial; empty where it does."""
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # the latter of a torch that was built without CUDA
        return f"{device} cannot be used: {str(error).splitlines()[0]}"
    return ""


def run_trial(
    trial: Trial,
    surroundings: Surroundings,
    should_stop: Callable[[], bool] = lambda: False,
    leases: LeaseObserver | None = None,
    execute: Execute | None = None,
) -> str:
    """Claims `trial`, runs it from where it stopped and writes its record last. Returns the status.

    `done`, `diverged`, `collapsed` and `failed` leave a record; `interrupted` leaves the state to go on from; `taken`
    says that another worker holds it or that it is recorded already. Raises Unwritable, and BrokenDevice, after which
    the process must end.
    """
    return run_pack([trial], surroundings, should_stop, leases, execute)[0]


def run_pack(
    trials: Sequence[Trial],
    surroundings: Surroundings,
    should_stop: Callable[[], bool] = lambda: False,
    leases: LeaseObserver | None = None,
    execute: Execute | None = None,
) -> list[str]:
    """Runs `trials` as `run_trial` does one, an update of each in turn. Returns their statuses.

    Each is a run of its own, with its own attempt, state, log and record, and ends as it would alone. Those that begin
    together and see the same images are trained on the same batches, whose views are made once. On a GPU each has a
    stream of its own, so that their updates run beside each other.
    """
    statuses, broken = [""] * len(trials), False
    surroundings = replace(surroundings, pack=len(trials))

    def stops() -> bool:
        return broken or should_stop()

    device = torch.device(surroundings.device)
    room, streams = Room(device), own_streams(device, len(trials))
    runs = {number: _run(trial, surroundings, stops, leases, execute, room) for number, trial in enumerate(trials)}
    errors = []
    while runs:
        for number, run in list(runs.items()):
            try:
                with torch.cuda.stream(streams[number]):  # None changes nothing
                    next(run)
                continue
            except StopIteration as end:
                statuses[number] = end.value
                if number == 0 and end.value == "taken":  # another worker is about to claim the rest, too
                    return ["taken"] * len(trials)
            except BaseException as error:  # nobody's own failure: the others save what they have, and it goes on up
                errors.append(error)
                broken = True
            del runs[number]
    if errors:
        raise errors[0]
    return statuses


def _run(
    trial: Trial,
    surroundings: Surroundings,
    should_stop: Callable[[], bool],
    leases: LeaseObserver | None,
    execute: Execute | None,
    room: Room,
) -> Generator[None, None, str]:
    folder = surroundings.run_folder
    with _unwritable_told(None):
        attempt = claim(folder, trial.trial_id, leases or LeaseObserver(), surroundings.where)
    if attempt is None:
        return "taken"
    if reason := why_hopeless(folder, trial.trial_id, attempt.number):
        record_failure(trial, surroundings, attempt, reason)
        return "failed"
    heart = Heartbeat(
        attempt, surroundings.trial_time_limit, lambda reason: record_failure(trial, surroundings, attempt, reason)
    )
    with _unwritable_told(attempt), heart:
        if surroundings.pack > 1:
            yield  # until all of the pack are claimed, so that no other worker takes some of them meanwhile
            if not room.for_another():
                attempt.end("interrupted", "its pack left no memory for it")
                return "interrupted"
        run = _attempt(trial, surroundings, attempt, heart, should_stop, execute or train_and_evaluate, room)
        return (yield from _logged(run, attempt.log) if surroundings.keep_log else run)


def _attempt(
    trial: Trial,
    surroundings: Surroundings,
    attempt: Attempt,
    heart: Heartbeat,
    should_stop: Callable[[], bool],
    execute: Execute,
    room: Room,
) -> Generator[None, None, str]:
    among = f", one of {surroundings.pack} in turn" if surroundings.pack > 1 else ""
    print(
        f"{now()} attempt {attempt.number} at {trial.method} seed {trial.seed} on {socket.gethostname()}{among}",
        flush=True,
    )
    status, reason, trace, found = "failed", "", "", Found()
    try:
        status, reason = yield from execute(
            trial,
            surroundings,
            trial_folder(surroundings.run_folder, trial.trial_id),
            reporter(attempt),
            lambda: heart.should_stop or should_stop(),
            found,
            attempt.log if surroundings.keep_log else None,
        )
    except Interrupted:
        attempt.end("interrupted", heart.reason)
        return "interrupted"
    except RankDied as error:
        # A death, since a trial that kills its ranks must come to an end too; but not where all were told to end, which
        # a rank that still imports does not survive.
        attempt.end("interrupted" if should_stop() else DIED, str(error))
        return "interrupted"
    except Diverged as error:
        status, reason = "diverged", str(error)
    except Exception as error:  # failure is data: one bad trial never stops a sweep
        if isinstance(error, OSError) and is_storage_error(error):
            raise
        if isinstance(error, torch.AcceleratorError) and not has_run_out(error):
            traceback.print_exc()
            attempt.end(DIED, _told(error))
            raise BrokenDevice(_told(error)) from error
        if has_run_out(error) and surroundings.pack > 1:  # alone it may fit: it goes on then
            attempt.end("interrupted", "its pack left no memory for it")
            return "interrupted"
        reason, trace = f"{type(error).__name__}: {_told(error)}", traceback.format_exc()
        traceback.print_exc()
    heart.disarm_time_limit()
    if status == "failed" and _is_anothers(attempt):
        attempt.end("interrupted", LOST)
        return "interrupted"
    took_turns = replace(surroundings, pack=max(1, room.begun))  # others may have claimed the rest of its pack
    _write(trial, took_turns, attempt, status, reason, trace, found)
    attempt.end(status, reason)
    if status != "failed":  # one that failed may be asked to go on from where it was
        drop_state(trial_folder(surroundings.run_folder, trial.trial_id))
    return status


def _told(error: Exception) -> str:
    """What it says; of a device's errors the first line alone, after which come advices that are always the same."""
    return str(error).splitlines()[0] if isinstance(error, torch.AcceleratorError) else str(error)


def _logged(run: Generator[None, None, str], log: Path) -> Generator[None, None, str]:
    """`run`, with what is printed during each of its turns sent to the end of `log`."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)  # once: a turn is an update
    try:
        while True:
            with _printed_to(file):
                try:
                    next(run)
                except StopIteration as end:
                    return str(end.value)
            yield
    finally:
        os.close(file)


@contextlib.contextmanager
def _printed_to(file: int) -> Iterator[None]:
    """Sends this process's output to the open `file`, what libraries in C print included."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    try:
        for stream in (1, 2):
            os.dup2(file, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, was in zip((1, 2), before, strict=True):
            os.dup2(was, stream)
            os.close(was)


@contextlib.contextmanager
def _unwritable_told(attempt: Attempt | None) -> Iterator[None]:
    """Turns a disk that takes no more into Unwritable; the attempt ends as interrupted where that can be written."""
    try:
        yield
    except OSError as error:
        if not is_storage_error(error):
            raise
        reason = f"the run folder cannot be written: {error.strerror}"
        if attempt:
            with contextlib.suppress(OSError):
                attempt.end("interrupted", reason)
        raise Unwritable(reason) from error


def _is_anothers(attempt: Attempt) -> bool:
    """Whether another worker has gone on with the trial: a failure here must not stand in place of its result."""
    return attempt.is_lost() or is_recorded(attempt.run_folder, attempt.trial_id)


def record_failure(trial: Trial, surroundings: Surroundings, attempt: Attempt, reason: str) -> None:
    """Records a trial that could not say itself what became of it. Its state stays: nothing computed is lost."""
    if _is_anothers(attempt):
        attempt.end("interrupted", LOST)
        return
    progress = saved_progress(trial_folder(surroundings.run_folder, trial.trial_id))
    _write(trial, surroundings, attempt, "failed", reason, "", Found(progress))
    attempt.end("failed", reason)


def _write(
    trial: Trial,
    surroundings: Surroundings,
    attempt: Attempt,
    status: str,
    reason: str,
    trace: str,
    found: Found,
) -> None:
    """Artefacts first, the record last."""
    run_folder, progress = surroundings.run_folder, found.progress
    curves = outputs = None
    if progress.epochs:
        curves = write_artefact(run_folder, canonical_json(finished_curves(progress)), ".json")
    if found.outputs:
        outputs = write_artefact(run_folder, to_safetensors(_compact(found.outputs)), ".safetensors")
    result: Result = {
        "trial_id": trial.trial_id,
        "cell_id": trial.cell_id,
        "trial": trial.content(),
        "derived": _derived(trial),
        "status": status,
        "reason": reason,
        "metrics": found.metrics,
        "curves": curves,
        "outputs": outputs,
    }
    device = torch.device(surroundings.device)
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else provenance.peak_memory_bytes()
    circumstance = {
        "started": attempt.first_started(),
        "finished": now(),
        "attempts": attempt.number,
        "train_seconds": round(progress.train_seconds, 3),
        "shared_seconds": round(progress.shared_seconds, 3),
        "solo_step_seconds": progress.solo_step_seconds and round(progress.solo_step_seconds, 6),
        "pack": surroundings.pack,
        "cuda_graph": progress.cuda_graph,
        "evaluation_seconds": round(found.evaluation_seconds, 3),
        "images_seen": progress.images_seen,
        "peak_memory_bytes": peak if surroundings.pack == 1 else None,  # that of a pack is no trial's own
        "commit": provenance.commit(),
        "code_hash": provenance.code_hash(),
        "versions": provenance.versions(),
        "device": torch.cuda.get_device_name(device) if on_gpu else surroundings.device,
        "precision": precision_on(device, trial.training.get("precision", "fp32")),
        "mode": mode_of(surroundings),
        "threads": surroundings.threads,
        "ranks": surroundings.processes if trial.training else 1,
        "host": provenance.host(),
        "where": surroundings.where,
        "traceback": trace,
    }
    write_record(run_folder, result, circumstance)
    delete_curves(trial_folder(run_folder, trial.trial_id))


def _derived(trial: Trial) -> dict[str, object]:
    """What came of what was asked."""
    return {"learning_rate_scaled": scaled_learning_rate(Training(**trial.training))} if trial.training else {}


def _compact(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """One byte for what is right or wrong, four for a class."""
    return {
        name: values.to(torch.uint8 if values.dtype == torch.bool else torch.int32).cpu().contiguous()
        for name, values in outputs.items()
    }
