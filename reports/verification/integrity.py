"""The ground of every level of verification: is the bundle whole, and does nothing in it contradict the rest?

Found here: what differs from the manifest; records whose digest, ids or protocol hash do not follow from their content;
protocols that changed under their name; planned or attempted trials that left no record; records that are copies of
another seed's; a broken chain of declarations; a protocol that is another than when a claim under it was declared.

Not found here, nor by rendering: results that somebody replaced before bundling, with all digests made anew. Against
that stand the per-example outputs (level aggregate, unless they were made up as well), running trials again (level
rerun), and the digest that the author published when the paper was sent (`--expect`), since a bundle rebuilt after an
edit has another. Trials that were removed together with their attempts and their place on the plan leave no trace in a
bundle at all; only an earlier digest or a declaration elsewhere tells of them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from twinbench.reports.claims.attempts import Attempt, attempt_conflicts
from twinbench.reports.claims.copied_seeds import Result, copied_seeds, may_agree, shared_files
from twinbench.results.bundles.contents import Contents
from twinbench.results.bundles.members import ATTEMPTS, ENVIRONMENT, BundledAttempt, printable
from twinbench.results.bundles.read import Unpacked
from twinbench.results.plan import is_carried_protocol
from twinbench.results.record import ARTEFACTS, PLAN, RECORDS, STATUSES, Record, references
from twinbench.sweeps.deviations import Deviation, deviate
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.protocol import PROSE, CarriedProtocol, Protocol
from twinbench.sweeps.protocol_diff import differences
from twinbench.sweeps.protocol_lock import LOCK, read_lock
from twinbench.sweeps.sweep import SHIPPED, read_protocol, shipped_protocols
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.reports.claims.claim import Claim


@dataclass(frozen=True)
class Level:
    """What one level of verification came to: every fault, and what the reader should know beside them."""

    name: str
    outcome: Literal["passed", "failed", "not run"]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def judged(name: str, faults: Iterable[str], notes: Iterable[str]) -> Level:
    """The level: failed where there is any fault. What is told may be printed on any terminal."""
    told = tuple(printable(fault, 1000) for fault in faults)
    return Level(name, "failed" if told else "passed", told, tuple(printable(note, 1000) for note in notes))


def not_run(name: str, reason: str) -> Level:
    """The level was asked for, and could not be run."""
    return Level(name, "not run", (), (printable(reason, 1000),))


def integrity(contents: Contents, expected: str = "") -> Level:
    """Whether the bundle is whole and of one piece; `expected` is the digest that its author published."""
    unpacked, records = contents.unpacked, contents.records
    results = list(_results(unpacked, records))
    faults = [
        *_manifest_faults(unpacked, expected),
        *contents.faults,
        *_record_faults(records),
        *_artefact_faults(unpacked, records),
        *_plan_faults(contents),
        *_protocol_faults(contents),
        *_attempt_faults(contents),
        *copied_seeds(results),
        *_declaration_faults(contents),
    ]
    return judged("integrity", faults, _notes(contents, results))


# --- against the manifest -------------------------------------------------------------------------------------------


def _manifest_faults(unpacked: Unpacked, expected: str) -> Iterator[str]:
    if expected and expected != unpacked.digest:
        yield f"the bundle's digest is {unpacked.digest}, the published one {expected}: it is not the author's"
    for name in sorted(unpacked.stated.keys() | unpacked.found.keys()):
        stated, found = unpacked.stated.get(name), unpacked.found.get(name)
        if found is None:
            yield f"{name}: is on the manifest, and missing"
        elif stated is None:
            yield f"{name}: is not on the manifest"
        elif stated != found:
            yield f"{name}: was changed: its sha256 is {found[0]}, the manifest says {stated[0]}"
    for name in (PLAN, ATTEMPTS, ENVIRONMENT):
        if name not in unpacked.found and name not in unpacked.stated:
            yield f"{name}: is missing"


# --- records and plan -----------------------------------------------------------------------------------------------


def _record_faults(records: Mapping[str, Record]) -> Iterator[str]:
    """Ids that do not follow from the content: a record that was copied to another place, or changed."""
    names = {field.name for field in fields(Trial)}
    for trial_id, record in records.items():
        result, where = record["result"], f"{RECORDS}/{trial_id}.json"
        content = result["trial"]
        if content.keys() != names:
            yield f"{where}: its trial has not the keys of one: {', '.join(sorted(names ^ content.keys()))}"
        else:
            yield from _id_faults(where, Trial(**content), result["trial_id"], result["cell_id"])


def _id_faults(where: str, trial: Trial, trial_id: str, cell_id: str) -> Iterator[str]:
    for key, stated, found in (("trial_id", trial_id, trial.trial_id), ("cell_id", cell_id, trial.cell_id)):
        if stated != found:
            yield f"{where}: says that its {key} is {stated}, and its content gives {found}"


def _artefact_faults(unpacked: Unpacked, records: Mapping[str, Record]) -> Iterator[str]:
    referred = {
        reference["file"]: trial_id
        for trial_id, record in records.items()
        for reference in references(record["result"])
    }
    present = set(unpacked.names(f"{ARTEFACTS}/"))
    for file in sorted(referred.keys() - present):
        if file not in unpacked.stated:  # else the manifest has told of it
            yield f"{file}: is missing; the record of trial {referred[file]} refers to it"
    for file in sorted(present):
        if file not in referred:
            yield f"{file}: no record refers to it: its own was removed or changed"
        if unpacked.found[file][0] != file.partition("/")[2].partition(".")[0]:
            yield f"{file}: was changed: its sha256 is {unpacked.found[file][0]}"


def _plan_faults(contents: Contents) -> Iterator[str]:
    if not contents.plan:
        return
    protocol = contents.plan.protocol
    for place, planned in enumerate(contents.plan.trials):
        trial = planned.under(protocol)
        yield from _id_faults(f"{PLAN}: trials.{place}", trial, planned.trial_id, planned.cell_id)
    others = [
        trial_id
        for trial_id, record in contents.records.items()
        if record["result"]["trial"]["protocol"]["hash"] != protocol["hash"]
    ]
    if others:
        yield f"{_some(others)}: ran under another protocol than the plan's {protocol['hash'][:12]}"


# --- protocols ------------------------------------------------------------------------------------------------------


def _protocol_faults(contents: Contents) -> Iterator[str]:
    """A protocol is what its hash says, and what is known here under its name and version."""
    distinct: dict[str, tuple[CarriedProtocol, list[str]]] = {}

    def meet(protocol: CarriedProtocol, where: str) -> None:
        distinct.setdefault(digest(protocol), (protocol, []))[1].append(where)

    if contents.plan:
        meet(contents.plan.protocol, PLAN)
    for trial_id, record in contents.records.items():
        meet(record["result"]["trial"]["protocol"], trial_id)
    hashes = {str(protocol["hash"]) for protocol, _ in distinct.values()}
    for name, protocol in contents.protocols.items():
        if not is_carried_protocol(protocol) or f"protocols/{protocol['hash']}.json" != name:
            yield f"{name}: is not the protocol of that hash"
        elif protocol["hash"] not in hashes:
            yield f"{name}: no record and no plan is of this protocol"
        else:
            meet(protocol, name)
    for hash_ in sorted(hashes):
        if f"protocols/{hash_}.json" not in contents.unpacked.found:
            yield f"protocols/{printable(hash_)}.json: is missing"
    for protocol, where in distinct.values():
        for fault in _content_faults(protocol):
            yield f"protocol {protocol['name']} version {protocol['version']} in {_some(where)}: {fault}"


def _content_faults(protocol: CarriedProtocol) -> Iterator[str]:
    content, stated = protocol["content"], protocol["hash"]
    found = digest({key: value for key, value in content.items() if key not in PROSE})
    if found != stated:
        yield f"says that its hash is {stated}, and its content gives {found}"
    for key in ("name", "version"):
        if content.get(key) != protocol[key]:
            yield f"its content says that its {key} is {content.get(key)!r}"
    locked = read_lock(SHIPPED / "protocols" / LOCK).get(protocol["name"], {}).get(str(protocol["version"]))
    whole = protocol.get("base_hash", stated)
    if locked is not None and whole != locked:
        yield f"is known here with the hash {locked}, and this one has {whole}{_in_what(protocol)}"
    elif locked is not None and "base_hash" in protocol:
        yield from _deviation_faults(protocol)


def _in_what(protocol: CarriedProtocol) -> str:
    """Where the content differs from that of the shipped protocol of this name, where it is of this version."""
    shipped = _shipped(protocol)
    found = differences(shipped.content, protocol["content"]) if shipped else []
    return f": {', '.join(f'{one.key} is {one.right!r} for {one.left!r}' for one in found[:5])}" if found else ""


def _deviation_faults(protocol: CarriedProtocol) -> Iterator[str]:
    """What the protocol says it deviates in must be all in which it differs from the shipped one."""
    shipped = _shipped(protocol)
    if shipped is None:
        return
    try:
        told = [Deviation(one["key"], one["value"], one["reason"]) for one in protocol["deviations"]]
        effective = deviate(shipped, told, "its deviations")
    except (InvalidInput, KeyError, TypeError, AttributeError) as error:
        yield f"its deviations are none: {error}"
        return
    if effective.hash != protocol["hash"]:
        yield f"its deviations give the hash {effective.hash}, and it has {protocol['hash']}"


def _shipped(protocol: CarriedProtocol) -> Protocol | None:
    name = protocol["name"]
    shipped = read_protocol(name) if name in shipped_protocols() else None
    return shipped if shipped and shipped.version == protocol["version"] else None


# --- attempts -------------------------------------------------------------------------------------------------------


def _attempt_faults(contents: Contents) -> Iterator[str]:
    """Trials that came to an end and have no record, or whose record is not of an attempt."""
    for trial_id, attempts in sorted(contents.attempts.items()):
        numbers = [attempt["number"] for attempt in attempts]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"trial {trial_id}: its attempts are {numbers}: some are missing or stand twice"
        record = contents.records.get(trial_id)
        yield from _dropped(trial_id, attempts) if record is None else _disagreements(trial_id, attempts, record)
    if contents.attempts:
        for trial_id in sorted(contents.records.keys() - contents.attempts.keys()):
            yield f"trial {trial_id}: has a record and was never attempted"


def _dropped(trial_id: str, attempts: Sequence[BundledAttempt]) -> Iterator[str]:
    ended = [attempt for attempt in attempts if attempt["status"] in STATUSES]
    if ended:
        last = ended[-1]
        reason = f" ({last['reason']})" if last["reason"] else ""
        yield f"trial {trial_id}: attempt {last['number']} ended as {last['status']}{reason}; its record is gone"


def _disagreements(trial_id: str, attempts: Sequence[BundledAttempt], record: Record) -> Iterator[str]:
    status, circumstance = record["result"]["status"], record["circumstance"]
    made = [Attempt(one["number"], one["status"], one["started"]) for one in attempts]
    for conflict in attempt_conflicts(made, status, circumstance.get("attempts")):
        yield f"trial {trial_id}: {conflict}"
    began = made[0].started
    if began and began != circumstance.get("started"):
        yield f"trial {trial_id}: began at {began}, but its record says {circumstance.get('started')}"


# --- copies ---------------------------------------------------------------------------------------------------------


def _results(unpacked: Unpacked, records: Mapping[str, Record]) -> Iterator[Result]:
    """The artefacts of every record."""
    for trial_id, record in sorted(records.items()):
        result = record["result"]
        curves, outputs = (one["file"] if one else "" for one in (result.get("curves"), result.get("outputs")))
        if outputs and _outputs_may_agree(unpacked, outputs):
            outputs = ""
        yield Result(trial_id, result["trial"]["method"], result["trial"]["seed"], curves, outputs)


def _outputs_may_agree(unpacked: Unpacked, file: str) -> bool:
    """See `may_agree`; true of a file that cannot be read, which the level aggregate reports."""
    from safetensors.numpy import load

    try:
        return may_agree(load(unpacked.file(file).read_bytes()))
    except Exception:  # another's file: it may be wrong in any way
        return True


# --- declarations and what else to know -----------------------------------------------------------------------------


def _declaration_faults(contents: Contents) -> Iterator[str]:
    """A broken chain, and protocols whose content is another than when the claims under them were declared."""
    from twinbench.reports.claims.declarations import read_log

    log = read_log(contents.unpacked.run_folder)
    if log.problem:
        yield log.problem
    ran: dict[str, set[str]] = defaultdict(set)  # hashes, and those without deviations, by name
    for record in contents.records.values():
        protocol = record["result"]["trial"]["protocol"]
        ran[str(protocol["name"])] |= {str(protocol["hash"]), str(protocol.get("base_hash", protocol["hash"]))}
    claims, _ = _claims_on_file(contents.unpacked)
    for claim in claims:
        hashes, entry = ran.get(claim.protocol), log.of(claim)
        if hashes and entry and not log.of(claim, [hashes]):
            now = ", ".join(one[:12] for one in sorted(hashes))
            told = f"declared as {entry.name} under protocol {claim.protocol} with the hash {entry.protocol[:12]}"
            yield f"{told}, and the records are of {now}: the protocol was changed since"


def _notes(contents: Contents, results: Sequence[Result]) -> Iterator[str]:
    planned, records, attempts = contents.planned, contents.records, contents.attempts
    statuses = Counter(record["result"]["status"] for record in records.values())
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "none"
    yield f"{len(planned)} trials planned; records: {counts}; digest {contents.unpacked.digest}"
    if missing := sorted(planned.keys() - records.keys()):
        yield f"planned and not recorded: {_some(missing)}"
    if extra := sorted(records.keys() - planned.keys()):
        yield f"recorded and not on the plan: {_some(extra)}"
    if unfinished := sorted(attempts.keys() - records.keys()):
        yield f"attempted and not recorded: {_some(unfinished)}"
    if not attempts and records:
        yield "no attempts are kept, so that a trial which was dropped would not show"
    again = [one["trial_id"] for tried in attempts.values() for one in tried if one["status"] == "failed"]
    if retried := sorted({one for one in again if one in records and records[one]["result"]["status"] != "failed"}):
        yield f"failed at first and were run again: {_some(retried)}"
    for group in shared_files(results, "curves"):
        if len({result.seed for result in group}) == 1:
            yield f"identical curves in different cells: {_some([result.trial_id for result in group])}"
    yield from _withdrawn(contents.unpacked)


def _withdrawn(unpacked: Unpacked) -> Iterator[str]:
    """Claims that were declared and that no file holds in that form any more."""
    from twinbench.reports.claims.declarations import read_log

    claims, unreadable = _claims_on_file(unpacked)
    held = {claim.hash for claim in claims}
    for name in unreadable:
        yield f"{name}: cannot be read as claims"
    for entry in read_log(unpacked.run_folder).entries:
        if entry.claim not in held:
            yield f"declared on {entry.time} as {entry.name}, and in no claims file here in that form"


def _claims_on_file(unpacked: Unpacked) -> tuple[list["Claim"], list[str]]:
    """Of all files of claims, and the names of those that cannot be read."""
    from twinbench.reports.claims.claim import read_claims

    claims: list[Claim] = []
    unreadable = []
    for name in unpacked.names("claims"):
        try:
            claims += read_claims(unpacked.file(name))
        except InvalidInput:
            unreadable.append(name)
    return claims, unreadable


def _some(names: Sequence[str]) -> str:
    """The first few of many."""
    few = ", ".join(printable(name) for name in names[:5])
    return few if len(names) <= 5 else f"{few} and {len(names) - 5} more"
