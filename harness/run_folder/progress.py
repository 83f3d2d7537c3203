"""Incremental reader of a run folder: each poll reads only the records and attempts that changed."""

import math
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from twinbench.harness.run_folder.leases import DIED, STALE_SECONDS, LeaseObserver, is_running, process_lives
from twinbench.results.attempts import AttemptInfo, attempt_content, attempt_file, attempt_numbers, last_attempt
from twinbench.results.record import RECORDS, Record, TornRecord, read_record

LEAST_TIMES_ITS_COST = 10  # polls take at most a tenth of the time on a slow file system


@dataclass(frozen=True)
class RecordSummary:
    """The part of a record that progress views show. `seconds`: training and evaluation; metrics by (name, split)."""

    status: str
    reason: str
    metrics: Mapping[tuple[str, str], float]
    seconds: float
    finished: str
    attempts: int


class _Latest(NamedTuple):
    """A trial's last attempt: its number (0 for none), a stamp of its file, its content, and why that is not known."""

    number: int = 0
    stamp: object = None
    attempt: AttemptInfo = AttemptInfo()
    problem: str = ""


class RunProgress:
    """Records and attempts of the `planned` trials in a run folder.

    The caller may replace `planned` at any time, for example when the plan has grown. A folder that does not exist has
    no records and no attempts.
    """

    def __init__(self, folder: Path, planned: Collection[str]):
        self.folder, self.planned = folder, planned
        self.recorded: dict[str, RecordSummary] = {}
        self.unreadable: dict[str, str] = {}  # file name of a record: what is wrong with it
        self._record_stamps: dict[str, object] = {}
        self._attempts: dict[str, _Latest] = {}

    @property
    def missing(self) -> int:
        """The number of planned trials without a record."""
        return len(self.planned) - len(self.recorded)

    def poll_records(self) -> list[str]:
        """Read new and changed records, forget removed ones; return the ids of the trials that were read."""
        found = {name.removesuffix(".json"): name for name in _names(self.folder / RECORDS) if name.endswith(".json")}
        found = {trial_id: name for trial_id, name in found.items() if trial_id in self.planned}
        self.recorded = {trial_id: one for trial_id, one in self.recorded.items() if trial_id in found}
        self.unreadable = {name: problem for name, problem in self.unreadable.items() if name in found.values()}
        read = []
        for trial_id, name in found.items():
            known, file = self.recorded.get(trial_id), self.folder / RECORDS / name
            if known and known.status == "done":
                continue  # never changes; the record of a failed trial is replaced when the trial is retried
            stamp = file_stamp(file)
            if (known or name in self.unreadable) and stamp == self._record_stamps[name]:
                continue
            self._record_stamps[name] = stamp
            self.recorded.pop(trial_id, None)
            self.unreadable.pop(name, None)
            try:
                self.recorded[trial_id] = _summary(read_record(file))
                read.append(trial_id)
            except TornRecord as error:
                self.unreadable[name] = str(error)
        return read

    def poll_attempts(self) -> dict[str, AttemptInfo]:
        """Return the last attempt of every started trial without a record; read those that changed."""
        started = [
            name for name in _names(self.folder / "trials") if name in self.planned and name not in self.recorded
        ]
        self._attempts = {trial_id: self._latest_attempt(trial_id) for trial_id in started}
        return {trial_id: latest.attempt for trial_id, latest in self._attempts.items() if latest.attempt}

    @property
    def unreadable_attempts(self) -> dict[str, str]:
        """The trials without a record whose last attempt could not be read at the last poll, and why."""
        return {trial_id: latest.problem for trial_id, latest in self._attempts.items() if latest.problem}

    def _latest_attempt(self, trial_id: str) -> _Latest:
        """Return the trial's last attempt; list its folder only if there is a new one."""
        number, known, attempt, problem = self._attempts.get(trial_id, _Latest())
        is_latest = number and not attempt_file(self.folder, trial_id, number + 1).exists()
        stamp = file_stamp(attempt_file(self.folder, trial_id, number)) if is_latest else None
        try:
            if stamp is None:
                number = max(attempt_numbers(self.folder, trial_id), default=0)
                stamp = file_stamp(attempt_file(self.folder, trial_id, number))
            if stamp != known or problem:
                attempt = attempt_content(self.folder, trial_id, number) if number else AttemptInfo()
        except FileNotFoundError:  # it was removed a moment ago
            return _Latest()
        except OSError as error:
            return _Latest(number, stamp, problem=f"its attempts cannot be read ({error.strerror or error})")
        return _Latest(number, stamp, attempt)

    def is_worked_on(self, leases: LeaseObserver) -> bool:
        """Whether a worker, started by any command, holds a trial without a record."""
        attempts = self.poll_attempts().items()
        held = [leases.holds(trial_id, self._attempts[trial_id].number, attempt) for trial_id, attempt in attempts]
        return any(held)  # not lazily: `leases` must observe every attempt

    def why_stopped(self, before: Mapping[str, AttemptInfo]) -> str:
        """Return the reason of the latest attempt that ended without a record; empty if none gave one.

        Attempts that are equal to those in `before` ended in an earlier run and are ignored.
        """
        attempts = self.poll_attempts().items()
        ended = [one for trial_id, one in attempts if one.get("reason") and one != before.get(trial_id)]
        return max(ended, key=lambda one: one.get("updated", ""))["reason"] if ended else ""


def _summary(record: Record) -> RecordSummary:
    result, circumstance = record["result"], record["circumstance"]
    return RecordSummary(
        status=result["status"],
        reason=result["reason"],
        metrics={(metric["name"], metric["split"]): float(metric["value"]) for metric in result["metrics"]},
        seconds=seconds_spent(record),
        finished=str(circumstance.get("finished", "")),
        attempts=int(finite(circumstance.get("attempts")) or 1),
    )


def seconds_spent(record: Record) -> float:
    """Return the seconds of training and evaluation that a record states; 0 for what is no finite number."""
    parts = ("train_seconds", "evaluation_seconds")
    return sum(finite(record["circumstance"].get(part)) or 0.0 for part in parts)


def state_of(attempt: AttemptInfo) -> str:
    """Return the state of a trial without a record from its last attempt.

    `running`; `silent` if its worker, on another machine, has not reported for STALE_SECONDS; `died`; `interrupted`.
    """
    if not is_running(attempt):
        return DIED if attempt.get("status") == DIED else "interrupted"
    lives = process_lives(attempt)
    if lives is None:
        silence = seconds_since(attempt.get("updated") or attempt.get("started", ""))
        return "interrupted" if silence is None else "silent" if silence > STALE_SECONDS else "running"
    return "running" if lives else DIED


def seconds_since(moment: str) -> float | None:
    """Return the seconds from an attempt's timestamp until now; None if the timestamp is malformed."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None


def seconds_left(attempt: AttemptInfo) -> float | None:
    """Return the remaining training time at the attempt's own pace so far; None before there is a pace."""
    step, steps = attempt.get("step", 0), attempt.get("steps")
    done = step - attempt.get("from_step", 0)
    began, updated = seconds_since(attempt.get("started", "")), seconds_since(attempt.get("updated", ""))
    if done <= 0 or steps is None or began is None or updated is None:
        return None
    return (began - updated) / done * (steps - step)


def running_attempts(run_folder: Path) -> list[AttemptInfo]:
    """Return the attempts in the folder that are running now."""
    found = [last_attempt(run_folder, name) for name in _names(run_folder / "trials")]
    return [attempt for attempt in found if attempt and state_of(attempt) == "running"]


def poll_pause(began: float, least: float) -> float:
    """Return the seconds to wait after a poll that began at the time `began` of the monotonic clock."""
    return max(least, LEAST_TIMES_ITS_COST * (time.monotonic() - began))


def file_stamp(file: Path) -> object:
    """Return a value that changes when the file is rewritten; None if there is no such file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def finite(value: object) -> float | None:
    """Return `value` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def _names(folder: Path) -> list[str]:
    """Return the names in a folder that are not hidden; none if the folder cannot be read."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []
