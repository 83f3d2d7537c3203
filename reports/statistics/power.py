"""Power, smallest detectable difference, seeds needed; the same for a chance to win; the expected best of k tries.

Powers are of the two-sided t tests of hypothesis_tests.py: paired t, or Welch's with equally many seeds and equal
spread in both groups. `sd` is that of the paired differences, or of one method's seeds; estimated from
few seeds it is uncertain. A chance to win is shown by Clopper and Pearson's exact interval, two-sided at `alpha`.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from twinbench.reports.statistics.intervals import least_wins

ALPHA = 0.05
POWER = 0.8  # Cohen 1988; deep-significance advises the same
MOST_SEEDS = 1000

Array = npt.NDArray[np.float64]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(128)


def power_of(sd: float, n: int, difference: float, alpha: float = ALPHA, paired: bool = True) -> float:
    """Return the power of the test at `alpha` for a true difference (in the unit of `sd`): n pairs, or n per group."""
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if difference != 0 else 0.0
    if sd < 0:
        raise ValueError(f"a standard deviation is not below 0: {sd}")
    return _power(abs(difference) / sd, n, alpha, paired)


def smallest_detectable_difference(
    sd: float, n: int, alpha: float = ALPHA, power: float = POWER, paired: bool = True
) -> float | None:
    """Return the true difference, in the unit of `sd`, found with probability `power`; None below two seeds."""
    return sd * _detectable(n, alpha, power, paired) if n >= 2 else None


def seeds_needed(
    sd: float,
    difference: float,
    alpha: float = ALPHA,
    power: float = POWER,
    paired: bool = True,
    most: int = MOST_SEEDS,
) -> int | None:
    """Return the smallest number of pairs, or seeds per group, with at least `power`; None if above `most`."""
    numbers = range(2, most + 1)  # the power grows with n
    place = bisect_left(numbers, power, key=lambda n: power_of(sd, n, difference, alpha, paired))
    return numbers[place] if place < len(numbers) else None


def pairs_to_win(share: float, bound: float = 0.5, alpha: float = ALPHA) -> int | None:
    """Return the least number of pairs that shows P(A > B) above `bound`, with power 0.8, if A wins `share` of seeds.

    None if it needs more than MOST_SEEDS. For normal differences and a bound of 1/2 these are at least half as many
    pairs again as the t test needs.
    """
    n, by_chance = _most_wins_by_chance(bound, alpha)
    enough = n[special.bdtrc(by_chance, n, share) >= POWER]
    return int(enough[0]) if enough.size else None


def smallest_detectable_share(n: int, bound: float = 0.5, alpha: float = ALPHA) -> float | None:
    """Return the share of seeds that A must win for `n` pairs to show P(A > B) above `bound` with power 0.8.

    None where not even `n` wins show it. P(at least k of n wins) is a beta distribution's share below the true share.
    """
    if not least_wins(alpha, bound) <= n <= MOST_SEEDS:
        return None
    numbers, by_chance = _most_wins_by_chance(bound, alpha)
    wins = by_chance[n - numbers[0]] + 1
    return float(special.betaincinv(wins, n - wins + 1, POWER))


@lru_cache(maxsize=64)
def _most_wins_by_chance(bound: float, alpha: float) -> tuple[npt.NDArray[np.int64], Array]:
    """Return numbers of pairs, and for each the largest number of wins that does not show P(A > B) above `bound`."""
    n = np.arange(least_wins(alpha, bound), MOST_SEEDS + 1)
    wins = np.ceil(special.bdtrik(1 - alpha / 2, n, bound))
    return n, wins - (special.bdtrc(wins - 1, n, bound) <= alpha / 2)  # rounding may leave it one too high


def expected_best_of(values: Sequence[float], k: int) -> float:
    """Return the expected best (highest) of k tries, estimated without bias from `values` of n >= k independent tries.

    sum over i of v_(i) C(i - 1, k - 1) / C(n, k), the mean of the maximum over all choices of k without replacement:
    Tang et al. 2020, arXiv 2004.13705, instead of the biased plug-in estimate of Dodge et al. 2019. Valid for
    independent, identically distributed tries: random search, or a grid in random order; not for TPE or pruned tries
    (ASHA). A failed try must be included, as the worst value.
    """
    ordered = sorted(values, reverse=True)
    n = len(ordered)
    if not 1 <= k <= n:
        raise ValueError(f"the best of {k} cannot be estimated from {n} values")
    weight, terms = k / n, []  # of the highest value; each next is the one above times (i - k) / (i - 1)
    for i, value in zip(range(n, k - 1, -1), ordered, strict=False):
        terms.append(weight * value)
        weight *= (i - k) / (i - 1) if i > 1 else 0.0
    return math.fsum(terms)


def best_of_curve(values: Sequence[float]) -> list[float]:
    """Return `expected_best_of` for k = 1 (the mean) to n (the maximum). For random and grid search only."""
    return [expected_best_of(values, k) for k in range(1, len(values) + 1)]


@lru_cache(maxsize=4096)
def _detectable(n: int, alpha: float, power: float, paired: bool) -> float:
    """Return the smallest detectable difference in units of sd."""
    if not 0 < alpha < power < 1:
        raise ValueError(f"the power lies between the level and 1: level {alpha}, power {power}")
    above = 1.0
    while _power(above, n, alpha, paired) < power:
        above *= 2
    return float(optimize.brentq(lambda d: _power(d, n, alpha, paired) - power, 0.0, above, xtol=1e-10))


@lru_cache(maxsize=4096)
def _power(effect: float, n: int, alpha: float, paired: bool) -> float:
    if paired:
        critical, weights = np.array([-special.stdtrit(n - 1, alpha / 2)]), np.ones(1)
        freedom, shift = n - 1, effect * math.sqrt(n)
    else:
        critical, weights = _welch_critical_values(n, alpha)
        freedom, shift = 2 * (n - 1), effect * math.sqrt(n / 2)
    return float(weights @ (_beyond(critical, freedom, shift) + _beyond(critical, freedom, -shift)))


def _welch_critical_values(n: int, alpha: float) -> tuple[Array, Array]:
    """Return Welch's critical values over the distribution of its degrees of freedom, with weights that sum to 1.

    With R = s_a² / (s_a² + s_b²) the degrees are (n - 1) / (R² + (1 - R)²). Under equal variances R is distributed as
    Beta((n - 1) / 2, (n - 1) / 2) and independent of t, which at equal n is that of the pooled test. The power of the
    pooled test, statsmodels' TTestIndPower, would be too high: .80 where Welch's has .70, at three seeds.
    """
    share = special.betaincinv((n - 1) / 2, (n - 1) / 2, (NODES + 1) / 2)
    freedom = (n - 1) / (share**2 + (1 - share) ** 2)
    return np.asarray(-special.stdtrit(freedom, alpha / 2)), WEIGHTS / 2


def _beyond(critical: Array, freedom: float, shift: float) -> Array:
    """P(T > critical) of the noncentral t, for critical values above 0.

    The mean of Phi(shift - critical s) over s = chi / sqrt(freedom), by Gauss-Legendre where Phi is neither 0 nor 1.
    scipy's nct.cdf is NaN in much of the far lower tail (1.17), where statsmodels' root search then ends anywhere: with
    2.94 sd for 3.82, at 5 pairs and alpha .05 / 21 (0.15).
    """
    # scipy.special's functions are those behind scipy.stats.chi2, at a fraction of the cost of a call.
    least = math.sqrt(2 * special.gammaincinv(freedom / 2, 1e-16) / freedom)
    most = math.sqrt(special.chdtri(freedom, 1e-16) / freedom)
    left = np.clip((shift - 9) / critical, least, most)
    right = np.clip((shift + 9) / critical, least, most)
    s = (right + left)[:, None] / 2 + (right - left)[:, None] / 2 * NODES
    x, half = freedom * s**2, freedom / 2
    log_density = special.xlogy(half - 1, x) - x / 2 - special.gammaln(half) - np.log(2) * freedom / 2
    density = np.exp(log_density) * 2 * freedom * s
    inside = (density * special.ndtr(shift - critical[:, None] * s)) @ WEIGHTS * (right - left) / 2
    return np.asarray(special.chdtr(freedom, freedom * left**2) + inside)
