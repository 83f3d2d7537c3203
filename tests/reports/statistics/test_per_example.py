import math

import numpy as np
import pytest
from scipy import stats

from twinbench.reports.statistics.per_example import bootstrap_interval, mcnemar, paired_example_difference


def right(n, accuracy):
    """Exactly that share of n examples right."""
    return np.arange(n) < round(n * accuracy)


def drawn(n, seeds, seed=0, gain=0.02):
    """Correctness [seeds, n] of two methods on examples of shared difficulty."""
    rng = np.random.default_rng(seed)
    difficulty = rng.beta(0.8, 0.2, n)
    return rng.random((seeds, n)) < np.clip(difficulty + gain, 0, 1), rng.random((seeds, n)) < difficulty


def test_ten_thousand_examples_at_ninety_percent_have_a_standard_error_of_0_3_points():
    interval = bootstrap_interval(right(10_000, 0.9), np.random.default_rng(0), resamples=100_000)
    assert interval.estimate == 0.9
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * 0.0030, rel=0.02)
    assert (interval.n, interval.confidence, interval.method) == (10_000, 0.95, "percentile bootstrap")


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_bootstrap_equals_scipys(seeds):
    correct = drawn(1000, seeds)[0]
    ours = bootstrap_interval(correct, np.random.default_rng(0), resamples=50_000, confidence=0.9)
    theirs = stats.bootstrap(
        (correct.mean(axis=0),),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        confidence_level=0.9,
        rng=np.random.default_rng(1),
        batch=1000,
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.001)


def test_the_bootstrap_of_many_examples_is_close_to_wilsons_interval():
    wilson = stats.binomtest(9000, 10_000).proportion_ci(0.95, method="wilson")
    ours = bootstrap_interval(right(10_000, 0.9), np.random.default_rng(0))
    assert (ours.low, ours.high) == pytest.approx((wilson.low, wilson.high), abs=3e-4)


def test_the_generator_decides_the_bootstrap_and_the_order_of_the_examples_does_not():
    correct = drawn(500, 3)[0]
    shuffled = correct[:, np.random.default_rng(5).permutation(500)]
    first, again, other = (
        bootstrap_interval(x, np.random.default_rng(s)) for x, s in ((correct, 1), (shuffled, 1), (correct, 2))
    )
    assert first == again != other


def test_several_seeds_narrow_the_interval_only_as_far_as_the_examples_allow():
    # All seeds right on the same examples: ten copies of one run say no more than one.
    one = right(2000, 0.8)
    assert bootstrap_interval(np.stack([one] * 10), np.random.default_rng(0)) == bootstrap_interval(
        one, np.random.default_rng(0)
    )


def test_the_paired_difference_equals_scipys_t_interval_of_the_examples_means():
    correct_a, correct_b = drawn(3000, 5)
    ours = paired_example_difference(correct_a, correct_b[:3], confidence=0.9)
    theirs = stats.ttest_rel(correct_a.mean(axis=0), correct_b[:3].mean(axis=0))
    interval = theirs.confidence_interval(0.9)
    assert ours.estimate == pytest.approx(correct_a.mean() - correct_b[:3].mean(), abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert ours.n == 3000
    order = np.random.default_rng(1).permutation(3000)
    assert ours == paired_example_difference(correct_a[:, order], correct_b[:3, order], confidence=0.9)


@pytest.mark.parametrize(("accuracy", "half_width"), [(0.85, 0.99), (0.90, 0.83), (0.95, 0.60)])
def test_pairing_by_example_beats_the_unpaired_half_widths_quoted(accuracy, half_width):
    # Unpaired, two accuracies on 10,000 examples: 1.96 sqrt(2 p (1 - p) / n), in points.
    assert 100 * 1.96 * math.sqrt(2 * accuracy * (1 - accuracy) / 10_000) == pytest.approx(half_width, abs=0.005)
    a, b = right(10_000, accuracy), right(10_000, accuracy)
    b[:100] = False
    difference = paired_example_difference(a, b)
    assert difference.estimate == pytest.approx(0.01)
    assert 100 * (difference.high - difference.low) / 2 < half_width / 3


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (3, 9), (12, 12), (14, 10), (15, 10), (40, 21), (30, 30)])
def test_mcnemars_test_equals_statsmodels(b, c):
    from statsmodels.stats.contingency_tables import mcnemar as theirs

    both, neither = 50, 20
    correct_a = np.repeat([True, True, False, False], [both, b, c, neither])
    correct_b = np.repeat([True, False, True, False], [both, b, c, neither])
    ours = mcnemar(correct_a, correct_b)
    exact = b + c < 25
    expected = theirs([[both, b], [c, neither]], exact=exact, correction=True).pvalue if b != c or exact else 1.0
    assert (ours.b, ours.c) == (b, c)
    assert ours.p == pytest.approx(expected, rel=1e-9)
    assert ours.method.startswith("exact") == exact


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match="correct_b is float64 of shape"):
        paired_example_difference(right(5, 0.4), np.zeros(5))
    with pytest.raises(ValueError, match="not the same examples: 5 of A, 6 of B"):
        mcnemar(right(5, 0.4), right(6, 0.5))
    with pytest.raises(ValueError, match="several seeds"):
        mcnemar(*drawn(10, 2))
    with pytest.raises(ValueError, match="not empty"):
        bootstrap_interval(np.zeros(0, dtype=bool), np.random.default_rng(0))
