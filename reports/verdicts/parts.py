"""The judgement on each part of a claim.

Of a comparison: where its interval lies, and whether one side wins most seeds. Of collapses: how many trials collapsed.

What contradicts a claim is what supports its opposite. That B is better, or by more than a claim allows, takes an
interval and most seeds, whether it is claimed or held against a claim. That A is not better by some size takes the
interval alone, as `not_worse` does from the other side.
"""

import math
from collections.abc import Sequence

from twinbench.reports.claims.claim import COLLAPSE_SHARES, Claim
from twinbench.reports.claims.contrasts import COLLAPSE_KINDS, Contrast, tolerance_of
from twinbench.reports.claims.evidence import Evidence
from twinbench.reports.rules.case import Case
from twinbench.reports.statistics.intervals import ALPHA, least_wins
from twinbench.reports.statistics.superiority import clopper_pearson
from twinbench.reports.tables.run import TrialRow
from twinbench.reports.verdicts.phrasing import size_text
from twinbench.reports.verdicts.verdict import Judgement, Part

COLLAPSED_BELOW = 0.1  # feature_std, where the protocol gives none: a tenth of that of directions spread evenly


def judge_parts(case: Case) -> list[Part]:
    """Return one part for each contrast of the claim, or for each point of the scope where collapses are counted."""
    claim, margin = case.evidence.claim, case.evidence.margin
    if claim.kind in COLLAPSE_KINDS:
        return [Part(point, side.label, judge_collapse(case, side.trials)) for side, _, point in case.evidence.pairs]
    return [Part(one.point, one.label, _judge(one, claim, margin), one) for one in case.contrasts]


def _judge(contrast: Contrast, claim: Claim, margin: float) -> Judgement:
    if contrast.low is None or contrast.high is None:
        return Judgement("UNDERPOWERED", "one seed has no interval")
    if claim.kind == "wins":
        return _wins(contrast, claim)
    if not contrast.is_informative:
        return Judgement("UNDERPOWERED", "differences without spread from so few seeds say nothing about other seeds")
    if claim.kind in ("insensitive", "equals"):
        return _within(contrast, contrast.low, contrast.high, claim)
    if claim.kind == "not_worse":
        return _not_worse(contrast, contrast.low, contrast.high, claim)
    return _better(contrast, contrast.low, contrast.high, claim, margin)


def _wins(contrast: Contrast, claim: Claim) -> Judgement:
    """wins: the exact interval of P(A > B) lies above the claimed chance."""
    wins = contrast.wins
    assert wins is not None
    shown = f"P(A > B) of {wins.low:.2f} to {wins.high:.2f}"
    if wins.low > contrast.bound:
        return Judgement("SUPPORTED_AS_STATED" if claim.chance else "SUPPORTED", f"{shown} is above {contrast.bound:g}")
    if wins.high < contrast.bound:
        return Judgement("CONTRADICTED", f"{shown} is below {contrast.bound:g}")
    return Judgement("UNDERPOWERED", f"{shown} is not shown to be above {contrast.bound:g}")


def _within(contrast: Contrast, low: float, high: float, claim: Claim) -> Judgement:
    """insensitive, equals: the whole interval lies within what the claim allows."""
    bound = contrast.bound
    allowed = f"±{size_text(bound, claim)}"
    if -bound < low and high < bound:
        return Judgement("SUPPORTED_AS_STATED", f"the interval lies within {allowed}")
    outside = f"the interval lies outside {allowed}"
    if (low > bound and contrast.a_wins_most) or (high < -bound and contrast.b_wins_most):
        return Judgement("CONTRADICTED", outside)
    if low > bound or high < -bound:
        return Judgement("UNDERPOWERED", f"{outside}, but {_not_most_seeds(contrast)}")
    return Judgement("UNDERPOWERED", f"the interval extends beyond {allowed}")


def _not_worse(contrast: Contrast, low: float, high: float, claim: Claim) -> Judgement:
    """not_worse: the interval excludes the loss that the claim allows."""
    bound = contrast.bound
    allowed = f"a loss of {size_text(-bound, claim)}"
    if low > bound:
        return Judgement("SUPPORTED_AS_STATED", f"the interval excludes {allowed}")
    if high < bound and contrast.b_wins_most:
        return Judgement("CONTRADICTED", f"the interval lies beyond {allowed}")
    if high < bound:
        return Judgement("UNDERPOWERED", f"the interval lies beyond {allowed}, but {_not_most_seeds(contrast)}")
    return Judgement("UNDERPOWERED", f"the interval extends beyond {allowed}")


def _better(contrast: Contrast, low: float, high: float, claim: Claim, margin: float) -> Judgement:
    """better, best_of, monotone: the interval lies above 0, and above the claimed size where there is one."""
    lowest = contrast.target - contrast.bound if claim.by else claim.claimed_size
    if high < 0 and contrast.b_wins_most:
        return Judgement("CONTRADICTED", "the interval lies on the other side of 0")
    # A mean above 0 alone does not show that A wins more than half of all seeds.
    if low > 0 and contrast.a_wins_most:
        return _positive(contrast, low, high, claim, margin)
    if margin and -margin < low and high < margin:
        return Judgement("EQUIVALENT", f"the interval lies within the margin of ±{size_text(margin, claim)}")
    if lowest > 0 and high < lowest:
        return Judgement("CONTRADICTED", f"the interval excludes the claimed {_claimed_text(claim, margin)}")
    if low <= 0 <= high:
        return Judgement("UNDERPOWERED", "the interval includes 0")
    return Judgement(
        "UNDERPOWERED", f"the mean is {'above' if low > 0 else 'below'} 0, but {_not_most_seeds(contrast)}"
    )


def _not_most_seeds(contrast: Contrast) -> str:
    wins = contrast.wins
    assert wins is not None
    least = least_wins(ALPHA)
    few = f"; that takes at least {least} pairs that all agree" if wins.paired and wins.n < least else ""
    side = "above" if contrast.difference is not None and contrast.difference.mean > 0 else "below"
    return f"P(A > B) of {wins.low:.2f} to {wins.high:.2f} is not shown to be {side} one half{few}"


def _positive(contrast: Contrast, low: float, high: float, claim: Claim, margin: float) -> Judgement:
    """The difference is shown to be above 0: is it as large as claimed, and large enough to matter?"""
    assert contrast.difference is not None
    size = claim.claimed_size
    if claim.kind == "monotone":
        return Judgement("SUPPORTED", "the interval lies above 0")
    if claim.by and (contrast.room() or 0.0) <= 0:
        return Judgement("DIRECTION_ONLY", f"positive, but {_not_about(contrast, low, high, claim, margin)}")
    if claim.at_least and not low > size:
        shown = "not shown to be larger than" if high >= size else "smaller than"
        return Judgement("DIRECTION_ONLY", f"positive, but {shown} the claimed {size_text(size, claim)}")
    if contrast.difference.mean < margin:
        return Judgement("DIRECTION_ONLY", f"positive, but below the margin of {size_text(margin, claim)}")
    if not size:
        return Judgement("SUPPORTED", "the interval lies above 0")
    where = "within" if claim.by else "above"
    text = f"the interval lies {where} the claimed {_claimed_text(claim, margin)}"
    return Judgement("SUPPORTED_AS_STATED" if size >= margin else "SUPPORTED", text)


def _not_about(contrast: Contrast, low: float, high: float, claim: Claim, margin: float) -> str:
    """Return why a positive difference is not shown to be about as large as claimed."""
    claimed = _claimed_text(claim, margin)
    if not contrast.bound:
        return f"how far from {claimed} is near it is not said: the claim needs a tolerance"
    outside = high <= contrast.target - contrast.bound or low >= contrast.target + contrast.bound
    return f"the interval {'lies outside' if outside else 'extends beyond'} the claimed {claimed}"


def _claimed_text(claim: Claim, margin: float) -> str:
    """Return "2 points", or "2 points ± 1 point" where the claim says "by about"."""
    size, tolerance = size_text(claim.claimed_size, claim), tolerance_of(claim, margin)
    return f"{size} ± {size_text(tolerance, claim)}" if claim.by and tolerance else size


def judge_collapse(case: Case, trials: Sequence[TrialRow]) -> Judgement:
    """Judge by how many trials collapsed: by their status, or by the final spread of their features.

    Supported where the exact interval of the share of all seeds, at alpha over the family, lies on the claimed side of
    the claimed share. Where the claim gives no share, all trials must agree, too. Contradicted by what supports the
    opposite claim. A trial whose features were not measured supports neither.
    """
    claim, level = case.evidence.claim, ALPHA / case.family_size
    below = case.evidence.content.get("collapsed_below") or COLLAPSED_BELOW
    collapsed = [_has_collapsed(trial, case.evidence, below) for trial in trials]
    unknown = collapsed.count(None)
    if unknown == len(collapsed):
        return Judgement("UNVERIFIABLE", "no trial has a measured spread of features")
    n, says_collapse = len(collapsed), claim.kind == "collapses"
    hits, against = collapsed.count(says_collapse), collapsed.count(not says_collapse)
    least = least_share(claim)  # of trials that end as claimed
    low, high = clopper_pearson(hits, n, 1 - level)
    reason = _collapse_text(claim, hits, n, unknown, (low, high) if says_collapse else (1 - high, 1 - low))
    if low > least and (hits == n or claim.share is not None):
        return Judgement("SUPPORTED", reason)
    if clopper_pearson(against, n, 1 - level)[0] > 1 - least:
        return Judgement("CONTRADICTED", reason)
    return Judgement("DIRECTION_ONLY" if low > 0.5 else "UNDERPOWERED", reason)


def least_share(claim: Claim) -> float:
    """Return the share of all seeds that must end as a claim of collapse says."""
    share = COLLAPSE_SHARES[claim.kind] if claim.share is None else claim.share
    return share if claim.kind == "collapses" else 1 - share


def _collapse_text(claim: Claim, hits: int, n: int, unknown: int, interval: tuple[float, float]) -> str:
    verb, side = ("collapsed", "above") if claim.kind == "collapses" else ("did not collapse", "below")
    not_measured = f", {unknown} unknown" if unknown else ""
    share = COLLAPSE_SHARES[claim.kind] if claim.share is None else claim.share
    shares = f"{interval[0]:.2f} to {interval[1]:.2f} of all seeds collapse; claimed: {side} {share:g}"
    return f"{hits} of {n} trials {verb}{not_measured} ({shares})"


def _has_collapsed(trial: TrialRow, evidence: Evidence, below: float) -> bool | None:
    """Whether the trial collapsed; None where its features were not measured."""
    if trial["status"] == "collapsed":
        return True
    spread = evidence.feature_std.get(str(trial["trial_id"]))
    return None if spread is None or math.isnan(spread) else spread < below
