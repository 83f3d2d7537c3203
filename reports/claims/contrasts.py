"""The statistics of claims: each comparison of two sides over seeds, and Holm's correction within a family of claims.

A contrast asks one of two things of its difference: that it lies `above` a bound, or `within` plus and minus one. Its
p is the smallest level at which the t interval of confidence 1 - p shows that, so that a test and the interval printed
beside it never disagree. Holm's procedure then sets the confidence at which each interval of the family is judged.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from twinbench.reports.claims.claim import Claim, reported_value, selector_text
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.statistics.hypothesis_tests import Test, sign_flip_test
from twinbench.reports.statistics.intervals import (
    ALPHA,
    Difference,
    are_paired,
    least_wins,
    paired_difference,
    seed_differences,
    welch_difference,
)
from twinbench.reports.statistics.per_example import ExampleInterval, paired_example_difference
from twinbench.reports.statistics.power import smallest_detectable_difference
from twinbench.reports.statistics.superiority import Probability, probability_of_improvement
from twinbench.reports.tables.cells import WITHOUT_SEEDS

Criterion = Literal["above", "within"]
COLLAPSE_KINDS = ("collapses", "does_not_collapse")
SIGN_RESAMPLES = 9_999  # of the sign-flip test above 16 pairs, drawn from SIGN_SEED
SIGN_SEED = 20_260_101


@dataclass(frozen=True)
class Contrast:
    """A less B, or A less a fixed number, in the direction in which more is better. Fractions where the metric is one.

    `difference` is judged at its own confidence, which `adjust` sets. What needs two seeds is None below.
    """

    a: Side
    b: Side | None
    point: str  # of the claim's scope, in words; empty where it has none
    criterion: Criterion
    bound: float
    difference: Difference | None = None
    p: float | None = None
    holm_p: float | None = None
    wins: Probability | None = None  # P(A > B) over seeds
    sign_flip: Test | None = None
    examples: ExampleInterval | None = None  # over test examples, the networks as they are
    detectable: float | None = None  # the least true difference found with power .8 at the judged confidence

    @property
    def names(self) -> tuple[str, str, str]:
        """What the sides are called within the comparison, and the settings that both have, which go without saying."""
        if self.b is None:
            return self.a.label, "the reported value", ""
        one, other = self.a.selector, self.b.selector
        shared = {key: value for key, value in one.items() if key != "method" and other.get(key) == value}
        if one.get("method") == other.get("method") and len(shared) + 1 < len(one):
            shared = {"method": one["method"]} | shared
        left, right = ({k: v for k, v in side.items() if k not in shared} for side in (one, other))
        return selector_text(left), selector_text(right), selector_text(shared)

    @property
    def label(self) -> str:
        """What is compared with what, and where: "simclr against byol (both batch_size 128)"."""
        a, b, shared = self.names
        return f"{a} against {b}" + (f" (both {shared})" if shared else "")

    @property
    def low(self) -> float | None:
        """The judged interval's lower end."""
        return self.difference.low if self.difference else None

    @property
    def high(self) -> float | None:
        """Its upper end."""
        return self.difference.high if self.difference else None

    @property
    def is_informative(self) -> bool:
        """Whether the interval says anything of seeds to come.

        Without spread it has no width, and no t test. Then the seeds themselves must be many enough to agree by chance
        less often than the level allows: a sign test.
        """
        difference = self.difference
        if difference is None or difference.low is None:
            return False
        return difference.has_spread or (difference.paired and difference.n >= least_wins(1 - difference.confidence))


def contrasts_of(evidence: Evidence) -> tuple[Contrast, ...]:
    """One per pair of sides, at 95 %. Claims of collapse have none: they count trials."""
    if evidence.claim.kind in COLLAPSE_KINDS:
        return ()
    return tuple(_contrast(evidence, a, b, point) for a, b, point in evidence.pairs)


def sign_of(claim: Claim) -> float:
    """1 where the metric itself is compared, -1 where less of it is better and `better` turns it around."""
    return -1.0 if claim.lower_is_better and claim.kind != "monotone" else 1.0


def bound_of(claim: Claim) -> tuple[Criterion, float]:
    """What the claim asks of each difference. A claimed least size is what has to be exceeded, as it stands.

    Holm's intervals cover at once only what they are tested for: with 0 tested, and the size then read off the
    interval, a family of 15 claims of sizes would err in 8 % of cases.
    """
    if claim.kind in ("insensitive", "equals"):
        return "within", claim.within or 0.0
    return "above", -(claim.within or 0.0) if claim.kind == "not_worse" else claim.at_least


def _contrast(evidence: Evidence, a: Side, b: Side | None, point: str) -> Contrast:
    criterion, bound = bound_of(evidence.claim)
    of_a, of_b = _values(evidence, a, b)
    bare = Contrast(a, b, point, criterion, bound)
    if not of_a or not of_b:
        return bare
    paired = are_paired(of_a, of_b)
    if paired:
        difference = paired_difference(of_a, of_b)
        rng = np.random.default_rng(SIGN_SEED)
        flips = sign_flip_test(seed_differences(of_a, of_b), ALPHA, rng=rng, resamples=SIGN_RESAMPLES)
    else:
        difference, flips = welch_difference(list(of_a.values()), list(of_b.values())), None
    return dataclasses.replace(
        bare,
        difference=difference,
        p=_p(difference, criterion, bound),
        wins=probability_of_improvement(of_a, of_b, paired) if b is not None and difference.n > 1 else None,
        sign_flip=flips,
        examples=_over_examples(a, b),
        detectable=_detectable(difference),
    )


def _values(evidence: Evidence, a: Side, b: Side | None) -> tuple[dict[int, float], dict[int, float]]:
    """By seed, more being better. A fixed number stands beside every seed of A."""
    claim = evidence.claim
    sign = sign_of(claim)
    of_a = {seed: sign * value for seed, value in a.values.items()}
    if b is not None and not (b.selector.get("method") == WITHOUT_SEEDS and len(b.values) == 1):
        return of_a, {seed: sign * value for seed, value in b.values.items()}
    if b is not None:
        (fixed,) = b.values.values()
        return of_a, dict.fromkeys(of_a, sign * fixed)
    if claim.kind != "equals" or evidence.table is None:
        return of_a, {}
    reported = reported_value(evidence.table, claim, dict(a.selector)).value
    return of_a, {} if reported is None else dict.fromkeys(of_a, reported)


def _over_examples(a: Side, b: Side | None) -> ExampleInterval | None:
    if b is None or a.correct is None or b.correct is None or a.correct.shape[1] != b.correct.shape[1]:
        return None
    return paired_example_difference(a.correct, b.correct)


def _p(difference: Difference, criterion: Criterion, bound: float) -> float | None:
    """The level at which the interval touches what is criterion; None where nothing tells it."""
    error, freedom = difference.standard_error, difference.degrees_of_freedom
    if error is None or freedom is None:
        return None
    room = difference.mean - bound if criterion == "above" else bound - abs(difference.mean)
    if difference.has_spread:
        return min(1.0, 2 * float(special.stdtr(freedom, -room / error)))
    return (2.0 ** (1 - difference.n) if room > 0 else 1.0) if difference.paired else None


def _detectable(difference: Difference) -> float | None:
    if difference.sd is None:
        return None
    return smallest_detectable_difference(
        difference.sd, difference.n, 1 - difference.confidence, paired=difference.paired
    )


# --- families ---------------------------------------------------------------------------------------------------------


def adjust(
    families: Mapping[str, Sequence[Contrast]], beside: Mapping[str, int] | None = None
) -> dict[str, list[Contrast]]:
    """The contrasts of each family at the confidence that Holm's procedure judges them at, with their Holm p.

    `beside`: how many tests each family holds beside its contrasts, which are judged at alpha over all of them.
    """
    return {family: _holm(contrasts, (beside or {}).get(family, 0)) for family, contrasts in families.items()}


def _holm(contrasts: Sequence[Contrast], beside: int) -> list[Contrast]:
    """Holm (1979): the smallest of m p's is held against alpha / m, the next against alpha / (m - 1), until one fails.

    All after that one fail with it, and are shown at its level. A contrast without p counts, and fails.
    """
    order = sorted(range(len(contrasts)), key=lambda place: _p_or_one(contrasts[place]))
    adjusted = list(contrasts)
    size = divisor = len(contrasts) + beside
    highest, failed = 0.0, False
    for rank, place in enumerate(order):
        contrast = contrasts[place]
        if not failed:
            divisor = size - rank
        highest = max(highest, min(1.0, (size - rank) * _p_or_one(contrast)))
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
