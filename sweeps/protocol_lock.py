"""The lock: which content hash each version of a protocol has. A change of content needs a new version to get in.

`protocols.lock` stands beside the protocols it covers: JSON, name to version to hash. Versions that are gone stay in
it, so that no name and version ever stands for two contents.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.protocol import Protocol

LOCK = "protocols.lock"
Lock = Mapping[str, Mapping[str, str]]


def read_lock(path: Path) -> dict[str, dict[str, str]]:
    """Hash by version by name; empty where there is no lock yet. InvalidInput for a file that is not one."""
    if not path.exists():
        return {}
    try:
        lock: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
        entries = [entry for versions in lock.values() for entry in versions.items()]
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidInput([Mistake(str(path), "", f"is no lock of protocols: {error}")]) from None
    if not all(version.isdecimal() and isinstance(hash_, str) for version, hash_ in entries):
        raise InvalidInput(
            [Mistake(str(path), "", "is no lock of protocols: versions are not all numbers with a hash")]
        )
    return lock


def locked(lock: Lock, protocols: Iterable[Protocol], where: str) -> dict[str, dict[str, str]]:
    """The lock with these protocols in it. InvalidInput names each whose content changed and whose version did not."""
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
    """What the lock says of a protocol: "locked", "not locked", or "locked with other content"."""
    held = lock.get(protocol.name, {}).get(str(protocol.version))
    if held is None:
        return "not locked"
    return "locked" if held == protocol.hash else "locked with other content"


def lock_text(lock: Lock) -> str:
    """The lock file: names in order, versions by number."""
    ordered = {name: dict(sorted(lock[name].items(), key=lambda one: int(one[0]))) for name in sorted(lock)}
    return json.dumps(ordered, indent=1, ensure_ascii=False) + "\n"
