"""Rules A14 to A19: intervals, effect sizes, multiple comparisons, power and margin."""

from collections.abc import Iterator
from dataclasses import replace

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.contrasts import Contrast, required_size, tolerance_of
from twinbench.reports.claims.evidence import Evidence
from twinbench.reports.rules.case import (
    NARROWS,
    NO_RECORD,
    STOPS,
    Case,
    Outcome,
    distinct,
    failed,
    not_applicable,
    passed,
    passed_if,
    protocol_value,
    some,
)
from twinbench.reports.rules.sentence import names_a_new_seed, names_share, names_size
from twinbench.reports.statistics.intervals import ALPHA, LEAST_WELCH_COVERAGE, welch_covers
from twinbench.reports.statistics.normality import departs_from_normal
from twinbench.reports.statistics.per_example import over_seeds_and_examples
from twinbench.sweeps.errors import counted
from twinbench.sweeps.metrics import get_metric

# --- A14 to A16 -----------------------------------------------------------------------------------------------------


def two_uncertainties(case: Case) -> Outcome:
    """A14: the difference has an interval over seeds and one over test examples, and is shown over both together."""
    if not case.contrasts or not case.evidence.claim.metric.endswith("top1"):
        return not_applicable("no accuracies are compared")
    if case.evidence.claim.kind == "equals":
        return not_applicable("the reported value has no examples to pair with")
    lacking = [c.label for c in case.contrasts if c.b is not None and c.examples is None]
    if lacking:
        return failed(f"no per-example outputs: {'; '.join(lacking)}")
    if of_these := [text for contrast in case.contrasts if (text := _of_these_examples(contrast))]:
        return failed(f"shown for new seeds on these test images; over seeds and images together not: {some(of_these)}")
    return passed("over seeds and over test examples")


def _of_these_examples(contrast: Contrast) -> str:
    """Return the interval over seeds and examples together where it no longer shows what that over seeds does."""
    if contrast.difference is None or contrast.examples is None or contrast.criterion == "wins":
        return ""
    joint = replace(contrast, difference=over_seeds_and_examples(contrast.difference, contrast.examples))
    if joint.low is None or joint.high is None or _decided(contrast) <= _decided(joint):
        return ""
    return f"{contrast.label} ({100 * joint.low:.2f} to {100 * joint.high:.2f} points)"


def _decided(contrast: Contrast) -> frozenset[str]:
    """Return what the interval shows: that it meets what is asked, and on which side of 0 it lies."""
    low, high = contrast.low or 0.0, contrast.high or 0.0
    found = {"asked": (contrast.room() or 0.0) > 0, "above": low > 0, "below": high < 0}
    return frozenset(name for name, is_shown in found.items() if is_shown)


def defined_error_bars(case: Case) -> Outcome:
    """A15: the interval says what varies and by which formula, and covers as often as it says."""
    if case.evidence.claim.is_about_a_table:
        return failed("the source gives no interval")
    if not any(contrast.low is not None for contrast in case.contrasts):
        return not_applicable("no interval is shown")
    if case.evidence.claim.kind == "wins":
        return passed("exact intervals of P(A > B) over seeds, whatever their distribution")
    problems = []
    if short := [contrast.label for contrast in case.contrasts if _covers_less(contrast)]:
        down_to = " and ".join(f"{100 * least:.1f} % with {n}" for n, least in LEAST_WELCH_COVERAGE.items())
        reason = f"unpaired intervals with few seeds on one side cover less than stated, down to {down_to}"
        problems.append(f"{reason}: {some(short)}")
    if uneven := [contrast.label for contrast in case.contrasts if any(map(departs_from_normal, contrast.samples))]:
        reason = (
            "the seeds do not spread as a normal sample (Anderson-Darling test at 1 %), as when one fails rarely, so "
        )
        problems.append(f"{reason}the intervals may cover less than stated: {some(uneven)}")
    if problems:
        return failed("; ".join(problems))
    return passed("t intervals over seeds, assumed to be normal, with everything else held fixed")


def _covers_less(contrast: Contrast) -> bool:
    """Whether the interval is unpaired and one side has too few seeds for it."""
    if contrast.b is None or contrast.difference is None or contrast.difference.paired:
        return False
    return not welch_covers(len(contrast.a.values), len(contrast.b.values))


def interval_and_size(case: Case) -> Outcome:
    """A16: the difference is given with its interval, Cohen's d and P(A > B)."""
    if not case.contrasts:
        return not_applicable("no difference is claimed")
    lacking = [contrast.label for contrast in case.contrasts if contrast.low is None]
    return passed_if(not lacking, "interval, effect size and P(A > B)", f"fewer than two seeds: {'; '.join(lacking)}")


# --- A17 ------------------------------------------------------------------------------------------------------------


def multiplicity(case: Case) -> Outcome:
    """A17: Holm's correction runs over the whole family, and over all claims that ask the same question.

    Claims of one question may stand in several families or files of the run folder, or may have been declared and left
    out. Bonferroni's correction then runs over all of them, since the results of the others are not known here. The
    rule fails only where what is shown within the family is not shown over all: the claim, a part of it, or its
    direction.
    """
    if not case.contrasts:
        return not_applicable("no test is made")
    evidence, size = case.evidence, case.family_size
    text = f"Holm over the {counted(size, 'comparison')} of family {evidence.claim.family!r}"
    question = _question(evidence.claim)
    outside = [other for other in evidence.judged_together if other.claim.family != evidence.claim.family]
    same_question = [other for other in outside if _question(other.claim) == question]
    unjudged = list(_unjudged(evidence, question))
    more = sum(len(other.pairs) for other in same_question) + len(evidence.withdrawn) + len(unjudged)
    if not more:
        return passed(text)
    families = ", ".join(distinct(repr(other.claim.family) for other in same_question))
    where = [f"in {families}"] if same_question else []
    where += [f"declared and left out ({some(evidence.withdrawn)})"] if evidence.withdrawn else []
    where += [f"on file but not judged with it ({some(unjudged)})"] if unjudged else []
    level = 1 - ALPHA / (size + more)
    if _shown(case, None) <= _shown(case, level):
        return passed(f"{text}; {more} more of the same question {' and '.join(where)} change nothing")
    return failed(f"{text}; it does not hold over the {more} more of the same question {' and '.join(where)}")


def _shown(case: Case, confidence: float | None) -> frozenset[str]:
    """Return the parts of the claim that are shown, or "the direction" where only that is, at the given confidence.

    Parts are the points of its scope or the comparisons along its axis; a claim with neither has one.
    """
    claim = case.evidence.claim
    parts: dict[str, bool] = {}
    for contrast in case.contrasts:
        part = contrast.label if claim.axis and not claim.scope else contrast.point
        parts[part] = parts.get(part, True) and contrast.is_met(confidence)
    met = frozenset(part for part, is_met in parts.items() if is_met)
    is_positive = all(contrast.is_positive(confidence) for contrast in case.contrasts)
    return met | ({"the direction"} if is_positive and not met else set())


def _unjudged(evidence: Evidence, question: tuple[str, ...]) -> Iterator[str]:
    """Names of claims of the same family or question that are in a file of the folder but not judged now.

    Each counts as one comparison: how many it takes is known only for claims that are judged.
    """
    judged = {other.claim.hash for other in evidence.judged_together} | {evidence.claim.hash}
    for hash_, claim in evidence.context.claims_on_file.items():
        if hash_ not in judged and (claim.family == evidence.claim.family or _question(claim) == question):
            yield claim.name


def _question(claim: Claim) -> tuple[str, ...]:
    """Return protocol or table, what is varied (the method, the settings of one method, or one axis), and of what.

    The chances of error of claims with one question add up, whatever families they are put in, and whichever metric
    they look at. Costs are a question of their own.
    """
    method = str(claim.a["method"])
    within_one = claim.kind in ("better", "wins", "not_worse") and claim.b.get("method") == method
    varied = {"equals": "reported", "insensitive": f"{method} {claim.axis}", "monotone": f"{method} {claim.axis}"}
    what = varied.get(claim.kind, f"settings of {method}" if within_one else "method")
    return claim.protocol, claim.reported, "cost" if get_metric(claim.metric).kind.endswith("cost") else "quality", what


# --- A18, A19 -------------------------------------------------------------------------------------------------------


def power(case: Case) -> Outcome:
    """A18: the smallest difference that these seeds detect is no larger than the claimed size, or than the margin."""
    detectable = [contrast.detectable for contrast in case.contrasts if contrast.detectable is not None]
    required = required_size(case.evidence.claim, case.evidence.margin)
    if not detectable or not required:
        return not_applicable("no size is claimed, or there is no spread to compute power from")
    metric = get_metric(case.evidence.claim.metric)
    scale, unit = (100.0, "points") if metric.is_accuracy else (metric.scale, metric.unit)
    sizes = [f"{scale * size:.4g}" for size in (max(detectable), required)]
    text = f"detectable with power 0.8{f', in {unit}' if unit else ''}: {sizes[0]}; required: {sizes[1]}"
    return passed_if(max(detectable) <= required, text, text)


def practical_margin(case: Case) -> Outcome:
    """A19: the protocol fixed the least difference that matters, and a claim that allows more says how much."""
    evidence, margin = case.evidence, case.evidence.margin
    if not evidence.content:
        return NO_RECORD
    of_protocol = protocol_value(evidence, "margin")
    if 0 < margin < of_protocol:
        return failed(f"the margin of {of_protocol:g} was lowered to {margin:g}", STOPS)
    claim = evidence.claim
    if claim.kind == "wins" and not names_a_new_seed(claim):
        return failed("the claim is of the chance to win at a new seed, but the sentence does not say so", NARROWS)
    if claim.share is not None and not names_share(claim):
        return failed(f"the claim is of a share of {claim.share:g}, but the sentence does not say so", NARROWS)
    allowed = tolerance_of(claim, margin) if claim.by else claim.within or 0.0
    least = min(margin, of_protocol or margin)  # a sweep that raises the margin does not make it matter less
    if 0 < least < allowed and not names_size(claim, allowed if claim.by else None):
        more = f"it allows {100 * allowed:g} points, more than the margin of {100 * least:g}"
        return failed(f"{more}, but the sentence does not say so", NARROWS)
    return passed_if(bool(margin), f"margin {margin:g}", "no margin")
