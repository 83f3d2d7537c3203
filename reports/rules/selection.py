"""Rules A3 to A8: by which images it was learnt and chosen, out of how many, and whether anything was left out."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from twinbench.reports.claims.attempts import attempt_conflicts
from twinbench.reports.claims.contrasts import COLLAPSE_KINDS
from twinbench.reports.claims.evidence import Side
from twinbench.reports.rules.case import (
    FAILED,
    NO_RECORD,
    NOT_APPLICABLE,
    PASSED,
    Case,
    Outcome,
    distinct,
    is_trained,
    passed_if,
    some,
)
from twinbench.reports.rules.provenance import declared_before
from twinbench.reports.tables.cells import REPORTED_ON, Record, Value
from twinbench.sweeps.metrics import get_metric, metric_names
from twinbench.sweeps.protocol import RIDGE_PENALTIES

# Test images with a near duplicate in train (Barz & Denzler, arXiv 1902.00423).
NEAR_DUPLICATES = {"cifar10": 0.033, "cifar100": 0.10}
UNSAID = {"ridge_penalties": RIDGE_PENALTIES}  # where a protocol lists none


# --- A3, A4 -------------------------------------------------------------------------------------------------------


def no_leakage(case: Case) -> Outcome:
    """Pretraining, probes, selection and test each on images of their own."""
    if case.has_no_record:
        return NO_RECORD
    if case.evidence.content.get("dataset", {}).get("validation_fraction"):
        return PASSED, "pretraining and probes use the train split without the validation images held out of it"
    rows = [row for side in case.evidence.measured for row in side.measurements]
    if any(row["selected_on"] == "validation" for row in rows):
        return FAILED, "selected on validation, and the protocol holds no validation images out of train"
    return NOT_APPLICABLE, "the protocol holds out no validation images: see A5"


def near_duplicates(case: Case) -> Outcome:
    """How many test images have a near duplicate among the training images."""
    name = case.dataset
    if name not in NEAR_DUPLICATES:
        return NOT_APPLICABLE, f"no rate of near duplicates is known for {name or 'this dataset'}"
    return (
        PASSED,
        f"{NEAR_DUPLICATES[name]:.1%} of the test images of {name} have near duplicates in train, for all alike",
    )


# --- A5, A6 ---------------------------------------------------------------------------------------------------------


def selection_split(case: Case) -> Outcome:
    """What is reported on test was selected on other images, out of a number of candidates that is on record."""
    claim, table = case.evidence.claim, case.evidence.table
    if claim.kind in COLLAPSE_KINDS:
        return NOT_APPLICABLE, "how a trial ends is not selected"
    if claim.is_about_a_table and table is not None:
        if claim.metric in metric_names("published_cost"):
            return NOT_APPLICABLE, "a cost is not selected"
        selected, reported = table.protocol.selected_on, table.protocol.reported_on
        if selected is None or reported is None:
            return NOT_APPLICABLE, f"{table.name} does not say what its numbers were selected on"
        return passed_if(
            selected != reported, f"selected on {selected}", f"{table.name}: selected and reported on {selected}"
        )
    rows = [row for side in case.evidence.measured for row in side.measurements]
    if not rows:
        return NOT_APPLICABLE, "nothing was selected"
    problem = next(_selection_problems(case, rows), "")
    return passed_if(not problem, _selection(rows), problem)


def _selection(rows: Sequence[Record]) -> str:
    selected_on, candidates = (distinct(row[key] for row in rows) for key in ("selected_on", "candidates"))
    return f"selected on {', '.join(selected_on)} out of {' or '.join(candidates)}, reported on {REPORTED_ON}"


def _selection_problems(case: Case, rows: Sequence[Record]) -> Iterator[str]:
    unknown = [row for row in rows if row["selected_on"] is None or row["candidates"] is None]
    if unknown:
        yield f"{len(unknown)} values do not say what they were selected on, or out of how many"
    if any(row["selected_on"] == REPORTED_ON for row in rows):
        yield f"{_selection(rows)}: the best of a look at the answers"
    asked = str(case.evidence.content.get("selected_on", "validation"))
    if strange := distinct(row["selected_on"] for row in rows if row["selected_on"] not in (None, asked)):
        yield f"selected on {', '.join(strange)}, and the protocol says {asked}"
    evaluation = case.evidence.content.get("evaluation", {})
    grid = [evaluation.get(n) or UNSAID.get(n) for n in get_metric(case.evidence.claim.metric).candidates]
    if case.evidence.content.get("checkpoint", "last") == "last" and grid and all(grid):
        allowed = math.prod(len(values) for values in grid if values)
        if others := distinct(row["candidates"] for row in rows if row["candidates"] != allowed):
            yield f"selected out of {', '.join(others)}, and the protocol has {allowed} candidates"


def checkpoint_rule(case: Case) -> Outcome:
    """The last epoch, or the best on validation; never the best on test, nor one that was watched on test."""
    claim, table = case.evidence.claim, case.evidence.table
    if claim.kind in COLLAPSE_KINDS:
        return NOT_APPLICABLE, "how a trial ends belongs to no checkpoint"
    if claim.is_about_a_table and table is not None:
        if claim.metric in metric_names("published_cost"):
            return NOT_APPLICABLE, "a cost belongs to no checkpoint"
        if table.protocol.checkpoint is None:
            return NOT_APPLICABLE, f"{table.name} does not say which checkpoint it reports"
        return _checkpoint(table.protocol.checkpoint)
    if case.has_no_record:
        return NO_RECORD
    watched = [str(t["trial_id"]) for t in case.evidence.trials if t["trial_id"] in case.evidence.around.looked_at_test]
    rule = str(case.evidence.content.get("checkpoint", "last"))
    if watched and rule == "last":
        return FAILED, f"the protocol takes the last epoch, and test was measured between epochs of {some(watched)}"
    return _checkpoint(rule)


def _checkpoint(rule: str) -> Outcome:
    return passed_if(rule != "best_on_test", f"checkpoint: {rule}", "checkpoint: the best on test, epoch by epoch")


# --- A7, A8 -----------------------------------------------------------------------------------------------------------


def tuning_parity(case: Case) -> Outcome:
    """As many cells to choose from on one side as on the other; those tried count where the claim came after them."""
    pairs = [(a, b) for a, b, _ in case.evidence.pairs if b is not None and is_trained(a) and is_trained(b)]
    if not pairs:
        return NOT_APPLICABLE, "nothing is tuned against anything else"
    late = declared_before(case)[0] == FAILED
    what = "tried" if late else "to choose from"
    counts = {side.label: side.tried if late else side.candidates for pair in pairs for side in pair}
    told = ", ".join(f"{label}: {count} cell{'s' * (count != 1)} {what}" for label, count in counts.items())
    if any(counts[a.label] != counts[b.label] for a, b in pairs):
        return FAILED, f"unequal budgets: {told}"
    begun = {side.label: _begun(case, side, late) for pair in pairs for side in pair}
    if any(begun[a.label] != begun[b.label] for a, b in pairs):
        looked_at = ", ".join(f"{label}: {count} cell{'s' * (count != 1)}" for label, count in begun.items())
        return FAILED, f"unequal budgets, where cells count of which some seeds ran: {looked_at}"
    strawman = "" if case.evidence.claim.axis else next(_away_from_defaults(case, pairs), "")
    return passed_if(not strawman, told, strawman)


def _begun(case: Case, side: Side, late: bool) -> int:
    """Cells of the side's choice of which any trial ran: whoever sees some seeds of a cell has looked at it."""
    others = [other.selector for other in case.evidence.sides] if late else []
    shared = {
        key: value
        for key, value in side.selector.items()
        if key == "method" or all(other.get(key) == value for other in others)
    }
    return sum(cell.is_begun for cell in side.section.having(shared)) if side.section else 0


def _away_from_defaults(case: Case, pairs: Sequence[tuple[Side, Side]]) -> Iterator[str]:
    """What A is compared with ran once, at another value than the protocol gives it, and the claim does not say so."""
    for a, b in pairs:
        content = b.section.content if b.section else {}
        defaults = content.get("training", {}) | content.get("methods", {}).get(b.selector["method"], {})
        for key, value in sorted(defaults.items()) if b.candidates == 1 else ():
            own, others = (side.cell.values.get(key) if side.cell else None for side in (b, a))
            said = key in b.selector or (others is not None and others == own)
            if own is not None and not said and not _is_value(own, value):
                yield f"{b.label} ran at {key} {own.text} alone, and the protocol gives it {value}"


def _is_value(value: Value, wanted: Any) -> bool:
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return value.number == float(wanted)
    return value.text == (wanted if isinstance(wanted, str) else json.dumps(wanted))


def failures_counted(case: Case) -> Outcome:
    """Every planned trial ended, none that was started has vanished, and each ended as its record says."""
    if case.has_no_record:
        return NO_RECORD
    around = case.evidence.around
    problem = next(_failure_problems(case), "")
    if problem:
        return FAILED, problem
    if around.begun:
        which = some(around.begun)
        return FAILED, f"{len(around.begun)} trials were begun, never ended, and stand on no plan: {which}", "told"
    return PASSED, f"{len(case.evidence.trials)} trials, all ended"


def _failure_problems(case: Case) -> Iterator[str]:
    evidence, trials = case.evidence, case.evidence.trials
    if missing := [str(trial["trial_id"]) for trial in trials if trial["status"] == "missing"]:
        why = [why for name in missing if (why := evidence.around.set_aside.get(f"records/{name}.json"))]
        because = f" ({why[0]})" if why else ""
        yield f"{len(missing)} planned trials have no record: {some(missing)}{because}"
    if gone := evidence.around.vanished:
        yield f"{len(gone)} trials ended, and have neither a record nor a place on the plan: {some(gone)}"
    for side in evidence.measured:
        done = [trial for trial in side.trials if trial["status"] == "done"]
        unmeasured = [str(trial["trial_id"]) for trial in done if int(trial["seed"]) not in side.values]
        if side.values and unmeasured:
            lacking = f"without {evidence.claim.metric}: {some(unmeasured)}"
            yield f"{len(unmeasured)} trials of {side.label} are done {lacking}"
    if not any(trial["planned"] for trial in trials):
        yield "none of the trials stands on a plan: what was to be run is unknown"
    for trial in trials:
        if trace := evidence.traces.get(str(trial["trial_id"])):
            for conflict in attempt_conflicts(trace.attempts, str(trial["status"]), trace.attempt):
                yield f"trial {trial['trial_id']}: {conflict}"
    ill = distinct(trial["status"] for trial in trials if trial["status"] not in ("done", "missing"))
    if ill and evidence.claim.kind not in COLLAPSE_KINDS:
        count = sum(trial["status"] != "done" for trial in trials)
        yield (
            f"{count} of {len(trials)} trials did not end well ({', '.join(ill)}): left out, they would make the mean "
            "one of those that did"
        )
