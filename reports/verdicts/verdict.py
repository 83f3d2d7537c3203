"""From findings and contrasts to one verdict on a claim, the sentence that is supported, and what would settle it.

    INADMISSIBLE         a rule that makes a comparison one is broken; no statistics are its support
    UNVERIFIABLE         the records that it needs are absent, or its numbers are reported ones
    SUPPORTED_AS_STATED  shown, in the size that is claimed
    SUPPORTED            shown; no size is claimed, or one below the margin
    DIRECTION_ONLY       positive, but not shown to be as large as claimed, or below the margin
    NARROWED             shown in a part of what is claimed, or of what the sentence says
    EQUIVALENT           shown to differ by less than the margin
    CONTRADICTED         the opposite is shown, or the claimed size excluded
    UNDERPOWERED         these seeds cannot tell

Every interval is judged after Holm's correction within the family. A claim declared after its results is EXPLORATORY.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.contrasts import COLLAPSE_KINDS, Contrast
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.rules.case import FAILED, Case
from twinbench.reports.rules.registry import RULES, Finding
from twinbench.reports.rules.seeds import minimum_seeds
from twinbench.reports.statistics.intervals import ALPHA, least_wins
from twinbench.reports.statistics.superiority import clopper_pearson
from twinbench.reports.tables.cells import Record
from twinbench.reports.verdicts.phrasing import relation_text, size_text
from twinbench.reports.verdicts.remedies import hours_text, seeds_text

SUPPORTED_AS_STATED, SUPPORTED = "SUPPORTED_AS_STATED", "SUPPORTED"
DIRECTION_ONLY, NARROWED = "DIRECTION_ONLY", "NARROWED"
EQUIVALENT, CONTRADICTED, UNDERPOWERED = "EQUIVALENT", "CONTRADICTED", "UNDERPOWERED"
INADMISSIBLE, UNVERIFIABLE = "INADMISSIBLE", "UNVERIFIABLE"
SUPPORTING = (SUPPORTED_AS_STATED, SUPPORTED)
OPEN = (UNDERPOWERED, DIRECTION_ONLY)  # which more seeds may turn into another
WORST_FIRST = (UNVERIFIABLE, CONTRADICTED, EQUIVALENT, UNDERPOWERED, DIRECTION_ONLY)
COLLAPSED_BELOW = 0.1  # feature_std, where a protocol says nothing: a tenth of that of directions spread evenly


@dataclass(frozen=True)
class Judged:
    """What the statistics alone say, and why; `part` is what holds of a claim that holds in part."""

    word: str
    why: str
    part: str = ""


@dataclass(frozen=True)
class Part:
    """One comparison of a claim, or one cell whose collapses are counted, as judged by itself."""

    point: str
    label: str
    judged: Judged
    contrast: Contrast | None = None


@dataclass(frozen=True)
class Verdict:
    """What may be said of a claim, why, the sentence that is supported, and what would settle it."""

    claim: Claim
    word: str
    detail: str  # of INADMISSIBLE the rules; of NARROWED what holds, or the rules by which the sentence says more
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
        return f"{self.word}{detail}{', EXPLORATORY' if self.exploratory and self.has_statistics else ''}"

    @property
    def is_supported(self) -> bool:
        """Whether the claim stands as it was made."""
        return self.word in SUPPORTING

    @property
    def has_statistics(self) -> bool:
        """Whether its numbers may be shown as saying anything."""
        return self.word not in (INADMISSIBLE, UNVERIFIABLE)


def judge(case: Case) -> Verdict:
    """The verdict on one claim: rules first, then the records, then the statistics."""
    findings = tuple(rule.find(case) for rule in RULES)
    failed = [finding for finding in findings if finding.outcome == FAILED]
    stopping = ", ".join(finding.rule for finding in failed if finding.weight == "stops")
    parts: list[Part] = []
    judged = _without_statistics(case, failed)
    if judged is None:
        parts = _collapses(case) if case.evidence.claim.kind in COLLAPSE_KINDS else _comparisons(case)
        judged = _in_its_words(_combined(case.evidence.claim, parts), failed)
    return Verdict(
        case.evidence.claim,
        judged.word,
        stopping or judged.part,
        any(finding.weight == "late" for finding in failed),
        judged.why,
        _sentence(case, judged, parts),
        tuple(_settling(case, judged, parts, stopping)),
        findings,
        case.contrasts,
        case.evidence,
    )


def _without_statistics(case: Case, failed: Sequence[Finding]) -> Judged | None:
    """INADMISSIBLE and UNVERIFIABLE, which no number changes."""
    evidence = case.evidence
    if stopping := [finding for finding in failed if finding.weight == "stops"]:
        return Judged(INADMISSIBLE, "; ".join(f"{finding.rule}: {finding.text}" for finding in stopping))
    if unverified := [finding for finding in failed if finding.weight == "unverified"]:
        return Judged(UNVERIFIABLE, unverified[0].text)
    if absent := [side.label for side in evidence.sides if not side.has_values and not _counts_trials(case, side)]:
        return Judged(UNVERIFIABLE, f"no result of {', '.join(dict.fromkeys(absent))}")
    if any(other is None for _, other, _ in evidence.pairs) and evidence.claim.kind == "best_of":
        return Judged(UNVERIFIABLE, "no other method is there to compare with")
    return None


def _in_its_words(judged: Judged, failed: Sequence[Finding]) -> Judged:
    """A claim that holds and whose sentence says more than that is narrowed to what is shown."""
    rules = ", ".join(finding.rule for finding in failed if finding.weight == "narrows")
    if judged.word not in SUPPORTING or not rules:
        return judged
    return Judged(NARROWED, "the comparison holds, but the sentence says more", rules)


def _counts_trials(case: Case, side: Side) -> bool:
    """A claim of collapse is about how trials ended, which trials without a metric tell too."""
    return case.evidence.claim.kind in COLLAPSE_KINDS and bool(side.trials)


# --- one comparison -------------------------------------------------------------------------------------------------


def _comparisons(case: Case) -> list[Part]:
    claim, margin = case.evidence.claim, case.evidence.margin
    return [Part(one.point, one.label, _compared(one, claim, margin), one) for one in case.contrasts]


def _compared(contrast: Contrast, claim: Claim, margin: float) -> Judged:
    if contrast.low is None or contrast.high is None:
        return Judged(UNDERPOWERED, "one seed has no interval")
    if not contrast.is_informative:
        return Judged(UNDERPOWERED, "differences without spread, of so few seeds, tell nothing of others")
    if contrast.criterion == "within":
        return _within(contrast.low, contrast.high, contrast.bound, claim)
    if claim.kind == "not_worse":
        return _not_worse(contrast.low, contrast.high, contrast.bound, claim)
    return _better(contrast, contrast.low, contrast.high, claim, margin)


def _within(low: float, high: float, bound: float, claim: Claim) -> Judged:
    """insensitive, equals: the whole interval lies within what the claim allows."""
    allowed = f"±{size_text(bound, claim)}"
    if -bound < low and high < bound:
        return Judged(SUPPORTED_AS_STATED, f"the interval lies within {allowed}")
    if low > bound or high < -bound:
        return Judged(CONTRADICTED, f"the interval lies beyond {allowed}")
    return Judged(UNDERPOWERED, f"the interval reaches beyond {allowed}")


def _not_worse(low: float, high: float, bound: float, claim: Claim) -> Judged:
    allowed = f"a loss of {size_text(-bound, claim)}"
    if low > bound:
        return Judged(SUPPORTED_AS_STATED, f"the interval leaves out {allowed}")
    if high < bound:
        return Judged(CONTRADICTED, f"the interval lies beyond {allowed}")
    return Judged(UNDERPOWERED, f"the interval reaches beyond {allowed}")


def _better(contrast: Contrast, low: float, high: float, claim: Claim, margin: float) -> Judged:
    """better, best_of, monotone: the interval lies above 0, and where a size is claimed above that."""
    size = claim.claimed_size
    if high < 0:
        return Judged(CONTRADICTED, "the interval lies on the other side of 0")
    if low > 0 and _wins_most(contrast):
        return _positive(contrast, low, high, claim, margin)
    if margin and -margin < low and high < margin:
        return Judged(EQUIVALENT, f"the interval lies within the margin of ±{size_text(margin, claim)}")
    if high < size:
        return Judged(CONTRADICTED, f"the interval leaves out the claimed {size_text(size, claim)}")
    if low <= 0:
        return Judged(UNDERPOWERED, "the interval holds 0")
    assert contrast.wins is not None
    return Judged(UNDERPOWERED, f"the mean is above 0, but {_not_most_seeds(contrast)}")


def _wins_most(contrast: Contrast) -> bool:
    """Whether more than half of all seeds are shown to go A's way, and not the mean alone."""
    return contrast.wins is None or contrast.wins.low > 0.5


def _not_most_seeds(contrast: Contrast) -> str:
    wins = contrast.wins
    assert wins is not None
    least = least_wins(ALPHA)
    few = f": {least} pairs that all agree are the least that show it" if wins.paired and wins.n < least else ""
    return f"P(A > B) of {wins.low:.2f} to {wins.high:.2f} is not shown to be above one half{few}"


def _positive(contrast: Contrast, low: float, high: float, claim: Claim, margin: float) -> Judged:
    """Shown to be above 0. Is it as large as claimed, and large enough to matter?"""
    assert contrast.difference is not None
    size = claim.claimed_size
    if claim.kind == "monotone":
        return Judged(SUPPORTED, "the interval lies above 0")
    if claim.by and not low <= size <= high:
        return Judged(DIRECTION_ONLY, f"positive, but the interval leaves out the claimed {size_text(size, claim)}")
    if claim.at_least and not low > size:
        shown = "not shown to be larger than" if high >= size else "smaller than"
        return Judged(DIRECTION_ONLY, f"positive, but {shown} the claimed {size_text(size, claim)}")
    if contrast.difference.mean < margin:
        return Judged(DIRECTION_ONLY, f"positive, but below the margin of {size_text(margin, claim)}")
    if not size:
        return Judged(SUPPORTED, "the interval lies above 0")
    where = "holds" if claim.by else "lies above"
    word = SUPPORTED_AS_STATED if size >= margin else SUPPORTED
    return Judged(word, f"the interval {where} the claimed {size_text(size, claim)}")


# --- collapse -------------------------------------------------------------------------------------------------------


def _collapses(case: Case) -> list[Part]:
    """One part per point of the scope."""
    return [Part(point, side.label, judge_collapse(case, side.trials)) for side, _, point in case.evidence.pairs]


def judge_collapse(case: Case, trials: Sequence[Record]) -> Judged:
    """How many trials collapsed: by the protocol's own rule, or by what is left of the spread of their features.

    Holds for most seeds where the share's exact interval, at alpha over the family, lies above one half. A trial of
    which nobody knows counts against the claim, whichever it is.
    """
    claim, level = case.evidence.claim, ALPHA / case.family_size
    below = case.evidence.content.get("collapsed_below") or COLLAPSED_BELOW
    known = [_has_collapsed(trial, case.evidence, below) for trial in trials]
    if all(collapsed is None for collapsed in known):
        return Judged(UNVERIFIABLE, "no trial has a measured spread of features")
    n, hits = len(known), known.count(claim.kind == "collapses")
    low, high = clopper_pearson(hits, n, 1 - level)
    words = "collapsed" if claim.kind == "collapses" else "did not collapse"
    lacking = f", of {known.count(None)} it is not known" if None in known else ""
    why = f"{hits} of {n} trials {words}{lacking} (share of all seeds {low:.2f} to {high:.2f})"
    if low > 0.5:
        return Judged(SUPPORTED if hits == n else DIRECTION_ONLY, why)
    return Judged(CONTRADICTED if high < 0.5 else UNDERPOWERED, why)


def _has_collapsed(trial: Record, evidence: Evidence, below: float) -> bool | None:
    if trial["status"] == "collapsed":
        return True
    spread = evidence.feature_std.get(str(trial["trial_id"]))
    return None if spread is None or math.isnan(spread) else spread < below


# --- all comparisons of a claim -------------------------------------------------------------------------------------


def _combined(claim: Claim, parts: Sequence[Part]) -> Judged:
    """All must hold. Some of a scope, or of an axis, narrow the claim to those."""
    words = {part.judged.word for part in parts}
    if words <= {*SUPPORTING}:
        return Judged(SUPPORTED if SUPPORTED in words else SUPPORTED_AS_STATED, _reasons(parts, parts))
    against = _reasons([part for part in parts if part.judged.word not in SUPPORTING], parts)
    if part := _part_that_holds(claim, parts):
        return Judged(NARROWED, against, part)
    return Judged(next(word for word in WORST_FIRST if word in words), against)


def _reasons(parts: Sequence[Part], of: Sequence[Part]) -> str:
    """Why, once for all comparisons that share a reason; which they are where they are not all."""
    by_reason: dict[str, list[str]] = {}
    for part in parts:
        by_reason.setdefault(part.judged.why, []).append(part.label)
    if len(of) == 1 or (len(by_reason) == 1 and len(parts) == len(of) and not of[0].contrast):
        return parts[0].judged.why
    return "; ".join(
        f"{f'all {len(of)} comparisons' if len(labels) == len(of) else ', '.join(labels)}: {why}"
        for why, labels in by_reason.items()
    )


def _part_that_holds(claim: Claim, parts: Sequence[Part]) -> str:
    """The points of the scope at which every comparison holds, or the longest run of an axis's values; else nothing."""
    if claim.axis and not claim.scope:
        return _range_that_holds(claim, parts)
    by_point: dict[str, list[Part]] = {}
    for part in parts:
        by_point.setdefault(part.point, []).append(part)
    good = [point for point, of in by_point.items() if all(part.judged.word in SUPPORTING for part in of)]
    return " and ".join(good) if len(by_point) > 1 else ""


def _range_that_holds(claim: Claim, parts: Sequence[Part]) -> str:
    """ "batch_size from 64 to 256": no shorter run is longer, and of equal ones it is the first."""
    first, last = _run_that_holds(claim, parts)
    return f"{claim.axis} from {claim.values[first]} to {claim.values[last]}" if last > first else ""


def _run_that_holds(claim: Claim, parts: Sequence[Part]) -> tuple[int, int]:
    """Places in `values` between which all comparisons hold, the longest first; equal places where there are none."""
    places = {str(value): place for place, value in enumerate(claim.values)}
    found = {tuple(sorted(_places(part, claim, places))): part.judged.word in SUPPORTING for part in parts}
    runs = [(first, last) for first in range(len(places)) for last in range(first + 1, len(places))]
    for first, last in sorted(runs, key=lambda run: run[0] - run[1]):
        if all(holds for (one, other), holds in found.items() if first <= one and other <= last):
            return first, last
    return 0, 0


def _places(part: Part, claim: Claim, places: dict[str, int]) -> tuple[int, int]:
    assert part.contrast is not None and part.contrast.b is not None
    one, other = (places[str(side.selector[claim.axis])] for side in (part.contrast.a, part.contrast.b))
    return one, other


# --- in words -------------------------------------------------------------------------------------------------------


def _sentence(case: Case, judged: Judged, parts: Sequence[Part]) -> str:
    """What the records do support, in plain words; empty where that is nothing."""
    evidence, claim = case.evidence, case.evidence.claim
    section = next((side.section for side in evidence.sides if side.section), None)
    if section is None or judged.word in (INADMISSIBLE, UNVERIFIABLE):
        return ""
    if judged.word == NARROWED and any(part.judged.word not in SUPPORTING for part in parts):
        parts = _holding(claim, parts)
    if claim.kind in COLLAPSE_KINDS:
        return f"Under protocol {section.protocol_id}: {'; '.join(f'{one.label}: {one.judged.why}' for one in parts)}."
    told = "; ".join(
        relation_text(part.contrast, claim, evidence.margin, part.judged.word != UNDERPOWERED)
        for part in parts
        if part.contrast
    )
    measured = f"in {claim.metric} on test" if claim.metric.endswith("top1") else f"in {claim.metric}"
    return f"Under protocol {section.protocol_id}, {measured}: {told}."


def _holding(claim: Claim, parts: Sequence[Part]) -> list[Part]:
    """The comparisons of a narrowed claim that lie in the part which holds."""
    if claim.axis and not claim.scope:
        places = {str(value): place for place, value in enumerate(claim.values)}
        first, last = _run_that_holds(claim, parts)
        return [part for part in parts if all(first <= place <= last for place in _places(part, claim, places))]
    bad = {part.point for part in parts if part.judged.word not in SUPPORTING}
    return [part for part in parts if part.point not in bad]


# --- what would settle it -------------------------------------------------------------------------------------------


def _of_methods(evidence: Evidence) -> list[Record]:
    """All trials of the methods compared: one that is missing of any cell keeps budgets unequal and choices open."""
    sides = [(side.section, side.cell.method) for side in evidence.measured if side.section and side.cell]
    return [t for section, method in sides for cell in section.cells if cell.method == method for t in cell.trials]


def _settling(case: Case, judged: Judged, parts: Sequence[Part], stopping: str) -> list[str]:
    """What would turn an open claim into a settled one: trials, seeds, hours."""
    evidence = case.evidence
    asked = evidence.trials if judged.word != INADMISSIBLE else _of_methods(evidence)
    missing = sorted({str(trial["trial_id"]) for trial in asked if trial["status"] == "missing"})
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        return [f"{len(missing)} missing trials ({shown}){hours_text(evidence, len(missing))}"]
    if "A9" in stopping.split(", "):
        few = {side.label: minimum_seeds(evidence) - len(side.trials) for side in evidence.measured}
        return [f"{more} more {'seed' if more == 1 else 'seeds'} of {label}" for label, more in few.items() if more > 0]
    if judged.word == UNVERIFIABLE:
        absent = dict.fromkeys(side.label for side in evidence.sides if not side.has_values)
        return [f"trials of {label}" for label in absent] or ["trials of one's own under one protocol"]
    open_parts = [part for part in parts if part.judged.word in OPEN]
    if judged.word not in (*OPEN, NARROWED) or not open_parts:
        return []
    if evidence.claim.kind in COLLAPSE_KINDS:
        least = least_wins(ALPHA / case.family_size)
        return [f"{least} trials that all end alike, at least"]
    text = seeds_text(evidence, [part.contrast for part in open_parts if part.contrast])
    return [text] if text else []


@dataclass(frozen=True)
class Checked:
    """The verdicts on a file of claims, in its order, and the name of the run that they rest on."""

    claims_file: str
    run: str
    verdicts: tuple[Verdict, ...]

    @property
    def all_supported(self) -> bool:
        """What the exit code says."""
        return all(verdict.is_supported for verdict in self.verdicts)
