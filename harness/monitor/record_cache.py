"""The records of a run folder as somebody sees them who looks again and again."""

import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from twinbench.results.record import RECORDS, Record, TornRecord, read_record


@dataclass(frozen=True)
class Recorded:
    """What is shown of a record. `seconds`: training and evaluation."""

    status: str
    reason: str
    metrics: dict[tuple[str, str], float]
    seconds: float
    finished: str


class SeenRecords:
    """What the folder's records say. `look` reads those that are new; a record of a trial that is done never changes.

    A record that was set aside for another try is forgotten, and what is not whole is read again once it was written.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._stamps: dict[str, object] = {}
        self.recorded: dict[str, Recorded] = {}
        self.torn: dict[str, str] = {}

    def look(self, planned: Collection[str]) -> None:
        """Takes in what came, and lets go what went. Only records of `planned` trials count."""
        there = {name for name in names(self._folder / RECORDS) if not name.startswith(".")}
        wanted = {name for name in there if name.removesuffix(".json") in planned}
        for gone in self.recorded.keys() - {name.removesuffix(".json") for name in wanted}:
            del self.recorded[gone]
        self.torn = {name: why for name, why in self.torn.items() if name in wanted}
        for name in wanted:
            trial_id = name.removesuffix(".json")
            known = self.recorded.get(trial_id)
            if known and known.status == "done":
                continue
            now = stamp(self._folder / RECORDS / name)
            if (known or name in self.torn) and self._stamps.get(name) == now:
                continue
            self._stamps[name] = now
            self._read(name, trial_id)

    def started(self) -> list[str]:
        """The ids of all trials that were ever started."""
        return names(self._folder / "trials")

    def _read(self, name: str, trial_id: str) -> None:
        self.recorded.pop(trial_id, None)
        self.torn.pop(name, None)
        try:
            self.recorded[trial_id] = _recorded(read_record(self._folder / RECORDS / name))
        except TornRecord as error:
            self.torn[name] = str(error)


def _recorded(record: Record) -> Recorded:
    result, circumstance = record["result"], record["circumstance"]
    seconds = [number(circumstance.get(part)) or 0.0 for part in ("train_seconds", "evaluation_seconds")]
    return Recorded(
        status=result["status"],
        reason=result["reason"],
        metrics={(metric["name"], metric["split"]): float(metric["value"]) for metric in result["metrics"]},
        seconds=sum(seconds),
        finished=str(circumstance.get("finished", "")),
    )


def number(value: object) -> float | None:
    """A finite number as it is, anything else as None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def names(folder: Path) -> list[str]:
    """What is in a folder; nothing where there is no folder."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def stamp(file: Path) -> object:
    """Differs once the file was written anew; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
