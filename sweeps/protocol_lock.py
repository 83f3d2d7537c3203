"""The lock file: the content hash of each version of a protocol. Changed content needs a new version.

`protocols.lock` is next to the protocols that it covers: JSON, name to version to hash. Deleted versions stay in it, so
that a name and version never have two contents.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.file_reader import parse_json, read_regular
from twinbench.sweeps.protocol import Protocol

LOCK = "protocols.lock"
Lock = Mapping[str, Mapping[str, str]]


def read_lock(path: Path) -> dict[str, dict[str, str]]:
    """Return hashes by name and version; empty if there is no lock file. InvalidInput if the file is malformed."""
    if not path.exists():
        return {}
    try:
        lock: dict[str, dict[str, str]] = parse_json(read_regular(path))
        entries = [entry for versions in lock.values() for entry in versions.items()]
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidInput([Mistake(str(path), "", f"is not a lock file: {error}")]) from None
    if not all(version.isdecimal() and len(version) < 20 and isinstance(hash_, str) for version, hash_ in entries):
        raise InvalidInput([Mistake(str(path), "", "is not a lock file: not every version is a number with a hash")])
    return lock


def locked(lock: Lock, protocols: Iterable[Protocol], where: str) -> dict[str, dict[str, str]]:
    """Return the lock with these protocols added. InvalidInput lists those that changed without a new version."""
    new = {name: dict(versions) for name, versions in lock.items()}
    mistakes = []
    for protocol in protocols:
        held = new.setdefault(protocol.name, {}).setdefault(str(protocol.version), protocol.hash)
        if held != protocol.hash:
            problem = f"version {protocol.version} is locked with other content: a change needs a new version"
            allowed = f"the locked {held}, or version {max(map(int, new[protocol.name])) + 1}"
            mistakes.append(Mistake(where, protocol.name, problem, protocol.hash, allowed))
    if mistakes:
        raise InvalidInput(mistakes)
    return new


def state_in_lock(lock: Lock, protocol: Protocol) -> str:
    """Return a protocol's state in the lock: "locked", "not locked" or "locked with other content"."""
    held = lock.get(protocol.name, {}).get(str(protocol.version))
    if held is None:
        return "not locked"
    return "locked" if held == protocol.hash else "locked with other content"


def lock_text(lock: Lock) -> str:
    """Return the text of the lock file: names in order, versions by number."""
    ordered = {name: dict(sorted(lock[name].items(), key=lambda one: int(one[0]))) for name in sorted(lock)}
    return json.dumps(ordered, indent=1, ensure_ascii=False) + "\n"
