import math

import numpy as np
import pytest
from scipy import stats

from twinbench.reports.statistics.intervals import mean_difference
from twinbench.reports.statistics.per_example import (
    ExampleInterval,
    mcnemar,
    over_seeds_and_examples,
    paired_example_difference,
)


def right(n, accuracy):
    """Exactly that share of n examples right."""
    return np.arange(n) < round(n * accuracy)


def drawn(n, seeds, seed=0, gain=0.02):
    """Correctness [seeds, n] of two methods on examples of shared difficulty."""
    rng = np.random.default_rng(seed)
    difficulty = rng.beta(0.8, 0.2, n)
    return rng.random((seeds, n)) < np.clip(difficulty + gain, 0, 1), rng.random((seeds, n)) < difficulty


def test_the_paired_difference_equals_scipys_t_interval_of_the_examples_means():
    correct_a, correct_b = drawn(3000, 5)
    ours = paired_example_difference(correct_a, correct_b[:3])
    theirs = stats.ttest_rel(correct_a.mean(axis=0), correct_b[:3].mean(axis=0))
    interval = theirs.confidence_interval(0.95)
    assert ours.estimate == pytest.approx(correct_a.mean() - correct_b[:3].mean(), abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert ours.n == 3000
    order = np.random.default_rng(1).permutation(3000)
    assert ours == paired_example_difference(correct_a[:, order], correct_b[:3, order])


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
        mcnemar(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool))


def test_seeds_and_examples_together_add_their_variances_with_satterthwaites_degrees_of_freedom():
    seeds = mean_difference([0.01, 0.02, 0.03, 0.04, 0.05])  # standard error .0070711 of 4 degrees of freedom
    half = stats.t.ppf(0.975, 999) * 0.01
    joint = over_seeds_and_examples(seeds, ExampleInterval(0.03, 0.03 - half, 0.03 + half, 1000, 0.95, "paired t"))
    error = math.sqrt(0.00005 + 0.0001)
    freedom = 0.00015**2 / (0.00005**2 / 4 + 0.0001**2 / 999)
    assert (joint.mean, joint.standard_error, joint.degrees_of_freedom) == pytest.approx((0.03, error, freedom))
    assert (joint.low, joint.high) == pytest.approx(stats.t.interval(0.95, freedom, 0.03, error))
    assert over_seeds_and_examples(seeds.at(0.99), ExampleInterval(0.03, 0.02, 0.04, 9, 0.95, "")).confidence == 0.99
    one = mean_difference([0.01])
    assert over_seeds_and_examples(one, ExampleInterval(0.03, 0.02, 0.04, 9, 0.95, "")) == one
