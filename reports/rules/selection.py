"""Rules A3 to A8: on which images models were trained and selected, out of how many, and whether any were left out."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime

from twinbench.reports.claims.attempts import attempt_conflicts, attempt_gap, by_text, repeated_results
from twinbench.reports.claims.consistency import candidates_of
from twinbench.reports.claims.contrasts import COLLAPSE_KINDS
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.rules.case import (
    LATE,
    NO_RECORD,
    NOTED,
    STOPS,
    Case,
    Outcome,
    Weight,
    distinct,
    failed,
    not_applicable,
    passed,
    passed_if,
    some,
    trained_pairs,
)
from twinbench.reports.rules.declared import is_declared_late
from twinbench.reports.tables.cells import REPORTED_ON, Cell
from twinbench.reports.tables.run import MetricRow, TrialRow
from twinbench.sweeps.errors import counted
from twinbench.sweeps.metrics import metric_names

# Share of the test images that have a near duplicate in train (Barz & Denzler, arXiv 1902.00423).
NEAR_DUPLICATES = {"cifar10": 0.033, "cifar100": 0.10}


# --- A3, A4 -------------------------------------------------------------------------------------------------------


def no_leakage(case: Case) -> Outcome:
    """A3: pretraining, probes, selection and test each use images of their own."""
    if case.has_no_record:
        return NO_RECORD
    if case.evidence.content.get("dataset", {}).get("validation_fraction"):
        return passed("pretraining and probes use the train split without the validation images held out of it")
    rows = [row for side in case.evidence.measured for row in side.measurements]
    if any(row["selected_on"] == "validation" for row in rows):
        return failed("selected on validation, but the protocol holds no validation images out of train")
    return not_applicable("the protocol holds out no validation images: see A5")


def near_duplicates(case: Case) -> Outcome:
    """A4: the share of test images with a near duplicate in train is stated where it is known."""
    name = case.dataset
    if name not in NEAR_DUPLICATES:
        return not_applicable(f"the rate of near duplicates is not known for {name or 'this dataset'}")
    share = f"{NEAR_DUPLICATES[name]:.1%} of the test images of {name} have near duplicates in train"
    return passed(f"{share}, the same for all methods")


# --- A5, A6 ---------------------------------------------------------------------------------------------------------


def selection_split(case: Case) -> Outcome:
    """A5: what is reported on test was selected on other images, out of a recorded number of candidates."""
    claim, table = case.evidence.claim, case.evidence.table
    if claim.kind in COLLAPSE_KINDS:
        return not_applicable("how a trial ends is not selected")
    if claim.is_about_a_table and table is not None:
        if claim.metric in metric_names("published_cost"):
            return not_applicable("a cost is not selected")
        selected, reported = table.protocol.selected_on, table.protocol.reported_on
        if selected is None or reported is None:
            return not_applicable(f"{table.name} does not say on which split its numbers were selected")
        problem = f"{table.name}: selected and reported on {selected}"
        return passed_if(selected != reported, f"selected on {selected}", problem)
    rows = [row for side in case.evidence.measured for row in side.measurements]
    if not rows:
        return not_applicable("nothing was selected")
    if problem := next(_selection_problems(case, rows), ""):
        return failed(problem)
    text = "; ".join([_selection_text(rows), *_confirmed_texts(case)])
    if problems := list(dict.fromkeys(_choice_problems(case))):
        found = {weight for weight, _ in problems}
        weight = next(one for one in (STOPS, LATE, NOTED) if one in found)
        return failed("; ".join([text, *(problem for _, problem in problems)]), weight)
    return passed(text)


def _selection_text(rows: Sequence[MetricRow]) -> str:
    selected_on, candidates = (distinct(row[key] for row in rows) for key in ("selected_on", "candidates"))
    return f"selected on {', '.join(selected_on)} out of {' or '.join(candidates)}, reported on {REPORTED_ON}"


def _confirmed_texts(case: Case) -> list[str]:
    """Return on which seeds cells were chosen and are reported, where the confirm stage reports them."""
    sides = [side for side in case.evidence.measured if side.cell and side.cell.confirms]
    reported = sorted({int(trial["seed"]) for side in sides for trial in side.trials})
    chosen = sorted({int(trial["seed"]) for side in sides for trial in _grid_trials(side)})
    return [f"cells chosen on seeds {chosen}, reported on seeds {reported}"] if sides else []


def _grid_trials(side: Side) -> list[TrialRow]:
    """Return the trials from which the side's cell was chosen."""
    return [trial for cell in _cells_of_method(side) for trial in cell.trials]


def _cells_of_method(side: Side) -> list[Cell]:
    return side.section.methods[side.cell.label] if side.section and side.cell else []


def _choice_problems(case: Case) -> Iterator[tuple[Weight, str]]:
    """Yield what the intervals of chosen cells do not cover, and why reported seeds are not fresh."""
    for side in case.evidence.measured:
        if side.cell is not None and side.cell.confirms:
            yield from _freshness_problems(side)
        elif side.candidates > 1:
            yield (
                NOTED,
                f"{side.label} was chosen among {side.candidates} cells by the seeds that are reported, so the "
                f"interval does not cover the bias of that choice: fresh seeds do, {_remedy(side)}",
            )


def _remedy(side: Side) -> str:
    """Return how a chosen cell gets fresh seeds: where the sweep has a confirm stage, another one is of no help."""
    if side.section is None or not side.section.has_confirm_stage:
        return "by a table [confirm] in the sweep"
    return "if the cells of both sides are those that their methods chose, which the confirm stage trains"


def _freshness_problems(side: Side) -> Iterator[tuple[Weight, str]]:
    """Yield what shows that the seeds of the confirm stage were, or may have been, picked by their results.

    The stage begins when the grid has ended. A grid that grew afterwards is harmless only if it chooses the same cell.
    """
    assert side.cell is not None and side.section is not None
    if not side.section.has_confirm_stage:
        yield STOPS, "no method has several cells, so there was no choice that the confirm seeds could confirm"
    began = min((trial["started"] for trial in side.trials if trial["started"]), default=None)
    later = {cell.cell_id for cell in _cells_of_method(side) if began and _has_ended_after(cell, began)}
    if side.cell.cell_id in later:
        yield (
            STOPS,
            f"{side.label}: its confirm seeds were trained before its own trials of the grid had ended, so they may "
            "have been picked by their results; confirm the choice on other seeds, in a new folder",
        )
    elif later:
        yield NOTED, f"{side.label}: the grid grew after its reported seeds were trained, and chooses the same cell"
    others = [cell for cell in _cells_of_method(side) if cell.confirmed and cell.cell_id != side.cell.cell_id]
    if others:
        yield (
            LATE,
            f"{side.label}: {len(others)} of its cells that are not chosen now have results on the reported seeds, so "
            "the choice was changed with those in view; confirm it on other seeds, in a new folder",
        )


def _has_ended_after(cell: Cell, moment: datetime) -> bool:
    """Whether a trial of the grid ended after the moment; one that ran again counts from its first attempt."""
    ends = (trial["finished"] if (trial["attempts"] or 1) == 1 else trial["started"] for trial in cell.trials)
    return any(end is not None and end > moment for end in ends)


def _selection_problems(case: Case, rows: Sequence[MetricRow]) -> Iterator[str]:
    unknown = [row for row in rows if row["selected_on"] is None or row["candidates"] is None]
    if unknown:
        yield f"{counted(len(unknown), 'value')} recorded without the split of selection or the number of candidates"
    if any(row["selected_on"] == REPORTED_ON for row in rows):
        yield f"{_selection_text(rows)}: selection on the test split"
    expected = str(case.evidence.content.get("selected_on", "validation"))
    if other := distinct(row["selected_on"] for row in rows if row["selected_on"] not in (None, expected)):
        yield f"selected on {', '.join(other)}, but the protocol says {expected}"
    lists = candidates_of(case.evidence.claim.metric, case.evidence.content.get("evaluation", {}))
    if case.evidence.content.get("checkpoint", "last") == "last" and lists:
        allowed = math.prod(map(len, lists.values()))
        if wrong := distinct(row["candidates"] for row in rows if row["candidates"] != allowed):
            yield f"selected out of {', '.join(wrong)}, but the protocol has {allowed} candidates"


def checkpoint_rule(case: Case) -> Outcome:
    """A6: the checkpoint is the last epoch or the best on validation, and test was not measured between epochs."""
    claim, table = case.evidence.claim, case.evidence.table
    if claim.kind in COLLAPSE_KINDS:
        return not_applicable("how a trial ends does not depend on a checkpoint")
    if claim.is_about_a_table and table is not None:
        if claim.metric in metric_names("published_cost"):
            return not_applicable("a cost does not depend on a checkpoint")
        if table.protocol.checkpoint is None:
            return not_applicable(f"{table.name} does not say which checkpoint it reports")
        return _checkpoint(table.protocol.checkpoint)
    if case.has_no_record:
        return NO_RECORD
    context = case.evidence.context
    watched = [str(t["trial_id"]) for t in case.evidence.trials if t["trial_id"] in context.measured_on_test]
    rule = str(case.evidence.content.get("checkpoint", "last"))
    if watched and rule == "last":
        return failed(f"the protocol takes the last epoch, but test was measured between epochs of {some(watched)}")
    return _checkpoint(rule)


def _checkpoint(rule: str) -> Outcome:
    return passed_if(rule != "best_on_test", f"checkpoint: {rule}", "checkpoint: the epoch that is best on test")


# --- A7 -------------------------------------------------------------------------------------------------------------


def tuning_parity(case: Case) -> Outcome:
    """A7: both sides were selected from the same number of cells, and a baseline runs at the protocol's settings.

    For a claim declared after its results, every cell that was tried counts, not only those that its selectors match.
    """
    pairs = trained_pairs(case)
    if not pairs:
        return not_applicable("nothing is tuned against anything else")
    is_late = is_declared_late(case)
    what = "tried" if is_late else "to choose from"
    counts = {side.label: side.tried if is_late else side.candidates for pair in pairs for side in pair}
    text = ", ".join(f"{label}: {counted(count, 'cell')} {what}" for label, count in counts.items())
    if any(counts[a.label] != counts[b.label] for a, b in pairs):
        return failed(f"unequal tuning budgets: {text}")
    begun = {
        side.label: sum(cell.is_begun for cell in _candidate_cells(case, side, is_late))
        for pair in pairs
        for side in pair
    }
    if any(begun[a.label] != begun[b.label] for a, b in pairs):
        cells = ", ".join(f"{label}: {counted(count, 'cell')}" for label, count in begun.items())
        return failed(f"unequal tuning budgets, counting cells of which some seeds ran: {cells}")
    problem = "" if case.evidence.claim.axis else next(_untuned_baselines(case, pairs), "")
    return passed_if(not problem, text, problem)


def planned_disparity(case: Case) -> str:
    """Return how A7 fails once every trial of the plan is recorded; empty where the plan gives equal budgets.

    A claim of which no trial ran counts as declared: it still can be.
    """
    ran = any(trial["status"] != "missing" for trial in case.evidence.trials)
    is_late = ran and is_declared_late(case)
    pairs = trained_pairs(case)
    counts = {side.label: len(_candidate_cells(case, side, is_late)) for pair in pairs for side in pair}
    if any(counts[a.label] != counts[b.label] for a, b in pairs):
        cells = ", ".join(f"{label}: {counted(count, 'cell')}" for label, count in counts.items())
        return f"unequal tuning budgets: {cells}"
    return ""


def _candidate_cells(case: Case, side: Side, is_late: bool) -> list[Cell]:
    """Return the planned cells that the side was chosen from; for a late claim, those that its sides share."""
    others = [other.selector for other in case.evidence.sides] if is_late else []
    shared = {
        key: value
        for key, value in side.selector.items()
        if key == "method" or all(other.get(key) == value for other in others)
    }
    return side.section.having(shared) if side.section else []


def _untuned_baselines(case: Case, pairs: Sequence[tuple[Side, Side]]) -> Iterator[str]:
    """Yield each setting of a B with one candidate that is not the protocol's, and that the claim does not name."""
    for a, b in pairs:
        changed = b.section.departures(b.cell) if b.section and b.cell and b.candidates == 1 else ()
        for one in changed:
            own, compared = (side.cell.values.get(one.name) if side.cell else None for side in (b, a))
            if one.name not in b.selector and (compared is None or compared != own):
                yield f"{b.label} ran only with {one.name} {one.value}, where the protocol has {one.protocol_value}"


# --- A8 -------------------------------------------------------------------------------------------------------------


def failures_counted(case: Case) -> Outcome:
    """A8: every planned trial ended as its record says, and no trial of these cells that was started is left out."""
    if case.has_no_record:
        return NO_RECORD
    if problem := next(_failure_problems(case), ""):
        return failed(problem)
    if notes := [*_failure_notes(case)]:
        return failed("; ".join(notes), NOTED)
    return passed(f"{counted(len(case.evidence.trials), 'trial')}, all ended")


def _failure_notes(case: Case) -> Iterator[str]:
    if begun := case.evidence.context.begun:
        which = "of other cells or distant seeds, with no result and not in the plan"
        yield f"{counted(len(begun), 'trial')} started, {which}: {some(begun)}"
    attempts = {trial_id: files.attempts for trial_id, files in case.evidence.files.items()}
    for notable in (attempt_gap, repeated_results):
        for note, trials in by_text((trial_id, notable(own)) for trial_id, own in attempts.items()).items():
            yield f"{counted(len(trials), 'trial')} with {note} ({some(trials)})"


def _abandoned(case: Case) -> Iterator[str]:
    """Seeds of the claim's cells that were begun and left out: who looks at them first can leave out the worst."""
    for side in case.evidence.measured:
        trials = (files.trial for one in side.trials if (files := case.evidence.files.get(str(one["trial_id"]))))
        trial = next((one for one in trials if one), None)
        if trial and (seeds := case.evidence.context.begun_seeds(trial)):
            were = "seed was" if len(seeds) == 1 else "seeds were"
            problem = f"{len(seeds)} {were} started, never ended and left out of the plan"
            yield f"{side.label}: {problem}: {some(map(str, seeds))}; plan and run them again"


def _unconfirmed(evidence: Evidence) -> Iterator[str]:
    """Yield chosen cells whose confirm stage has not run, where all sides would be judged by it."""
    seeded = [side for side in evidence.measured if side.is_seeded]
    if not all(_is_to_be_confirmed(side) for side in seeded):
        return
    for side in seeded:
        confirming = side.cell.parts[-1] if side.cell else None
        trials = confirming.trials if confirming and confirming.confirms else ()
        ran = {int(trial["seed"]) for trial in trials if trial["status"] != "missing"}
        if side.section and (lacking := [str(seed) for seed in side.section.confirm_seeds if seed not in ran]):
            problem = f"its choice is to be confirmed on seeds that have no record: {some(lacking)}"
            yield f"{side.label}: {problem}; run the sweep to its end"


def _is_to_be_confirmed(side: Side) -> bool:
    """Whether the confirm stage trains the side's cell."""
    section, cell = side.section, side.cell
    return section is not None and cell is not None and section.has_confirm_stage and section.is_chosen(cell)


def _failure_problems(case: Case) -> Iterator[str]:
    evidence, trials = case.evidence, case.evidence.trials
    if missing := [str(trial["trial_id"]) for trial in trials if trial["status"] == "missing"]:
        reasons = [why for name in missing if (why := evidence.context.set_aside.get(f"records/{name}.json"))]
        why = f" ({reasons[0]})" if reasons else ""
        yield f"{counted(len(missing), 'planned trial')} without a record: {some(missing)}{why}"
    yield from _unconfirmed(evidence)
    yield from _abandoned(case)
    if gone := evidence.context.vanished:
        yield f"{counted(len(gone), 'trial')} ended or not readable, without a record and not in the plan: {some(gone)}"
    for side in evidence.measured:
        done = [trial for trial in side.trials if trial["status"] == "done"]
        unmeasured = [str(trial["trial_id"]) for trial in done if int(trial["seed"]) not in side.values]
        if side.values and unmeasured:
            lacking = f"without {evidence.claim.metric}: {some(unmeasured)}"
            yield f"{counted(len(unmeasured), 'trial')} of {side.label} done {lacking}"
    if not any(trial["planned"] for trial in trials):
        yield "none of the trials is in a plan, so it is unknown which trials were to run"
    for trial in trials:
        files = evidence.files.get(str(trial["trial_id"]))
        if files and files.unread:
            yield f"trial {trial['trial_id']}: {files.unread}"
        elif files and files.status:  # rule A1 reports a record that cannot be read
            for conflict in attempt_conflicts(files.attempts, str(trial["status"]), files.attempt):
                yield f"trial {trial['trial_id']}: {conflict}"
    statuses = distinct(trial["status"] for trial in trials if trial["status"] not in ("done", "missing"))
    if statuses and evidence.claim.kind not in COLLAPSE_KINDS:
        count = sum(trial["status"] != "done" for trial in trials)
        yield (
            f"{count} of {len(trials)} trials are not done ({', '.join(statuses)}); without them the mean covers "
            "successful trials only"
        )
