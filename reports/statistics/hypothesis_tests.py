"""Tests of paired differences over seeds that need no normal values, and Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from twinbench.reports.statistics.intervals import NEGLIGIBLE, finite_values, least_wins

ENUMERATED = 16  # up to this many pairs, all 2^n patterns of signs are enumerated
RESAMPLES = 9_999  # patterns of signs drawn above that
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Test:
    """A two-sided test of no difference. `floor` is the smallest p-value possible with these pairs.

    `p` is None if the floor is above the level, which `note` then says.
    """

    __test__: ClassVar = False  # keeps pytest from collecting it

    name: str
    p: float | None
    floor: float
    n: int
    note: str = ""


def sign_flip_test(
    differences: Sequence[float], alpha: float, rng: np.random.Generator | None = None, resamples: int = RESAMPLES
) -> Test:
    """Return Fisher's randomisation test of paired differences: how often random signs give a mean as far from 0.

    Exact up to 16 pairs; above, p = (b + 1) / (m + 1) over m patterns drawn from `rng` (Phipson and Smyth 2010).
    Assumes that under the null the differences are symmetric about 0; the floor is 2 / 2^n.
    """
    values, tolerance = sorted_differences(differences)
    n, floor = len(values), _floor(values)
    if n <= ENUMERATED:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums - value, sums + value])
    elif rng is None:
        raise ValueError(f"{n} pairs have too many patterns of signs to enumerate: the test needs a generator")
    else:
        sums = (2 * rng.integers(0, 2, (resamples, n)) - 1) @ values
        sums, floor = np.append(sums, values.sum()), max(floor, 1 / (resamples + 1))
    p = float(np.mean(np.abs(sums) >= abs(values.sum()) - tolerance))
    return _reaching("sign-flip", p, floor, values, alpha)


def wilcoxon_test(differences: Sequence[float], alpha: float) -> Test:
    """Return Wilcoxon's signed-rank test, exact at every n: zeros are left out, ties share their mean rank.

    The distribution of the sum of positive ranks is built rank by rank, so it is also exact with ties, unlike scipy's
    `method="exact"`. Floor: 2 / 2^n of the differences that are not zero.
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
    p = min(1.0, 2 * float(min(chances[observed:].sum(), chances[: observed + 1].sum())))
    return _reaching("Wilcoxon signed-rank", p, _floor(values), values, alpha)


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


def _floor(values: Array) -> float:
    """Return the p-value if all differences had one sign. Zeros do not count, as they have no sign to flip."""
    return min(1.0, 2 / 2.0 ** np.count_nonzero(values))


def _reaching(name: str, p: float, floor: float, values: Array, alpha: float) -> Test:
    n, zeros = len(values), len(values) - np.count_nonzero(values)
    note = f"{zeros} of {n} differences are zero" if zeros else ""
    if floor <= alpha:
        return Test(name, p, floor, n, note)
    needed = f"{least_wins(alpha)} pairs that differ are needed"
    cannot = f"cannot reach {alpha:g}: the smallest possible p is {floor:.3g}; {needed}"
    return Test(name, None, floor, n, "; ".join(filter(None, [note, cannot])))
