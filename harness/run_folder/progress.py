"""What became of the planned trials so far, from the run folder alone: for people, and for launchers that wait."""

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinbench.harness.run_folder.leases import DIED, STALE_SECONDS, Others, is_running, last_attempt, process_lives
from twinbench.results.record import RECORDS, TornRecord, read_record, record_path


def state_of(attempt: Mapping[str, Any]) -> str:
    """Of a trial without a record: `running`, `silent` when nothing was heard for long, `died`, or `interrupted`."""
    if not is_running(attempt):
        return "died" if attempt.get("status") == DIED else "interrupted"
    lives = process_lives(attempt)
    if lives is None:
        return "silent" if seconds_since(attempt.get("updated") or attempt["started"]) > STALE_SECONDS else "running"
    return "running" if lives else "died"


def seconds_since(time: str) -> float:
    """From a time as attempts tell it until now."""
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


def at_work(run_folder: Path) -> list[dict[str, Any]]:
    """The attempts in the folder that are seen to go on."""
    found = [last_attempt(run_folder, name) for name in _names(run_folder / "trials")]
    return [attempt for attempt in found if attempt and state_of(attempt) == "running"]


class Survey:
    """Looks at a run folder again and again, and reads only what is new."""

    def __init__(self, run_folder: Path, trial_ids: Iterable[str]):
        self._folder, self._planned = run_folder, frozenset(trial_ids)
        self.recorded: dict[str, str] = {}

    @property
    def missing(self) -> int:
        """How many planned trials have no record."""
        return len(self._planned) - len(self.recorded)

    def look(self) -> list[str]:
        """Takes in the records that came since the last look; their trials' ids, in no order that means anything."""
        fresh = []
        for trial_id in _names(self._folder / RECORDS, ".json"):
            if trial_id in self.recorded or trial_id not in self._planned:
                continue
            try:
                self.recorded[trial_id] = read_record(record_path(self._folder, trial_id))["result"]["status"]
            except TornRecord:
                continue
            fresh.append(trial_id)
        return fresh

    def started(self) -> dict[str, dict[str, Any]]:
        """The last attempt of every trial that was started and has no record."""
        ids = [name for name in _names(self._folder / "trials") if name in self._planned and name not in self.recorded]
        return {trial_id: attempt for trial_id in ids if (attempt := last_attempt(self._folder, trial_id))}

    def running(self) -> dict[str, dict[str, Any]]:
        """Those of them that have not said that they ended."""
        return {trial_id: attempt for trial_id, attempt in self.started().items() if is_running(attempt)}

    def why_left(self, before: Mapping[str, dict[str, Any]]) -> str:
        """What ended the latest attempt that left no record and could say why; empty where none could.

        Attempts that stand as they were `started` `before` tell nothing: they ended in an earlier run.
        """
        started = self.started().items()
        told = [attempt for name, attempt in started if attempt.get("reason") and attempt != before.get(name)]
        return str(max(told, key=lambda attempt: str(attempt.get("updated")))["reason"]) if told else ""

    def is_worked_on(self, others: Others) -> bool:
        """Whether any trial without a record has a worker that has to be taken for alive, whoever started it."""
        held = [others.holds(name, int(told["number"]), told) for name, told in self.running().items()]
        return any(held)  # asked of each, since `others` learns from every look


def _names(folder: Path, suffix: str = "") -> list[str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [name.removesuffix(suffix) for name in names if name.endswith(suffix) and not name.startswith(".")]
