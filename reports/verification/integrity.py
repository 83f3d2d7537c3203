"""Level integrity of `verify`: is the bundle complete, and does nothing in it contradict the rest?

Found here: differences from the manifest; records whose digest, ids or protocol hash do not follow from their content;
protocols that were changed under their name; planned or attempted trials without a record; records copied from another
seed; records that cannot be true, and curves of another trial; outputs on other test data than the dataset's, or than
another trial's; a log of declarations that was broken, or cut since a trial began; a protocol that was changed since a
claim under it was declared.

Not found here, nor by rendering: results that were replaced before bundling, with all digests computed again. Against
those there are the per-example outputs (level aggregate, unless they were made up too), running trials again (level
rerun), and the digest that the author published with the paper (`--expect`), since a bundle rebuilt after an edit has
another. Trials that were removed together with their attempts and their entry in the plan leave no trace in a bundle;
only an earlier digest or a declaration kept elsewhere reveals them.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from twinbench.reports.claims.attempts import (
    attempt_conflicts,
    attempt_gap,
    by_text,
    has_ended,
    head_problem,
    repeated_results,
)
from twinbench.reports.claims.claim import claims_on_file
from twinbench.reports.claims.consistency import (
    Seen,
    choice_problems,
    image_problems,
    images_seen,
    second_problems,
    setting_problems,
    validation_problems,
    validation_sizes,
)
from twinbench.reports.claims.copied_seeds import Outputs, Result, copied_seeds, may_agree, shared_files
from twinbench.reports.claims.curve_checks import Curves, curves_of, final_of, foreign_curves
from twinbench.reports.claims.declarations import read_log
from twinbench.reports.claims.test_data import data_problems, labels_digest
from twinbench.reports.claims.trial_files import id_problems, identity_problems, read_outputs
from twinbench.reports.verification.level import Level, judged, some
from twinbench.reports.verification.protocols import protocol_faults
from twinbench.results.attempts import Attempt
from twinbench.results.bundles.contents import Contents, manifest_faults
from twinbench.results.bundles.read import Unpacked, read_json
from twinbench.results.log_head import recorded_head
from twinbench.results.record import ARTEFACTS, DECLARATIONS, PLAN, RECORDS, Record, references
from twinbench.results.record import Result as RecordedResult
from twinbench.results.rows import series_of, to_moment
from twinbench.sweeps.errors import counted
from twinbench.sweeps.hashing import digest


def integrity(contents: Contents, expected: str = "") -> Level:
    """Check that the bundle is complete and consistent; `expected` is the digest that its author published."""
    unpacked, records = contents.unpacked, contents.records
    results, data_faults = _outputs(unpacked, records)
    faults = [
        *manifest_faults(unpacked, expected),
        *contents.faults,
        *_record_faults(contents),
        *_artefact_faults(unpacked, records),
        *_curve_faults(unpacked, records),
        *_plan_faults(contents),
        *protocol_faults(contents),
        *_attempt_faults(contents),
        *copied_seeds(results),
        *data_faults,
        *_declaration_faults(contents),
    ]
    return judged("integrity", faults, _notes(contents, results))


# --- records and plan -----------------------------------------------------------------------------------------------


def _record_faults(contents: Contents) -> Iterator[str]:
    """Yield records that contradict their ids, their protocol, their attempts, or other records of their dataset."""
    by_dataset: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    validation: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(dict)
    for trial_id, record in contents.records.items():
        result, attempts = record["result"], contents.attempts.get(trial_id, ())
        own = (*identity_problems(result), *choice_problems(result), *setting_problems(result))
        for problem in (*own, *second_problems(record, attempts)):
            yield f"{RECORDS}/{trial_id}.json: {problem}"
        split = result["trial"]["protocol"]["hash"], result["trial"]["dataset_fingerprint"]
        validation[split][trial_id] = validation_sizes(result)
        if seen := images_seen(record):
            by_dataset[split].append(seen)
    problems = [*map(image_problems, by_dataset.values()), *map(validation_problems, validation.values())]
    for of_dataset in problems:
        for trial_id, problem in of_dataset.items():
            yield f"{RECORDS}/{trial_id}.json: {problem}"


def _artefact_faults(unpacked: Unpacked, records: Mapping[str, Record]) -> Iterator[str]:
    referred = {one["file"]: name for name, record in records.items() for one in references(record["result"])}
    present = set(unpacked.names(f"{ARTEFACTS}/"))
    for file in sorted(referred.keys() - present):
        if file not in unpacked.stated:  # otherwise the manifest check reports it
            yield f"{file}: is missing; the record of trial {referred[file]} refers to it"
    for file in sorted(present):
        if file not in referred:
            yield f"{file}: no record refers to it: the record that did was removed or changed"
        if unpacked.found[file][0] != file.partition("/")[2].partition(".")[0]:
            yield f"{file}: was changed: its sha256 is {unpacked.found[file][0]}"


def _curve_faults(unpacked: Unpacked, records: Mapping[str, Record]) -> Iterator[str]:
    """Yield trials whose curves are not those of the other seeds of their cell that ran with the same code."""
    cells: dict[tuple[str, object], dict[str, Curves]] = defaultdict(dict)
    finals = {trial_id: final for trial_id, record in records.items() if (final := final_of(record["result"]))}
    for trial_id, record in records.items():
        result, reference = record["result"], record["result"].get("curves")
        if result["status"] == "done" and reference and reference["file"] in unpacked.found:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # the database sets these aside
                series = series_of(trial_id, read_json(unpacked.file(reference["file"]).read_bytes()))
                cells[result["cell_id"], str(record["circumstance"].get("code_hash"))][trial_id] = curves_of(series)
    for of_cell in cells.values():
        for trial_id, problem in foreign_curves(of_cell, finals).items():
            yield f"{RECORDS}/{trial_id}.json: {problem}"


def _plan_faults(contents: Contents) -> Iterator[str]:
    if not contents.plan:
        return
    protocol = contents.plan.protocol
    for place, planned in enumerate(contents.plan.trials):
        for problem in id_problems(planned.under(protocol), planned.trial_id, planned.cell_id):
            yield f"{PLAN}: trials.{place}: {problem}"
    hashes = {name: record["result"]["trial"]["protocol"]["hash"] for name, record in contents.records.items()}
    if others := [name for name, hash_ in hashes.items() if hash_ != protocol["hash"]]:
        yield f"{some(others)}: ran under another protocol than the plan's {protocol['hash'][:12]}"


# --- attempts -------------------------------------------------------------------------------------------------------


def _attempt_faults(contents: Contents) -> Iterator[str]:
    """Yield trials that ended without a record, and records that contradict the attempts."""
    for trial_id, attempts in sorted(contents.attempts.items()):
        if gap := attempt_gap(attempts):
            yield f"trial {trial_id}: {gap}"
        record = contents.records.get(trial_id)
        yield from _dropped(trial_id, attempts) if record is None else _disagreements(trial_id, attempts, record)
    if contents.attempts:
        for trial_id in sorted(contents.records.keys() - contents.attempts.keys()):
            yield f"trial {trial_id}: {attempt_gap(())}"


def _dropped(trial_id: str, attempts: Sequence[Attempt]) -> Iterator[str]:
    if ended := [attempt for attempt in attempts if has_ended(attempt)]:
        last = ended[-1]
        reason = f" ({last['reason']})" if last["reason"] else ""
        yield f"trial {trial_id}: attempt {last['number']} ended as {last['status']}{reason}; its record is missing"


def _disagreements(trial_id: str, attempts: Sequence[Attempt], record: Record) -> Iterator[str]:
    status, circumstance = record["result"]["status"], record["circumstance"]
    for conflict in attempt_conflicts(attempts, status, circumstance.get("attempts")):
        yield f"trial {trial_id}: {conflict}"
    began = attempts[0]["started"]
    if began and began != circumstance.get("started"):
        yield f"trial {trial_id}: began at {began}, but its record says {circumstance.get('started')}"


# --- outputs --------------------------------------------------------------------------------------------------------


def _outputs(unpacked: Unpacked, records: Mapping[str, Record]) -> tuple[list[Result], list[str]]:
    """Return the artefacts of every record to look for copies, and faults of the test data; reads each output once."""
    results, faults = [], []
    known: dict[object, tuple[str, str]] = {}
    for trial_id, record in sorted(records.items()):
        result = record["result"]
        curves, outputs = (one["file"] if one else "" for one in (result.get("curves"), result.get("outputs")))
        arrays = _arrays(unpacked, outputs)
        trial, labels = result["trial"], arrays.get("labels") if arrays else None
        if arrays is None or may_agree(arrays):
            outputs = ""
        results.append(Result(trial_id, trial["method"], trial["seed"], curves, outputs))
        faults += [f"trial {trial_id}: {problem}" for problem in data_problems(result, labels)]
        if own := labels_digest(labels):
            first, of_first = known.setdefault(_test_split(result), (trial_id, own))
            if own != of_first:
                faults.append(f"trial {trial_id}: was tested on other labels than trial {first}")
    return results, faults


def _arrays(unpacked: Unpacked, file: str) -> Outputs | None:
    """Return the arrays of an outputs file; None without one, or of an unreadable one, which `aggregate` reports."""
    try:
        return read_outputs(unpacked.file(file).read_bytes()) if file else None
    except (OSError, ValueError):
        return None


def _test_split(result: RecordedResult) -> str:
    """Return what decides which test images a trial is tested on: trials that agree in it have the same labels."""
    rule = result["trial"]["protocol"]["content"].get("dataset", {})
    drawn = [rule["test_examples"], rule.get("split_seed")] if rule.get("test_examples") is not None else []
    return digest([result["trial"]["dataset_fingerprint"], drawn])


# --- declarations ---------------------------------------------------------------------------------------------------


def _declaration_faults(contents: Contents) -> Iterator[str]:
    """Yield a broken or cut log of declarations, and protocols that were changed since their claims were declared."""
    log = read_log(contents.unpacked.run_folder)
    if log.problem:
        yield log.problem
    for trial_id, record in contents.records.items():
        head = recorded_head(record["circumstance"])
        if problem := head_problem(contents.attempts.get(trial_id, ()), head):
            yield f"trial {trial_id}: {problem}"
        if head and not log.problem and (contradiction := log.contradiction(head)):
            yield f"trial {trial_id}: when it began, {DECLARATIONS} {contradiction}"
    ran: dict[str, set[str]] = defaultdict(set)  # by name, hashes with and without deviations
    for record in contents.records.values():
        protocol = record["result"]["trial"]["protocol"]
        ran[str(protocol["name"])] |= {str(protocol["hash"]), str(protocol.get("base_hash", protocol["hash"]))}
    claims, _ = claims_on_file(map(contents.unpacked.file, contents.unpacked.names("claims")))
    for claim in claims:
        hashes, entry = ran.get(claim.protocol), log.of(claim)
        if hashes and entry and not log.of(claim, [hashes]):
            now = ", ".join(one[:12] for one in sorted(hashes))
            declared = f"declared as {entry.name} under protocol {claim.protocol} with the hash {entry.protocol[:12]}"
            yield f"{declared}, but the records have {now}: the protocol was changed since"


def _withdrawn(unpacked: Unpacked) -> Iterator[str]:
    """Yield files that cannot be read as claims, and declared claims that no file holds in that form."""
    claims, unreadable = claims_on_file(map(unpacked.file, unpacked.names("claims")))
    held = {claim.hash for claim in claims}
    for path in unreadable:
        yield f"{path.name}: cannot be read as claims"
    for entry in read_log(unpacked.run_folder).entries:
        if entry.claim not in held:
            yield f"declared on {entry.time} as {entry.name}, but in no claims file of the bundle in that form"


# --- notes ------------------------------------------------------------------------------------------------------------


def _ends_in_the_future(record: Record) -> bool:
    """Whether it ends more than a day from now: a time without a zone may be that of another time zone."""
    finished = to_moment(record["circumstance"].get("finished"))
    return finished is not None and finished - datetime.now(UTC).replace(tzinfo=None) > timedelta(days=1)


def _notes(contents: Contents, results: Sequence[Result]) -> Iterator[str]:
    planned, records, attempts = contents.planned, contents.records, contents.attempts
    statuses = Counter(record["result"]["status"] for record in records.values())
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "none"
    yield f"{counted(len(planned), 'trial')} planned; records: {counts}; digest {contents.unpacked.digest}"
    if missing := sorted(planned.keys() - records.keys()):
        yield f"planned but not recorded: {some(missing)}"
    if extra := sorted(records.keys() - planned.keys()):
        yield f"recorded but not planned: {some(extra)}"
    if unfinished := sorted(attempts.keys() - records.keys()):
        yield f"attempted but not recorded: {some(unfinished)}"
    if not attempts and records:
        yield "there are no attempts, so a removed trial would not show"
    if late := [name for name, record in records.items() if _ends_in_the_future(record)]:
        yield f"end in the future by this machine's clock, so a clock is wrong: {some(late)}"
    again = [one["trial_id"] for tried in attempts.values() for one in tried if one["status"] == "failed"]
    if retried := sorted({one for one in again if one in records and records[one]["result"]["status"] != "failed"}):
        yield f"failed once and were run again: {some(retried)}"
    for note, trials in by_text((name, repeated_results(tried)) for name, tried in attempts.items()).items():
        yield f"{counted(len(trials), 'trial')} with {note}: {some(trials)}"
    for group in shared_files(results, "curves"):
        if len({result.seed for result in group}) == 1:
            yield f"identical curves in different cells: {some([result.trial_id for result in group])}"
    yield from _withdrawn(contents.unpacked)
