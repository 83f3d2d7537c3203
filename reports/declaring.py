"""Declarations: which claims stood before which results. An append-only log in the run folder, `declarations.jsonl`.

Each line holds a claim's hash, the time, how many records the folder held then, and the digest of the line before, so
that an entry which is edited, moved or dropped breaks the chain. Whoever rewrites the whole file makes a whole chain:
only a copy of the last line's digest with somebody else (a commit, a mail, a registry) shows that. `declare` prints it.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from twinbench.reports.claims import Claim
from twinbench.results.record import record_files
from twinbench.sweeps.identity import canonical_json, digest
from twinbench.sweeps.mistakes import InvalidInput, Mistake

LOG = "declarations.jsonl"
NOTHING_BEFORE = ""


@dataclass(frozen=True)
class Declaration:
    """One line. `time` is in UTC to the second, `recorded` counts the folder's records at that time."""

    name: str
    claim: str  # the claim's hash
    time: str
    recorded: int
    previous: str  # digest of the line before
    digest: str = ""  # of this line without this key


@dataclass(frozen=True)
class Log:
    """All declarations in order. `problem` says where the chain is broken; nothing after that place counts."""

    entries: tuple[Declaration, ...] = ()
    problem: str = ""

    def of(self, claim: Claim) -> Declaration | None:
        """The first declaration of this very claim."""
        return next((entry for entry in self.entries if entry.claim == claim.hash), None)

    def named(self, name: str) -> list[Declaration]:
        """Whatever was declared under the name."""
        return [entry for entry in self.entries if entry.name == name]


def read_log(run_folder: Path) -> Log:
    """The folder's declarations, up to the first line that does not follow from those before."""
    try:
        lines = (run_folder / LOG).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return Log()
    except (OSError, UnicodeDecodeError) as error:
        return Log((), f"{LOG} cannot be read: {error}")
    entries: list[Declaration] = []
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        if entry is None:
            return Log(tuple(entries), f"{LOG}: line {number} is no declaration")
        if entry.previous != _head(entries) or entry.digest != _digest(entry):
            return Log(tuple(entries), f"{LOG}: line {number} was changed, or one before it is gone")
        entries.append(entry)
    return Log(tuple(entries))


def declare(claims: Iterable[Claim], run_folder: Path, now: datetime) -> tuple[list[Declaration], str]:
    """Adds the claims that are not in the log yet; the new entries, and the digest of the last line.

    InvalidInput where the log is broken: what would follow could not be trusted.
    """
    log = read_log(run_folder)
    if log.problem:
        raise InvalidInput([Mistake(str(run_folder), "", f"takes no declaration: {log.problem}")])
    entries, new = list(log.entries), []
    time = now.isoformat(timespec="seconds")
    if entries and time < entries[-1].time:
        problem = "the clock stands before the last declaration"
        raise InvalidInput([Mistake(str(run_folder), LOG, problem, time, f"{entries[-1].time} or later")])
    recorded = len(record_files(run_folder))
    for claim in claims:
        if log.of(claim) is None:
            entry = Declaration(claim.name, claim.hash, time, recorded, _head(entries))
            entries.append(Declaration(**(asdict(entry) | {"digest": _digest(entry)})))
            new.append(entries[-1])
    if new:
        _append(run_folder, new)
    return new, _head(entries)


def _append(run_folder: Path, entries: list[Declaration]) -> None:
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        with (run_folder / LOG).open("ab") as file:
            file.write(b"".join(canonical_json(asdict(entry)) + b"\n" for entry in entries))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidInput([Mistake(str(run_folder / LOG), "", f"cannot be written: {error.strerror}")]) from None


def _entry(line: str) -> Declaration | None:
    try:
        data = json.loads(line)
        entry = Declaration(**data)
    except (ValueError, TypeError, RecursionError):
        return None
    return entry if all(type(getattr(entry, field.name)) is field.type for field in fields(Declaration)) else None


def _head(entries: list[Declaration]) -> str:
    return entries[-1].digest if entries else NOTHING_BEFORE


def _digest(entry: Declaration) -> str:
    return digest({key: value for key, value in asdict(entry).items() if key != "digest"})
