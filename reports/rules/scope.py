"""Rules on scope: the sentence claims no more than what was compared."""

from collections.abc import Iterator

from twinbench.reports.claims.evidence import Side
from twinbench.reports.rules.case import (
    FAILED,
    NOT_APPLICABLE,
    PASSED,
    Case,
    Outcome,
    is_trained,
)
from twinbench.reports.rules.sentence import (
    Compared,
    backbone_of,
    contradictions,
    generalises,
    names_dataset,
    names_methods,
    names_protocol,
    names_setting,
    says_setting,
    unnamed,
)


def scope_words(case: Case) -> Outcome:
    """The sentence names what it holds for, by the protocol or one by one, and says nothing that is not compared."""
    claim, name, compared = case.evidence.claim, case.dataset, _compared(case)
    if wrong := list(contradictions(claim, compared)):
        return FAILED, f"the sentence is about something else: {'; '.join(wrong)}", "stops"
    if left_out := next(_left_out(case), "") or next(_with_itself(case), ""):
        return FAILED, left_out, "stops"
    if not name:
        return NOT_APPLICABLE, "the dataset is unknown"
    if not names_dataset(claim, name):
        return FAILED, f"does not say that it is about {name}: without a scope it says too much"
    if unsaid := ", ".join(dict.fromkeys(_unsaid_settings(case))):
        return FAILED, f"holds at {unsaid}, which the sentence does not say"
    if names_protocol(claim):
        return PASSED, f"names {claim.protocol}, which fixes dataset, backbone and epochs"
    if missing := " and ".join(unnamed(claim, compared)):
        # Told beside the verdict: the claim has a protocol, which has them, but who reads the sentence alone has not.
        return FAILED, f"names {name}, and neither {claim.protocol or 'a protocol'} nor {missing}", "told"
    return PASSED, f"names {name}" + (", backbone and epochs" if compared.backbone else "")


def _unsaid_settings(case: Case) -> Iterator[str]:
    """What the claim fixes otherwise than the protocol, or among several values that were run, and leaves unsaid."""
    evidence, claim = case.evidence, case.evidence.claim
    training = evidence.content.get("training", {})
    for side in evidence.measured:
        method = side.selector["method"]
        defaults = training | evidence.content.get("methods", {}).get(method, {})
        for key, value in side.selector.items():
            said = says_setting(claim, key, value) or (key in claim.scope and names_setting(claim, key))
            if key in ("method", claim.axis) or said:
                continue
            ran = {one.text for one in evidence.around.ran.get((method, key), ())}
            if defaults[key] != value if key in defaults else len(ran) > 1:
                yield f"{key} {value}"


def _compared(case: Case) -> Compared:
    evidence = case.evidence
    sides = [side for side in evidence.measured if is_trained(side)]
    epochs = {_value(side, "epochs") for side in sides} | {side.selector.get("epochs") for side in evidence.sides}
    epochs |= set(evidence.claim.values) if evidence.claim.axis == "epochs" else set()
    return Compared(
        case.dataset,
        frozenset(name for name, _ in evidence.locked),
        evidence.around.methods | {*evidence.content.get("methods", {})},
        frozenset(int(value) for value in epochs if isinstance(value, int | float)) if sides else frozenset(),
        backbone_of(evidence.content) if sides else "",
    )


def _value(side: Side, key: str) -> float | None:
    value = side.cell.values.get(key) if side.cell else None
    return value.number if value else None


def _left_out(case: Case) -> Iterator[str]:
    """What was run within what the claim speaks of, and is not compared."""
    claim, around = case.evidence.claim, case.evidence.around
    numbers = [value for value in claim.values if isinstance(value, int | float)]
    if claim.axis and numbers and not claim.is_about_a_table:
        ran = {one.number for one in around.ran.get((str(claim.a["method"]), claim.axis), ())}
        between = [n for n in ran if n is not None and min(numbers) < n < max(numbers) and n not in numbers]
        if between:
            at = ", ".join(f"{number:g}" for number in sorted(between))
            yield f"{claim.axis} was run at {at} too, within the claimed range"
    if claim.kind == "best_of" and claim.among and not claim.is_about_a_table:
        among = {str(side["method"]) for side in claim.among}
        absent = around.methods - {str(claim.a["method"]), *among}
        if absent and not names_methods(claim, among):
            yield f"the best of some: {', '.join(sorted(absent))} was run too, and is not among them"


def _with_itself(case: Case) -> Iterator[str]:
    """Two sides that lead to one cell: their difference is nothing, whatever is claimed of it."""
    for a, b, _ in case.evidence.pairs:
        if b is not None and a.cell is not None and a.cell is b.cell:
            yield f"{a.label} and {b.label} are one and the same cell, {a.cell.cell_id}"


def dataset_count(case: Case) -> Outcome:
    """A sentence about datasets needs datasets as its unit, never seeds."""
    words = generalises(case.evidence.claim)
    if not words:
        return NOT_APPLICABLE, "one dataset, and the sentence speaks of no others"
    return FAILED, f"one dataset carries no sentence that holds {words!r}: Friedman's test wants eight or so"
