"""Whether seeds spread as a normal sample does, which t intervals assume."""

from collections.abc import Sequence

import numpy as np
from scipy import special

from twinbench.reports.statistics.hypothesis_tests import sorted_differences

CRITICAL = 1.035  # of Anderson and Darling's statistic, exceeded by one normal sample in a hundred


def anderson_darling(values: Sequence[float]) -> float | None:
    """Return Anderson and Darling's statistic for a normal of unknown mean and variance, with Stephens' correction.

    Stephens 1986, table 4.7: it exceeds 0.752 in 5 % and 1.035 in 1 % of normal samples, and less often with fewer than
    eight values (simulated in tests/reports/statistics/test_normality.py). None below four values, of which it never
    exceeds 1.035, and for values that do not vary.
    """
    ordered, tolerance = sorted_differences(values)
    n = len(ordered)
    if n < 4 or ordered[-1] - ordered[0] <= tolerance:
        return None
    z = (ordered - ordered.mean()) / ordered.std(ddof=1)
    weights = (2 * np.arange(1, n + 1) - 1) / n
    statistic = -n - float(weights @ (special.log_ndtr(z) + special.log_ndtr(-z[::-1])))
    return statistic * (1 + 0.75 / n + 2.25 / n**2)


def departs_from_normal(values: Sequence[float]) -> bool:
    """Return whether the values spread unlike a normal sample: one that is normal does so in at most 1 % of cases."""
    statistic = anderson_darling(values)
    return statistic is not None and statistic > CRITICAL
