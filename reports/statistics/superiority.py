"""The probability that one method beats another at a new seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special  # not scipy.stats, whose import takes a tenth of the time of `twinbench check`

from twinbench.reports.statistics.hypothesis_tests import Array, sorted_differences
from twinbench.reports.statistics.intervals import CONFIDENCE, finite_values, seed_differences


@dataclass(frozen=True)
class Probability:
    """P(A > B) + P(A = B) / 2 with an interval. Paired: for one seed under both methods. Unpaired: for any two seeds.

    `n` counts pairs, or the seeds of the smaller group. `method` names the interval. `wins` counts A's wins,
    `seeds` the seeds of A and of B.
    """

    estimate: float
    low: float
    high: float
    n: int
    paired: bool
    confidence: float
    method: str
    wins: float
    seeds: tuple[int, int]

    def at(self, confidence: float) -> "Probability":
        """Return the same probability with its interval at another confidence."""
        return _probability(self.wins, *self.seeds, self.paired, confidence)

    def p_above(self, share: float) -> float:
        """Return the level at which the interval's lower end is `share`: below it, the probability is shown above."""
        n, m = self.seeds
        if not self.wins:
            return 1.0
        if self.paired:
            return min(1.0, 2 * float(special.betainc(self.wins, n - self.wins + 1, share)))
        return min(1.0, 2 * float(_wins_distribution(n, m, share)[math.floor(self.wins) :].sum()))


def probability_of_improvement(a: Mapping[int, float], b: Mapping[int, float], paired: bool) -> Probability:
    """Return P(A > B), ties counted half, from values by seed.

    Paired: the share of common seeds at which A is above B, with Clopper and Pearson's interval. The interval is above
    1/2 exactly where the sign test rejects: never below six pairs at 95 % (Wilson's would be from four). Half counts
    are used in the beta quantiles directly; with ties the outcomes vary less.

    Unpaired: U / (n m), with the exact tail-area interval under proportional hazards, the family for which the
    probability of every order of the values is known (Savage 1956, for Lehmann's alternatives). At 1/2 it does not
    depend on the family, so the interval is above 1/2 only where the exact Mann-Whitney test rejects: never below four
    seeds per method at 95 %. Fay and Malinovsky 2018 require this agreement; asymptotic intervals lack it, and cover
    90 % or less at three seeds (Newcombe 2006, method 5). For normal values this interval covers 95 % or more; where
    one group spreads three times as far as the other, 92 % or more.
    """
    if paired:
        differences, _ = sorted_differences(seed_differences(a, b))
        n = len(differences)
        return _probability(float(n + np.sign(differences).sum()) / 2, n, n, True, CONFIDENCE)
    of_a, of_b = np.array(finite_values(a.values())), np.array(finite_values(b.values()))
    wins = float(np.sum(of_a[:, None] > of_b) + np.sum(of_a[:, None] == of_b) / 2)
    return _probability(wins, len(of_a), len(of_b), False, CONFIDENCE)


def _probability(wins: float, n: int, m: int, paired: bool, confidence: float) -> Probability:
    """Return the probability with its interval, from A's wins over n pairs, or over n seeds of A and m of B."""
    if paired:
        interval = clopper_pearson(wins, n, confidence)
        return Probability(wins / n, *interval, n, True, confidence, "Clopper-Pearson", wins, (n, m))
    tail = (1 - confidence) / 2
    low = _least_probability(math.floor(wins), n, m, tail)
    high = 1 - _least_probability(math.floor(n * m - wins), m, n, tail)
    method = "exact tail areas, proportional hazards"
    return Probability(wins / (n * m), low, high, min(n, m), False, confidence, method, wins, (n, m))


def clopper_pearson(wins: float, n: int, confidence: float) -> tuple[float, float]:
    """Return the exact interval of the probability of a win after `wins` of n tries (Clopper and Pearson 1934)."""
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(wins, n - wins + 1, tail)) if wins > 0 else 0.0
    high = float(special.betainccinv(wins + 1, n - wins, tail)) if wins < n else 1.0
    return low, high


@lru_cache(maxsize=4096)
def _least_probability(wins: int, n: int, m: int, tail: float) -> float:
    """Return the P(A > B) at which A wins at least `wins` of the n m comparisons with probability `tail`."""
    if wins == 0:
        return 0.0

    def excess(theta: float) -> float:
        return float(_wins_distribution(n, m, theta)[wins:].sum()) - tail

    return float(optimize.brentq(excess, 0.0, 1.0, xtol=1e-12))


def _wins_distribution(n: int, m: int, theta: float) -> Array:
    """Return the probability of each number of wins, 0 to n m, of n values of A over m of B (hazards 1 - theta, theta).

    Values are drawn from the smallest up. With i of A and j of B left, the next is of B with probability
    j theta / (i (1 - theta) + j theta), and the remaining i of A win over it.
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
