"""Intervals over seeds: of one mean, and of the difference of two.

A difference is always A - B, in the unit of the values. The order of the seeds does not change a bit of any result.
Intervals cover the variation between seeds; per_example.py covers the sampling of the test examples.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy import special  # not scipy.stats, whose import takes a tenth of the time of `twinbench check`

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
# Of Welch's 95 % interval with so many seeds on one side, any number on the other, and any ratio of the spreads.
LEAST_WELCH_COVERAGE = {3: 0.922, 2: 0.872}
NEGLIGIBLE = 1e-9  # relative to the values: anything smaller is rounding error


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and half the width of its 95 % t interval (None for a single seed), in the unit of the values.

    Covers the variation between seeds only, not the sampling of the test examples.
    """

    mean: float
    half_width: float | None
    n: int


def t_interval(values: Sequence[float]) -> Interval:
    """Return Student's 95 % t interval of the mean: mean ± t(n - 1) s / sqrt(n).

    s is the standard deviation with n - 1 in the denominator. The order of the values does not matter.
    """
    n = len(values)
    if n == 0:
        raise ValueError("a mean of no values was asked for")
    # scipy.special's functions are those behind scipy.stats' distributions, at a hundredth of the cost of a call.
    # The standard library's mean and deviation are exact to the last bit, whatever the order of the seeds.
    mean = float(statistics.mean(values))
    if n == 1:
        return Interval(mean, None, 1)
    quantile = float(special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2))
    return Interval(mean, quantile * statistics.stdev(values) / math.sqrt(n), n)


# Differences ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """The mean of A - B over seeds with its t interval. Undefined values are None: at one seed, all but the mean.

    The interval is at 95 % unless `at` sets another confidence. `n` counts pairs, or the seeds of the smaller group.
    `sd` is that of the differences, or the pooled one of two groups. `correlation` is that between the methods' values
    at equal seeds; None where unpaired, constant, or below three pairs.
    """

    mean: float
    n: int
    paired: bool
    sd: float | None = None
    standard_error: float | None = None
    degrees_of_freedom: float | None = None
    correlation: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float = CONFIDENCE

    @property
    def has_spread(self) -> bool:
        """Return whether the differences vary: without spread the interval has width 0 and t is not defined."""
        return self.standard_error is not None and self.standard_error > NEGLIGIBLE * abs(self.mean)

    @property
    def effect_size(self) -> float | None:
        """Return Cohen's d: mean / sd. For pairs this is d_z, which grows with the correlation and differs from d."""
        return self.mean / self.sd if self.sd is not None and self.has_spread else None

    @property
    def p(self) -> float | None:
        """Return the two-sided p-value of Student's or Welch's t test of no difference; None where t is not defined.

        Welch's error rate is below the level at three seeds of equal spread (.035 for .05), and slightly above it when
        one group spreads ten times as far (.058), as simulated in
        tests/reports/statistics/test_simulated_statistics.py.
        """
        if self.standard_error is None or self.degrees_of_freedom is None or not self.has_spread:
            return None
        return 2 * float(special.stdtr(self.degrees_of_freedom, -abs(self.mean / self.standard_error)))

    def at(self, confidence: float) -> "Difference":
        """Return the same difference with the interval at another confidence."""
        if not 0 < confidence < 1:
            raise ValueError(f"a confidence lies between 0 and 1: {confidence}")
        if self.standard_error is None or self.degrees_of_freedom is None:
            return replace(self, confidence=confidence)
        half_width = float(special.stdtrit(self.degrees_of_freedom, 0.5 + confidence / 2)) * self.standard_error
        return replace(self, low=self.mean - half_width, high=self.mean + half_width, confidence=confidence)


def seed_differences(a: Mapping[int, float], b: Mapping[int, float]) -> list[float]:
    """Return A - B at every common seed, in the order of the seeds."""
    return finite_values(a[seed] - b[seed] for seed in sorted(a.keys() & b.keys()))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """Return A - B with the paired t interval over common seeds. `a` and `b` map a seed to its value."""
    return replace(mean_difference(seed_differences(a, b)), correlation=seed_correlation(a, b))


def welch_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Return mean of A minus mean of B with Welch's interval, which needs neither pairs nor equal variances.

    Degrees of freedom: Welch 1947, Satterthwaite 1946. `sd` is sqrt(((n - 1) s_a² + (m - 1) s_b²) / (n + m - 2)).
    A 95 % interval covers 94 to 96 % with five or more seeds per side and four against four, 94.1 to 96.5 % with
    three against three, depending on the ratio of the spreads. Unequal numbers of seeds cover less, see
    `LEAST_WELCH_COVERAGE` and `welch_covers`. All by quadrature in
    tests/reports/statistics/test_simulated_statistics.py.
    """
    a, b = finite_values(a), finite_values(b)
    mean, n = float(statistics.mean(a)) - float(statistics.mean(b)), min(len(a), len(b))
    if n == 1:
        return Difference(mean, 1, paired=False)
    of_a, of_b = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
    error, freedom = math.sqrt(of_a + of_b), float(len(a) + len(b) - 2)
    pooled = math.sqrt((of_a * len(a) * (len(a) - 1) + of_b * len(b) * (len(b) - 1)) / freedom)
    if error > 0:
        share = of_a / (of_a + of_b)  # as a share, so that no small variance underflows when squared
        freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
    return Difference(mean, n, False, pooled, error, freedom).at(CONFIDENCE)


def welch_covers(n: int, m: int) -> bool:
    """Return whether Welch's interval for n and m seeds covers at least 94 % for any ratio of the spreads."""
    return min(n, m) >= 5 or n == m >= 3


def mean_difference(differences: Sequence[float]) -> Difference:
    """Return the mean of paired differences with its t interval."""
    mean, n = float(statistics.mean(differences)), len(differences)
    if n == 1:
        return Difference(mean, 1, paired=True)
    sd = statistics.stdev(differences)
    return Difference(mean, n, True, sd, sd / math.sqrt(n), n - 1.0).at(CONFIDENCE)


def seed_correlation(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    """Return Pearson's r of the values at common seeds; None below three seeds, or if one side does not vary."""
    seeds = sorted(a.keys() & b.keys())
    of_a, of_b = ([side[seed] for seed in seeds] for side in (a, b))
    if len(seeds) < 3:  # for two pairs it is always 1 or -1
        return None
    if any(statistics.stdev(x) <= NEGLIGIBLE * max(map(abs, x)) for x in (of_a, of_b)):
        return None
    return statistics.correlation(of_a, of_b)


def finite_values(values: Iterable[float]) -> list[float]:
    """Return the values as a list. ValueError if there are none, or if any is not finite."""
    found = [float(value) for value in values]
    if not found:
        raise ValueError("a difference over no seeds was asked for")
    if not all(map(math.isfinite, found)):
        raise ValueError(f"a value is not finite: {found}")
    return found


def least_wins(alpha: float, share: float = 0.5) -> int:
    """Return how many pairs must all favour one method to show that it wins more than `share` of all.

    Two-sided at `alpha`, by Clopper and Pearson's interval: 2 share^n <= alpha.
    """
    return math.ceil(math.log(alpha / 2) / math.log(share) - 1e-9)


def are_paired(of_a: Mapping[int, float], of_b: Mapping[int, float]) -> bool:
    """Return whether to compare in pairs: at least half of the smaller side's seeds, and at least two, are common."""
    common, smaller = len(of_a.keys() & of_b.keys()), min(len(of_a), len(of_b))
    return 2 * common >= smaller and common >= min(2, smaller)
