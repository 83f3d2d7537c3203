"""`twinbench logs`: everything that the attempts at a trial printed."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

from twinbench.harness.run_folder.leases import is_running
from twinbench.harness.run_folder.progress import state_of
from twinbench.results.attempts import attempt_file, attempt_numbers, open_log, read_attempt
from twinbench.results.plan import read_plan
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest

LONGEST_LINE = 2**16  # characters; the rest is another line


def find_trial(folder: Path, prefix: str) -> str:
    """Return the id of the one planned trial that starts with `prefix`. InvalidInput names the nearest, or all."""
    ids = [trial.trial_id for trial in read_plan(folder).trials]
    found = [trial_id for trial_id in ids if trial_id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise InvalidInput([Mistake(str(folder), "trial", "matches several trials", prefix, several)])
    raise InvalidInput([Mistake(str(folder), "trial", "no such trial", prefix, nearest=nearest(prefix, ids))])


def log_lines(folder: Path, trial_id: str) -> Iterator[str]:
    """Yield what the attempts at a trial printed, in their order, each after a line that says how it ended.

    OSError for a log that is a link out of the folder, or no regular file.
    """
    numbers = attempt_numbers(folder, trial_id)
    if not numbers:
        yield f"trial {trial_id} has not been started\n"
    for number in numbers:
        attempt = read_attempt(folder, trial_id, number)
        ended = "running" if is_running(attempt) else attempt.get("status", "unknown")
        if is_running(attempt) and (number != numbers[-1] or state_of(attempt) == "died"):
            ended = "died without a message"
        reason = f": {attempt['reason']}" if attempt.get("reason") else ""
        yield f"--- attempt {number} on {attempt.get('host', '?')} {attempt.get('where', '')}: {ended}{reason}\n"
        if os.path.lexists(attempt_file(folder, trial_id, number, ".log")):
            with io.TextIOWrapper(open_log(folder, trial_id, number), "utf-8", "replace") as file:
                while line := file.readline(LONGEST_LINE):
                    yield line
