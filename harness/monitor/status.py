"""A run as `twinbench status` and `twinbench logs` show it: counts, what runs where, what failed, what was printed."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from twinbench.harness.monitor.progress_bars import label
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import last_words, launch_notes
from twinbench.harness.run_folder.leases import attempt_file, attempt_numbers, is_running, last_attempt, read_attempt
from twinbench.harness.run_folder.progress import Survey, seconds_since, state_of
from twinbench.results.plan import read_plan
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest

FAILURES_SHOWN = 5


class Status:
    """The plan of a run folder and what has become of it; `survey` looks again and again."""

    def __init__(self, folder: Path):
        self.folder = folder
        plan = read_plan(folder)
        self.axes = plan.axes
        self.trials = {trial.trial_id: trial for trial in plan.full_trials()}
        self.survey = Survey(folder, self.trials)

    def name(self, trial_id: str) -> str:
        """The trial as people call it."""
        return escape(label(self.trials[trial_id], self.axes))


def shown(status: Status) -> RenderableType:
    """Everything that `twinbench status` prints."""
    status.survey.look()
    started = status.survey.started()
    states = {trial_id: state_of(attempt) for trial_id, attempt in started.items()}
    counts = Counter(status.survey.recorded.values()) + Counter(states.values())
    running = [trial_id for trial_id in status.trials if states.get(trial_id) in ("running", "silent")]
    counts["queued" if running else "planned"] = len(status.trials) - sum(counts.values())
    parts: list[RenderableType] = [counted(counts)]
    if running:
        parts.append(_running_table(status, running, started, states))
    elif not is_cancelled(status.folder) and status.survey.missing:
        parts += [f"asked for: {launch}" for launch in _launches(status.folder)]
    parts += _told(status, "died", [trial_id for trial_id, state in states.items() if state == "died"])
    parts += _told(status, "failed", [name for name, state in status.survey.recorded.items() if state == "failed"])
    return Group(*parts)


def _told(status: Status, state: str, trial_ids: list[str]) -> Iterator[str]:
    """The last of these trials in the plan's order, each with its attempts and the reason of the last."""
    wanted = set(trial_ids)
    ids = [trial_id for trial_id in status.trials if trial_id in wanted]
    for trial_id in ids[-FAILURES_SHOWN:]:
        attempt = last_attempt(status.folder, trial_id)
        number = attempt.get("number", 0)
        after = f" after {number} attempts" if number > 1 else ""
        where = f"on {attempt.get('host', '?')}; the next worker takes it over" if state == "died" else ""
        reason = escape(str(attempt.get("reason") or where))
        yield f"[yellow]{state}[/]{after} {trial_id} {status.name(trial_id)}: {reason}"
    if len(ids) > FAILURES_SHOWN:
        yield f"and {len(ids) - FAILURES_SHOWN} more that {state}; `twinbench logs` shows each"


def _launches(folder: Path) -> Iterator[str]:
    """What clusters were asked for, by the folder's own notes: whether it still waits there, only they know."""
    for file in launch_notes(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(file.read_bytes())
            words = last_words(folder, file.stem)
            said = f"; a worker of it ended with {words}" if words else ""
            yield escape(f"{told['launcher']} {file.stem}, {told['submitted']}; nothing of it runs{said}")


def counted(counts: dict[str, int]) -> str:
    """Counts by state in one line."""
    there = {state: count for state, count in counts.items() if count}
    total = sum(there.values())
    return f"{total} trial{'s' * (total != 1)}: " + ", ".join(
        f"{count} {state}" for state, count in sorted(there.items())
    )


def _running_table(
    status: Status, trial_ids: list[str], attempts: dict[str, dict[str, Any]], states: dict[str, str]
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    for column in ("trial", "", "where", "attempt", "step", "images/s", "left"):
        table.add_column(column, justify="right" if column in ("attempt", "step", "images/s", "left") else "left")
    for trial_id in trial_ids:
        attempt = attempts[trial_id]
        steps = f"{attempt['step']}/{attempt['steps']}" if attempt.get("steps") else states[trial_id]
        rate = f"{attempt['images_per_second']:.0f}" if attempt.get("images_per_second") else ""
        where = f"{attempt['host']} {attempt.get('where', '')}"
        if states[trial_id] == "silent":
            where += f" (silent since {attempt.get('updated', attempt['started'])})"
        number = str(attempt["number"])
        table.add_row(
            trial_id, status.name(trial_id), escape(where), number, steps, rate, duration(seconds_left(attempt))
        )
    return table


def seconds_left(attempt: dict[str, Any]) -> float | None:
    """Of training, at the attempt's own pace so far; None before there is one."""
    done = attempt.get("step", 0) - attempt.get("from_step", 0)
    if done <= 0 or "updated" not in attempt:
        return None
    took = seconds_since(attempt["started"]) - seconds_since(attempt["updated"])
    return float(took / done * (attempt["steps"] - attempt["step"]))


def duration(seconds: float | None) -> str:
    """As hours, minutes and seconds; empty where it is not known."""
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


def find_trial(folder: Path, beginning: str) -> str:
    """The id of the one planned trial that begins so. InvalidInput names the nearest, or all that begin so."""
    ids = [trial.trial_id for trial in read_plan(folder).trials]
    found = [trial_id for trial_id in ids if trial_id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise InvalidInput([Mistake(str(folder), "trial", "begins several trials' ids", beginning, several)])
    raise InvalidInput([Mistake(str(folder), "trial", "no such trial", beginning, nearest=nearest(beginning, ids))])


def log_lines(folder: Path, trial_id: str) -> Iterator[str]:
    """What the attempts at a trial printed, in their order, each with how it ended."""
    numbers = attempt_numbers(folder, trial_id)
    if not numbers:
        yield f"trial {trial_id} has not been started\n"
    for number in numbers:
        attempt = read_attempt(folder, trial_id, number)
        ended = "running" if is_running(attempt) else attempt.get("status", "unknown")
        if is_running(attempt) and (number != numbers[-1] or state_of(attempt) == "died"):
            ended = "died without a word"
        reason = f": {attempt['reason']}" if attempt.get("reason") else ""
        yield f"--- attempt {number} on {attempt.get('host', '?')} {attempt.get('where', '')}: {ended}{reason}\n"
        log = attempt_file(folder, trial_id, number, ".log")
        if log.exists():
            with log.open(encoding="utf-8", errors="replace") as lines:
                yield from lines
