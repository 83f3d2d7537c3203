"""Statistics over seeds: intervals, differences, tests that know their floor, P(A > B), equivalence.

A difference is always A - B, in the unit of the values, and higher values count as better. No order of the seeds
changes a bit of any result. All of it covers the variation between seeds; examples.py has that of the test sample.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, special  # and not scipy.stats, whose import is a tenth of a whole check

CONFIDENCE = 0.95
ENUMERATED = 16  # up to so many pairs, all 2^n patterns of signs are gone through
RESAMPLES = 99_999
NEGLIGIBLE = 1e-9  # of the values: what is smaller is rounding, neither spread nor a difference

Alternative = Literal["two-sided", "greater"]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and half the width of its t interval, which is None for a single seed.

    Unit: that of the values. Covers the variation between seeds only, not that of the test sample.
    """

    mean: float
    half_width: float | None
    n: int
    confidence: float = CONFIDENCE


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of the mean: mean ± t(n - 1) s / sqrt(n). The order of the values changes nothing.

    Source: any text on statistics; s is the standard deviation with n - 1 in the denominator.
    """
    n = len(values)
    if n == 0:
        raise ValueError("a mean of no values was asked for")
    # scipy.special's functions are those behind scipy.stats' distributions, at a hundredth of the cost of a call.
    # The standard library's mean and deviation are exact to the last bit, so that no order of the seeds can move it.
    mean = float(statistics.mean(values))
    if n == 1:
        return Interval(mean, None, 1, confidence)
    quantile = float(special.stdtrit(n - 1, 0.5 + confidence / 2))
    return Interval(mean, quantile * statistics.stdev(values) / math.sqrt(n), n, confidence)


def adjusted_confidence(alpha: float, family_size: int) -> float:
    """The confidence at which each of a family's intervals is shown, so that all cover at once with 1 - alpha.

    Bonferroni: 1 - alpha / family_size. Holm's test rejects all that these intervals exclude, and at times more.
    """
    if family_size < 1:
        raise ValueError(f"a family has at least one member, not {family_size}")
    return 1 - alpha / family_size


# Differences ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """The mean of A - B over seeds with its t interval. What cannot be said is None: at one seed, all but the mean.

    `n` counts pairs, or the seeds of the smaller group. `sd` is that of the differences, or the pooled one of two
    groups. `correlation` is that between the methods' values at equal seeds; None where unpaired, constant, or below
    three pairs.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    sd: float | None
    paired: bool
    correlation: float | None
    confidence: float
    standard_error: float | None
    degrees_of_freedom: float | None

    @property
    def has_spread(self) -> bool:
        """Whether the differences vary at all: without spread there is an interval of no width, and no t test."""
        return self.standard_error is not None and self.standard_error > NEGLIGIBLE * abs(self.mean)

    @property
    def effect_size(self) -> float | None:
        """Cohen's d: mean / sd. Over pairs this is d_z, which grows with the correlation: not to be compared with d."""
        return self.mean / self.sd if self.sd is not None and self.has_spread else None

    def at(self, confidence: float) -> "Difference":
        """The same difference with the interval of another confidence."""
        if not 0 < confidence < 1:
            raise ValueError(f"a confidence lies between 0 and 1: {confidence}")
        if self.standard_error is None or self.degrees_of_freedom is None:
            return replace(self, confidence=confidence)
        half_width = float(special.stdtrit(self.degrees_of_freedom, 0.5 + confidence / 2)) * self.standard_error
        return replace(self, low=self.mean - half_width, high=self.mean + half_width, confidence=confidence)


def seed_differences(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """A - B at every seed that both have, by seed."""
    return _finite(a[seed] - b[seed] for seed in sorted(a.keys() & b.keys()))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], confidence: float = CONFIDENCE) -> Difference:
    """A - B with the paired t interval, over the seeds that both have (`a` and `b` map a seed to its value)."""
    seeds = sorted(a.keys() & b.keys())
    difference = _mean_difference(seed_differences(a, b), confidence)
    return replace(difference, correlation=_correlation([a[seed] for seed in seeds], [b[seed] for seed in seeds]))


def welch_difference(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Difference:
    """Mean of A less mean of B with Welch's interval: no pairs, and no equal variances asked for.

    Degrees of freedom: Welch 1947, Satterthwaite 1946. `sd` is sqrt(((n - 1) s_a² + (m - 1) s_b²) / (n + m - 2)).
    At 95 % it covers within 1 % of that from five seeds a side on, and at four against four; three against three cover
    94.1 to 96.5 %, as the spreads are to each other. Few against more cover less: down to 92 % with three, 87 with two,
    which `welch_covers` is asked for. All by quadrature in tests/reports/test_simulated_statistics.py.
    """
    a, b = _finite(a), _finite(b)
    mean, n = float(statistics.mean(a)) - float(statistics.mean(b)), min(len(a), len(b))
    if n == 1:
        return Difference(mean, None, None, 1, None, False, None, confidence, None, None)
    of_a, of_b = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
    error, freedom = math.sqrt(of_a + of_b), float(len(a) + len(b) - 2)
    pooled = math.sqrt((of_a * len(a) * (len(a) - 1) + of_b * len(b) * (len(b) - 1)) / freedom)
    if error > 0:
        share = of_a / (of_a + of_b)  # as a share, so that no small variance underflows when squared
        freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
    return Difference(mean, None, None, n, pooled, False, None, confidence, error, freedom).at(confidence)


def welch_covers(n: int, m: int) -> bool:
    """Whether Welch's interval of so many seeds, whatever their spreads, falls short of 95 % by at most 1 %."""
    return min(n, m) >= 5 or n == m >= 3


def _mean_difference(differences: Sequence[float], confidence: float) -> Difference:
    mean, n = float(statistics.mean(differences)), len(differences)
    if n == 1:
        return Difference(mean, None, None, 1, None, True, None, confidence, None, None)
    sd = statistics.stdev(differences)
    return Difference(mean, None, None, n, sd, True, None, confidence, sd / math.sqrt(n), n - 1.0).at(confidence)


def _correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    if len(a) < 3:  # of two pairs it is 1 or -1, whatever the methods
        return None
    if any(statistics.stdev(x) <= NEGLIGIBLE * max(map(abs, x)) for x in (a, b)):
        return None
    return statistics.correlation(a, b)


def _finite(values: Iterable[float]) -> list[float]:
    found = [float(value) for value in values]
    if not found:
        raise ValueError("a difference over no seeds was asked for")
    if not all(map(math.isfinite, found)):
        raise ValueError(f"a value is not finite: {found}")
    return found


# Tests ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Test:
    """A test of no difference. `floor` is the least p that it can give with these pairs.

    `p` is None where the test has nothing to say: its floor is above the level, or t is not defined; `note` says which.
    """

    __test__: ClassVar = False  # not one of pytest's, whatever its name

    name: str
    p: float | None
    floor: float
    n: int
    note: str = ""


def sign_flip_test(
    differences: Sequence[float],
    alpha: float,
    alternative: Alternative = "two-sided",
    rng: np.random.Generator | None = None,
    resamples: int = RESAMPLES,
) -> Test:
    """Fisher's randomisation test of paired differences: how often random signs give a mean as far from 0.

    Exact up to 16 pairs; above, p = (b + 1) / (m + 1) over m patterns drawn from `rng` (Phipson and Smyth 2010).
    Assumes that under the null the differences are symmetric about 0; the floor is 2 / 2^n, or 1 / 2^n one-sided.
    """
    values, tolerance = _sorted(differences)
    n, floor = len(values), _floor(values, alternative)
    if n <= ENUMERATED:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums - value, sums + value])
    elif rng is None:
        raise ValueError(f"{n} pairs have too many patterns of signs to go through: the test needs a generator")
    elif 1 / (resamples + 1) > alpha:
        raise ValueError(f"{resamples} resamples cannot reach {alpha:g}")
    else:
        sums = (2 * rng.integers(0, 2, (resamples, n)) - 1) @ values
        sums, floor = np.append(sums, values.sum()), max(floor, 1 / (resamples + 1))
    if alternative == "two-sided":
        p = float(np.mean(np.abs(sums) >= abs(values.sum()) - tolerance))
    else:
        p = float(np.mean(sums >= values.sum() - tolerance))
    return _reaching("sign-flip", p, floor, values, alpha, alternative)


def wilcoxon_test(differences: Sequence[float], alpha: float, alternative: Alternative = "two-sided") -> Test:
    """Wilcoxon's signed-rank test, exact at every n: zeros are left out, ties share their mean rank.

    The distribution of the sum of positive ranks is built up rank by rank, so that it is exact with ties too, where
    scipy's `method="exact"` is not. Floor: 2 / 2^n of the differences that are not zero, or 1 / 2^n one-sided.
    """
    values, tolerance = _sorted(differences)
    nonzero = values[values != 0]
    nonzero = nonzero[np.argsort(np.abs(nonzero), kind="stable")]
    steps = np.cumsum(np.diff(np.abs(nonzero), prepend=0.0) > tolerance)  # equal where the differences tie
    _, place, ties = np.unique(steps, return_inverse=True, return_counts=True)
    ranks = (2 * np.cumsum(ties) - ties + 1)[place]  # twice the mean rank of those that tie, so that it is whole
    chances = np.ones(1)  # chances[s]: that the ranks so far whose difference is positive sum to s
    for rank in ranks:
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    observed = int(ranks[nonzero > 0].sum())
    p = float(chances[observed:].sum())
    if alternative == "two-sided":
        p = 2 * min(p, float(chances[: observed + 1].sum()))
    return _reaching("Wilcoxon signed-rank", min(p, 1.0), _floor(values, alternative), values, alpha, alternative)


def paired_t_test(differences: Sequence[float], alternative: Alternative = "two-sided") -> Test:
    """Student's t test of paired differences. It has no floor, at the price of assuming normal differences."""
    return _t_test("paired t", _mean_difference(_finite(differences), CONFIDENCE), alternative)


def welch_test(a: Sequence[float], b: Sequence[float], alternative: Alternative = "two-sided") -> Test:
    """Welch's t test of two independent groups.

    Below its level at three seeds of equal spread (.035 for .05), a little above it when one group spreads ten times
    as far (.058): simulated in tests/reports/test_simulated_statistics.py.
    """
    return _t_test("Welch t", welch_difference(a, b), alternative)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: all of one family at once (Holm 1979).

    A test of the family that gave no p-value still counts as a member: pass 1.0 for it.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1: {list(p_values)}")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _sorted(differences: Sequence[float]) -> tuple[Array, float]:
    """The differences in order, those of rounding set to 0, and within what tolerance two of them or two sums tie."""
    values = np.sort(np.array(_finite(differences)))
    tolerance = NEGLIGIBLE * float(np.abs(values).sum())
    return np.where(np.abs(values) <= tolerance, 0.0, values), tolerance


def _floor(values: Array, alternative: Alternative) -> float:
    """What all differences of one sign would give: a zero has no sign to flip, so that it does not count."""
    return min(1.0, (2 if alternative == "two-sided" else 1) / 2.0 ** np.count_nonzero(values))


def _reaching(name: str, p: float, floor: float, values: Array, alpha: float, alternative: Alternative) -> Test:
    n, zeros = len(values), len(values) - np.count_nonzero(values)
    note = f"{zeros} of {n} differences are zero" if zeros else ""
    if floor <= alpha:
        return Test(name, p, floor, n, note)
    needed = math.ceil(math.log2((2 if alternative == "two-sided" else 1) / alpha))
    cannot = f"cannot reach {alpha:g}: the least p here is {floor:.3g}; {needed} pairs that differ are needed"
    return Test(name, None, floor, n, "; ".join(filter(None, [note, cannot])))


def _t_test(name: str, difference: Difference, alternative: Alternative) -> Test:
    if difference.standard_error is None or difference.degrees_of_freedom is None:
        return Test(name, None, 1.0, difference.n, "one seed shows no spread: t is not defined")
    if not difference.has_spread:
        return Test(name, None, 0.0, difference.n, "the values do not vary between seeds: t is not defined")
    t = difference.mean / difference.standard_error
    if alternative == "two-sided":
        return Test(name, 2 * float(special.stdtr(difference.degrees_of_freedom, -abs(t))), 0.0, difference.n)
    return Test(name, float(special.stdtr(difference.degrees_of_freedom, -t)), 0.0, difference.n)


# P(A > B) ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probability:
    """P(A > B) + P(A = B) / 2 with an interval. Paired: of one seed under both methods. Unpaired: of any two seeds.

    `n` counts pairs, or the seeds of the smaller group. `method` names the interval.
    """

    estimate: float
    low: float
    high: float
    n: int
    paired: bool
    confidence: float
    method: str


def probability_of_improvement(
    a: Mapping[int, float], b: Mapping[int, float], paired: bool, confidence: float = CONFIDENCE
) -> Probability:
    """P(A > B), ties counted half, from values by seed.

    Paired: the share of the seeds of both at which A is above B, with Clopper and Pearson's interval. It is the sign
    test turned around, so that it lies above 1/2 only where that test rejects: never below six pairs at 95 %. (Wilson's
    would do so from four.) Half counts enter the beta quantiles as they are: with ties the outcomes vary less.

    Unpaired: U / (n m), with the exact tail-area interval under proportional hazards, the family in which the chance of
    every order of the values is known (Savage 1956, for Lehmann's alternatives). At 1/2 that is free of any family, so
    that it lies above 1/2 only where the exact Mann-Whitney test rejects: never below four seeds a method at 95 %. That
    agreement is what Fay and Malinovsky 2018 ask of such an interval; asymptotic ones lack it, and cover 90 % or less
    at three seeds (Newcombe 2006, method 5). For normal values this one covers 95 % and more; where one group spreads
    three times as far as the other, 92 % and more.
    """
    if paired:
        differences, _ = _sorted(seed_differences(a, b))
        n = len(differences)
        wins = float(n + np.sign(differences).sum()) / 2
        return Probability(wins / n, *clopper_pearson(wins, n, confidence), n, True, confidence, "Clopper-Pearson")
    of_a, of_b = np.array(_finite(a.values())), np.array(_finite(b.values()))
    n, m, tail = len(of_a), len(of_b), (1 - confidence) / 2
    wins = float(np.sum(of_a[:, None] > of_b) + np.sum(of_a[:, None] == of_b) / 2)
    low = _least_probability(math.floor(wins), n, m, tail)
    high = 1 - _least_probability(math.floor(n * m - wins), m, n, tail)
    method = "exact tail areas, proportional hazards"
    return Probability(wins / (n * m), low, high, min(n, m), False, confidence, method)


def clopper_pearson(wins: float, n: int, confidence: float) -> tuple[float, float]:
    """The exact interval of the chance of a win, of which n tries had so many (Clopper and Pearson 1934)."""
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(wins, n - wins + 1, tail)) if wins > 0 else 0.0
    high = float(special.betainccinv(wins + 1, n - wins, tail)) if wins < n else 1.0
    return low, high


@lru_cache(maxsize=4096)
def _least_probability(wins: int, n: int, m: int, tail: float) -> float:
    """The P(A > B) at which `wins` or more of the n m comparisons are won with the chance `tail`."""
    if wins == 0:
        return 0.0

    def excess(theta: float) -> float:
        return float(_wins_distribution(n, m, theta)[wins:].sum()) - tail

    return float(optimize.brentq(excess, 0.0, 1.0, xtol=1e-12))


def _wins_distribution(n: int, m: int, theta: float) -> Array:
    """The chance of each number of wins, 0 to n m, of n values of A over m of B, with hazards 1 - theta and theta.

    Values fall from the least up; with i and j left, the next is of B with chance j theta / (i (1 - theta) + j theta),
    and all i of A that are left have won over it.
    """
    nothing = np.zeros(n * m + 1)
    nothing[0] = 1.0
    row = [nothing] * (m + 1)  # row[j]: the wins to come with i of A and j of B left
    for i in range(1, n + 1):
        before, row = row, [nothing]
        for j in range(1, m + 1):
            of_b = j * theta / (i * (1 - theta) + j * theta)
            won = np.concatenate([np.zeros(i), row[j - 1][:-i]])
            row.append(of_b * won + (1 - of_b) * before[j])
    return row[m]


# Equivalence ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Equivalence:
    """Whether A and B differ by less than a margin. `p` is None at one seed.

    `low` and `high` bound the difference with confidence 1 - 2 alpha.
    """

    equivalent: bool
    p: float | None
    margin: float
    low: float | None
    high: float | None
    alpha: float


def equivalence(difference: Difference, margin: float, alpha: float) -> Equivalence:
    """Two one-sided t tests at `alpha` (Schuirmann 1987): whether the 1 - 2 alpha interval lies within ±margin.

    Differences without spread are judged by their mean alone: p is the limit, 0 or 1.
    """
    if margin <= 0:
        raise ValueError(f"a margin is above 0: {margin}")
    inside = difference.at(1 - 2 * alpha)
    error, freedom = difference.standard_error, difference.degrees_of_freedom
    if error is None or freedom is None or inside.low is None or inside.high is None:
        return Equivalence(False, None, margin, None, None, alpha)
    room = margin - abs(difference.mean)
    p = float(special.stdtr(freedom, -room / error)) if error > 0 else float(room <= 0)
    return Equivalence(-margin < inside.low and inside.high < margin, p, margin, inside.low, inside.high, alpha)
