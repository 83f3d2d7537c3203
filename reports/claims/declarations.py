"""Declarations: which claims were made before which results. An append-only log, `declarations.jsonl`.

Each line holds the hash of a claim, the hash of the protocol it names, the time, the number of records in the folder at
that time, and the digest of the line before, so that an entry which is edited, moved or removed breaks the chain.
Rewriting the whole file, or removing its last lines, still gives a valid chain. Each trial keeps the log's head of the
moment it began (results/log_head.py), which such a log contradicts. Where no trial began in between, only a copy of the
last line's digest kept elsewhere (in a commit, an e-mail or a registry) reveals it; `declare` prints it.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO

from twinbench.reports.claims.claim import Claim, read_claims
from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.results.log_head import LogHead
from twinbench.results.plain_files import claims_files
from twinbench.results.plan import read_plan
from twinbench.results.record import DECLARATIONS, PLAN, record_files
from twinbench.sweeps.errors import InvalidInput, Mistake, counted
from twinbench.sweeps.file_reader import open_regular, parse_json, read_regular
from twinbench.sweeps.hashing import canonical_json, digest
from twinbench.sweeps.sweep import read_protocol, shipped_protocols


@dataclass(frozen=True)
class Declaration:
    """One line of the log. `time` is in UTC to the second; `recorded` counts the folder's records at that time."""

    name: str
    claim: str  # the claim's hash
    time: str
    recorded: int
    previous: str  # digest of the line before; empty in the first line
    digest: str = ""  # of this line without the digest itself
    protocol: str = ""  # content hash of the protocol that the claim names; empty in lines of earlier versions

    def is_under(self, protocols: Iterable[Collection[str]]) -> bool:
        """Whether all protocols are the declared one; each is given by its hash and its hash without deviations."""
        return not self.protocol or all(self.protocol in hashes for hashes in protocols)


@dataclass(frozen=True)
class Log:
    """All declarations in order. `problem` says where the chain is broken; entries after that do not count."""

    entries: tuple[Declaration, ...] = ()
    problem: str = ""

    def of(self, claim: Claim, protocols: Sequence[Collection[str]] = ()) -> Declaration | None:
        """Return the first declaration of exactly this claim under these protocols; None without one."""
        return next((entry for entry in self._of.get(claim.hash, ()) if entry.is_under(protocols)), None)

    @cached_property
    def _of(self) -> dict[str, list[Declaration]]:
        found: dict[str, list[Declaration]] = {}
        for entry in self.entries:
            found.setdefault(entry.claim, []).append(entry)
        return found

    def place(self, entry: Declaration) -> int:
        """Return the number of the entry's line, from 1 on."""
        return self.entries.index(entry) + 1

    def contradiction(self, head: LogHead) -> str:
        """Return how the log differs from its head at an earlier time; empty if it continues that head."""
        if head.lines > len(self.entries):
            return f"had {counted(head.lines, 'line')}, but now has {len(self.entries)}: its last lines were removed"
        found = self.entries[head.lines - 1].digest if head.lines else ""
        if found == head.digest:
            return ""
        return f"had {head.digest[:12]} as the digest of line {head.lines}, but now has {found[:12]}: it was rewritten"

    def named(self, name: str) -> list[Declaration]:
        """Return all declarations under the name."""
        return [entry for entry in self.entries if entry.name == name]


def read_log(run_folder: Path) -> Log:
    """Return the folder's declarations, up to the first line that does not continue the chain."""
    try:
        text = read_regular(run_folder / DECLARATIONS).decode("utf-8")
    except FileNotFoundError:
        return Log()
    except (OSError, UnicodeDecodeError) as error:
        return Log((), f"{DECLARATIONS} cannot be read: {error}")
    entries: list[Declaration] = []
    # Not splitlines: it also splits at U+2028 and similar characters, which JSON leaves unescaped.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        entry = _entry(line)
        if entry is None:
            return Log(tuple(entries), f"{DECLARATIONS}: line {number} is not a declaration")
        if entry.previous != _head(entries) or entry.digest != _digest(entry):
            return Log(tuple(entries), f"{DECLARATIONS}: line {number} was changed, or a line before it was removed")
        entries.append(entry)
    return Log(tuple(entries))


def declare(
    claims: Iterable[Claim], run_folder: Path, now: datetime, protocols: Mapping[str, str] | None = None
) -> tuple[list[Declaration], str]:
    """Add the claims that are not in the log yet; return the new entries and the digest of the last line.

    `now` is in UTC; `protocols` gives hashes by name in addition to `known_protocols`. A claim whose protocol was
    changed since is declared again. InvalidInput where the log is broken, since later entries could not be trusted.
    """
    claims = list(claims)
    hashes = known_protocols(run_folder, {claim.protocol for claim in claims}) | dict(protocols or {})
    if run_folder.exists() and not run_folder.is_dir():
        raise InvalidInput([Mistake(str(run_folder), "", "is not a folder")])
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        with open_regular(run_folder / DECLARATIONS, "ab") as file:
            _lock(file)
            entries = _entries_before(run_folder, now)
            count = len(entries)
            recorded = len(record_files(run_folder))
            for claim in claims:
                protocol = hashes.get(claim.protocol, "")
                same = [entry for entry in entries if entry.claim == claim.hash]
                if not any(not protocol or entry.is_under([[protocol]]) for entry in same):
                    time = now.isoformat(timespec="seconds")
                    entry = Declaration(claim.name, claim.hash, time, recorded, _head(entries), protocol=protocol)
                    entries.append(replace(entry, digest=_digest(entry)))
            file.write(b"".join(canonical_json(_content(entry)) + b"\n" for entry in entries[count:]))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        where, problem = str(run_folder / DECLARATIONS), f"cannot be written: {error.strerror}"
        raise InvalidInput([Mistake(where, "", problem)]) from None
    return entries[count:], _head(entries)


def known_protocols(run_folder: Path, names: Collection[str]) -> dict[str, str]:
    """Return content hashes by name: of the shipped protocols among the names, and of the one in the folder's plan."""
    hashes = {name: read_protocol(name).hash for name in shipped_protocols() if name in names}
    if not os.path.lexists(run_folder / PLAN):
        return hashes
    planned = read_plan(run_folder).protocol
    return hashes | {planned["name"]: planned["hash"]}


def copy_claims(file: Path, run_folder: Path) -> Path | None:
    """Copy the claims file into the run folder as `claims*.toml` and return the copy; None where it is there already.

    It replaces an earlier copy if it contains all of that copy's claims, so that no claim is kept twice.
    """
    content, copies = read_regular(file), claims_files(run_folder)
    if any(read_regular(other) == content for other in copies):
        return None
    hashes = {claim.hash for claim in read_claims(file)}
    older = [other for other in copies if {claim.hash for claim in read_claims(other)} <= hashes]
    name = "claims.toml" if not copies else f"claims-{sha256(content).hexdigest()[:8]}.toml"
    return write_bytes_atomically(older[0] if older else run_folder / name, content)


def _entries_before(run_folder: Path, now: datetime) -> list[Declaration]:
    """Return the entries of the log. InvalidInput where it is broken, or its last entry is later than `now`."""
    log = read_log(run_folder)
    if log.problem:
        raise InvalidInput([Mistake(str(run_folder), "", f"cannot take declarations: {log.problem}")])
    last = log.entries[-1].time if log.entries else ""
    if now.isoformat(timespec="seconds") < last:
        problem, time = "the clock is earlier than the last declaration", now.isoformat(timespec="seconds")
        raise InvalidInput([Mistake(str(run_folder), DECLARATIONS, problem, time, f"{last} or later")])
    return list(log.entries)


def _lock(file: IO[bytes]) -> None:
    """Wait for another `declare` on the folder: two entries after the same line would break the chain for good.

    On file systems without locks this does nothing.
    """
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed


def _entry(line: str) -> Declaration | None:
    try:
        data = parse_json(line.encode())
        entry = Declaration(**data)
    except (ValueError, TypeError):
        return None
    is_whole = all(type(getattr(entry, field.name)) is field.type for field in fields(Declaration))
    return entry if is_whole and data.get("protocol") != "" else None  # an empty protocol has the same digest as none


def _head(entries: list[Declaration]) -> str:
    return entries[-1].digest if entries else ""


def _content(entry: Declaration) -> dict[str, object]:
    """Return the content of the entry's line; without the key `protocol` if it is empty, so that old digests hold."""
    return {key: value for key, value in asdict(entry).items() if key != "protocol" or value}


def _digest(entry: Declaration) -> str:
    return digest({key: value for key, value in _content(entry).items() if key != "digest"})
