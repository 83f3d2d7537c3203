"""Rules A9, A10, A12 and A14 to A19: whether the comparison is a fair one, and what its numbers carry."""

from collections.abc import Iterator

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.evidence import Evidence
from twinbench.reports.rules.case import (
    FAILED,
    NO_RECORD,
    NOT_APPLICABLE,
    PASSED,
    Case,
    Outcome,
    distinct,
    passed_if,
    some,
)
from twinbench.reports.rules.seeds import _undeviated
from twinbench.reports.rules.sentence import says_size
from twinbench.reports.statistics.intervals import ALPHA, welch_covers

# --- A9, A10 --------------------------------------------------------------------------------------------------------


# --- A12 --------------------------------------------------------------------------------------------------------------


# --- A14 to A16 -----------------------------------------------------------------------------------------------------


def two_uncertainties(case: Case) -> Outcome:
    """An interval over seeds and one over test examples."""
    if not case.contrasts or not case.evidence.claim.metric.endswith("top1"):
        return NOT_APPLICABLE, "no accuracies are compared"
    lacking = [c.label for c in case.contrasts if c.b is not None and c.examples is None]
    if case.evidence.claim.kind == "equals":
        return NOT_APPLICABLE, "the reported value has no examples to pair with"
    return passed_if(not lacking, "over seeds and over test examples", f"no per-example outputs: {'; '.join(lacking)}")


def defined_error_bars(case: Case) -> Outcome:
    """Which factor varies, by which formula."""
    if case.evidence.claim.is_about_a_table:
        return FAILED, "the source gives no interval"
    if not any(contrast.low is not None for contrast in case.contrasts):
        return NOT_APPLICABLE, "no interval is shown"
    if short := [contrast.label for contrast in case.contrasts if _covers_less(contrast)]:
        told = "unpaired intervals of few seeds against more cover less than they say, down to 92 % at three, 87 at two"
        return FAILED, f"{told}: {some(short)}"
    return PASSED, "t intervals over seeds, with everything else held fixed"


def _covers_less(contrast: Contrast) -> bool:
    """Whether its interval is an unpaired one, of too few seeds on a side."""
    if contrast.b is None or contrast.difference is None or contrast.difference.paired:
        return False
    return not welch_covers(len(contrast.a.values), len(contrast.b.values))


def interval_and_size(case: Case) -> Outcome:
    """The difference with its interval, Cohen's d and P(A > B)."""
    if not case.contrasts:
        return NOT_APPLICABLE, "no difference is claimed"
    lacking = [contrast.label for contrast in case.contrasts if contrast.low is None]
    return passed_if(not lacking, "interval, effect size and P(A > B)", f"below two seeds: {'; '.join(lacking)}")


# --- A17 to A19 -----------------------------------------------------------------------------------------------------


def multiplicity(case: Case) -> Outcome:
    """Holm's correction over all comparisons of the family, and over those of its question that stand elsewhere.

    A family that was split up, over families or over files of the run folder, or whose other claims were declared and
    then left out, is judged as if it were whole: by Bonferroni, since how the others came out is not known here. Only
    a claim that does not stand so fails.
    """
    if not case.contrasts:
        return NOT_APPLICABLE, "no test is made"
    evidence, size = case.evidence, case.family_size
    told = f"Holm over the {size} comparison{'s' * (size > 1)} of family {evidence.claim.family!r}"
    question = _question(evidence.claim)
    others = [other for other in evidence.together if other.claim.family != evidence.claim.family]
    apart = [other for other in others if _question(other.claim) == question]
    unjudged = list(_unjudged(evidence, question))
    more = sum(len(other.pairs) for other in apart) + len(evidence.withdrawn) + len(unjudged)
    if not more:
        return PASSED, told
    families = ", ".join(distinct(repr(other.claim.family) for other in apart))
    where = [f"in {families}"] if apart else []
    where += [f"declared and left out ({some(evidence.withdrawn)})"] if evidence.withdrawn else []
    where += [f"on file and not judged with it ({some(unjudged)})"] if unjudged else []
    level = 1 - ALPHA / (size + more)
    holds = all(_holds_at(contrast, level) for contrast in case.contrasts)
    if holds or not all(_holds_at(contrast, None) for contrast in case.contrasts):
        return PASSED, f"{told}; {more} more of the same question {' and '.join(where)} change nothing"
    return FAILED, f"{told}, and {more} more of the same question {' and '.join(where)}: over all it does not hold"


def _unjudged(evidence: Evidence, question: tuple[str, ...]) -> Iterator[str]:
    """Names of claims of the same family or question that stand in a file of the folder, and are not judged now.

    One comparison each is counted: how many it takes is known of claims that are judged.
    """
    judged = {other.claim.hash for other in evidence.together} | {evidence.claim.hash}
    for hash_, claim in evidence.around.claims_on_file.items():
        if hash_ not in judged and (claim.family == evidence.claim.family or _question(claim) == question):
            yield claim.name


def _question(claim: Claim) -> tuple[str, ...]:
    """Protocol or table, metric, and what is varied: the method, the settings of one method, or an axis of it.

    Claims of one question add up their chances of error, whatever families they are put in.
    """
    method = str(claim.a["method"])
    within_one = claim.kind in ("better", "not_worse") and claim.b.get("method") == method
    varied = {"equals": "reported", "insensitive": f"{method} {claim.axis}", "monotone": f"{method} {claim.axis}"}
    what = varied.get(claim.kind, f"settings of {method}" if within_one else "method")
    return claim.protocol, claim.reported, claim.metric, what


def _holds_at(contrast: Contrast, confidence: float | None) -> bool:
    """Whether the interval of that confidence, or else the one it is judged by, shows what is asked."""
    difference = contrast.difference
    if difference is None or difference.low is None:
        return False
    judged = difference if confidence is None else difference.at(confidence)
    if judged.low is None or judged.high is None:
        return False
    if contrast.asked == "within":
        return -contrast.bound < judged.low and judged.high < contrast.bound
    return judged.low > contrast.bound


def power(case: Case) -> Outcome:
    """The smallest difference that these seeds detect is no larger than the one that is claimed, or than the margin."""
    found = [contrast.detectable for contrast in case.contrasts if contrast.detectable is not None]
    wanted = case.evidence.claim.within or max(case.evidence.claim.claimed_size, case.evidence.margin)
    if not found or not wanted:
        return NOT_APPLICABLE, "no size is claimed, or there is no spread to tell from"
    told = f"detectable with power .8: {max(found):.4f}; asked for: {wanted:.4f}"
    return passed_if(max(found) <= wanted, told, told)


def practical_margin(case: Case) -> Outcome:
    """The least difference that matters was fixed by the protocol; a claim that allows more says how much."""
    evidence, margin = case.evidence, case.evidence.margin
    if not evidence.content:
        return NO_RECORD
    if 0 < margin < _undeviated(evidence, "margin"):
        return FAILED, f"the margin of {_undeviated(evidence, 'margin'):g} was lowered to {margin:g}", "stops"
    allowed = evidence.claim.within or 0.0
    if 0 < margin < allowed and not says_size(evidence.claim):
        told = f"it allows {100 * allowed:g} points, more than the margin of {100 * margin:g}, and does not say so"
        return FAILED, told, "narrows"
    return passed_if(bool(margin), f"margin {margin:g}", "no margin")
