import itertools
import math

import numpy as np
import pytest
from scipy import stats

from twinbench.reports.statistics.power import (
    best_of_curve,
    expected_best_of,
    power_of,
    seeds_needed,
    smallest_detectable_difference,
)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 50, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 21])
def test_the_paired_power_equals_statsmodels(n, alpha):
    from statsmodels.stats.power import TTestPower

    for effect in (0.0, 0.3, 1.0, 2.0):
        theirs = TTestPower().power(effect, n, alpha)
        if math.isfinite(theirs):
            assert power_of(2.0, n, 2.0 * effect, alpha) == pytest.approx(theirs, abs=1e-9)


def test_the_power_is_finite_and_one_where_scipys_noncentral_t_gives_nan():
    # In scipy 1.17 nct.cdf(-t, 199, 35) at t = t(1 - 5e-6, 199) is NaN; that chance is nil.
    assert power_of(1.0, 200, 35.0 / math.sqrt(200), 1e-5) == pytest.approx(1.0)
    for n, alpha, effect in itertools.product([2, 3, 30, 1000], [0.05, 1e-5], [0.0, 1.0, 30.0, 1e4, 1e8]):
        for paired in (True, False):
            assert 0 <= power_of(1.0, n, effect, alpha, paired) <= 1 + 1e-12
            assert power_of(1.0, n, effect, alpha, paired) == power_of(1.0, n, -effect, alpha, paired)


@pytest.mark.parametrize("n", [30, 100])
def test_the_unpaired_power_equals_statsmodels_pooled_one_where_seeds_are_many(n):
    from statsmodels.stats.power import TTestIndPower

    for effect in (0.2, 0.5, 0.8):
        theirs = TTestIndPower().power(effect, n, 0.05)
        assert power_of(1.0, n, effect, paired=False) == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize(("n", "effect"), [(2, 5.0), (3, 3.07), (5, 2.03), (10, 1.32)])
def test_the_unpaired_power_is_that_of_welchs_test_and_below_the_pooled_one(n, effect):
    from statsmodels.stats.power import TTestIndPower

    # Another way to the same number: integrate over both sample variances on a grid of their quantiles.
    grid = (np.arange(400) + 0.5) / 400
    a, b = np.meshgrid(*[stats.chi2.ppf(grid, n - 1) / (n - 1)] * 2)
    freedom = (n - 1) * (a + b) ** 2 / (a**2 + b**2)
    reach = stats.t.isf(0.025, freedom) * np.sqrt((a + b) / n)
    scale = math.sqrt(2 / n)
    restated = np.mean(stats.norm.sf((reach - effect) / scale) + stats.norm.cdf((-reach - effect) / scale))
    assert power_of(1.0, n, effect, paired=False) == pytest.approx(restated, abs=1e-3)
    assert power_of(1.0, n, effect, paired=False) < TTestIndPower().power(effect, n, 0.05)


@pytest.mark.parametrize(("n", "difference"), [(3, 1.63), (5, 0.84), (10, 0.50)])
def test_the_smallest_detectable_differences_quoted_for_an_sd_of_a_half(n, difference):
    assert smallest_detectable_difference(0.5, n) == pytest.approx(difference, abs=0.005)


# In units of sd, at alpha .05 and .05 / 21 (all pairs of 7 methods): found by simulation, 200,000 draws each. At the
# second level statsmodels' own search goes astray in scipy's NaN.
SIMULATED = {3: (3.26, 15.0), 4: (2.13, 6.03), 5: (1.68, 3.82), 6: (1.43, 2.89), 8: (1.16, 2.05), 10: (1.00, 1.66)}


@pytest.mark.parametrize("n", SIMULATED)
def test_the_smallest_detectable_paired_difference_equals_statsmodels_and_simulation(n):
    from statsmodels.stats.power import TTestPower

    assert smallest_detectable_difference(1.0, n) == pytest.approx(
        TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8), rel=1e-6
    )
    for alpha, simulated in zip((0.05, 0.05 / 21), SIMULATED[n], strict=True):
        assert smallest_detectable_difference(1.0, n, alpha) == pytest.approx(simulated, rel=0.005)


@pytest.mark.parametrize("paired", [True, False])
def test_the_smallest_detectable_difference_has_the_power_and_the_unit_of_the_sd(paired):
    for n, power in itertools.product([2, 3, 7, 40], [0.8, 0.95]):
        difference = smallest_detectable_difference(0.5, n, 0.01, power, paired)
        assert power_of(0.5, n, difference, 0.01, paired) == pytest.approx(power, abs=1e-8)
        assert smallest_detectable_difference(50.0, n, 0.01, power, paired) == pytest.approx(100 * difference)
    assert smallest_detectable_difference(0.0, 3, paired=paired) == 0.0


def test_one_seed_detects_nothing():
    assert smallest_detectable_difference(0.5, 1) is None
    assert power_of(0.5, 1, 100.0) == 0.0
    with pytest.raises(ValueError, match="power"):
        smallest_detectable_difference(0.5, 3, power=0.01)
    with pytest.raises(ValueError, match="below 0"):
        power_of(-1.0, 3, 1.0)


@pytest.mark.parametrize("paired", [True, False])
def test_the_seeds_needed_are_the_fewest_with_the_power(paired):
    for difference in (0.2, 0.5, 1.0, 3.0, 100.0):
        needed = seeds_needed(1.0, difference, paired=paired)
        assert power_of(1.0, needed, difference, paired=paired) >= 0.8
        assert needed == 2 or power_of(1.0, needed - 1, difference, paired=paired) < 0.8


def test_the_seeds_needed_equal_statsmodels_rounded_up():
    from statsmodels.stats.power import TTestPower

    for effect in (0.3, 0.5, 1.0):
        assert seeds_needed(1.0, effect) == math.ceil(TTestPower().solve_power(effect, alpha=0.05, power=0.8))


def test_more_seeds_than_the_cap_are_none():
    assert seeds_needed(1.0, 0.01) is None
    assert seeds_needed(1.0, 0.0) is None
    assert seeds_needed(1.0, 0.5, most=33) is None
    assert seeds_needed(1.0, 0.5, most=34) == 34  # Cohen's table for d = .5
    assert seeds_needed(0.0, 0.1) == 2


def test_the_best_of_k_is_the_mean_of_the_maximum_over_all_choices_of_k():
    values = [0.3, 0.9, 0.5, 0.5, 0.1, 0.7]
    for k in range(1, 7):
        by_hand = np.mean([max(chosen) for chosen in itertools.combinations(values, k)])
        assert expected_best_of(values, k) == pytest.approx(by_hand, abs=1e-15)
        assert expected_best_of(values, k) == expected_best_of(values[::-1], k)


def test_the_curve_goes_from_the_mean_to_the_maximum():
    values = np.random.default_rng(0).normal(size=300).tolist()
    curve = best_of_curve(values)
    assert curve[0] == pytest.approx(np.mean(values))
    assert curve[-1] == max(values)
    assert curve == sorted(curve)
    # The formula as printed, with binomials: sum of v_(i) C(i - 1, k - 1) / C(n, k).
    printed = [v * (math.comb(i, 149) / math.comb(300, 150)) for i, v in enumerate(sorted(values))]
    assert curve[149] == pytest.approx(math.fsum(printed), rel=1e-12)


def test_more_tries_than_there_are_values_are_an_error():
    for k in (0, 4):
        with pytest.raises(ValueError, match="3 values"):
            expected_best_of([1.0, 2.0, 3.0], k)
