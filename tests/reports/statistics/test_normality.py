"""Seeds that do not spread as a normal sample: the statistic is that of statsmodels, and alarms as often as it says."""

import numpy as np
import pytest
from statsmodels.stats.diagnostic import normal_ad

from twinbench.reports.statistics.normality import CRITICAL, anderson_darling, departs_from_normal


@pytest.mark.parametrize("n", [4, 6, 10, 25])
def test_the_statistic_is_that_of_statsmodels_with_stephens_correction(n):
    rng = np.random.default_rng([1, n])
    for values in (
        rng.normal(0.6, 0.01, n),
        rng.exponential(size=n),
        rng.integers(0, 5, n) / 1000 + [0.0, *[0.6] * (n - 1)],
    ):
        theirs, _ = normal_ad(values)
        assert anderson_darling(values.tolist()) == pytest.approx(theirs * (1 + 0.75 / n + 2.25 / n**2))


def test_statsmodels_gives_the_critical_value_a_p_of_one_in_a_hundred():
    # normal_ad's p is Stephens' formula for the corrected statistic; a sample whose statistic is near the critical one
    values = next(
        row for row in np.random.default_rng(2).normal(size=(5000, 20)) if abs(anderson_darling(row) - CRITICAL) < 0.02
    )
    assert normal_ad(values)[1] == pytest.approx(0.01, abs=0.002)


@pytest.mark.parametrize("n", [4, 5, 6, 8, 10, 20])
def test_at_most_one_normal_sample_in_a_hundred_is_said_not_to_be_one(n):
    rows = np.random.default_rng([3, n]).normal(0.6, 0.01, (6000, n)).tolist()
    assert np.mean([departs_from_normal(row) for row in rows]) <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 6000)


@pytest.mark.parametrize(("n", "found"), [(5, 0.39), (6, 0.70), (8, 0.93), (10, 0.98), (20, 1.0)])
def test_one_failing_seed_among_normal_ones_is_found_more_often_the_more_seeds_there_are(n, found):
    rows = np.random.default_rng([4, n]).normal(0.6, 0.01, (2000, n))
    rows[:, 0] -= 0.1  # by ten standard deviations
    assert np.mean([departs_from_normal(row) for row in rows.tolist()]) == pytest.approx(found, abs=0.03)


def test_few_values_and_equal_ones_are_no_sample_to_test():
    assert anderson_darling([0.1, 0.2, 0.9]) is None
    assert anderson_darling([0.3] * 6) is None
    assert not departs_from_normal([0.3] * 6)
