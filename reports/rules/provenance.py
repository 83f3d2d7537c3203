"""Rules A20 to A24: what may be said of a comparison, by whom it was measured, and when it was claimed."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from twinbench.reports.claims.contrasts import COLLAPSE_KINDS
from twinbench.reports.rules.case import (
    FAILED,
    NO_RECORD,
    PASSED,
    Case,
    Outcome,
    distinct,
    is_trained,
    some,
)
from twinbench.reports.tables.cells import REPORTED_ON, is_packed
from twinbench.results.code_hash import is_same_code, kind
from twinbench.sweeps.metrics import get_metric, metric_names

DRIFTING = ("commit", "code_hash", "device", "precision", "mode")
COSTLY = ("threads", "ranks", "pack", "host")  # drift too, where seconds or bytes are compared
HARMLESS = ("commit",)  # whose change alone, with equal code, moves nothing
APART = 0.5  # of all trials of a side would have to change theirs for the sides to be alike


# --- A20 ------------------------------------------------------------------------------------------------------------


# --- A21, A22 -------------------------------------------------------------------------------------------------------


def measured_not_reported(case: Case) -> Outcome:
    """Numbers from papers are a class of their own; behind what was measured stand curves and outputs by example."""
    evidence, claim = case.evidence, case.evidence.claim
    if claim.is_about_a_table:
        return FAILED, f"numbers reported in {claim.reported}: no record stands behind them"
    if problem := next(_unfounded(case), ""):
        return FAILED, problem
    beside = f"; {evidence.table.name} stands beside it as a fixed number" if evidence.table else ""
    if claim.metric in metric_names("trial_cost"):
        return PASSED, f"measured; {claim.metric} is circumstance, which no digest covers{beside}"
    return PASSED, f"measured, as its curves and outputs by example show{beside}"


def _unfounded(case: Case) -> Iterator[str]:
    claim, traces = case.evidence.claim, case.evidence.traces
    done = [
        (str(trial["trial_id"]), side)
        for side in case.evidence.measured
        for trial in side.trials
        if trial["status"] == "done" and int(trial["seed"]) in side.values
    ]
    for trial_id, _ in done:
        if problem := traces[trial_id].outputs:
            yield f"trial {trial_id}: {problem}"
    yield from _unlike_their_records(case)
    probe = get_metric(claim.metric).probe
    has_outputs = claim.metric.endswith("top1") and case.evidence.content.get("checkpoint", "last") == "last"
    if claim.kind not in COLLAPSE_KINDS and has_outputs:
        bare = [trial_id for trial_id, _ in done if probe not in traces[trial_id].correct]
        if bare:
            yield f"{len(bare)} of {len(done)} values have no outputs by example behind them: {some(bare)}"
    for trial_id, _ in done:
        if why := case.evidence.around.set_aside.get(traces[trial_id].curves_file):
            yield f"trial {trial_id}: its curves cannot be read: {why}"
    untold = [trial_id for trial_id, side in done if is_trained(side) and not traces[trial_id].curves_file]
    if untold:
        yield f"{len(untold)} of {len(done)} trials have no curves of their training: {some(untold)}"


def _unlike_their_records(case: Case) -> Iterator[str]:
    """Trials of which the database, which anyone can write to, says something else than their records."""
    for side in case.evidence.measured:
        for trial in side.trials:
            trial_id, seed = str(trial["trial_id"]), int(trial["seed"])
            trace = case.evidence.traces.get(trial_id)
            if trace is None or trace.record:  # which rule A1 tells
                continue
            if trace.status != trial["status"]:
                yield f"trial {trial_id} is {trial['status']} in the database, and {trace.status} by its record"
            value = trace.values.get((case.evidence.claim.metric, REPORTED_ON))
            if value is not None and seed in side.values and side.values[seed] != value:
                yield f"trial {trial_id} has {side.values[seed]:.4f} in the database, and {value:.4f} by its record"


def no_drift(case: Case) -> Outcome:
    """Judge whether all trials ran with the same code, device, precision and mode of kernels.

    What differs between the sides may be the reason for the difference that is claimed. Where two kinds of code hash
    leave open whether the code is the same, it counts neither as the same nor as different: between the sides the
    claim cannot be verified, and within them it is a remark.
    """
    if case.has_no_record:
        return NO_RECORD
    if packed := _packed(case):
        return FAILED, f"{packed} trials took turns with others: their seconds are not what they take", "stops"
    differing = [(what, values) for what, values in _comparable(case) if len(distinct(values.values())) > 1]
    kinds = _kinds_of_unknown_code(case)
    if not differing and not kinds:
        return PASSED, "one code, device, precision, mode of kernels and set of versions"
    apart = [(what, values) for what, values in differing if what not in HARMLESS and _tells_sides_apart(case, values)]
    if apart:
        return FAILED, f"the sides themselves differ in {'; '.join(_drift_text(*one) for one in apart)}"
    texts = [f"they differ in {'; '.join(_drift_text(*one) for one in differing)}"] if differing else []
    if not kinds:
        return FAILED, texts[0], "told"
    texts.append(
        "whether they ran the same code is not known: their code hashes are of two kinds, which do not compare"
    )
    return FAILED, "; ".join(texts), "unverified" if _tells_sides_apart(case, kinds) else "told"


def _comparable(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the trials ran with, by trial; code hashes of each kind by themselves."""
    for what in _surroundings(case):
        values = _seen(case, what)
        if what != "code_hash":
            yield what, values
            continue
        for one in sorted({kind(value) for value in values.values()}):
            yield what, {trial_id: value for trial_id, value in values.items() if kind(value) == one}


def _kinds_of_unknown_code(case: Case) -> dict[str, str]:
    """Return the kind of each trial's code hash, if there are several and commits do not show that the code is one."""
    code, commits = _seen(case, "code_hash"), _seen(case, "commit")
    kinds = {trial_id: kind(value) for trial_id, value in code.items()}
    is_one = len(set(kinds.values())) <= 1 or is_same_code((code[trial_id], commits[trial_id]) for trial_id in code)
    return {} if is_one else kinds


def _packed(case: Case) -> int:
    """How many trials have seconds of a pack, where seconds are compared."""
    if case.evidence.claim.metric != "train_seconds":
        return 0
    return sum(map(is_packed, case.evidence.trials))


def _surroundings(case: Case) -> list[str]:
    of_trials = [case.evidence.versions.get(str(trial["trial_id"]), {}) for trial in case.evidence.trials]
    packages = sorted({name for versions in of_trials for name in versions})
    costly = COSTLY if case.evidence.claim.metric in metric_names("trial_cost") else ()
    return [*DRIFTING, *costly, *packages]


def _seen(case: Case, what: str) -> dict[str, Any]:
    """What each trial that ran says of it, by trial."""
    ran = [trial for trial in case.evidence.trials if trial["status"] != "missing"]
    if what in (*DRIFTING, *COSTLY):
        return {str(trial["trial_id"]): trial[what] for trial in ran}
    return {str(trial["trial_id"]): case.evidence.versions.get(trial["trial_id"], {}).get(what) for trial in ran}


def _tells_sides_apart(case: Case, seen: dict[str, Any]) -> bool:
    """Whether on two compared sides the shares of the values lie further apart than APART (total variation)."""
    for a, b, _ in case.evidence.pairs:
        if b is None or not is_trained(a) or not is_trained(b):
            continue
        shares = []
        for side in (a, b):
            values = [str(seen[trial["trial_id"]]) for trial in side.trials if trial["trial_id"] in seen]
            shares.append({value: count / len(values) for value, count in Counter(values).items()})
        both = shares[0].keys() | shares[1].keys()
        if all(shares) and sum(abs(shares[0].get(v, 0) - shares[1].get(v, 0)) for v in both) / 2 > APART:
            return True
    return False


def _drift_text(what: str, seen: dict[str, Any]) -> str:
    return f"{what.replace('_', ' ')}: {', '.join(value[:16] for value in distinct(seen.values()))}"


# --- A23, A24 -------------------------------------------------------------------------------------------------------


def declared_before(case: Case) -> Outcome:
    """The claim stood in the log, as it is now, before the first of its results did."""
    log, claim, entry = case.evidence.log, case.evidence.claim, case.evidence.declared
    if claim.is_about_a_table:
        return FAILED, "the results were published before"
    if log.problem:
        return FAILED, log.problem
    if entry is None:
        return FAILED, _undeclared(case)
    ran = [trial for trial in case.evidence.trials if trial["status"] != "missing"]
    if untold := [str(trial["trial_id"]) for trial in ran if not trial["finished"]]:
        return FAILED, f"declared {entry.time}, and {len(untold)} results do not say when they came: {some(untold)}"
    first = min((str(trial["finished"]) for trial in ran), default="").replace(" ", "T")[:19]
    if first and entry.time[:19] > first:
        return FAILED, f"declared {entry.time}, after the first result of {first}"
    if earlier := next(_ended_before(case, entry.time), ""):
        return FAILED, earlier
    begun = case.evidence.around.begun_by(entry.time)
    if entry.recorded > begun:
        told = f"{entry.recorded} trials were recorded when it was declared, and {begun} had begun by {entry.time}"
        return FAILED, f"{told}: a clock is wrong, or records are gone"
    if another := next(_another_look(case), ""):
        return FAILED, another
    content = "" if entry.protocol else "; the content of its protocol was not put on record"
    return PASSED, f"declared {entry.time}" + (f", first result {first}" if first else "") + content


def _undeclared(case: Case) -> str:
    """Why no line of the log stands for the claim: it was changed since, or its protocol was, or there is none."""
    claim, evidence = case.evidence.claim, case.evidence
    if entry := evidence.log.of(claim):
        ran = ", ".join(distinct(side.section.protocol_id for side in evidence.measured if side.section))
        return f"declared {entry.time} under {claim.protocol} ({entry.protocol[:12]}), which was changed since: {ran}"
    changed = "what was declared under this name is another claim: it was changed since"
    return changed if evidence.log.named(claim.name) else "never declared"


def _another_look(case: Case) -> Iterator[str]:
    """Sides with fewer or more seeds than the declaration said the claim would be judged at.

    Whoever looks again and again, and stops once it holds, is wrong more often than the level says.
    """
    planned = case.evidence.claim.seeds
    for side in case.evidence.measured if planned else ():
        ran = {int(trial["seed"]) for trial in side.trials if trial["status"] != "missing"}
        if len(ran) != planned:
            yield f"declared to be judged at {planned} seeds, and {side.label} has run {len(ran)}"


def _ended_before(case: Case, time: str) -> Iterator[str]:
    """Trials that came to a result, began before the declaration, and were then run once more."""
    for trial_id, trace in case.evidence.traces.items():
        for attempt in trace.attempts[:-1]:
            if attempt.status in ("done", "diverged", "collapsed") and attempt.started[:19] < time[:19]:
                yield f"trial {trial_id} ended as {attempt.status} by an attempt of {attempt.started}, and ran again"
