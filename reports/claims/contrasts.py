"""The statistics of claims: each comparison of two sides over seeds, and Holm's correction within a family of claims.

A contrast has one of three criteria: its difference lies `above` a bound, or `within` a bound of a target, or A `wins`
at a new seed with a probability above a bound. Its p is
the smallest level at which the t interval of confidence 1 - p meets the criterion, so that the test never disagrees
with the interval printed next to it. Holm's procedure sets the confidence at which each interval is judged.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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

Criterion = Literal["above", "within", "wins"]
COLLAPSE_KINDS = ("collapses", "does_not_collapse")
SIGN_SEED = 20_260_101


class Asked(NamedTuple):
    """What is claimed of a difference: it is above `bound`, or less than `bound` away from `target`.

    Or A `wins` at a new seed with a probability above `bound`.
    """

    criterion: Criterion
    bound: float
    target: float = 0.0

    @property
    def says_better(self) -> bool:
        """Whether it says that A is better, so that A must also win most seeds."""
        return self.target > 0 if self.criterion == "within" else self.bound >= 0


@dataclass(frozen=True)
class Contrast:
    """A minus B, or A minus a fixed number, with the sign such that more is better. Accuracies are fractions.

    `difference` is judged at its own confidence, which `adjust` sets. Statistics that need two seeds are None below.
    """

    a: Side
    b: Side | None
    point: str  # of the claim's scope, as text; empty where it has none
    criterion: Criterion
    bound: float
    target: float = 0.0
    difference: Difference | None = None
    p: float | None = None
    holm_p: float | None = None
    samples: tuple[tuple[float, ...], ...] = ()  # differences by seed; if unpaired, A's values and B's
    wins: Probability | None = None  # P(A > B) over seeds
    sign_flip: Test | None = None
    examples: ExampleInterval | None = None  # over test examples, for the networks as trained
    detectable: float | None = None  # the smallest true difference found with power 0.8 at the judged confidence

    @property
    def names(self) -> tuple[str, str, str]:
        """Return the names of A and B within the comparison, and the settings that both share."""
        if self.b is None:
            return self.a.label, "the reported value", ""
        a, b = self.a.selector, self.b.selector
        shared = {key: value for key, value in a.items() if key != "method" and b.get(key) == value}
        if a.get("method") == b.get("method") and len(shared) + 1 < len(a):
            shared = {"method": a["method"]} | shared
        left, right = ({k: v for k, v in side.items() if k not in shared} for side in (a, b))
        return selector_text(left), selector_text(right), selector_text(shared)

    @property
    def label(self) -> str:
        """Return "simclr against byol (both batch_size 128)"."""
        a, b, shared = self.names
        return f"{a} against {b}" + (f" (both {shared})" if shared else "")

    @property
    def low(self) -> float | None:
        """Return the judged interval's lower end."""
        return self.difference.low if self.difference else None

    @property
    def high(self) -> float | None:
        """Return the judged interval's upper end."""
        return self.difference.high if self.difference else None

    def room(self, confidence: float | None = None) -> float | None:
        """Return how far the interval lies inside its bound, at another confidence if given; None without interval."""
        difference, wins = self.difference, self.wins
        if difference is not None and confidence is not None:
            difference = difference.at(confidence)
        if self.criterion == "wins":
            if wins is None:
                return None
            return (wins if confidence is None else wins.at(confidence)).low - self.bound
        if difference is None or difference.low is None or difference.high is None:
            return None
        if self.criterion == "within":
            return self.bound - max(self.target - difference.low, difference.high - self.target)
        return difference.low - self.bound

    @property
    def a_wins_most(self) -> bool:
        """Whether A is shown to win more than half of all seeds; a fixed number has none to win."""
        return self.wins is None or self.wins.low > 0.5

    @property
    def b_wins_most(self) -> bool:
        """Whether B is shown to win more than half of all seeds."""
        return self.wins is None or self.wins.high < 0.5

    def is_met(self, confidence: float | None = None) -> bool:
        """Whether what is asked is shown, at another confidence if given."""
        room = self.room(confidence)
        return room is not None and room > 0 and (self.a_wins_most or not self.asked.says_better)

    def is_positive(self, confidence: float | None = None) -> bool:
        """Whether a claim that A is better has its direction shown, whatever size it claims."""
        is_of_size = self.criterion != "wins" and self.asked.says_better
        return is_of_size and dataclasses.replace(self, criterion="above", bound=0.0).is_met(confidence)

    @property
    def asked(self) -> Asked:
        """Return what the difference must meet."""
        return Asked(self.criterion, self.bound, self.target)

    @property
    def is_informative(self) -> bool:
        """Whether the interval says anything about further seeds.

        Without spread it has no width and there is no t test. Then a sign test applies: there must be so many seeds
        that they agree by chance less often than the level allows.
        """
        difference = self.difference
        if difference is None or difference.low is None:
            return False
        return difference.has_spread or (difference.paired and difference.n >= least_wins(1 - difference.confidence))


def contrasts_of(evidence: Evidence) -> tuple[Contrast, ...]:
    """Return one contrast per pair of sides, at 95 %; none for claims of collapse, which count trials."""
    if evidence.claim.kind in COLLAPSE_KINDS:
        return ()
    return tuple(_contrast(evidence, a, b, point) for a, b, point in evidence.pairs)


def sign_of(claim: Claim) -> float:
    """Return -1 for a cost, so that more is better, else 1. `monotone` compares costs as they are measured."""
    return -1.0 if claim.lower_is_better and claim.kind != "monotone" else 1.0


def tolerance_of(claim: Claim, margin: float) -> float:
    """Return how far from the size that `by` gives is near it; 0 where neither the claim nor the protocol says."""
    return margin if claim.tolerance is None else claim.tolerance


def asked_of(claim: Claim, margin: float) -> Asked:
    """Return what each difference of the claim must meet. A claimed least size is itself the bound.

    "By about d" is shown by an interval within the tolerance of d and above 0. Holm's intervals jointly cover only what
    is tested: testing against 0 and then reading the size off the interval would err in 8 % of cases in a family of 15
    claims with sizes.
    """
    if claim.kind in ("insensitive", "equals"):
        return Asked("within", claim.within or 0.0)
    if claim.kind == "wins":
        return Asked("wins", claim.chance or 0.5)
    if claim.by:
        tolerance = tolerance_of(claim, margin)
        lowest, highest = max(0.0, claim.by - tolerance), claim.by + tolerance
        return Asked("within", (highest - lowest) / 2, (highest + lowest) / 2)
    return Asked("above", -(claim.within or 0.0) if claim.kind == "not_worse" else claim.at_least)


def required_size(claim: Claim, margin: float) -> float:
    """Return the difference that the seeds must be able to detect, from its bound or target; 0 where none is stated."""
    if claim.kind == "wins":
        return 0.0
    if claim.by:
        return asked_of(claim, margin).bound
    return claim.within or max(claim.claimed_size, margin)


def _contrast(evidence: Evidence, a: Side, b: Side | None, point: str) -> Contrast:
    asked = asked_of(evidence.claim, evidence.margin)
    of_a, of_b = _values(evidence, a, b)
    bare = Contrast(a, b, point, *asked)
    if not of_a or not of_b:
        return bare
    paired = are_paired(of_a, of_b)
    samples: tuple[tuple[float, ...], ...]
    if paired:
        difference, samples = paired_difference(of_a, of_b), (tuple(seed_differences(of_a, of_b)),)
        flips = sign_flip_test(samples[0], ALPHA, rng=np.random.default_rng(SIGN_SEED))
    else:
        difference, flips = welch_difference(list(of_a.values()), list(of_b.values())), None
        samples = tuple(tuple(side[seed] for seed in sorted(side)) for side in (of_a, of_b))
    wins = probability_of_improvement(of_a, of_b, paired) if b is not None and difference.n > 1 else None
    return dataclasses.replace(
        bare,
        difference=difference,
        p=_p(difference, wins, asked),
        samples=samples,
        wins=wins,
        sign_flip=flips,
        examples=_over_examples(a, b),
        detectable=_detectable(difference),
    )


def _values(evidence: Evidence, a: Side, b: Side | None) -> tuple[dict[int, float], dict[int, float]]:
    """Return the values of A and B by seed, with more being better. A fixed number counts at every seed of A."""
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
    reported = reported_value(evidence.table, claim, a.selector).value
    return of_a, {} if reported is None else dict.fromkeys(of_a, reported)


def _over_examples(a: Side, b: Side | None) -> ExampleInterval | None:
    if b is None or a.correct is None or b.correct is None or a.correct.shape[1] != b.correct.shape[1]:
        return None
    return paired_example_difference(a.correct, b.correct)


def _p(difference: Difference, wins: Probability | None, asked: Asked) -> float | None:
    """Return the level at which the interval just meets the criterion; None where it cannot be computed."""
    if asked.criterion == "wins":
        return None if wins is None else wins.p_above(asked.bound)
    error, freedom = difference.standard_error, difference.degrees_of_freedom
    if error is None or freedom is None:
        return None
    room = asked.bound - abs(difference.mean - asked.target)
    if asked.criterion == "above":
        room = difference.mean - asked.bound
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


def holm(contrasts: Sequence[Contrast], further_tests: int = 0) -> list[Contrast]:
    """Return a family's contrasts at the confidence that Holm's procedure (1979) gives them, with their Holm p.

    The smallest of m p's is compared with alpha / m, the next with alpha / (m - 1), until one fails. All after that one
    fail too and are shown at its level. A contrast without p counts as a test and fails. `further_tests` counts the
    tests of the family that are no contrasts; those are judged at alpha over all tests.
    """
    order = sorted(range(len(contrasts)), key=lambda place: _p_or_one(contrasts[place]))
    adjusted = list(contrasts)
    size = divisor = len(contrasts) + further_tests
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
    difference, wins = contrast.difference.at(confidence), contrast.wins
    if contrast.criterion == "wins" and wins is not None:  # for other claims it stays at 95 %
        wins = wins.at(confidence)
    return dataclasses.replace(
        contrast,
        difference=difference,
        wins=wins,
        holm_p=None if contrast.p is None else holm_p,
        detectable=_detectable(difference),
    )
