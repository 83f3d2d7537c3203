"""What a worker does with a trial: claim it, train and evaluate it, record it. All launchers call `run_pack`.

`run_pack` gives each trial of a pack a generator (`_run`) that yields after every update, and advances them in turn.
`_run` claims the trial and keeps its heartbeat; `_attempt` executes it and turns how it ended into a status.
"""

import contextlib
import socket
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from twinbench.harness.run_folder.heartbeat import LOST, Heartbeat
from twinbench.harness.run_folder.leases import DIED, Attempt, LeaseObserver, claim, now, why_hopeless
from twinbench.harness.system.memory import Room, is_out_of_memory
from twinbench.harness.system.user_cache import CacheUnusable
from twinbench.harness.training.checkpoint import drop_state
from twinbench.harness.training.cuda_graphs import own_streams
from twinbench.harness.training.loop import Interrupted
from twinbench.harness.training.loss_log import Diverged
from twinbench.harness.trial.execute import Found, Surroundings, train_and_evaluate
from twinbench.harness.trial.output_log import log_output, usable_log
from twinbench.harness.trial.ranks import RankDied
from twinbench.harness.trial.recording import is_superseded, record_failure, record_trial
from twinbench.harness.trial.reporter import reporter
from twinbench.results.atomic_files import is_storage_error
from twinbench.results.attempts import trial_folder
from twinbench.sweeps.errors import lines_of
from twinbench.sweeps.trial import Trial

NO_MEMORY = "the other trials of its pack left no memory for it"


class BrokenDevice(Exception):
    """This process can no longer use its device: after an illegal access, for example, every later call fails."""


class Unwritable(Exception):
    """The run folder cannot be written, or the cache used: a full disk, a quota, a lost mount. No trial caused it."""


def why_unusable(device: str) -> str:
    """Return why nothing can be computed on the device, where every trial would fail; empty if it works."""
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        return f"{device} cannot be used: {lines_of(error)[0]}"
    return ""


def run_pack(
    trials: Sequence[Trial],
    surroundings: Surroundings,
    should_stop: Callable[[], bool] = lambda: False,
    leases: LeaseObserver | None = None,
) -> list[str]:
    """Claim `trials`, run each from its saved state, if it has one, and write its record last. Return their statuses.

    `done`, `diverged`, `collapsed` and `failed` leave a record; `interrupted` leaves the state to continue from;
    `taken` means that another worker holds the trial or that it is already recorded. Raises Unwritable, and
    BrokenDevice, after which the process must end.

    The trials take turns, an update each. Each has its own attempt, state, log and record, and ends as it would alone.
    Trials that begin together and see the same images train on the same batches, whose views are made once. On a GPU
    each has its own stream, so that their updates run concurrently.
    """
    statuses, errors = [""] * len(trials), list[BaseException]()
    surroundings = replace(surroundings, pack=len(trials))
    device, leases = torch.device(surroundings.device), leases or LeaseObserver()
    room, streams = Room(device), own_streams(device, len(trials))

    def stops() -> bool:
        return bool(errors) or should_stop()

    runs = {number: _run(trial, surroundings, stops, leases, room) for number, trial in enumerate(trials)}
    while runs:
        for number, run in list(runs.items()):
            try:
                with torch.cuda.stream(streams[number]):  # None, on a CPU, changes nothing
                    next(run)
                continue
            except StopIteration as end:
                statuses[number] = end.value
                if number == 0 and end.value == "taken":  # another worker is about to claim the rest of the pack, too
                    return ["taken"] * len(trials)
            except BaseException as error:  # not a failure of one trial: the others save their state and end
                errors.append(error)
            del runs[number]
    if errors:
        raise errors[0]
    return statuses


def _run(
    trial: Trial, surroundings: Surroundings, should_stop: Callable[[], bool], leases: LeaseObserver, room: Room
) -> Generator[None, None, str]:
    """Claim the trial, run it and return its status; yield after every update."""
    folder = surroundings.run_folder
    with _storage_errors_as_unwritable():
        attempt = claim(folder, trial.trial_id, leases, surroundings.where)
    if attempt is None:
        return "taken"
    if reason := why_hopeless(folder, trial.trial_id, attempt.number):
        record_failure(trial, surroundings, attempt, reason)
        return "failed"

    def fail(reason: str) -> None:
        record_failure(trial, surroundings, attempt, reason)

    heartbeat = Heartbeat(attempt, surroundings.trial_time_limit, fail)
    with _storage_errors_as_unwritable(attempt), heartbeat:
        if surroundings.pack > 1:
            yield  # until all trials of the pack are claimed, so that no other worker claims some of them
            if not room.has_room_for_another():
                attempt.end("interrupted", NO_MEMORY)
                return "interrupted"
        log = usable_log(attempt.log) if surroundings.keep_log else None
        run = _attempt(trial, surroundings, attempt, heartbeat, should_stop, room, log)
        return (yield from log_output(run, log) if log else run)


def _attempt(
    trial: Trial,
    surroundings: Surroundings,
    attempt: Attempt,
    heartbeat: Heartbeat,
    should_stop: Callable[[], bool],
    room: Room,
    log: Path | None,
) -> Generator[None, None, str]:
    """Execute the trial, record how it ended and return its status."""
    pack = f", in a pack of {surroundings.pack}" if surroundings.pack > 1 else ""
    start = f"attempt {attempt.number} at {trial.method} seed {trial.seed} on {socket.gethostname()}{pack}"
    print(f"{now()} {start}", flush=True)
    folder, found, trace = trial_folder(surroundings.run_folder, trial.trial_id), Found(), ""
    try:
        status, reason = yield from train_and_evaluate(
            trial, surroundings, folder, reporter(attempt), lambda: bool(heartbeat.reason) or should_stop(), found, log
        )
    except Interrupted:
        attempt.end("interrupted", heartbeat.reason)
        return "interrupted"
    except RankDied as error:
        # Counted as a death, so that a trial that kills its ranks is not tried forever. When all processes are asked to
        # stop, a rank that is still importing dies, too: that does not count.
        attempt.end("interrupted" if should_stop() else DIED, str(error))
        return "interrupted"
    except Diverged as error:
        status, reason = "diverged", str(error)
    except Exception as error:  # a failed trial is a result, too: it must not stop the sweep
        _raise_unless_of_the_trial(error, attempt)
        if is_out_of_memory(error) and surroundings.pack > 1:  # it continues alone, where it may fit
            attempt.end("interrupted", NO_MEMORY)
            return "interrupted"
        traceback.print_exc()
        status, reason, trace = "failed", f"{type(error).__name__}: {_message(error)}", traceback.format_exc()
    heartbeat.disarm_time_limit()
    if status == "failed" and is_superseded(attempt):
        attempt.end("interrupted", LOST)
        return "interrupted"
    begun = replace(surroundings, pack=max(1, room.begun))  # other workers may have claimed the rest of the pack
    record_trial(trial, begun, attempt, status, reason, trace, found)
    attempt.end(status, reason)
    if status != "failed":  # a failed trial may be asked to continue from its state
        drop_state(folder)
    return status


def _raise_unless_of_the_trial(error: Exception, attempt: Attempt) -> None:
    """Raise what the trial did not cause: storage errors as they are, a broken device as BrokenDevice."""
    if isinstance(error, CacheUnusable) or (isinstance(error, OSError) and is_storage_error(error)):
        raise error
    if isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error):
        traceback.print_exc()
        attempt.end(DIED, _message(error))
        raise BrokenDevice(_message(error)) from error


def _message(error: Exception) -> str:
    """Return the error's text; of an accelerator's error the first line only, since the rest is general advice."""
    return lines_of(error)[0] if isinstance(error, torch.AcceleratorError) else str(error)


@contextlib.contextmanager
def _storage_errors_as_unwritable(attempt: Attempt | None = None) -> Iterator[None]:
    """Raise Unwritable for an error of the storage; end the attempt as interrupted, if that can be written."""
    try:
        yield
    except (OSError, CacheUnusable) as error:
        if isinstance(error, OSError) and not is_storage_error(error):
            raise
        reason = f"the run folder cannot be written: {error.strerror}" if isinstance(error, OSError) else str(error)
        if attempt:
            with contextlib.suppress(OSError):
                attempt.end("interrupted", reason)
        raise Unwritable(reason) from error
