"""Declarations: which claims stood before which results. An append-only log in the run folder, `declarations.jsonl`.

Each line holds a claim's hash, the time, how many records the folder held then, and the digest of the line before, so
that an entry which is edited, moved or dropped breaks the chain. Whoever rewrites the whole file makes a whole chain:
only a copy of the last line's digest with somebody else (a commit, a mail, a registry) shows that. `declare` prints it.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO

from twinbench.reports.claims import Claim, read_claims
from twinbench.results.record import DECLARATIONS, record_files, write_bytes_atomically
from twinbench.sweeps.identity import canonical_json, digest
from twinbench.sweeps.mistakes import InvalidInput, Mistake

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
        return self._first.get(claim.hash)

    @cached_property
    def _first(self) -> dict[str, Declaration]:
        return {entry.claim: entry for entry in reversed(self.entries)}

    def named(self, name: str) -> list[Declaration]:
        """Whatever was declared under the name."""
        return [entry for entry in self.entries if entry.name == name]


def read_log(run_folder: Path) -> Log:
    """The folder's declarations, up to the first line that does not follow from those before."""
    try:
        text = (run_folder / DECLARATIONS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return Log()
    except (OSError, UnicodeDecodeError) as error:
        return Log((), f"{DECLARATIONS} cannot be read: {error}")
    entries: list[Declaration] = []
    # JSON leaves U+2028 and its like as they are, at which str.splitlines would part a line.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        entry = _entry(line)
        if entry is None:
            return Log(tuple(entries), f"{DECLARATIONS}: line {number} is no declaration")
        if entry.previous != _head(entries) or entry.digest != _digest(entry):
            return Log(tuple(entries), f"{DECLARATIONS}: line {number} was changed, or one before it is gone")
        entries.append(entry)
    return Log(tuple(entries))


def declare(claims: Iterable[Claim], run_folder: Path, now: datetime) -> tuple[list[Declaration], str]:
    """Adds the claims that are not in the log yet; the new entries, and the digest of the last line.

    `now` is in UTC. InvalidInput where the log is broken: what would follow could not be trusted.
    """
    if run_folder.exists() and not run_folder.is_dir():
        raise InvalidInput([Mistake(str(run_folder), "", "is no folder")])
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        with (run_folder / DECLARATIONS).open("ab") as file:
            _take_turns(file)
            entries = _known(run_folder, now)
            held = len(entries)
            recorded = len(record_files(run_folder))
            declared = {entry.claim for entry in entries}
            for claim in claims:
                if claim.hash not in declared:
                    declared.add(claim.hash)
                    time = now.isoformat(timespec="seconds")
                    entry = Declaration(claim.name, claim.hash, time, recorded, _head(entries))
                    entries.append(replace(entry, digest=_digest(entry)))
            file.write(b"".join(canonical_json(asdict(entry)) + b"\n" for entry in entries[held:]))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidInput(
            [Mistake(str(run_folder / DECLARATIONS), "", f"cannot be written: {error.strerror}")]
        ) from None
    return entries[held:], _head(entries)


def copy_claims(file: Path, run_folder: Path) -> Path | None:
    """Keeps the declared claims' own text in the run folder, as `claims*.toml`; None where it is there already.

    A copy of which the file has all claims gives way to it: no claim stands twice. Else it stands beside the others.
    """
    content, there = file.read_bytes(), sorted(run_folder.glob("claims*.toml"))
    if any(other.read_bytes() == content for other in there):
        return None
    hashes = {claim.hash for claim in read_claims(file)}
    older = [other for other in there if {claim.hash for claim in read_claims(other)} <= hashes]
    name = "claims.toml" if not there else f"claims-{sha256(content).hexdigest()[:8]}.toml"
    return write_bytes_atomically(older[0] if older else run_folder / name, content)


def _known(run_folder: Path, now: datetime) -> list[Declaration]:
    """What stands in the log, which must be whole, and older than `now`."""
    log = read_log(run_folder)
    if log.problem:
        raise InvalidInput([Mistake(str(run_folder), "", f"takes no declaration: {log.problem}")])
    last = log.entries[-1].time if log.entries else ""
    if now.isoformat(timespec="seconds") < last:
        problem, time = "the clock stands before the last declaration", now.isoformat(timespec="seconds")
        raise InvalidInput([Mistake(str(run_folder), DECLARATIONS, problem, time, f"{last} or later")])
    return list(log.entries)


def _take_turns(file: IO[bytes]) -> None:
    """Waits for another `declare` on the folder: two that follow the same line would break the chain for good.

    Where the file system knows no locks there is no waiting.
    """
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed


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
