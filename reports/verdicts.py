"""From findings and contrasts to one verdict on a claim, the sentence that is supported, and what would settle it.

    INADMISSIBLE         a rule that makes a comparison one is broken; no statistics are its support
    UNVERIFIABLE         the records that it needs are absent, or its numbers are reported ones
    SUPPORTED_AS_STATED  shown, in the size that is claimed
    SUPPORTED            shown; no size is claimed, or one below the margin
    DIRECTION_ONLY       positive, but smaller than claimed, not shown to be as large, or below the margin
    NARROWED             shown in a part of what is claimed
    EQUIVALENT           shown to differ by less than the margin
    CONTRADICTED         the opposite is shown, or the claimed size excluded
    UNDERPOWERED         these seeds cannot tell

Every interval is judged after Holm's correction within the family. A claim declared after its results is EXPLORATORY.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import stats

from twinbench.reports.cells import Record
from twinbench.reports.claims import LOWER_IS_BETTER, Claim
from twinbench.reports.contrasts import ALPHA, COLLAPSE_KINDS, Contrast
from twinbench.reports.evidence import Evidence, Side
from twinbench.reports.power import seeds_needed
from twinbench.reports.rules import FAILED, RULES, Case, Finding

SUPPORTED_AS_STATED, SUPPORTED = "SUPPORTED_AS_STATED", "SUPPORTED"
DIRECTION_ONLY, NARROWED = "DIRECTION_ONLY", "NARROWED"
EQUIVALENT, CONTRADICTED, UNDERPOWERED = "EQUIVALENT", "CONTRADICTED", "UNDERPOWERED"
INADMISSIBLE, UNVERIFIABLE = "INADMISSIBLE", "UNVERIFIABLE"
SUPPORTING = (SUPPORTED_AS_STATED, SUPPORTED)
COLLAPSED_BELOW = 0.1  # feature_std, where a protocol says nothing: a tenth of that of directions spread evenly


@dataclass(frozen=True)
class Judged:
    """What the statistics alone say, and why; `part` is what holds of a claim that holds in part."""

    word: str
    why: str
    part: str = ""


@dataclass(frozen=True)
class Verdict:
    """What may be said of a claim, why, the sentence that is supported, and what would settle it."""

    claim: Claim
    word: str
    detail: str  # rule ids of INADMISSIBLE, the scope of NARROWED
    exploratory: bool
    why: str
    sentence: str  # that is supported
    settling: tuple[str, ...]
    findings: tuple[Finding, ...]
    contrasts: tuple[Contrast, ...]
    evidence: Evidence

    @property
    def label(self) -> str:
        """ "NARROWED (batch_size 64), EXPLORATORY". The suffix qualifies results, and stands where there are any."""
        detail = f" ({self.detail})" if self.detail else ""
        is_late = self.exploratory and self.word not in (INADMISSIBLE, UNVERIFIABLE)
        return f"{self.word}{detail}{', EXPLORATORY' if is_late else ''}"

    @property
    def is_supported(self) -> bool:
        """Whether the claim stands as it was made."""
        return self.word in SUPPORTING


def judge(case: Case) -> Verdict:
    """The verdict on one claim: rules first, then the records, then the statistics."""
    findings = tuple(rule.find(case) for rule in RULES)
    failed = [finding for finding in findings if finding.outcome == FAILED]
    stopping = [finding for finding in failed if finding.weight == "stops"]
    absent = [side for side in case.evidence.sides if not side.is_there and not _counts_trials(case, side)]
    if stopping:
        judged = Judged(INADMISSIBLE, "; ".join(f"{finding.rule}: {finding.text}" for finding in stopping))
    elif absent:
        judged = Judged(UNVERIFIABLE, f"no result of {', '.join(dict.fromkeys(side.label for side in absent))}")
    elif unverified := [finding for finding in failed if finding.weight == "unverified"]:
        judged = Judged(UNVERIFIABLE, unverified[0].text)
    else:
        judged = _judge_statistics(case)
    detail = ", ".join(finding.rule for finding in stopping) if stopping else judged.part
    return Verdict(
        case.evidence.claim,
        judged.word,
        detail,
        any(finding.weight == "late" for finding in failed),
        judged.why,
        _sentence(case, judged),
        tuple(_settling(case, judged)),
        findings,
        case.contrasts,
        case.evidence,
    )


def _counts_trials(case: Case, side: Side) -> bool:
    """A claim of collapse is about how trials ended, which trials without a metric tell too."""
    return case.evidence.claim.kind in COLLAPSE_KINDS and bool(side.trials)


def _judge_statistics(case: Case) -> Judged:
    claim = case.evidence.claim
    if claim.kind in COLLAPSE_KINDS:
        return _collapse(case)
    decide: Callable[[Contrast, Claim, float], Judged] = _within if case.contrasts[0].asked == "within" else _above
    each = [decide(contrast, claim, case.evidence.margin) for contrast in case.contrasts]
    return _combined(case, each)


# --- one comparison -------------------------------------------------------------------------------------------------


def _above(contrast: Contrast, claim: Claim, margin: float) -> Judged:
    """better, best_of, monotone: above 0. not_worse: above minus what it allows."""
    told = f"{contrast.label}: {difference_text(contrast, claim)}"
    if contrast.difference is None or contrast.low is None or contrast.high is None:
        return Judged(UNDERPOWERED, f"{contrast.label}: one seed has no interval")
    if not contrast.difference.has_spread:
        return Judged(UNDERPOWERED, f"{told}: differences without spread tell nothing of seeds to come")
    if contrast.bound < 0:
        if contrast.low > contrast.bound:
            return Judged(SUPPORTED_AS_STATED, told)
        return Judged(CONTRADICTED if contrast.high < contrast.bound else UNDERPOWERED, told)
    if contrast.low > 0:
        return _positive(contrast, claim, margin, told)
    if contrast.high < 0:
        return Judged(CONTRADICTED, told)
    if margin and -margin < contrast.low and contrast.high < margin:
        return Judged(EQUIVALENT, f"{told}, within the margin of {size_text(margin, claim)}")
    if contrast.high < claim.claimed_size:
        return Judged(CONTRADICTED, f"{told}, which leaves out the claimed {size_text(claim.claimed_size, claim)}")
    return Judged(UNDERPOWERED, told)


def _positive(contrast: Contrast, claim: Claim, margin: float, told: str) -> Judged:
    """An interval above 0: is that sure of a single seed too, and is it as large as claimed?"""
    assert contrast.difference is not None and contrast.low is not None and contrast.high is not None
    if contrast.wins is not None and contrast.wins.low <= 0.5:
        known = f"P(A > B) of {contrast.wins.n} seeds is only known to be above {contrast.wins.low:.2f}"
        return Judged(
            UNDERPOWERED, f"{told}; but {known}, and six that are all won are the least that show more than half"
        )
    if claim.kind == "monotone":
        return Judged(SUPPORTED, told)
    mean, size = contrast.difference.mean, claim.claimed_size
    if not size:
        if mean < margin:
            return Judged(DIRECTION_ONLY, f"{told}, below the margin of {size_text(margin, claim)}")
        return Judged(SUPPORTED, told)
    shown = contrast.low <= size <= contrast.high if claim.by else contrast.low >= size
    if not shown:
        return Judged(DIRECTION_ONLY, f"{told}; the claimed {size_text(size, claim)} is not shown")
    return Judged(SUPPORTED_AS_STATED if size >= margin else SUPPORTED, told)


def _within(contrast: Contrast, claim: Claim, margin: float) -> Judged:
    """insensitive, equals: the whole interval lies within what the claim allows."""
    told = f"{contrast.label}: {difference_text(contrast, claim)}"
    if contrast.difference is None or contrast.low is None or contrast.high is None:
        return Judged(UNDERPOWERED, f"{contrast.label}: one seed has no interval")
    if not contrast.difference.has_spread:
        return Judged(UNDERPOWERED, f"{told}: differences without spread tell nothing of seeds to come")
    if -contrast.bound < contrast.low and contrast.high < contrast.bound:
        return Judged(SUPPORTED_AS_STATED, told)
    apart = contrast.low > contrast.bound or contrast.high < -contrast.bound
    return Judged(CONTRADICTED if apart else UNDERPOWERED, told)


def _collapse(case: Case) -> Judged:
    """How many trials collapsed: by the protocol's own rule, or by what is left of the spread of their features."""
    claim = case.evidence.claim
    below = case.evidence.content.get("collapsed_below") or COLLAPSED_BELOW
    ended = [trial for trial in case.evidence.trials if trial["status"] in ("done", "collapsed", "diverged")]
    known = {str(trial["trial_id"]): _has_collapsed(trial, case.evidence, below) for trial in ended}
    told = [collapsed for collapsed in known.values() if collapsed is not None]
    if not told:
        return Judged(UNVERIFIABLE, "no trial has a measured spread of features")
    n, hits = len(told), sum(told) if claim.kind == "collapses" else len(told) - sum(told)
    low, high = stats.binomtest(hits, n).proportion_ci(1 - ALPHA, method="exact")
    why = f"{hits} of {n} trials {claim.kind.replace('_', ' ')} (share {low:.2f} to {high:.2f})"
    if low > 0.5:
        return Judged(SUPPORTED if hits == n else DIRECTION_ONLY, why)
    return Judged(CONTRADICTED if high < 0.5 else UNDERPOWERED, why)


def _has_collapsed(trial: Record, evidence: Evidence, below: float) -> bool | None:
    if trial["status"] == "collapsed":
        return True
    spread = evidence.feature_std.get(str(trial["trial_id"]))
    return None if spread is None else spread < below


# --- all comparisons of a claim -------------------------------------------------------------------------------------


def _combined(case: Case, each: Sequence[Judged]) -> Judged:
    """All must hold. Some of a scope, or of an axis, narrow the claim to those."""
    words = {judged.word for judged in each}
    if words <= {*SUPPORTING}:
        return Judged(SUPPORTED if SUPPORTED in words else SUPPORTED_AS_STATED, "; ".join(one.why for one in each))
    part = _part_that_holds(case, each)
    against = [judged for judged in each if judged.word not in SUPPORTING]
    why = "; ".join(judged.why for judged in against)
    if part:
        return Judged(NARROWED, why, part)
    for word in (CONTRADICTED, UNDERPOWERED, EQUIVALENT, DIRECTION_ONLY):  # the worst of them
        if word in words:
            return Judged(word, why)
    raise ValueError(f"no verdict among {words}")


def _part_that_holds(case: Case, each: Sequence[Judged]) -> str:
    """The points of the scope at which every comparison holds, or the longest run of an axis's values; else nothing."""
    claim = case.evidence.claim
    if claim.kind == "insensitive" and not claim.scope:
        return _range_that_holds(case, each)
    by_point: dict[str, list[Judged]] = {}
    for contrast, judged in zip(case.contrasts, each, strict=True):
        by_point.setdefault(contrast.point, []).append(judged)
    good = [point for point, of in by_point.items() if all(judged.word in SUPPORTING for judged in of)]
    return " and ".join(good) if len(by_point) > 1 else ""


def _range_that_holds(case: Case, each: Sequence[Judged]) -> str:
    values = case.evidence.claim.values
    pairs = [(first, last) for first in range(len(values)) for last in range(first + 1, len(values))]
    word_of = {pair: judged.word for pair, judged in zip(pairs, each, strict=True)}
    for first, last in sorted(pairs, key=lambda pair: pair[0] - pair[1]):
        inside = [pair for pair in pairs if first <= pair[0] and pair[1] <= last]
        if all(word_of[pair] in SUPPORTING for pair in inside):
            return f"{case.evidence.claim.axis} from {values[first]} to {values[last]}"
    return ""


# --- in words -------------------------------------------------------------------------------------------------------


def size_text(size: float, claim: Claim) -> str:
    """ "1.2 points" of an accuracy; else the plain number."""
    return f"{100 * size:.2g} points" if claim.metric.endswith("top1") else f"{size:.4g}"


def difference_text(contrast: Contrast, claim: Claim) -> str:
    """ "+3.10 points (2.41 to 3.79 at 97.5 %, 6 pairs)"."""
    difference = contrast.difference
    if difference is None:
        return "nothing to compare"
    scale, unit = (100, " points") if claim.metric.endswith("top1") else (1, "")
    digits = ".2f" if unit else ".4g"
    if difference.low is None or difference.high is None:
        return f"{scale * difference.mean:+{digits}}{unit} (one seed)"
    span = f"{scale * difference.low:{digits}} to {scale * difference.high:{digits}}"
    units = "pairs" if difference.paired else "seeds at least"
    return f"{scale * difference.mean:+{digits}}{unit} ({span} at {difference.confidence:.4g}, {difference.n} {units})"


def _sentence(case: Case, judged: Judged) -> str:
    """What the records do support, in plain words; empty where that is nothing."""
    evidence, claim = case.evidence, case.evidence.claim
    section = next((side.section for side in evidence.measured if side.section), None)
    if section is None or judged.word in (INADMISSIBLE, UNVERIFIABLE):
        return ""
    if claim.kind in COLLAPSE_KINDS:
        return f"Under protocol {section.protocol_id}, {judged.why}."
    direction = " (less is better)" if claim.metric in LOWER_IS_BETTER else ""
    told = "; ".join(f"{contrast.label}, {difference_text(contrast, claim)}" for contrast in case.contrasts)
    opening = f"Under protocol {section.protocol_id}, in {claim.metric} on test{direction}"
    if judged.word == UNDERPOWERED:
        return f"{opening}, these seeds do not settle: {told}."
    return f"{opening}: {told}."


def _settling(case: Case, judged: Judged) -> list[str]:
    """What would turn an open claim into a settled one: trials, seeds, hours."""
    evidence = case.evidence
    missing = [str(trial["trial_id"]) for trial in evidence.trials if trial["status"] == "missing"]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        return [f"{len(missing)} missing trials ({shown}){_hours(evidence, len(missing))}"]
    if judged.word == UNVERIFIABLE:
        absent = dict.fromkeys(side.label for side in evidence.sides if not side.is_there)
        return [f"trials of {label}" for label in absent] or ["trials of one's own under one protocol"]
    if judged.word not in (UNDERPOWERED, DIRECTION_ONLY):
        return []
    wanted = [one for contrast in case.contrasts if (one := _more_seeds(case, contrast)) is not None]
    if case.evidence.claim.kind in COLLAPSE_KINDS:
        return ["six trials at least"]
    if not wanted:
        return ["at least two seeds of each side"] if any(c.low is None for c in case.contrasts) else []
    more = max(wanted)
    if more <= 0:
        return []
    sides = len({side.label for side in evidence.measured})
    return [f"{more} more seeds of each of {sides} cells{_hours(evidence, more * sides)}"]


def _more_seeds(case: Case, contrast: Contrast) -> int | None:
    """How many seeds it lacks to find, with power .8, a true difference of what stands between it and its bound.

    That is the distance from the observed mean to the bound it must clear, and at least the margin: less matters to
    nobody.
    """
    difference, claim = contrast.difference, case.evidence.claim
    if difference is None or difference.sd is None or not difference.has_spread:
        return None
    bound = contrast.bound if contrast.asked == "within" else max(contrast.bound, claim.at_least) or contrast.bound
    room = bound - abs(difference.mean) if contrast.asked == "within" else difference.mean - bound
    room = max(abs(room), case.evidence.margin / 2, 1e-9)
    needed = seeds_needed(difference.sd, room, 1 - difference.confidence, paired=difference.paired)
    return None if needed is None else max(needed, 6) - difference.n


def _hours(evidence: Evidence, trials: int) -> str:
    """ ", about 3.2 hours", at the mean cost of the trials that are there."""
    costs = [
        float(trial["train_seconds"] or 0) + float(trial["evaluation_seconds"] or 0)
        for trial in evidence.trials
        if trial["status"] == "done"
    ]
    return f", about {sum(costs) / len(costs) * trials / 3600:.2g} hours of one process" if costs else ""
