"""Attempts at a trial, as their files say, and whether they agree with the trial's record."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinbench.results.attempts import attempt_numbers, read_attempt
from twinbench.results.record import STATUSES


@dataclass(frozen=True)
class Attempt:
    """One attempt at a trial; `status` and `started` are empty where its file does not say."""

    number: int
    status: str
    started: str

    @property
    def has_ended(self) -> bool:
        """Whether it left a result, a failure included. Attempts that run, died or were interrupted have none."""
        return self.status in STATUSES


def read_attempts(run_folder: Path, trial_id: str) -> tuple[Attempt, ...]:
    """Return every attempt at a trial, in order."""
    try:
        numbers = attempt_numbers(run_folder, trial_id)
    except OSError:
        return ()
    contents = {number: read_attempt(run_folder, trial_id, number) for number in numbers}
    return tuple(Attempt(number, one.get("status", ""), one.get("started", "")) for number, one in contents.items())


def attempt_conflicts(attempts: Sequence[Attempt], status: str, recorded: object) -> Iterator[str]:
    """Yield each way in which the attempts at a trial contradict its record.

    `status` is the record's, `recorded` the number of the attempt that wrote it. That attempt must have ended as the
    record says. Any other attempt may have ended in the same way or as `failed`, whether it came before or after:

    - before: `run --retry failed` sets the record of a failed trial aside and runs the trial again;
    - after: a worker whose lease was taken over may still finish, and its result then replaces the failure of the
      worker that took over. The harness never lets a failure replace a result.

    Any other end (`done`, `diverged`, `collapsed`) is a result, and running the trial again would select among results.
    """
    if attempts and all(attempt.number != recorded for attempt in attempts):
        yield f"its record names attempt {recorded}, which does not exist"
    for attempt in attempts:
        allowed = (status,) if attempt.number == recorded else (status, "failed")
        if attempt.has_ended and attempt.status not in allowed:
            yield f"attempt {attempt.number} ended as {attempt.status}, but its record says {status}"
