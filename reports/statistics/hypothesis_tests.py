"""Hypothesis tests over seeds: sign flip, Wilcoxon, t and Welch, and Holm's correction."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy import special  # not scipy.stats, whose import takes a tenth of the time of `twinbench check`

from twinbench.reports.statistics.intervals import (
    CONFIDENCE,
    NEGLIGIBLE,
    Difference,
    finite_values,
    mean_difference,
    welch_difference,
)

ENUMERATED = 16  # up to this many pairs, all 2^n patterns of signs are enumerated
RESAMPLES = 99_999
Alternative = Literal["two-sided", "greater"]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Test:
    """A test of no difference. `floor` is the smallest p-value possible with these pairs.

    `p` is None if the floor is above the level or t is not defined; `note` says which.
    """

    __test__: ClassVar = False  # keeps pytest from collecting it

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
    """Return Fisher's randomisation test of paired differences: how often random signs give a mean as far from 0.

    Exact up to 16 pairs; above, p = (b + 1) / (m + 1) over m patterns drawn from `rng` (Phipson and Smyth 2010).
    Assumes that under the null the differences are symmetric about 0; the floor is 2 / 2^n, or 1 / 2^n one-sided.
    """
    values, tolerance = sorted_differences(differences)
    n, floor = len(values), _floor(values, alternative)
    if n <= ENUMERATED:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums - value, sums + value])
    elif rng is None:
        raise ValueError(f"{n} pairs have too many patterns of signs to enumerate: the test needs a generator")
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
    """Return Wilcoxon's signed-rank test, exact at every n: zeros are left out, ties share their mean rank.

    The distribution of the sum of positive ranks is built rank by rank, so it is also exact with ties, unlike scipy's
    `method="exact"`. Floor: 2 / 2^n of the differences that are not zero, or 1 / 2^n one-sided.
    """
    values, tolerance = sorted_differences(differences)
    nonzero = values[values != 0]
    nonzero = nonzero[np.argsort(np.abs(nonzero), kind="stable")]
    steps = np.cumsum(np.diff(np.abs(nonzero), prepend=0.0) > tolerance)  # equal for tied differences
    _, place, ties = np.unique(steps, return_inverse=True, return_counts=True)
    ranks = (2 * np.cumsum(ties) - ties + 1)[place]  # twice the mean rank of the ties, an integer
    chances = np.ones(1)  # chances[s]: probability that the positive ranks so far sum to s
    for rank in ranks:
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    observed = int(ranks[nonzero > 0].sum())
    p = float(chances[observed:].sum())
    if alternative == "two-sided":
        p = 2 * min(p, float(chances[: observed + 1].sum()))
    return _reaching("Wilcoxon signed-rank", min(p, 1.0), _floor(values, alternative), values, alpha, alternative)


def paired_t_test(differences: Sequence[float], alternative: Alternative = "two-sided") -> Test:
    """Return Student's t test of paired differences. It has no floor, but assumes normal differences."""
    return _t_test("paired t", mean_difference(finite_values(differences), CONFIDENCE), alternative)


def welch_test(a: Sequence[float], b: Sequence[float], alternative: Alternative = "two-sided") -> Test:
    """Return Welch's t test of two independent groups.

    Its error rate is below the level at three seeds of equal spread (.035 for .05), and slightly above it when one
    group spreads ten times as far (.058), as simulated in tests/reports/statistics/test_simulated_statistics.py.
    """
    return _t_test("Welch t", welch_difference(a, b), alternative)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values of one family, in the order given (Holm 1979).

    A test without a p-value is still a member of the family: pass 1.0 for it.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1: {list(p_values)}")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def sorted_differences(differences: Sequence[float]) -> tuple[Array, float]:
    """Return the sorted differences, with rounding errors set to 0, and the tolerance within which values tie."""
    values = np.sort(np.array(finite_values(differences)))
    tolerance = NEGLIGIBLE * float(np.abs(values).sum())
    return np.where(np.abs(values) <= tolerance, 0.0, values), tolerance


def _floor(values: Array, alternative: Alternative) -> float:
    """Return the p-value if all differences had one sign. Zeros do not count, as they have no sign to flip."""
    return min(1.0, (2 if alternative == "two-sided" else 1) / 2.0 ** np.count_nonzero(values))


def _reaching(name: str, p: float, floor: float, values: Array, alpha: float, alternative: Alternative) -> Test:
    n, zeros = len(values), len(values) - np.count_nonzero(values)
    note = f"{zeros} of {n} differences are zero" if zeros else ""
    if floor <= alpha:
        return Test(name, p, floor, n, note)
    needed = math.ceil(math.log2((2 if alternative == "two-sided" else 1) / alpha))
    cannot = f"cannot reach {alpha:g}: the smallest possible p is {floor:.3g}; {needed} pairs that differ are needed"
    return Test(name, None, floor, n, "; ".join(filter(None, [note, cannot])))


def _t_test(name: str, difference: Difference, alternative: Alternative) -> Test:
    if difference.standard_error is None or difference.degrees_of_freedom is None:
        return Test(name, None, 1.0, difference.n, "one seed has no spread: t is not defined")
    if not difference.has_spread:
        return Test(name, None, 0.0, difference.n, "the values do not vary between seeds: t is not defined")
    t = difference.mean / difference.standard_error
    if alternative == "two-sided":
        return Test(name, 2 * float(special.stdtr(difference.degrees_of_freedom, -abs(t))), 0.0, difference.n)
    return Test(name, float(special.stdtr(difference.degrees_of_freedom, -t)), 0.0, difference.n)
