"""Attempts at a trial. The file of an attempt reports its progress and is the worker's lease on the trial.

    trials/TRIAL_ID/attempt-0001.json    created by the worker that claims the trial, replaced with every heartbeat
    trials/TRIAL_ID/attempt-0001.log     everything that the worker printed
    trials/TRIAL_ID/state.pt             the checkpoint from which the next attempt continues
    trials/TRIAL_ID/curves.json          the curves so far, for display only

A worker claims a trial by creating the file with the next number. The file system lets only one worker do so, so no
lock is needed and no lease is ever deleted. A worker that finds a higher number than its own has lost the lease. At
worst a lost lease makes a trial run twice; both runs write the same state and record, each as a whole file.
"""

import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal, Unpack

from twinbench.results.atomic_files import write_json_atomically
from twinbench.results.attempts import AttemptInfo, attempt_file, last_attempt, latest_attempt, read_attempt
from twinbench.results.log_head import LogHead, read_log_head
from twinbench.results.record import TornRecord, read_record, record_path
from twinbench.sweeps.hashing import canonical_json

BEAT_SECONDS = 10.0
# An NFS client may show an old version of a file for a minute. Taking a lease too early makes a trial run twice.
STALE_SECONDS = 180.0
REPORT_SECONDS = 1.0
DEATHS_ALLOWED = 3  # attempts in a row whose process died, alone and without progress: the trial itself kills it
ENDS_ALLOWED = 10  # attempts in a row without progress for any cause: a lost node, a slot too short to evaluate in
DIED = "died"  # status of an attempt whose process or rank died, or whose process has lost its device


def is_running(attempt: AttemptInfo) -> bool:
    """Whether the attempt has not recorded an end. Its worker may have died: `LeaseObserver` detects that."""
    return attempt.get("status") == "running"


# --- whether the holder is alive ------------------------------------------------------------------------------------


@cache
def machine() -> str:
    """Return an id of this boot of this machine and its process namespace, within which process ids are comparable."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """Return when a process of this machine started, in kernel ticks; empty if it is gone or cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def process_lives(attempt: AttemptInfo) -> bool | None:
    """Whether the attempt's process exists; None if that cannot be seen, because it runs on another machine."""
    return _lives(attempt, "pid", "process_start")


def died_alone(attempt: AttemptInfo) -> bool:
    """Whether the attempt's process is gone and its parent process still lives.

    If both are gone, a node was lost, a job was killed or the power failed: the trial did not cause it.
    """
    return process_lives(attempt) is False and _lives(attempt, "parent", "parent_start") is True


def _lives(
    attempt: AttemptInfo, pid_key: Literal["pid", "parent"], start_key: Literal["process_start", "parent_start"]
) -> bool | None:
    if not attempt.get("machine") or attempt["machine"] != machine():
        return None
    pid = attempt.get(pid_key, 0)
    started = process_start(pid)
    if not started and _is_hidden(pid):
        return None
    return bool(started) and started == attempt.get(start_key)


def _is_hidden(pid: int) -> bool:
    """Whether the process belongs to another user, so that /proc may not show it."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


@dataclass
class LeaseObserver:
    """Decides whether other workers are alive, from the heartbeats that this process has seen of them.

    A worker whose heartbeat does not change for `stale_seconds` is taken for dead. The time is measured with this
    process's own clock, so clocks that differ between machines do no harm.
    """

    stale_seconds: float = STALE_SECONDS
    _seen: dict[str, tuple[str, float, bool]] = field(default_factory=dict)  # heartbeat, since when, whether it moved

    def holds(self, trial_id: str, number: int, attempt: AttemptInfo) -> bool:
        """Whether the worker of attempt `number` must be taken for alive."""
        if attempt and not is_running(attempt):
            return False
        beat = f"{number}:{attempt.get('beat')}"
        before, since, _ = self._seen.get(trial_id, ("", 0.0, False))
        if before != beat:
            since = time.monotonic()
            self._seen[trial_id] = (beat, since, before.startswith(f"{number}:"))
        lives = process_lives(attempt)
        return time.monotonic() - since < self.stale_seconds if lives is None else lives

    def has_beaten(self, trial_id: str) -> bool:
        """Whether the holder's heartbeat was seen to change. A zombie process has none."""
        return self._seen.get(trial_id, ("", 0.0, False))[2]


def is_free(run_folder: Path, trial_id: str, leases: LeaseObserver) -> bool:
    """Whether the trial can be claimed: it has no record and no living worker holds it."""
    last, attempt = latest_attempt(run_folder, trial_id)
    held = last and leases.holds(trial_id, last, attempt)
    return not held and not is_recorded(run_folder, trial_id)


# --- claiming and holding -------------------------------------------------------------------------------------------


class Attempt:
    """One worker's attempt at one trial. Its file reports progress, shows the heartbeat and records how it ended."""

    def __init__(self, run_folder: Path, trial_id: str, number: int, where: str):
        self.run_folder, self.trial_id, self.number = run_folder, trial_id, number
        self.started, self._began, self._written_at = now(), time.monotonic(), 0.0
        self._writing = threading.Lock()  # the heartbeat thread writes while the trial's own thread reports
        self._content: AttemptInfo = {
            "number": number,
            "status": "running",
            "host": socket.gethostname(),
            "machine": machine(),
            "pid": os.getpid(),
            "process_start": process_start(os.getpid()),
            "parent": os.getppid(),
            "parent_start": process_start(os.getppid()),
            "where": where,
            "started": self.started,
            "beat": 0,
        }
        if head := read_log_head(run_folder):
            self._content |= {"declared": head.lines, "declared_head": head.digest}

    @property
    def seconds(self) -> float:
        """Time since this attempt began."""
        return time.monotonic() - self._began

    @property
    def log(self) -> Path:
        """File for everything that the worker prints."""
        return attempt_file(self.run_folder, self.trial_id, self.number, ".log")

    def began(self) -> tuple[str, LogHead | None]:
        """Return when the trial's first attempt started, and the head of the log of declarations at that time."""
        first = read_attempt(self.run_folder, self.trial_id, 1) if self.number > 1 else self._content
        head = LogHead(first["declared"], first.get("declared_head", "")) if "declared" in first else None
        return first.get("started", self.started), head

    def report(self, **progress: Unpack[AttemptInfo]) -> None:
        """Update the progress. It is written at most once a second, since it is only for display."""
        with self._writing:
            self._content |= progress
            if "step" in progress:
                self._content.setdefault("from_step", progress["step"])
        if time.monotonic() - self._written_at >= REPORT_SECONDS:
            self.beat()

    def beat(self) -> None:
        """Write the file with a new heartbeat, which shows other workers that this one is alive."""
        with self._writing:
            self._written_at = time.monotonic()
            self._content |= {"beat": self._content["beat"] + 1, "updated": now()}
            file = attempt_file(self.run_folder, self.trial_id, self.number)
            write_json_atomically(file, self._content, durable=False)

    def create(self) -> bool:
        """Create the file, which claims the trial; False if another worker has created it first."""
        file = attempt_file(self.run_folder, self.trial_id, self.number)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Exclusive creation is atomic on local file systems and on NFS from version 3 on.
            with file.open("xb") as created:
                created.write(canonical_json(self._content))
        except FileExistsError:
            return False
        except OSError:  # a full disk: an empty lease would keep other workers away
            file.unlink(missing_ok=True)
            raise
        return True

    def is_lost(self) -> bool:
        """Whether another worker has taken this one for dead and started the next attempt."""
        return attempt_file(self.run_folder, self.trial_id, self.number + 1).exists()

    def end(self, status: str, reason: str = "") -> None:
        """Release the lease and record how the attempt ended."""
        with self._writing:
            self._content |= {"status": status, "seconds": round(self.seconds, 2)}
            if reason:
                self._content["reason"] = reason
        self.beat()


def claim(run_folder: Path, trial_id: str, leases: LeaseObserver, where: str = "") -> Attempt | None:
    """Return the next attempt at a trial; None if the trial is recorded or another worker holds it."""
    if is_recorded(run_folder, trial_id):
        return None
    last, before = latest_attempt(run_folder, trial_id)
    if last and leases.holds(trial_id, last, before):
        return None
    if is_running(before) and died_alone(before):  # recorded now: later workers may be on another machine
        write_json_atomically(attempt_file(run_folder, trial_id, last), before | {"status": DIED}, durable=False)
    attempt = Attempt(run_folder, trial_id, last + 1, where)
    if not attempt.create():
        return None
    if is_recorded(run_folder, trial_id):  # again: the last holder may have ended just before the claim
        attempt_file(run_folder, trial_id, last + 1).unlink()
        return None
    return attempt


def interrupt_attempts(run_folder: Path, pids: Collection[int]) -> None:
    """Mark as interrupted the attempts of processes on this machine that were killed by no fault of their trials.

    Processes that they had forked for their trials are killed, too.
    """
    for name in os.listdir(run_folder / "trials"):
        with contextlib.suppress(OSError):
            attempt = last_attempt(run_folder, name)
            if not is_running(attempt) or attempt.get("machine") != machine():
                continue
            if not {attempt.get("pid"), attempt.get("parent")} & {*pids}:
                continue
            if process_lives(attempt):
                os.kill(attempt["pid"], signal.SIGKILL)
            file = attempt_file(run_folder, name, attempt["number"])
            write_json_atomically(file, attempt | {"status": "interrupted"}, durable=False)


def is_recorded(run_folder: Path, trial_id: str) -> bool:
    """Whether the trial has a whole record."""
    try:
        read_record(record_path(run_folder, trial_id))
    except TornRecord:
        return False
    return True


def why_hopeless(run_folder: Path, trial_id: str, number: int) -> str:
    """Return why attempt `number` at the trial should not be made; empty if it should.

    It should not if the attempts before it died, or made no progress, too many times in a row.
    """
    ends = _ends_without_progress(run_folder, trial_id, number)
    deaths = list(itertools.takewhile(lambda attempt: attempt.get("status") == DIED, ends))
    if len(deaths) >= DEATHS_ALLOWED:
        last = deaths[0].get("reason", "")
        return f"its process died {len(deaths)} times in a row" + (f": {last}" if last else "")
    if len(ends) >= ENDS_ALLOWED:
        was_interrupted = ends[0].get("status") == "interrupted"
        last = ends[0].get("reason") or ("its worker was asked to stop" if was_interrupted else "its worker was lost")
        return f"{len(ends)} attempts in a row made no progress after step {ends[0].get('from_step', 0)}: {last}"
    return ""


def _ends_without_progress(run_folder: Path, trial_id: str, number: int) -> list[AttemptInfo]:
    """Return the attempts before `number`, latest first, back to the last one that made progress or left a record.

    Attempts made no progress if they all began at the same step. One that was interrupted with a reason (a full disk, a
    `cancel`, a lost lease) also ends the list: the trial did not cause it.
    """
    ends: list[AttemptInfo] = []
    for before in range(number - 1, max(0, number - 1 - ENDS_ALLOWED), -1):
        attempt = read_attempt(run_folder, trial_id, before)
        first_steps = {one["from_step"] for one in [*ends, attempt] if "from_step" in one}
        has_a_reason = attempt.get("status") == "interrupted" and attempt.get("reason")
        if has_a_reason or attempt.get("status") not in ("running", "interrupted", DIED) or len(first_steps) > 1:
            break
        ends.append(attempt)
    return ends


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
