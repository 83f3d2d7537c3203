"""Declarations: which claims stood before which results. An append-only log in the run folder, `declarations.jsonl`.

Each line holds a claim's hash, that of the protocol it names, the time, how many records the folder held then, and the
digest of the line before, so that an entry which is edited, moved or dropped breaks the chain. Whoever rewrites the
whole file makes a whole chain: only a copy of the last line's digest with somebody else (a commit, a mail, a registry)
shows that. `declare` prints it.
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from twinbench.reports.claims.claim import Claim, read_claims
from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.results.plan import read_plan
from twinbench.results.record import DECLARATIONS, record_files
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.hashing import canonical_json, digest
from twinbench.sweeps.sweep import read_protocol, shipped_protocols

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
    protocol: str = ""  # the content hash of the protocol that the claim names; lines of earlier versions have none

    def is_under(self, protocols: Iterable[Collection[str]]) -> bool:
        """Whether the protocols are the declared one, each told by its hash and by that without its deviations."""
        return not self.protocol or all(self.protocol in hashes for hashes in protocols)


@dataclass(frozen=True)
class Log:
    """All declarations in order. `problem` says where the chain is broken; nothing after that place counts."""

    entries: tuple[Declaration, ...] = ()
    problem: str = ""

    def of(self, claim: Claim, protocols: Sequence[Collection[str]] = ()) -> Declaration | None:
        """The first declaration of this very claim under these protocols."""
        return next((entry for entry in self._of.get(claim.hash, ()) if entry.is_under(protocols)), None)

    @cached_property
    def _of(self) -> dict[str, list[Declaration]]:
        found: dict[str, list[Declaration]] = {}
        for entry in self.entries:
            found.setdefault(entry.claim, []).append(entry)
        return found

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


def declare(
    claims: Iterable[Claim], run_folder: Path, now: datetime, protocols: Mapping[str, str] | None = None
) -> tuple[list[Declaration], str]:
    """Adds the claims that are not in the log yet; the new entries, and the digest of the last line.

    `now` is in UTC; `protocols` are hashes by name, beside those of `known_protocols`. A claim whose protocol was
    changed since is declared anew. InvalidInput where the log is broken: what would follow could not be trusted.
    """
    claims = list(claims)
    hashes = known_protocols(run_folder, {claim.protocol for claim in claims}) | dict(protocols or {})
    if run_folder.exists() and not run_folder.is_dir():
        raise InvalidInput([Mistake(str(run_folder), "", "is no folder")])
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        with (run_folder / DECLARATIONS).open("ab") as file:
            _take_turns(file)
            entries = _known(run_folder, now)
            held = len(entries)
            recorded = len(record_files(run_folder))
            for claim in claims:
                protocol = hashes.get(claim.protocol, "")
                if not _is_declared(claim, protocol, entries):
                    time = now.isoformat(timespec="seconds")
                    entry = Declaration(claim.name, claim.hash, time, recorded, _head(entries), protocol=protocol)
                    entries.append(replace(entry, digest=_digest(entry)))
            file.write(b"".join(canonical_json(_content(entry)) + b"\n" for entry in entries[held:]))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidInput(
            [Mistake(str(run_folder / DECLARATIONS), "", f"cannot be written: {error.strerror}")]
        ) from None
    return entries[held:], _head(entries)


def known_protocols(run_folder: Path, names: Collection[str]) -> dict[str, str]:
    """Content hashes by name: of the shipped protocols among the names, and of the one in the folder's plan."""
    hashes = {name: read_protocol(name).hash for name in shipped_protocols() if name in names}
    try:
        planned = read_plan(run_folder).protocol
        return hashes | {planned["name"]: planned["hash"]}
    except InvalidInput:  # no plan yet, or none that can be read, of which `run` tells
        return hashes


def _is_declared(claim: Claim, protocol: str, entries: Iterable[Declaration]) -> bool:
    """Whether the log has it, under this protocol where both are known."""
    return any(entry.claim == claim.hash and (not protocol or entry.is_under([[protocol]])) for entry in entries)


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
    is_whole = all(type(getattr(entry, field.name)) is field.type for field in fields(Declaration))
    return entry if is_whole and data.get("protocol") != "" else None  # no digest would tell that from an absent one


def _head(entries: list[Declaration]) -> str:
    return entries[-1].digest if entries else NOTHING_BEFORE


def _content(entry: Declaration) -> dict[str, Any]:
    """What its line holds: those without a protocol are as they were before it could be said, so that digests stay."""
    return {key: value for key, value in asdict(entry).items() if key != "protocol" or value}


def _digest(entry: Declaration) -> str:
    return digest({key: value for key, value in _content(entry).items() if key != "digest"})
