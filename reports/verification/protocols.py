"""The protocols of a bundle: whether each has the content that its hash, name and version stand for."""

from collections.abc import Iterator

from twinbench.reports.claims.consistency import namesake
from twinbench.reports.verification.level import LONGEST_NAME, some
from twinbench.results.bundles.contents import Contents
from twinbench.results.plan import is_carried_protocol
from twinbench.results.record import PLAN
from twinbench.sweeps.deviations import Deviation, deviate
from twinbench.sweeps.errors import InvalidInput, shortened
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.protocol import CarriedProtocol, Protocol, content_hash
from twinbench.sweeps.protocol_diff import differences
from twinbench.sweeps.protocol_lock import LOCK, read_lock
from twinbench.sweeps.sweep import SHIPPED, read_protocol, shipped_protocols


def protocol_faults(contents: Contents) -> Iterator[str]:
    """Yield protocols whose content does not have their hash, or that differ from the shipped one of their version."""
    distinct: dict[str, tuple[CarriedProtocol, list[str]]] = {}

    def add(protocol: CarriedProtocol, where: str) -> None:
        distinct.setdefault(digest(protocol), (protocol, []))[1].append(where)

    if contents.plan:
        add(contents.plan.protocol, PLAN)
    for trial_id, record in contents.records.items():
        add(record["result"]["trial"]["protocol"], trial_id)
    hashes = {str(protocol["hash"]) for protocol, _ in distinct.values()}
    for name, protocol in contents.protocols.items():
        if not is_carried_protocol(protocol) or f"protocols/{protocol['hash']}.json" != name:
            yield f"{name}: is not the protocol of that hash"
        elif protocol["hash"] not in hashes:
            yield f"{name}: neither a record nor the plan has this protocol"
        else:
            add(protocol, name)
    for hash_ in sorted(hashes):
        if f"protocols/{hash_}.json" not in contents.unpacked.found:
            yield f"protocols/{shortened(hash_, LONGEST_NAME)}.json: is missing"
    for protocol, where in distinct.values():
        for fault in _content_faults(protocol):
            yield f"protocol {protocol['name']} v{protocol['version']} in {some(where)}: {fault}"


def _content_faults(protocol: CarriedProtocol) -> Iterator[str]:
    content, stated = protocol["content"], protocol["hash"]
    found = content_hash(content)
    if found != stated:
        yield f"its hash is given as {stated}, but its content has {found}"
    for key in ("name", "version"):
        if content.get(key) != protocol[key]:
            yield f"its content gives the {key} {content.get(key)!r}"
    lock = read_lock(SHIPPED / "protocols" / LOCK)
    if other := namesake(protocol["name"], lock):
        yield f"it is not the shipped protocol {other}, whose name it reads as"
    locked = lock.get(protocol["name"], {}).get(str(protocol["version"]))
    if locked is None:
        return
    shipped, whole = _shipped(protocol), protocol.get("base_hash", stated)
    if whole != locked:
        differing = differences(shipped.content, content)[:5] if shipped else []
        text = ", ".join(f"{one.key} is {one.right!r} for {one.left!r}" for one in differing)
        yield f"the shipped one has the hash {locked}, this one {whole}{text and f': {text}'}"
    elif shipped and "base_hash" in protocol:
        yield from _deviation_faults(protocol, shipped)


def _deviation_faults(protocol: CarriedProtocol, shipped: Protocol) -> Iterator[str]:
    """Yield a fault where the named deviations do not turn the shipped protocol into this one."""
    try:
        named = [Deviation(one["key"], one["value"], one["reason"]) for one in protocol["deviations"]]
        effective = deviate(shipped, named, "its deviations")
    except (InvalidInput, KeyError, TypeError, AttributeError) as error:
        yield f"its deviations cannot be applied: {error}"
        return
    if effective.hash != protocol["hash"]:
        yield f"its deviations give the hash {effective.hash}, but it has {protocol['hash']}"


def _shipped(protocol: CarriedProtocol) -> Protocol | None:
    """Return the shipped protocol of that name and version; None where the shipped one is of another version."""
    name = protocol["name"]
    shipped = read_protocol(name) if name in shipped_protocols() else None
    return shipped if shipped and shipped.version == protocol["version"] else None
