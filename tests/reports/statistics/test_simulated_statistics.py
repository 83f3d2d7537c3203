"""What the statistics promise, put to simulated sweeps. Each simulation states its seed: a rerun draws the same.

Tolerances are the promise (1 % of coverage, 2 % of power); what the draws themselves blur is less, and stated.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from twinbench.reports.statistics.hypothesis_tests import holm, sign_flip_test, wilcoxon_test
from twinbench.reports.statistics.intervals import (
    LEAST_WELCH_COVERAGE,
    mean_difference,
    paired_difference,
    t_interval,
    welch_covers,
    welch_difference,
)
from twinbench.reports.statistics.per_example import (
    ExampleInterval,
    mcnemar,
    over_seeds_and_examples,
    paired_example_difference,
)
from twinbench.reports.statistics.power import best_of_curve, expected_best_of, power_of, seeds_needed
from twinbench.reports.statistics.superiority import probability_of_improvement

ALPHA = 0.05


def standard_error(share, repeats):
    return math.sqrt(share * (1 - share) / repeats)


def sweeps(repeats, n, correlation, difference, rng, spread=1.0):
    """Values of two methods [repeats, seeds]: unit sd, correlated seed by seed, means 0.9 + difference and 0.9."""
    shared = math.sqrt(correlation) * rng.normal(size=(repeats, n))
    own = math.sqrt(1 - correlation)
    a = 0.9 + difference + shared + own * rng.normal(size=(repeats, n))
    return a, 0.9 + spread * (shared + own * rng.normal(size=(repeats, n)))


# Intervals over seeds


DRAWS = 20_000
WITHIN = 0.01 - 2 * standard_error(0.95, DRAWS)  # so close, the true coverage is within 1 %: the blur is .0015


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_t_interval_covers_as_often_as_it_says(n):
    values = np.random.default_rng([1, n]).normal(0.9, 0.01, (DRAWS, n))
    intervals = [t_interval(row) for row in values.tolist()]
    covered = np.mean([abs(interval.mean - 0.9) <= interval.half_width for interval in intervals])
    assert covered == pytest.approx(0.95, abs=WITHIN)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "correlation"), [(3, 0.7), (5, 0.7), (10, 0.7), (3, 0.0)])
def test_the_paired_interval_covers_as_often_as_it_says(n, correlation):
    a, b = sweeps(DRAWS, n, correlation, 0.5, np.random.default_rng([2, n]))
    found = [
        paired_difference(dict(enumerate(x)), dict(enumerate(y))) for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) == pytest.approx(0.95, abs=WITHIN)
    if correlation:  # what pairing is for: sd of differences = sqrt(2 (1 - r)) seed sd
        assert np.mean([one.sd**2 for one in found]) == pytest.approx(2 * (1 - correlation), rel=0.03)


NODES, WEIGHTS = np.polynomial.legendre.leggauss(2000)
SPREADS = np.geomspace(0.02, 50, 41)  # of A, where B has 1


def welch_coverage(n, m, spread):
    """The chance that Welch's 95 % interval of n seeds of A and m of B holds their true difference, without drawing.

    The total of both sums of squares is independent of A's share in it, which is beta distributed; given the share, the
    interval's width in units of a t of n + m - 2 degrees of freedom is known. Quadrature over the share does the rest.
    """
    of_a, of_b = n - 1, m - 1
    share = stats.beta.ppf((NODES + 1) / 2, of_a / 2, of_b / 2)
    true = (spread**2 / n) / (spread**2 / n + 1 / m)  # of A in the variance of the difference
    part, rest = true * share / of_a, (1 - true) * (1 - share) / of_b
    seen = part / (part + rest)
    quantile = stats.t.ppf(0.975, 1 / (seen**2 / of_a + (1 - seen) ** 2 / of_b))
    inside = 2 * stats.t.cdf(quantile * np.sqrt((of_a + of_b) * (part + rest)), of_a + of_b) - 1
    return float(WEIGHTS @ inside / 2)


@pytest.mark.parametrize(("n", "m", "spread"), [(3, 3, 1.0), (3, 3, 5.0), (5, 5, 1.0), (10, 10, 3.0), (3, 10, 2.0)])
def test_welchs_interval_covers_as_often_as_quadrature_says(n, m, spread):
    rng = np.random.default_rng([3, n, m, round(spread)])
    a, b = rng.normal(0.5, spread, (4000, n)).tolist(), rng.normal(0, 1, (4000, m)).tolist()
    found = [welch_difference(x, y) for x, y in zip(a, b, strict=True)]
    exact = welch_coverage(n, m, spread)
    covered = np.mean([one.low <= 0.5 <= one.high for one in found])
    assert covered == pytest.approx(exact, abs=2.5 * standard_error(exact, 4000))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 5), (5, 20), (6, 10), (10, 10)])
def test_welchs_interval_covers_within_one_percent_whatever_the_spreads_from_five_seeds_on(n, m):
    found = [welch_coverage(n, m, spread) for spread in SPREADS]
    assert 0.94 <= min(found) <= max(found) <= 0.96 and welch_covers(n, m)


def test_welchs_interval_of_three_seeds_a_side_is_too_wide_at_equal_spreads_and_never_one_percent_too_narrow():
    found = {spread: welch_coverage(3, 3, spread) for spread in SPREADS}
    assert min(found.values()) == pytest.approx(0.9410, abs=2e-4)
    assert max(found, key=found.__getitem__) == pytest.approx(1)
    assert max(found.values()) == pytest.approx(0.9649, abs=2e-4)
    assert welch_covers(3, 3)


@pytest.mark.parametrize(
    ("n", "m", "least"), [(2, 2, 0.936), (3, 4, 0.937), (3, 50, 0.923), (2, 30, 0.875), (4, 20, 0.938)]
)
def test_welchs_interval_of_few_seeds_against_more_covers_less_than_it_says_which_is_told(n, m, least):
    assert min(welch_coverage(n, m, spread) for spread in SPREADS) == pytest.approx(least, abs=1e-3)
    assert not welch_covers(n, m) and not welch_covers(m, n)


@pytest.mark.parametrize("n", LEAST_WELCH_COVERAGE)
def test_the_least_coverage_that_a15_and_the_docs_state_is_that_of_very_many_seeds_on_the_other_side(n):
    least = min(welch_coverage(n, 10_000, spread) for spread in np.geomspace(0.01, 1, 41))
    assert round(least, 3) == LEAST_WELCH_COVERAGE[n]
    docs = (Path(__file__).parents[3] / "docs" / "claims.md").read_text(encoding="utf-8")
    assert f"| {n} and any number | down to {100 * least:.1f} %: not 95 |" in docs


@pytest.mark.parametrize(("spread", "least"), [(1.0, 0.95), (3.0, 0.92)])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_unpaired_interval_of_p_a_above_b_covers_for_normal_values(n, spread, least):
    for probability in (0.5, 0.7, 0.9, 0.98):
        shift = stats.norm.ppf(probability) * math.hypot(1, spread)
        a, b = sweeps(2000, n, 0.0, shift, np.random.default_rng([4, n, round(100 * probability)]), spread)
        found = [
            probability_of_improvement(dict(enumerate(x)), dict(enumerate(y)), paired=False)
            for x, y in zip(a.tolist(), b.tolist(), strict=True)
        ]
        covered = np.mean([one.low <= probability <= one.high for one in found])
        assert covered >= least - 2 * standard_error(least, 2000)


# Power


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_paired_power_is_what_simulation_finds(n):
    rng = np.random.default_rng([5, n])
    for effect in (0.5, 1.0, 2.0):
        simulated = stats.ttest_1samp(rng.normal(effect, 1, (20_000, n)), 0, axis=1).pvalue < ALPHA  # blur .0035
        assert power_of(1.0, n, effect) == pytest.approx(simulated.mean(), abs=0.02)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_unpaired_power_is_what_simulation_of_welchs_test_finds(n):
    rng = np.random.default_rng([6, n])
    for effect in (0.5, 1.5, 3.0):
        a, b = sweeps(20_000, n, 0.0, effect, rng)
        simulated = stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue < ALPHA
        assert power_of(1.0, n, effect, paired=False) == pytest.approx(simulated.mean(), abs=0.02)


def test_the_seeds_needed_reach_the_power_in_simulation():
    needed = seeds_needed(0.5, 0.4)
    values = np.random.default_rng(7).normal(0.4, 0.5, (20_000, needed))
    assert 0.79 <= np.mean(stats.ttest_1samp(values, 0, axis=1).pvalue < ALPHA) <= 0.84


# Tests under the null


def test_the_exact_tests_reject_at_most_at_their_level_over_all_patterns_of_signs():
    rng = np.random.default_rng(8)
    for magnitudes in (rng.exponential(size=7), np.array([1, 1, 1, 2, 2, 3, 5]), np.array([0, 0, 1, 1, 2, 3, 4, 5])):
        patterns = np.array(np.meshgrid(*[[-1, 1]] * len(magnitudes))).reshape(len(magnitudes), -1).T * magnitudes
        for test in (sign_flip_test, wilcoxon_test):
            p_values = np.array([test(pattern, 1.0).p for pattern in patterns])
            for level in (0.01, 0.05, 0.1, 0.3):
                assert np.mean(p_values <= level) <= level
            assert np.mean(p_values <= 0.3) > 0.2  # and not idly so


def test_drawn_signs_reject_at_most_at_their_level():
    rng = np.random.default_rng(9)
    p_values = [sign_flip_test(rng.normal(size=18), ALPHA, rng=rng, resamples=199).p for _ in range(3000)]
    assert np.mean(np.array(p_values) <= ALPHA) <= ALPHA + 2 * standard_error(ALPHA, 3000)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_t_tests_reject_at_most_at_their_level(n):
    a, b = sweeps(3000, n, 0.5, 0.0, np.random.default_rng([10, n]))
    _, c = sweeps(3000, n, 0.0, 0.0, np.random.default_rng([11, n]))
    paired = np.array([mean_difference(row).p for row in (a - b).tolist()])
    welch = np.array([welch_difference(x, y).p for x, y in zip(a.tolist(), c.tolist(), strict=True)])
    for p_values in (paired, welch):
        assert np.mean(p_values <= ALPHA) <= ALPHA + 2 * standard_error(ALPHA, 3000)


def test_welchs_test_exceeds_its_level_by_less_than_one_percent_where_one_group_spreads_ten_times_as_far():
    a, b = sweeps(100_000, 3, 0.0, 0.0, np.random.default_rng(12), spread=10.0)  # blur .0007
    p_values = stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue
    assert ALPHA < np.mean(p_values <= ALPHA) < ALPHA + 0.01
    ours = [welch_difference(x, y).p for x, y in zip(a[:300].tolist(), b[:300].tolist(), strict=True)]
    assert ours == pytest.approx(p_values[:300].tolist(), rel=1e-9)


@pytest.mark.parametrize("false_nulls", [0, 3])
def test_holm_errs_in_at_most_alpha_of_the_families(false_nulls):
    # Six methods against one baseline: all six tests share its seeds, as in a real table.
    rng = np.random.default_rng([13, false_nulls])
    effects = np.array([3.0] * false_nulls + [0.0] * (6 - false_nulls))
    methods = rng.normal(size=(10_000, 6, 5)) + effects[:, None]
    p_values = stats.ttest_1samp(methods - rng.normal(size=(10_000, 1, 5)), 0, axis=2).pvalue
    rejected = np.array([holm(family) for family in p_values.tolist()]) <= ALPHA
    assert rejected[:, false_nulls:].any(axis=1).mean() <= ALPHA
    assert (p_values[:, false_nulls:] <= ALPHA).any(axis=1).mean() > 2 * ALPHA  # without Holm it would be far more
    if false_nulls:
        assert rejected[:, :false_nulls].mean() > 0.5


# Test examples


def test_the_paired_difference_over_examples_covers_and_mcnemar_rejects_at_most_at_its_level():
    rng = np.random.default_rng(17)
    covered, tests = [], {200: [], 1000: []}  # few discordant pairs, and many
    for _ in range(2000):
        hardness = rng.random(2000)
        a, b = (hardness < rng.normal(0.9, 0.05, 2000) for _ in range(2))
        difference = paired_example_difference(a, b)
        covered.append(difference.low <= 0 <= difference.high)
        for n, found in tests.items():
            found.append(mcnemar(a[:n], b[:n]))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
    for found, method in zip(tests.values(), ("exact binomial", "chi-square with continuity correction"), strict=True):
        assert {one.method for one in found} == {method}
        assert np.mean([one.p <= ALPHA for one in found]) <= ALPHA


def exchanged(rng, seeds, alike):
    """Correctness [seeds, images] of two methods that find other images hard, exchanged in half of the images.

    `alike`: at all seeds in the same images. Otherwise each seed draws its own.
    """
    hard = rng.normal(2.0, 2.0, (2, 1, 400))
    a, b = rng.random((2, seeds, 400)) < 1 / (1 + np.exp(-hard))
    swapped = rng.random((1 if alike else seeds, 400)) < 0.5
    return np.where(swapped, b, a), np.where(swapped, a, b)


def rates_below_0(rng, seeds, alike, sweeps):
    """How often the interval over seeds lies below 0, and the one over seeds and images together."""
    found = []
    for a, b in (exchanged(rng, seeds, alike) for _ in range(sweeps)):
        over_seeds = mean_difference((a.mean(axis=1) - b.mean(axis=1)).tolist())
        together = over_seeds_and_examples(over_seeds, paired_example_difference(a, b))
        found.append((over_seeds.high < 0, together.high < 0))
    return np.mean(found, axis=0)


@pytest.mark.parametrize(("seeds", "of_these_images"), [(3, 0.06), (6, 0.12), (20, 0.28)])
def test_the_interval_over_seeds_covers_new_seeds_on_these_images_and_not_other_images(seeds, of_these_images):
    """Methods exchanged in the same images at all seeds are equal on average over images, and not on those drawn."""
    rng = np.random.default_rng([37, seeds])
    over_seeds, together = rates_below_0(rng, seeds, alike=True, sweeps=800)
    assert over_seeds == pytest.approx(of_these_images, abs=0.04)
    assert together <= 0.025 + 2 * standard_error(0.025, 800)


@pytest.mark.parametrize("seeds", [3, 6, 20])
def test_the_interval_over_seeds_covers_where_each_seed_has_an_exchange_of_its_own(seeds):
    over_seeds, _ = rates_below_0(np.random.default_rng([38, seeds]), seeds, alike=False, sweeps=800)
    assert over_seeds <= 0.025 + 2 * standard_error(0.025, 800)


@pytest.mark.slow
@pytest.mark.parametrize("spreads", [(1, 1), (1, 4), (4, 1)])
def test_the_interval_over_seeds_and_examples_covers_both_whichever_varies_more(spreads):
    """Crossed effects of 6 seeds and 300 images, and their interaction, on a continuous score."""
    rng, covered = np.random.default_rng([39, *spreads]), []
    of_seed, of_image = spreads
    for _ in range(3000):
        seeds, images = rng.normal(0, of_seed / math.sqrt(50), (6, 1)), rng.normal(0, of_image, (1, 300))
        differences = seeds + images + rng.normal(0, 1, (6, 300))
        over_seeds = mean_difference(differences.mean(axis=1).tolist())
        half = stats.t.ppf(0.975, 299) * differences.mean(axis=0).std(ddof=1) / math.sqrt(300)
        of_images = ExampleInterval(over_seeds.mean, over_seeds.mean - half, over_seeds.mean + half, 300, 0.95, "")
        together = over_seeds_and_examples(over_seeds, of_images)
        covered.append(together.low <= 0 <= together.high)
    assert 0.945 <= np.mean(covered) <= 0.985


# The best of k


def test_the_expected_best_of_k_is_unbiased_and_the_plug_in_estimate_is_not():
    # The mean of the best of k normal draws is 1 / sqrt(pi) for 2 and 1.0294 for 4 in any table of order statistics.
    rng, n, k, truth = np.random.default_rng(18), 8, 4, 1.0294
    draws = rng.normal(size=(5000, n))
    ours = np.array([expected_best_of(row, k) for row in draws.tolist()])
    blur = ours.std() / math.sqrt(len(ours))
    assert abs(ours.mean() - truth) < 2 * blur
    curves = np.array([best_of_curve(row) for row in draws[:2000].tolist()])
    assert curves[:, 1].mean() == pytest.approx(1 / math.sqrt(math.pi), abs=3 * curves[:, 1].std() / math.sqrt(2000))
    # Dodge's: draws with replacement from the n values.
    weights = np.diff((np.arange(n + 1) / n) ** k)
    plug_in = np.sort(draws, axis=1) @ weights
    assert plug_in.mean() < truth - 5 * blur
