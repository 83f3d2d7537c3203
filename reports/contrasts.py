"""The statistics of claims: each comparison of two sides over seeds, and Holm's correction within a family of claims.

A contrast asks one of two things of its difference: that it lies `above` a bound, or `within` plus and minus one. Its
p is the smallest level at which the t interval of confidence 1 - p shows that, so that a test and the interval printed
beside it never disagree. Holm's procedure then sets the confidence at which each interval of the family is judged.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from twinbench.reports.claims import LOWER_IS_BETTER, Claim
from twinbench.reports.evidence import Evidence, Side
from twinbench.reports.examples import ExampleInterval, paired_example_difference
from twinbench.reports.power import smallest_detectable_difference
from twinbench.reports.published import PublishedTable
from twinbench.reports.statistics import (
    CONFIDENCE,
    Difference,
    Probability,
    Test,
    paired_difference,
    probability_of_improvement,
    seed_differences,
    sign_flip_test,
    welch_difference,
)

ALPHA = 1 - CONFIDENCE
Asked = Literal["above", "within"]
COLLAPSE_KINDS = ("collapses", "does_not_collapse")


@dataclass(frozen=True)
class Contrast:
    """A less B, or A less a fixed number, in the direction in which more is better. Fractions where the metric is one.

    `difference` is judged at its own confidence, which `adjust` sets. What needs two seeds is None below.
    """

    a: Side
    b: Side | None
    point: str  # of the claim's scope, in words; empty where it has none
    asked: Asked
    bound: float
    difference: Difference | None = None
    p: float | None = None
    holm_p: float | None = None
    wins: Probability | None = None  # P(A > B) over seeds
    sign_flip: Test | None = None
    examples: ExampleInterval | None = None  # over test examples, the networks as they are
    detectable: float | None = None  # the least true difference found with power .8 at the judged confidence

    @property
    def label(self) -> str:
        """What is compared with what, and where."""
        other = self.b.label if self.b else "the reported value"
        return f"{self.a.label} against {other}" + (f" at {self.point}" if self.point else "")

    @property
    def low(self) -> float | None:
        """The judged interval's lower end."""
        return self.difference.low if self.difference else None

    @property
    def high(self) -> float | None:
        """Its upper end."""
        return self.difference.high if self.difference else None


def contrasts_of(evidence: Evidence) -> tuple[Contrast, ...]:
    """One per pair of sides, at 95 %. Claims of collapse have none: they count trials."""
    claim = evidence.claim
    if claim.kind in COLLAPSE_KINDS:
        return ()
    asked: Asked = "within" if claim.kind in ("insensitive", "equals") else "above"
    bound = {"not_worse": -(claim.within or 0.0), "insensitive": claim.within, "equals": claim.within}
    least = bound.get(claim.kind) or 0.0
    reported = _reported(evidence.table, evidence) if claim.kind == "equals" else None
    return tuple(_contrast(claim, a, b, point, asked, least, reported) for a, b, point in evidence.pairs)


def _reported(table: PublishedTable | None, evidence: Evidence) -> float | None:
    from twinbench.reports.claims import reported_value

    return reported_value(table, evidence.claim, evidence.claim.a).value if table else None


def _contrast(
    claim: Claim, a: Side, b: Side | None, point: str, asked: Asked, bound: float, reported: float | None
) -> Contrast:
    bare = Contrast(a, b, point, asked, bound)
    sign = -1.0 if claim.metric in LOWER_IS_BETTER and claim.kind != "monotone" else 1.0
    of_a = {seed: sign * value for seed, value in a.values.items()}
    if b is not None:
        of_b = {seed: sign * value for seed, value in b.values.items()}
    else:
        of_b = {} if reported is None else dict.fromkeys(of_a, reported)
    if not of_a or not of_b:
        return bare
    paired = bool(of_a.keys() & of_b.keys())
    if paired:
        difference = paired_difference(of_a, of_b)
        flips = sign_flip_test(seed_differences(of_a, of_b), ALPHA)
    else:
        difference, flips = welch_difference(list(of_a.values()), list(of_b.values())), None
    wins = probability_of_improvement(of_a, of_b, paired) if b is not None and difference.n > 1 else None
    return dataclasses.replace(
        bare,
        difference=difference,
        p=_p(difference, asked, bound),
        wins=wins,
        sign_flip=flips,
        examples=_over_examples(a, b),
        detectable=_detectable(difference),
    )


def _over_examples(a: Side, b: Side | None) -> ExampleInterval | None:
    if b is None or a.correct is None or b.correct is None or a.correct.shape[1] != b.correct.shape[1]:
        return None
    return paired_example_difference(a.correct, b.correct)


def _p(difference: Difference, asked: Asked, bound: float) -> float | None:
    """The level at which the interval touches what is asked; None where there is no t test."""
    error, freedom = difference.standard_error, difference.degrees_of_freedom
    if not difference.has_spread or error is None or freedom is None:
        return None
    reached = (difference.mean - bound) / error if asked == "above" else (bound - abs(difference.mean)) / error
    return min(1.0, 2 * float(stats.t.sf(reached, freedom)))


def _detectable(difference: Difference) -> float | None:
    if difference.sd is None:
        return None
    return smallest_detectable_difference(
        difference.sd, difference.n, 1 - difference.confidence, paired=difference.paired
    )


def adjust(families: Mapping[str, Sequence[Contrast]]) -> dict[str, list[Contrast]]:
    """The contrasts of each family at the confidence that Holm's procedure judges them at, with their Holm p."""
    return {family: _holm(contrasts) for family, contrasts in families.items()}


def _holm(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Holm (1979): the smallest of m p's is held against alpha / m, the next against alpha / (m - 1), until one fails.

    All after that one fail with it, and are shown at its level. A contrast without p counts, and fails.
    """
    order = sorted(range(len(contrasts)), key=lambda place: _p_or_one(contrasts[place]))
    adjusted = list(contrasts)
    divisor, highest, failed = len(contrasts), 0.0, False
    for rank, place in enumerate(order):
        contrast = contrasts[place]
        if not failed:
            divisor = len(contrasts) - rank
        highest = max(highest, min(1.0, (len(contrasts) - rank) * _p_or_one(contrast)))
        failed = failed or _p_or_one(contrast) * divisor > ALPHA
        adjusted[place] = _at(contrast, 1 - ALPHA / divisor, highest)
    return adjusted


def _p_or_one(contrast: Contrast) -> float:
    return 1.0 if contrast.p is None else contrast.p


def _at(contrast: Contrast, confidence: float, holm_p: float) -> Contrast:
    if contrast.difference is None:
        return contrast
    difference = contrast.difference.at(confidence)
    return dataclasses.replace(
        contrast,
        difference=difference,
        holm_p=None if contrast.p is None else holm_p,
        detectable=_detectable(difference),
    )
