"""What a bundle says of plan, records, protocols and attempts: read with suspicion, so that later code needs none."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from twinbench.results.bundles.read import Unpacked, count_values, read_json
from twinbench.results.bundles.write import ATTEMPTS, ENVIRONMENT, BundledAttempt, environment, json_bytes
from twinbench.results.plan import BrokenPlan, PlanFile, PlannedTrial, checked_plan
from twinbench.results.record import ARTEFACTS, PLAN, RECORDS, Record, TornRecord, parse_record

MOST_KEPT = 15_000_000  # values of all JSON that is kept while a bundle is verified

_ATTEMPT = get_type_hints(BundledAttempt)


@dataclass(frozen=True)
class Contents:
    """An unpacked bundle, and what could be read of it. `faults` names every member that could not."""

    unpacked: Unpacked
    plan: PlanFile | None
    records: Mapping[str, Record]  # by trial id
    protocols: Mapping[str, object]  # by member, unchecked
    attempts: Mapping[str, Sequence[BundledAttempt]]  # by trial id, in order
    faults: tuple[str, ...]

    @property
    def planned(self) -> dict[str, PlannedTrial]:
        """The plan's trials by id."""
        return {trial.trial_id: trial for trial in self.plan.trials} if self.plan else {}

    @property
    def all_attempts(self) -> list[BundledAttempt]:
        """All attempts at all trials."""
        return [attempt for attempts in self.attempts.values() for attempt in attempts]


def read_contents(unpacked: Unpacked) -> Contents:
    """All that the bundle's JSON says. What is wrong with a member is told in `faults`, and the member left out."""
    faults: list[str] = []
    read = _all_json(unpacked, faults)
    records = _records(unpacked, read, faults)
    plan, attempts = None, read.get(ATTEMPTS, [])
    if PLAN in read:
        try:
            plan = checked_plan(read[PLAN])
        except BrokenPlan as error:
            faults.append(f"{PLAN}: is not a plan: {error}")
    if ATTEMPTS in read and (problem := _attempts_problem(attempts)):
        faults.append(f"{ATTEMPTS}: is no list of attempts: {problem}")
        attempts = []
    if ENVIRONMENT in read and json_bytes(read[ENVIRONMENT]) != json_bytes(environment(list(records.values()))):
        faults.append(f"{ENVIRONMENT}: is not what the records say of code, versions and devices")
    by_trial: dict[str, list[BundledAttempt]] = defaultdict(list)
    for attempt in attempts:
        by_trial[attempt["trial_id"]].append(attempt)
    protocols = {name: content for name, content in read.items() if name.startswith("protocols/")}
    return Contents(unpacked, plan, records, protocols, by_trial, tuple(faults))


def _all_json(unpacked: Unpacked, faults: list[str]) -> dict[str, Any]:
    """By member. Of curves, which nobody asks for here, only whether they are JSON is looked at."""
    read: dict[str, Any] = {}
    kept = 0
    for name in unpacked.found:
        if not name.endswith(".json"):
            continue
        data = unpacked.file(name).read_bytes()
        is_kept = not name.startswith(f"{ARTEFACTS}/")
        try:
            if is_kept and (kept := kept + count_values(data)) > MOST_KEPT:
                raise ValueError(f"all members together may hold more than {MOST_KEPT:,} values")
            content = read_json(data)
        except ValueError as error:
            faults.append(f"{name}: is not JSON that is taken: {error}")
        else:
            read |= {name: content} if is_kept else {}
    return read


def _records(unpacked: Unpacked, read: Mapping[str, Any], faults: list[str]) -> dict[str, Record]:
    records = {}
    for name in unpacked.names(f"{RECORDS}/"):
        if name in read:
            try:
                record = parse_record(unpacked.file(name).name, unpacked.file(name).read_bytes())
                records[record["result"]["trial_id"]] = record
            except TornRecord as error:
                faults.append(f"{RECORDS}/{error}")
    return records


def _attempts_problem(attempts: object) -> str:
    if not isinstance(attempts, list):
        return "it is none"
    for place, attempt in enumerate(attempts):
        if problem := _kind_problem(attempt, _ATTEMPT, str(place)):
            return problem
        # Attempts become files of that name.
        if not (len(attempt["trial_id"]) == 16 and set(attempt["trial_id"]) <= set("0123456789abcdef")):
            return f"{place} is of no trial"
    return ""


def _kind_problem(table: object, wanted: Mapping[str, type], where: str) -> str:
    if not isinstance(table, dict):
        return f"{where} is no table"
    return next((f"{where} has no right {key}" for key, kind in wanted.items() if type(table.get(key)) is not kind), "")
