"""Attempts at trials, as their files in a run folder say. harness/run_folder/leases.py writes the files."""

import errno
import os
import re
from pathlib import Path
from typing import BinaryIO, NotRequired, cast, get_type_hints

from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from twinbench.results.record import TrialId
from twinbench.sweeps.file_reader import open_regular, parse_json, read_regular

TRIALS = "trials"

_NAME = re.compile(r"attempt-(\d{4,})(\.json|\.log)")


def trial_folder(run_folder: Path, trial_id: str) -> Path:
    """Return the folder of a trial's attempts, logs and state."""
    return run_folder / TRIALS / trial_id


def attempt_file(run_folder: Path, trial_id: str, number: int, suffix: str = ".json") -> Path:
    """Return the path of an attempt's file, or of its log if `suffix` is ".log"."""
    return trial_folder(run_folder, trial_id) / f"attempt-{number:04d}{suffix}"


def attempt_numbers(run_folder: Path, trial_id: str, suffix: str = ".json") -> list[int]:
    """Return the numbers of all attempts so far, ascending; of those with a log if `suffix` is ".log"."""
    try:
        names = os.listdir(trial_folder(run_folder, trial_id))
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)) and match[2] == suffix)


class AttemptInfo(TypedDict, total=False):
    """Content of an attempt's file. The process that started the worker is its `parent`."""

    number: int
    status: str  # running, interrupted, died, or that of the record
    host: str
    machine: str  # boot and process namespace in which process numbers mean something
    pid: int
    process_start: str
    parent: int
    parent_start: str
    where: str  # the launcher's name for the worker
    started: str
    declared: int  # lines that the log of declarations had when the attempt began
    declared_head: str  # digest of the last of them
    updated: str
    beat: int  # grows with every write
    epoch: int
    step: int
    steps: int
    from_step: int  # the step at which this attempt began
    images_per_second: float
    seconds: float
    reason: str


_KINDS = get_type_hints(AttemptInfo)


def read_attempt(run_folder: Path, trial_id: str, number: int) -> AttemptInfo:
    """Return the content of an attempt's file; empty if it is not written yet or cannot be read.

    Keys that are unknown or have an impossible value are left out.
    """
    try:
        return attempt_content(run_folder, trial_id, number)
    except OSError:
        return {}


def attempt_content(run_folder: Path, trial_id: str, number: int) -> AttemptInfo:
    """Return what `read_attempt` does. OSError if the file is not written yet or cannot be read."""
    try:
        content = parse_json(read_regular(_file_name(run_folder, trial_id, number)))
    except ValueError:
        return {}
    items = content.items() if isinstance(content, dict) else ()
    return cast(AttemptInfo, {key: value for key, value in items if _is_possible(value, _KINDS.get(key))})


def _file_name(run_folder: Path, trial_id: str, number: int) -> str:
    """Return the path of an attempt's file: a string costs a tenth of a Path, and reports read thousands of them."""
    return f"{run_folder}/{TRIALS}/{trial_id}/attempt-{number:04d}.json"


def _is_possible(value: object, kind: type | None) -> bool:
    if kind is None or kind is str:
        return kind is str and isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < 2**53 and (kind is float or isinstance(value, int))  # NaN is not


class Attempt(TypedDict):
    """What claims and bundles need of an attempt. A text is empty if the attempt's file does not have it."""

    trial_id: TrialId
    number: int
    status: str
    reason: str
    started: str
    seconds: NotRequired[float]  # that it took, measured without the clock; absent if it did not end
    declared: NotRequired[int]  # as in AttemptInfo; absent in attempts of earlier versions
    declared_head: NotRequired[str]


_NEEDED = ("status", "reason", "started", "seconds", "declared", "declared_head")


def read_attempts(run_folder: Path, trial_id: str) -> list[Attempt]:
    """Return every attempt at a trial, in order. OSError if one cannot be read, which may have ended with a result."""
    return [_attempt(run_folder, trial_id, number) for number in attempt_numbers(run_folder, trial_id)]


def _attempt(run_folder: Path, trial_id: str, number: int) -> Attempt:
    """Return what claims and bundles need of an attempt. OSError if it cannot be read, or if the file is damaged."""
    file = _file_name(run_folder, trial_id, number)
    data = read_regular(file)
    try:
        content = parse_json(data or b'{"status": ""}')  # a worker that was killed as it began leaves an empty file
    except ValueError:
        raise OSError(errno.EINVAL, "the file is not JSON", file) from None
    needed = {key: content[key] for key in _NEEDED if key in content} if isinstance(content, dict) else {}
    if "status" not in needed or not all(_is_possible(value, _KINDS[key]) for key, value in needed.items()):
        raise OSError(errno.EINVAL, "the file does not hold an attempt", file)
    attempt = Attempt(trial_id=trial_id, number=number, status=needed["status"], reason="", started="")
    return cast(Attempt, attempt | needed)


def last_attempt(run_folder: Path, trial_id: str) -> AttemptInfo:
    """Return the content of the latest attempt's file; empty if there is no attempt."""
    return latest_attempt(run_folder, trial_id)[1]


def latest_attempt(run_folder: Path, trial_id: str) -> tuple[int, AttemptInfo]:
    """Return the number of the latest attempt (0 for none) and the content of its file, which may be empty."""
    last = max(attempt_numbers(run_folder, trial_id), default=0)
    return last, read_attempt(run_folder, trial_id, last) if last else AttemptInfo()


def open_log(run_folder: Path, trial_id: str, number: int) -> BinaryIO:
    """Open the log of an attempt. OSError if that fails, or if it is a link out of the run folder.

    What is shown of a run is shared, and must not be a file of somebody's own.
    """
    log = attempt_file(run_folder, trial_id, number, ".log")
    if not Path(os.path.realpath(log)).is_relative_to(os.path.realpath(run_folder)):
        raise OSError(errno.EPERM, "is a link out of the run folder, which is not followed", str(log))
    return open_regular(log)


def end_of_log(run_folder: Path, trial_id: str, most: int) -> str:
    """Return at most the last `most` bytes of the latest log of a trial as text; empty if it cannot be read."""
    try:
        number = max(attempt_numbers(run_folder, trial_id, ".log"), default=0)
        with open_log(run_folder, trial_id, number) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read(most).decode("utf-8", errors="replace")
    except OSError:
        return ""
