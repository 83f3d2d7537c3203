"""Read the plan, records, protocols and attempts of an unpacked bundle, and check them, so that later code can trust
their types.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from twinbench.results.atomic_files import json_bytes
from twinbench.results.attempts import Attempt
from twinbench.results.bundles.members import ATTEMPTS, ENVIRONMENT
from twinbench.results.bundles.read import Unpacked, read_json
from twinbench.results.bundles.summaries import environment
from twinbench.results.plan import BrokenPlan, PlanFile, PlannedTrial, checked_plan, first_problem
from twinbench.results.record import ARTEFACTS, PLAN, RECORDS, Record, TornRecord, parse_record

_ATTEMPTS = TypeAdapter(list[Attempt])


@dataclass(frozen=True)
class Contents:
    """An unpacked bundle and its checked content. `faults` names every member that could not be read."""

    unpacked: Unpacked
    plan: PlanFile | None
    records: Mapping[str, Record]  # by trial id
    protocols: Mapping[str, object]  # by member, unchecked
    attempts: Mapping[str, Sequence[Attempt]]  # by trial id, in order
    faults: tuple[str, ...]

    @property
    def planned(self) -> dict[str, PlannedTrial]:
        """Return the plan's trials by id."""
        return {trial.trial_id: trial for trial in self.plan.trials} if self.plan else {}

    @property
    def all_attempts(self) -> list[Attempt]:
        """Return all attempts at all trials."""
        return [attempt for attempts in self.attempts.values() for attempt in attempts]


def read_contents(unpacked: Unpacked) -> Contents:
    """Read all JSON of the bundle. A member with a problem is left out and named in `faults`."""
    faults: list[str] = []
    read = _all_json(unpacked, faults)
    records = _records(unpacked, read, faults)
    plan: PlanFile | None = None
    if PLAN in read:
        try:
            plan = checked_plan(read[PLAN])
        except BrokenPlan as error:
            faults.append(f"{PLAN}: not a plan: {error}")
    attempts: list[Attempt] = []
    if ATTEMPTS in read:
        try:
            attempts = _ATTEMPTS.validate_python(read[ATTEMPTS], strict=True)
        except ValidationError as error:
            faults.append(f"{ATTEMPTS}: not a list of attempts: {first_problem(error)}")
    if ENVIRONMENT in read and json_bytes(read[ENVIRONMENT]) != json_bytes(environment(list(records.values()))):
        faults.append(f"{ENVIRONMENT}: differs from the code, versions and devices in the records")
    by_trial: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_trial[attempt["trial_id"]].append(attempt)
    protocols = {name: content for name, content in read.items() if name.startswith("protocols/")}
    return Contents(unpacked, plan, records, protocols, by_trial, tuple(faults))


def _all_json(unpacked: Unpacked, faults: list[str]) -> dict[str, object]:
    """Return content by member. Curves are not used here, so they are only checked to be JSON."""
    read: dict[str, object] = {}
    for name in unpacked.found:
        if not name.endswith(".json"):
            continue
        try:
            content = read_json(unpacked.file(name).read_bytes())
        except ValueError as error:
            faults.append(f"{name}: cannot be read as JSON: {error}")
        else:
            read |= {} if name.startswith(f"{ARTEFACTS}/") else {name: content}
    return read


def _records(unpacked: Unpacked, read: Mapping[str, object], faults: list[str]) -> dict[str, Record]:
    records = {}
    for name in unpacked.names(f"{RECORDS}/"):
        if name in read:
            try:
                record = parse_record(unpacked.file(name).name, unpacked.file(name).read_bytes())
                records[record["result"]["trial_id"]] = record
            except TornRecord as error:
                faults.append(f"{RECORDS}/{error}")
    return records


def manifest_faults(unpacked: Unpacked, expected: str = "") -> Iterator[str]:
    """Yield what differs from the manifest, or from the digest `expected` that the author published."""
    if expected and expected != unpacked.digest:
        yield f"the bundle's digest is {unpacked.digest}, but the published one is {expected}: it is not the author's"
    for name in sorted(unpacked.stated.keys() | unpacked.found.keys()):
        stated, found = unpacked.stated.get(name), unpacked.found.get(name)
        if found is None:
            yield f"{name}: is in the manifest but missing"
        elif stated is None:
            yield f"{name}: is not in the manifest"
        elif stated != found:
            yield f"{name}: was changed: its sha256 is {found[0]}, but the manifest says {stated[0]}"
    for name in (PLAN, ATTEMPTS, ENVIRONMENT):
        if name not in unpacked.found and name not in unpacked.stated:
            yield f"{name}: is missing"
