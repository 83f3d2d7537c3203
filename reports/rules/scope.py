"""Rules A20 and A23: whether the claim's sentence says no more than was compared."""

from collections.abc import Iterator

from twinbench.reports.claims.claim import Claim, reported_value
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.rules import sentence
from twinbench.reports.rules.accounted import Compared
from twinbench.reports.rules.case import (
    NOTED,
    STOPS,
    Case,
    Outcome,
    epochs_of,
    failed,
    is_trained,
    not_applicable,
    passed,
)
from twinbench.sweeps.deviations import deviations_text
from twinbench.sweeps.own_values import ChangedSetting
from twinbench.sweeps.trial import setting_text

# Deviations that A20 need not look for: settings are compared by cell, and rules A9 and A19 judge the last two.
JUDGED_ELSEWHERE = ("training", "methods", "movable", "minimum_seeds", "margin")

# --- A20 ------------------------------------------------------------------------------------------------------------


def scope_words(case: Case) -> Outcome:
    """A20: the sentence names dataset, backbone and settings, or the protocol, and says nothing that is not compared.

    The comparison itself must leave out nothing that was run within what the claim speaks of.
    """
    claim, dataset, compared = case.evidence.claim, case.dataset, _compared(case)
    more = sentence.excess(claim, compared)
    says_more = [f"says more than was judged: {', '.join(more)}"] if more else []
    if more and (wrong := list(sentence.contradictions(claim, compared))):
        return failed("; ".join([f"the sentence contradicts the comparison: {'; '.join(wrong)}", *says_more]), STOPS)
    misplaced = dict(sentence.misplaced_settings(claim, compared))
    if any(misplaced.values()):
        return failed(f"the sentence exchanges settings of the sides: {', '.join(misplaced)}", STOPS)
    says_more += [*misplaced, *_beyond(case, compared)]
    if left_out := next(_left_out(case), ""):
        return failed(left_out, STOPS)
    if not dataset:
        return not_applicable("the dataset is unknown")
    if not sentence.names_dataset(claim, dataset):
        says_more.append(f"the sentence does not name {dataset}, so it claims more than was compared")
    elif unstated := ", ".join(dict.fromkeys(unstated_settings(case))):
        says_more.append(f"holds at {unstated}, which the sentence does not say")
    if says_more:
        return failed("; ".join(says_more))
    if sentence.names_protocol(claim):
        return passed(f"names {claim.protocol}, which fixes dataset, backbone and epochs")
    if missing := " and ".join(sentence.unnamed(claim, compared)):
        # Only noted: the protocol that the claim names beside the sentence fixes them.
        return failed(f"names {dataset}, but neither {claim.protocol or 'a protocol'} nor {missing}", NOTED)
    return passed(f"names {dataset}" + (", backbone and epochs" if compared.backbone else ""))


def unstated_settings(case: Case) -> Iterator[str]:
    """Settings that the claim or its sweep fixes and the sentence does not state, where another value is possible.

    Another value is possible where the protocol has another, or where several values were run.
    """
    evidence, claim = case.evidence, case.evidence.claim
    training = evidence.content.get("training", {})
    for side in evidence.measured:
        method = str(side.selector["method"])
        defaults = training | evidence.content.get("methods", {}).get(method, {})
        for key, value in side.selector.items():
            if key in ("method", claim.axis) or sentence.names_value(claim, key, value):
                continue
            if key in claim.scope and sentence.names_setting(claim, key):
                continue
            run = {one.text for one in evidence.context.ran.get((method, key), ())}
            changed = {one.name: str(one) for one in _departures(side)}
            if key in changed or (defaults[key] != value if key in defaults else len(run) > 1):
                yield changed.get(key, f"{key} = {value}")
        yield from _fixed_settings(side, claim)
        yield from _unstated_deviations(side, claim)


def _departures(side: Side) -> tuple[ChangedSetting, ...]:
    return side.section.departures(side.cell) if side.section and side.cell else ()


def _fixed_settings(side: Side, claim: Claim) -> Iterator[str]:
    """Settings of a side that neither claim nor sentence gives, where no complete cell that it could choose has the
    protocol's own value.

    Where one has it, the value was chosen on validation, which rules on selection judge. Before any cell is complete,
    as in a plan, all count.
    """
    if side.cell is None or side.section is None:
        return
    for one in side.section.departures(side.cell):
        if one.name in side.selector or sentence.names_value_of(claim, one.name, one.value):
            continue
        cells = side.section.having(side.selector)
        eligible = [cell for cell in cells if cell.is_complete] or cells
        if all(any(other.name == one.name for other in side.section.departures(cell)) for cell in eligible):
            yield str(one)


def _unstated_deviations(side: Side, claim: Claim) -> Iterator[str]:
    """Deviations of the sweep that the sentence does not state and no other rule looks at."""
    for one in side.section.deviations if side.section else ():
        table, name, value = one["key"].partition(".")[0], one["key"].rpartition(".")[2], one["value"]
        is_text = isinstance(value, int | float | str) and not isinstance(value, bool)
        says = sentence.names_value_of(claim, name, str(value)) if is_text else sentence.names_setting(claim, name)
        if table not in JUDGED_ELSEWHERE and not says:
            yield deviations_text([one])


def _compared(case: Case) -> Compared:
    evidence = case.evidence
    sides = [side for side in evidence.measured if is_trained(side)]
    epochs = {epochs_of(side) for side in sides} | {side.selector.get("epochs") for side in evidence.sides}
    epochs |= set(evidence.claim.values) if evidence.claim.axis == "epochs" else set()
    of = _settings_of(evidence)
    return Compared(
        case.dataset,
        frozenset(name for name, _ in evidence.locked),
        evidence.context.methods | {*evidence.content.get("methods", {})},
        frozenset(int(value) for value in epochs if isinstance(value, int | float)) if sides else frozenset(),
        str(evidence.content.get("backbone", {}).get("name", "")) if sides else "",
        frozenset(str(side.selector["method"]) for side in evidence.sides),
        {key: frozenset().union(*(own.get(key, ()) for own in of.values())) for own in of.values() for key in own},
        of,
        frozenset(len(side.values) for side in evidence.measured),
        frozenset([int(examples)] if (examples := evidence.content.get("dataset", {}).get("train_examples")) else []),
        frozenset(int(row["n_examples"]) for one in sides for row in one.measurements if row["n_examples"]),
        frozenset([100 * value] if (value := _published(evidence)) is not None else []),
        any(side.candidates > 1 for side in sides),
        all(one.high is None or one.high < -one.bound for one in case.contrasts),
    )


def _settings_of(evidence: Evidence) -> dict[str, dict[str, frozenset[str]]]:
    """Return by method the values of each setting that the compared trials had, or that the claim gives."""
    found: dict[str, dict[str, set[str]]] = {}
    for side in evidence.sides:
        own = found.setdefault(str(side.selector["method"]), {})
        for key, value in (side.cell.values if side.cell else {}).items():
            own.setdefault(key, set()).add(value.text)
        for key, given in side.selector.items() if side.cell is None else ():
            own.setdefault(key, set()).add(str(given))
        for one in side.section.deviations if side.section else ():
            own.setdefault(one["key"].rpartition(".")[2], set()).add(setting_text(one["value"]))
    return {
        method: {key: frozenset(values) for key, values in own.items() if key != "method"}
        for method, own in found.items()
    }


def _published(evidence: Evidence) -> float | None:
    """Return the published value that the claim is about to equal."""
    claim = evidence.claim
    return reported_value(evidence.table, claim, claim.a).value if claim.kind == "equals" and evidence.table else None


def _left_out(case: Case) -> Iterator[str]:
    """Values or methods that were run within what the claim speaks of and are not compared; a cell against itself."""
    claim, context = case.evidence.claim, case.evidence.context
    numbers = [value for value in claim.values if isinstance(value, int | float)]
    if claim.axis and numbers and not claim.is_about_a_table:
        run = {one.number for one in context.ran.get((str(claim.a["method"]), claim.axis), ())}
        between = [n for n in run if n is not None and min(numbers) < n < max(numbers) and n not in numbers]
        if between:
            at = ", ".join(f"{number:g}" for number in sorted(between))
            yield f"{claim.axis} was also run at {at}, within the claimed range"
    if claim.kind == "best_of" and claim.among and not claim.is_about_a_table:
        among = {str(side["method"]) for side in claim.among}
        absent = context.methods - {str(claim.a["method"]), *among}
        if absent and not sentence.names_methods(claim, among):
            names = ", ".join(sorted(absent))
            yield f"{names} was also run but not compared, and the sentence does not name the methods that were"
    # The difference of two sides that select one cell is 0, whatever the claim says.
    for a, b, _ in case.evidence.pairs:
        if b is not None and a.cell is not None and a.cell is b.cell:
            yield f"{a.label} and {b.label} are the same cell, {a.cell.cell_id}"


def _beyond(case: Case, compared: Compared) -> Iterator[str]:
    """What the sentence leaves open: the methods that A is better than, and the range of an axis that was exceeded."""
    claim = case.evidence.claim
    if claim.kind == "best_of" and not sentence.names_compared(claim, compared):
        yield f"compared with {', '.join(sorted(compared.sides - {str(claim.a['method'])}))}, which it does not say"
    if not claim.axis or claim.is_about_a_table:
        return
    given = {str(value) for value in claim.values} | {value for value in claim.values if isinstance(value, int | float)}
    run = case.evidence.context.ran.get((str(claim.a["method"]), claim.axis), ())
    others = [one.text for one in run if one.text not in given and one.number not in given]
    if others and not all(sentence.names_value(claim, claim.axis, claim.values[end]) for end in (0, -1)):
        yield f"{claim.axis} was also run at {', '.join(sorted(others))}, and the sentence does not give its range"


# --- A23 ------------------------------------------------------------------------------------------------------------


def dataset_count(case: Case) -> Outcome:
    """A23: a sentence about datasets in general needs several datasets; seeds of one do not replace them."""
    words = sentence.generalises(case.evidence.claim)
    if not words:
        return not_applicable("one dataset, and the sentence speaks of no others")
    return failed(f"one dataset does not support a sentence that holds {words!r}: Friedman's test needs about eight")
