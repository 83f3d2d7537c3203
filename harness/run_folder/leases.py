"""Attempts at a trial: who runs it, how far they are, how it ended. An attempt's file is also the lease on its trial.

    trials/TRIAL_ID/attempt-0001.json    created by the one worker that claims the trial, then replaced as it goes on
    trials/TRIAL_ID/attempt-0001.log     what was printed meanwhile
    trials/TRIAL_ID/state.pt             what the next attempt goes on from
    trials/TRIAL_ID/curves.json          the curves so far, for people who watch

A trial is claimed by creating the file of the next number, which the file system lets one worker do: no lock, nothing
to break, and no lease that could be deleted under somebody. Who finds a higher number than its own has lost the
lease. All a lost lease can cost is a second run of a trial, whose state and record are written whole and equal.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from twinbench.results.atomic_files import write_json_atomically
from twinbench.results.record import TornRecord, read_record, record_path
from twinbench.sweeps.hashing import canonical_json

BEAT_SECONDS = 10.0
# An NFS client may show a file for a minute as it was; a lease that is taken too early costs a duplicate run.
STALE_SECONDS = 180.0
REPORT_SECONDS = 1.0
DEATHS_ALLOWED = 3  # attempts in a row whose process died where it began, and alone: the trial is what kills it
ENDS_ALLOWED = 10  # attempts in a row that ended where they began, however: a node lost, a slot too short to evaluate
DIED = "died"  # an attempt's end: its process died, or a rank's, or its process has lost its device

_NAME = re.compile(r"attempt-(\d{4,})\.json")


def trial_folder(run_folder: Path, trial_id: str) -> Path:
    """Where a trial keeps its attempts, logs and state."""
    return run_folder / "trials" / trial_id


def attempt_file(run_folder: Path, trial_id: str, number: int, suffix: str = ".json") -> Path:
    """The attempt's own file, or its log with suffix ".log"."""
    return trial_folder(run_folder, trial_id) / f"attempt-{number:04d}{suffix}"


def attempt_numbers(run_folder: Path, trial_id: str) -> list[int]:
    """The numbers of all attempts so far, ascending."""
    try:
        names = os.listdir(trial_folder(run_folder, trial_id))
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def read_attempt(run_folder: Path, trial_id: str, number: int) -> dict[str, Any]:
    """What an attempt last told of itself; empty for a file that was created and not yet written."""
    try:
        told = json.loads(attempt_file(run_folder, trial_id, number).read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def last_attempt(run_folder: Path, trial_id: str) -> dict[str, Any]:
    """The latest attempt as it told of itself; empty where there was none."""
    return _latest(run_folder, trial_id)[1]


def _latest(run_folder: Path, trial_id: str) -> tuple[int, dict[str, Any]]:
    """The latest attempt's number, by its file's name, and what it told, which may be nothing yet; 0 for none."""
    last = max(attempt_numbers(run_folder, trial_id), default=0)
    return last, read_attempt(run_folder, trial_id, last) if last else {}


def is_running(attempt: Mapping[str, Any]) -> bool:
    """Whether the attempt has not said that it ended. It may have died since: `Others` tells."""
    return attempt.get("status") == "running"


# --- is the holder alive? -------------------------------------------------------------------------------------------


@cache
def machine() -> str:
    """This boot of this machine, and the processes that are visible here: where process numbers mean something."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process of this machine started, in the kernel's count; empty if it is gone or nothing can be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def process_lives(attempt: Mapping[str, Any]) -> bool | None:
    """Whether the attempt's process is still there; None where that cannot be seen, since it is another machine's."""
    return _lives(attempt, "pid", "process_start")


def died_alone(attempt: Mapping[str, Any]) -> bool:
    """Whether the attempt's process is seen to be gone while the one that started it lives on.

    Where both are gone a node was lost, a job was killed or the power cut: no fault of the trial.
    """
    return process_lives(attempt) is False and _lives(attempt, "parent", "parent_start") is True


def _lives(attempt: Mapping[str, Any], pid_key: str, start_key: str) -> bool | None:
    if not attempt.get("machine") or attempt["machine"] != machine():
        return None
    pid = int(attempt.get(pid_key, 0))
    started = process_start(pid)
    if not started and _is_hidden(pid):
        return None
    return bool(started) and started == str(attempt[start_key])


def _is_hidden(pid: int) -> bool:
    """Whether it is another user's, of which /proc may show nothing."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


@dataclass
class Others:
    """What one watcher has seen of other workers' leases: a beat that stands still too long means that they are dead.

    Time is counted here, by this process's own clock, so that clocks which differ between machines do no harm.
    """

    stale_seconds: float = STALE_SECONDS
    _seen: dict[str, tuple[str, float, bool]] = field(default_factory=dict)

    def holds(self, trial_id: str, number: int, attempt: Mapping[str, Any]) -> bool:
        """Whether the attempt's worker has to be taken for alive."""
        if attempt and not is_running(attempt):
            return False
        beat = f"{number}:{attempt.get('beat')}"
        before, since, _ = self._seen.get(trial_id, ("", 0.0, False))
        if before != beat:
            since = time.monotonic()
            self._seen[trial_id] = (beat, since, before.startswith(f"{number}:"))
        lives = process_lives(attempt)
        return time.monotonic() - since < self.stale_seconds if lives is None else lives

    def beats(self, trial_id: str) -> bool:
        """Whether the holder was seen to beat: a process that is only not yet gone is not."""
        return self._seen.get(trial_id, ("", 0.0, False))[2]


def is_free(run_folder: Path, trial_id: str, others: Others) -> bool:
    """Whether a claim of the trial would be tried: it has no record, and nobody is seen to hold it."""
    last, told = _latest(run_folder, trial_id)
    held = last and others.holds(trial_id, last, told)
    return not held and not is_recorded(run_folder, trial_id)


# --- claiming and holding -------------------------------------------------------------------------------------------


class Attempt:
    """One worker's hold on one trial: tells how far it is, beats, and says how it ended."""

    def __init__(self, run_folder: Path, trial_id: str, number: int, where: str):
        self.run_folder, self.trial_id, self.number = run_folder, trial_id, number
        self.started, self._began, self._told_at = now(), time.monotonic(), 0.0
        self._writing = threading.Lock()  # the heart's thread beats while the trial's own reports
        self._told: dict[str, Any] = {
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

    @property
    def seconds(self) -> float:
        """How long this attempt has been going on."""
        return time.monotonic() - self._began

    @property
    def log(self) -> Path:
        """Where what is printed goes."""
        return attempt_file(self.run_folder, self.trial_id, self.number, ".log")

    def first_started(self) -> str:
        """When the trial's first attempt began."""
        first = read_attempt(self.run_folder, self.trial_id, 1) if self.number > 1 else {}
        return str(first.get("started", self.started))

    def report(self, **values: Any) -> None:
        """Takes `values` in, and writes them at most once a second: they are for looking at."""
        with self._writing:
            self._told |= values
            if "step" in values:
                self._told.setdefault("from_step", values["step"])
        if time.monotonic() - self._told_at >= REPORT_SECONDS:
            self.beat()

    def beat(self) -> None:
        """Shows the others that this worker lives."""
        with self._writing:
            self._told_at = time.monotonic()
            self._told |= {"beat": self._told["beat"] + 1, "updated": now()}
            file = attempt_file(self.run_folder, self.trial_id, self.number)
            write_json_atomically(file, self._told, durable=False)

    def is_lost(self) -> bool:
        """Whether another worker has taken this one for dead and gone on."""
        return attempt_file(self.run_folder, self.trial_id, self.number + 1).exists()

    def end(self, status: str, reason: str = "") -> None:
        """Gives the lease back and says why."""
        with self._writing:
            self._told |= {"status": status, "seconds": round(self.seconds, 2)} | ({"reason": reason} if reason else {})
        self.beat()


def claim(run_folder: Path, trial_id: str, others: Others, where: str = "") -> Attempt | None:
    """The next attempt at a trial, or None where it is recorded already or another worker holds it."""
    if is_recorded(run_folder, trial_id):
        return None
    last, told = _latest(run_folder, trial_id)
    if last and others.holds(trial_id, last, told):
        return None
    if is_running(told) and died_alone(told):  # said now: who comes later may not see that machine
        write_json_atomically(attempt_file(run_folder, trial_id, last), told | {"status": DIED}, durable=False)
    attempt = Attempt(run_folder, trial_id, last + 1, where)
    file = attempt_file(run_folder, trial_id, last + 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Exclusive creation is atomic on local file systems and on NFS from version 3 on.
        with file.open("xb") as created:
            created.write(canonical_json(attempt._told))
    except FileExistsError:
        return None
    except OSError:  # a full disk: an empty lease would keep everybody away
        file.unlink(missing_ok=True)
        raise
    if is_recorded(run_folder, trial_id):  # once more: the last holder may have ended just before the claim
        file.unlink()
        return None
    return attempt


def give_back(run_folder: Path, pids: Collection[int]) -> None:
    """Ends the attempts of processes of this machine that were killed through no fault of their trials.

    Processes that they had forked for their trials are killed with them.
    """
    for name in os.listdir(run_folder / "trials"):
        with contextlib.suppress(OSError):
            told = last_attempt(run_folder, name)
            if not is_running(told) or told["machine"] != machine() or not {told["pid"], told["parent"]} & {*pids}:
                continue
            if process_lives(told):
                os.kill(told["pid"], signal.SIGKILL)
            file = attempt_file(run_folder, name, told["number"])
            write_json_atomically(file, told | {"status": "interrupted"}, durable=False)


def is_recorded(run_folder: Path, trial_id: str) -> bool:
    """Whether there is a whole record of the trial."""
    path = record_path(run_folder, trial_id)
    if not path.exists():
        return False
    try:
        read_record(path)
    except TornRecord:
        return False
    return True


def why_hopeless(run_folder: Path, trial_id: str, number: int) -> str:
    """Why attempt `number` at the trial should not be made, after those before it; empty where it should."""
    ends = _ends_in_a_row(run_folder, trial_id, number)
    deaths = list(itertools.takewhile(lambda told: told.get("status") == DIED, ends))
    if len(deaths) >= DEATHS_ALLOWED:
        last = deaths[0].get("reason", "")
        return f"its process died {len(deaths)} times in a row" + (f": {last}" if last else "")
    if len(ends) >= ENDS_ALLOWED:
        told_to_end = ends[0].get("status") == "interrupted"
        last = ends[0].get("reason") or ("its worker was told to end" if told_to_end else "its worker was gone")
        return f"{len(ends)} attempts in a row ended where they began, at step {ends[0].get('from_step', 0)}: {last}"
    return ""


def _ends_in_a_row(run_folder: Path, trial_id: str, number: int) -> list[dict[str, Any]]:
    """Attempts before `number`, the last one first, as far back as all began at one step and left no record.

    Those that were interrupted for a reason (a full disk, a `cancel`, a lost lease) are none of the trial's doing.
    """
    ends: list[dict[str, Any]] = []
    for before in range(number - 1, max(0, number - 1 - ENDS_ALLOWED), -1):
        told = read_attempt(run_folder, trial_id, before)
        place = [one["from_step"] for one in [*ends, told] if "from_step" in one]  # none: it did not come so far
        has_a_reason = told.get("status") == "interrupted" and told.get("reason")
        if has_a_reason or told.get("status") not in ("running", "interrupted", DIED) or len(set(place)) > 1:
            break
        ends.append(told)
    return ends


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
