"""Asks SLURM about the jobs of a run folder: which were submitted, and which of their slots are left."""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from twinbench.harness.run_folder.layout import LAUNCHES, launch_notes, read_launches, refresh_listing
from twinbench.sweeps.errors import InvalidInput, Mistake

ENDING_SECONDS = 30.0  # that a slot may take to leave the queue, or to be back in it
ASK_AGAIN_SECONDS = 2.0
FIRST_QUERY_SECONDS, LONGEST_QUERY_SECONDS = 10.0, 120.0


def output_of(*command: str) -> str:
    """Return what one of SLURM's commands prints. OSError or SubprocessError if it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def last_line(text: str) -> str:
    """Return the last line of an error that SLURM printed."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("sbatch: error: ") if lines else "without a message"


def largest_array() -> int:
    """Return the most tasks that this cluster allows in one array, by its MaxArraySize and MaxJobCount."""
    try:
        config = output_of("scontrol", "show", "config")
    except (OSError, subprocess.SubprocessError) as error:
        reason = last_line(getattr(error, "stderr", None) or str(error))
        raise InvalidInput(
            [Mistake("--launcher", "", f"SLURM does not answer on this machine: {reason}", "slurm")]
        ) from None
    sizes = [int(size) for size in re.findall(r"^(?:MaxArraySize|MaxJobCount)\s*=\s*(\d+)", config, re.MULTILINE)]
    return max(1, min(sizes, default=1001) - 1)


def name_of(run_folder: Path) -> str:
    """Return the name of the folder's jobs, by which one query finds them and no other sweep's."""
    return f"twinbench-{sha256(str(run_folder.resolve()).encode()).hexdigest()[:8]}"


def launched(run_folder: Path) -> dict[str, str]:
    """Return the names, by job id, of the SLURM jobs that were submitted for the folder and not cancelled since."""
    return jobs_of(launch_notes(run_folder))


def jobs_of(notes: Sequence[Path]) -> dict[str, str]:
    """Return the names, by job id, of the SLURM jobs among these launches."""
    return {launch["job_id"]: launch["name"] for launch in read_launches(notes, "job_id", "name")}


def departed_slots(run_folder: Path) -> Path:
    """Return the folder where slots that take no more trials leave their names; SLURM may list them for a while."""
    folder = run_folder / LAUNCHES / "left"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def slots_to_count_on(run_folder: Path, jobs: Mapping[str, str]) -> int | None:
    """Return how many slots take trials, or will; None if SLURM does not answer.

    It asks again while SLURM shows every slot as ending (a requeued slot is, for a moment) or shows none: one answer
    without slots proves nothing. Slots that keep ending are not counted; if one is requeued after all, it shares the
    work.
    """
    deadline, empty_answers = time.monotonic() + ENDING_SECONDS, 0
    while jobs:
        states = _states_of_slots(jobs)
        if states is None:
            return None
        folder = departed_slots(run_folder)
        refresh_listing(folder)
        departed = {path.name for path in folder.glob("*")}
        counted = [state for slot, state in states.items() if slot not in departed]
        empty_answers = 0 if states else empty_answers + 1
        if empty_answers > 1 or (states and set(counted) != {"COMPLETING"}):
            return len(counted)
        if time.monotonic() > deadline:  # their node does not release them, or squeue forgets them now and then
            return 0
        time.sleep(ASK_AGAIN_SECONDS)
    return 0


def _states_of_slots(jobs: Mapping[str, str]) -> dict[str, str] | None:
    """Return the state of each slot, pending, running or ending, by JOB_TASK; None if SLURM does not answer."""
    if not jobs:
        return {}
    try:
        # One query for the whole sweep; by name and not by job, since squeue fails once it has forgotten a job.
        names = ",".join(sorted(set(jobs.values())))
        lines = output_of("squeue", "-h", "-r", f"--name={names}", "-o", "%i %T").splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return {slot: state for slot, state in map(str.split, lines) if slot.partition("_")[0] in jobs}


@dataclass
class Queue:
    """Finds out whether slots are left. The longer there are some, the less often it asks."""

    jobs: Mapping[str, str]
    _pause: float = FIRST_QUERY_SECONDS
    _queried_at: float = field(default_factory=time.monotonic)
    _empty_answers: int = 0

    def is_empty(self) -> bool:
        """Return True once two answers in a row had no slot: one answer, or none, proves nothing."""
        if time.monotonic() - self._queried_at < self._pause:
            return False
        self._queried_at = time.monotonic()
        states = _states_of_slots(self.jobs)
        if states is None or states:
            self._empty_answers = 0
            self._pause = min(LONGEST_QUERY_SECONDS, 1.5 * self._pause)
        else:
            self._empty_answers += 1
            self._pause = FIRST_QUERY_SECONDS
        return self._empty_answers >= 2
