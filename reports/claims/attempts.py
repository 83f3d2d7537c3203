"""Whether the attempts at a trial agree with the trial's record."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from twinbench.results.attempts import Attempt, read_attempts
from twinbench.results.log_head import LogHead
from twinbench.results.record import STATUSES
from twinbench.sweeps.errors import counted


def attempts_at(run_folder: Path, trial_id: str) -> tuple[list[Attempt], str]:
    """Return every attempt at a trial, in order, and an empty text; none if they cannot be read, and why."""
    try:
        return read_attempts(run_folder, trial_id), ""
    except OSError as error:
        return [], f"its attempts cannot be read ({error.strerror}), and one may have ended otherwise than its record"


def has_ended(attempt: Attempt) -> bool:
    """Whether it left a result, a failure included. Attempts that run, died or were interrupted have none."""
    return attempt["status"] in STATUSES


def left_result(attempt: Attempt) -> bool:
    """Return whether the attempt ended with a result, which a failure is not."""
    return has_ended(attempt) and attempt["status"] != "failed"


def attempt_gap(attempts: Sequence[Attempt]) -> str:
    """Return how the attempts at a recorded trial are not all that were made; empty where none is seen to lack."""
    numbers = [attempt["number"] for attempt in attempts]
    if not attempts:
        return "a record but no attempt"
    if numbers != list(range(1, len(numbers) + 1)):
        return f"attempts {', '.join(map(str, numbers))}: some are missing or given twice"
    return ""


def repeated_results(attempts: Sequence[Attempt]) -> str:
    """Return how many attempts left a result, failures apart, if more than one did; else empty.

    That may be honest, since a worker that lost its lease may still finish. But who runs a trial several times can
    keep the result that suits.
    """
    count = sum(map(left_result, attempts))
    return f"{count} attempts that left a result, of which one is recorded" if count > 1 else ""


def head_problem(attempts: Sequence[Attempt], recorded: LogHead | None) -> str:
    """Return how the head of the log of declarations in a record is not that of the trial's first attempt.

    A record takes it from there. Empty where they agree, or where the first attempt does not keep one.
    """
    first = attempts[0] if attempts else None
    if first is None or "declared" not in first or first["number"] != 1:
        return ""
    own = LogHead(first["declared"], first.get("declared_head", ""))
    began = f"its first attempt began when the log of declarations had {_head_text(own)}"
    return "" if recorded == own else f"{began}, but its record says {_head_text(recorded)}"


def _head_text(head: LogHead | None) -> str:
    if head is None:
        return "nothing of it"
    return counted(head.lines, "line") + (f" ({head.digest[:12]})" if head.digest else "")


def by_text(texts: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the trials of each text that is not empty, from pairs of trial and text."""
    found: dict[str, list[str]] = {}
    for trial_id, text in texts:
        if text:
            found.setdefault(text, []).append(trial_id)
    return found


def attempt_conflicts(attempts: Sequence[Attempt], status: str, recorded: object) -> Iterator[str]:
    """Yield each way in which the attempts at a trial contradict its record.

    `status` is the record's, `recorded` the number of the attempt that wrote it. That attempt must have ended as the
    record says. Any other attempt may have ended in the same way or as `failed`, whether it came before or after:

    - before: `run --retry failed` sets the record of a failed trial aside and runs the trial again;
    - after: a worker whose lease was taken over may still finish, and its result then replaces the failure of the
      worker that took over. The harness never lets a failure replace a result.

    Any other end (`done`, `diverged`, `collapsed`) is a result, and running the trial again would select among results.
    """
    if attempts and all(attempt["number"] != recorded for attempt in attempts):
        yield f"its record names attempt {recorded}, which does not exist"
    for attempt in attempts:
        allowed = (status,) if attempt["number"] == recorded else (status, "failed")
        if has_ended(attempt) and attempt["status"] not in allowed:
            yield f"attempt {attempt['number']} ended as {attempt['status']}, but its record says {status}"
