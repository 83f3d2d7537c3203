"""Statistics over seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

CONFIDENCE = 0.95


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
    # The standard library's mean and deviation are exact to the last bit, so that no order of the seeds can move it.
    mean = float(statistics.mean(values))
    if n == 1:
        return Interval(mean, None, 1, confidence)
    quantile = float(stats.t.ppf(0.5 + confidence / 2, n - 1))
    return Interval(mean, quantile * statistics.stdev(values) / math.sqrt(n), n, confidence)
