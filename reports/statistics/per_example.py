"""Statistics over test examples: how accuracies would vary on another test sample of the same kind.

Inputs are boolean arrays of correct predictions, [examples] or [seeds, examples]; for several seeds the unit is an
example's mean over them. Intervals cover the sampling of the test examples for the given trained networks; intervals.py
covers the variation between seeds, and a comparison shows both. The order of the examples does not matter.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from twinbench.reports.statistics.intervals import CONFIDENCE, Difference

FEW_DISCORDANT = 25  # below, McNemar's test is exact; chi-square is used from b + c = 25, the usual rule of thumb

Correct = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExampleInterval:
    """An accuracy, or a difference of two, as a fraction, with its interval over `n` test examples.

    `method` names the interval. Covers the draw of the test examples, not the seeds.
    """

    estimate: float
    low: float
    high: float
    n: int
    confidence: float
    method: str


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two classifiers on the same examples: A alone is right on `b`, B alone on `c`."""

    b: int
    c: int
    p: float
    method: str


def paired_example_difference(correct_a: Correct, correct_b: Correct) -> ExampleInterval:
    """Return accuracy of A minus that of B on the same examples, with the paired 95 % t interval over examples.

    An example's difference is between its means over A's and B's seeds, whose numbers may differ. For hundreds of
    examples or more, where the mean is close to normal.
    """
    hits_a, hits_b = _hits(correct_a, correct_b)
    seeds_a, seeds_b, n = np.atleast_2d(correct_a).shape[0], np.atleast_2d(correct_b).shape[0], len(hits_a)
    if n < 2:
        raise ValueError("an interval over one example was asked for")
    scaled = hits_a * seeds_b - hits_b * seeds_a  # whole numbers, so that sums are exact in any order
    scale, total, squares = seeds_a * seeds_b, int(scaled.sum()), int((scaled**2).sum())
    error = math.sqrt((n * squares - total**2) / (n - 1)) / n / scale
    estimate, half_width = total / n / scale, float(special.stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * error
    return ExampleInterval(estimate, estimate - half_width, estimate + half_width, n, CONFIDENCE, "paired t")


def over_seeds_and_examples(over_seeds: Difference, over_examples: ExampleInterval) -> Difference:
    """Return a difference with the interval over new seeds and new test examples together, at its own confidence.

    The seeds share the test examples, so the interval over seeds does not cover their draw. With crossed effects of
    seeds and examples the variance of the mean is that of either, less the part of their interaction that both hold:
    the sum is never too small. Degrees of freedom: Satterthwaite 1946. Returned as it is where it has no interval.
    """
    error, freedom = over_seeds.standard_error, over_seeds.degrees_of_freedom
    if error is None or freedom is None:
        return over_seeds
    half_width, others = (over_examples.high - over_examples.low) / 2, over_examples.n - 1
    of_examples = half_width / float(special.stdtrit(others, 0.5 + over_examples.confidence / 2))
    total = error**2 + of_examples**2
    if total > 0:
        freedom = total**2 / (error**4 / freedom + of_examples**4 / others)
    return replace(over_seeds, standard_error=math.sqrt(total), degrees_of_freedom=freedom).at(over_seeds.confidence)


def mcnemar(correct_a: Correct, correct_b: Correct) -> McNemar:
    """Return McNemar's two-sided test (1947) of two trained networks, from the examples that only one has right.

    Below 25 of these it is the exact binomial; else chi-square with Edwards' correction for continuity,
    (|b - c| - 1)² / (b + c).
    """
    if correct_a.ndim != 1 or correct_b.ndim != 1:
        raise ValueError("McNemar's test compares two runs; for several seeds there is paired_example_difference")
    hits_a, hits_b = _hits(correct_a, correct_b)
    b, c = int((hits_a > hits_b).sum()), int((hits_b > hits_a).sum())
    if b + c == 0:
        return McNemar(0, 0, 1.0, "exact binomial")
    if b + c < FEW_DISCORDANT:
        return McNemar(b, c, min(1.0, 2 * float(special.bdtr(min(b, c), b + c, 0.5))), "exact binomial")
    chi_square = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    return McNemar(b, c, float(special.chdtrc(1, chi_square)), "chi-square with continuity correction")


def _hits(correct_a: Correct, correct_b: Correct) -> tuple[Counts, Counts]:
    """Return at how many seeds of A, and of B, each example was right."""
    for name, correct in (("correct_a", correct_a), ("correct_b", correct_b)):
        if correct.dtype != np.bool_ or correct.ndim not in (1, 2) or correct.size == 0:
            wanted = "a boolean array [examples] or [seeds, examples], not empty"
            raise ValueError(f"{name} is {correct.dtype} of shape {correct.shape}; allowed: {wanted}")
    hits_a, hits_b = (np.atleast_2d(correct).sum(axis=0, dtype=np.int64) for correct in (correct_a, correct_b))
    if len(hits_a) != len(hits_b):
        raise ValueError(f"not the same examples: {len(hits_a)} of A, {len(hits_b)} of B")
    return hits_a, hits_b
