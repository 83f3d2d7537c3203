import math

import numpy as np
import pytest
from scipy import stats

from twinbench.reports.statistics import Interval, t_interval


def test_the_interval_of_three_seeds_worked_out_by_hand():
    # Mean 0.92; deviations -0.02, 0, 0.02; s = sqrt(0.0008 / 2) = 0.02; t(0.975, 2) = 4.303 in every table of t.
    interval = t_interval([0.90, 0.92, 0.94])
    assert interval.mean == pytest.approx(0.92, abs=1e-15)
    assert interval.half_width == pytest.approx(4.303 * 0.02 / math.sqrt(3), rel=1e-4)
    assert interval.n == 3


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_equals_scipys(n, confidence):
    values = np.random.default_rng(n).normal(0.9, 0.01, n)
    low, high = stats.t.interval(confidence, n - 1, loc=values.mean(), scale=stats.sem(values))
    interval = t_interval(list(values), confidence)
    assert interval.mean - interval.half_width == pytest.approx(low, abs=1e-12)
    assert interval.mean + interval.half_width == pytest.approx(high, abs=1e-12)


def test_one_seed_has_a_mean_and_no_interval():
    assert t_interval([0.5]) == Interval(0.5, None, 1)


def test_equal_seeds_have_an_interval_of_no_width():
    assert t_interval([0.7, 0.7, 0.7]).half_width == 0.0


def test_no_seeds_are_an_error():
    with pytest.raises(ValueError, match="no values"):
        t_interval([])


def test_the_order_of_the_seeds_changes_no_bit():
    values = [0.1, 0.2, 0.3, 0.7, 1e-9]
    assert t_interval(values) == t_interval(values[::-1])
