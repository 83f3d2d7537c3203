"""What a bundle holds in place of many files: every attempt at every trial, and every environment of the records."""

import json
import os
import re
from pathlib import Path

from twinbench.results.atomic_files import write_json_atomically
from twinbench.results.attempts import TRIALS, Attempt, attempt_file, read_attempts
from twinbench.results.record import COMPUTED_WITH, Record

_ENVIRONMENT_KEYS = ("commit", "code_hash", "versions", *COMPUTED_WITH)
_ID = re.compile(r"[0-9a-f]{16}")


def attempts_of(run_folder: Path) -> list[Attempt]:
    """Return every attempt at every trial, by trial and number; where it ran is private and left out.

    OSError if a folder or a file cannot be read.
    """
    folder = run_folder / TRIALS
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return [one for name in names if _ID.fullmatch(name) for one in read_attempts(run_folder, name)]


def environment(records: list[Record]) -> list[dict[str, object]]:
    """Return each combination of code, versions and device in the records, with the ids of its trials."""
    trials: dict[str, list[str]] = {}
    for record in records:
        values = {key: record["circumstance"].get(key) for key in _ENVIRONMENT_KEYS}
        trials.setdefault(json.dumps(values, sort_keys=True), []).append(record["result"]["trial_id"])
    return [json.loads(text) | {"trials": sorted(ids)} for text, ids in sorted(trials.items())]


def place_attempts(run_folder: Path, attempts: list[Attempt]) -> None:
    """Write the attempts into a run folder, since reports count those that left no record."""
    for attempt in attempts:
        path = attempt_file(run_folder, attempt["trial_id"], attempt["number"])
        write_json_atomically(path, attempt, durable=False)
