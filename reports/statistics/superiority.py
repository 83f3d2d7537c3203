"""The probability that one method beats another at a new seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special  # and not scipy.stats, whose import is a tenth of a whole check

from twinbench.reports.statistics.hypothesis_tests import Array, sorted_differences
from twinbench.reports.statistics.intervals import CONFIDENCE, finite_values, seed_differences


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
        differences, _ = sorted_differences(seed_differences(a, b))
        n = len(differences)
        wins = float(n + np.sign(differences).sum()) / 2
        return Probability(wins / n, *clopper_pearson(wins, n, confidence), n, True, confidence, "Clopper-Pearson")
    of_a, of_b = np.array(finite_values(a.values())), np.array(finite_values(b.values()))
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
