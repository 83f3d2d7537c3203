import itertools
import math

import numpy as np
import pytest
from scipy import stats

from twinbench.reports.statistics.hypothesis_tests import holm, sign_flip_test, wilcoxon_test
from twinbench.reports.statistics.intervals import (
    Interval,
    paired_difference,
    seed_differences,
    t_interval,
    welch_difference,
)
from twinbench.reports.statistics.superiority import probability_of_improvement


def seeds(values):
    return dict(enumerate(values))


def drawn(n, seed=0, shift=0.01):
    """Two methods' values by seed, with a shared seed effect."""
    rng = np.random.default_rng([seed, n])
    shared = rng.normal(0.9, 0.01, n)
    return seeds((shared + shift + rng.normal(0, 0.01, n)).tolist()), seeds((shared + rng.normal(0, 0.01, n)).tolist())


# One mean


def test_the_interval_of_three_seeds_worked_out_by_hand():
    # Mean 0.92; deviations -0.02, 0, 0.02; s = sqrt(0.0008 / 2) = 0.02; t(0.975, 2) = 4.303 in every table of t.
    interval = t_interval([0.90, 0.92, 0.94])
    assert interval.mean == pytest.approx(0.92, abs=1e-15)
    assert interval.half_width == pytest.approx(4.303 * 0.02 / math.sqrt(3), rel=1e-4)
    assert interval.n == 3


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_equals_scipys(n):
    values = np.random.default_rng(n).normal(0.9, 0.01, n)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    interval = t_interval(list(values))
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


# Differences


def test_the_paired_difference_of_three_seeds_worked_out_by_hand():
    # Differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.303, half width 4.303 / sqrt(3); d_z = 2 / 1.
    difference = paired_difference({0: 11.0, 1: 22.0, 2: 33.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    assert (difference.mean, difference.sd, difference.n, difference.paired) == (2.0, 1.0, 3, True)
    assert difference.high - difference.mean == pytest.approx(4.303 / math.sqrt(3), rel=1e-4)
    assert difference.effect_size == 2.0
    assert difference.correlation == pytest.approx(1.0)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.9976])
def test_the_paired_difference_equals_scipys(n, confidence):
    a, b = drawn(n)
    ours = paired_difference(a, b).at(confidence)
    theirs = stats.ttest_rel(list(a.values()), list(b.values())).confidence_interval(confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    if n >= 3:
        assert ours.correlation == pytest.approx(stats.pearsonr(list(a.values()), list(b.values()))[0], abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (3, 7), (10, 4)])
def test_the_unpaired_difference_equals_scipys_and_statsmodels(n, m):
    from statsmodels.stats.weightstats import CompareMeans

    rng = np.random.default_rng([n, m])
    a, b = rng.normal(0.9, 0.01, n), rng.normal(0.88, 0.04, m)
    ours = welch_difference(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert ours.degrees_of_freedom == pytest.approx(theirs.df)
    # statsmodels' pooled standard error of the difference is sd sqrt(1/n + 1/m).
    pooled = CompareMeans.from_data(a, b).std_meandiff_pooledvar / math.sqrt(1 / n + 1 / m)
    assert ours.sd == pytest.approx(pooled, rel=1e-12)
    assert ours.effect_size == pytest.approx((a.mean() - b.mean()) / pooled)
    assert (ours.n, ours.correlation, ours.paired) == (min(n, m), None, False)


def test_only_seeds_that_both_have_are_paired():
    assert seed_differences({3: 5.0, 0: 1.0, 1: 2.0}, {1: 1.5, 3: 1.0, 7: 9.0}) == [0.5, 4.0]
    assert paired_difference({0: 1.0, 1: 2.0, 2: 4.0}, {1: 1.0, 2: 1.0, 9: 0.0}).n == 2
    with pytest.raises(ValueError, match="no seeds"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_a_value_that_is_not_finite_is_an_error():
    for difference in (paired_difference, lambda a, b: welch_difference(list(a.values()), list(b.values()))):
        with pytest.raises(ValueError, match="not finite"):
            difference({0: 1.0, 1: math.nan}, {0: 1.0, 1: 2.0})


def test_one_pair_has_a_difference_and_nothing_else():
    for difference in (paired_difference({0: 0.9}, {0: 0.8}), welch_difference([0.9], [0.8, 0.7])):
        assert (difference.low, difference.high, difference.sd, difference.effect_size) == (None, None, None, None)
        assert difference.n == 1
    assert paired_difference({0: 0.9}, {0: 0.8}).at(0.99).confidence == 0.99


def test_differences_without_spread_have_an_interval_of_no_width_and_no_effect_size():
    for difference in (
        paired_difference(seeds([0.9, 0.9]), seeds([0.8, 0.8])),
        paired_difference(seeds([0.4, 0.6, 0.9]), seeds([0.3, 0.5, 0.8])),  # a spread of rounding only
        welch_difference([0.9, 0.9], [0.8, 0.8]),
    ):
        assert difference.low == pytest.approx(0.1, abs=1e-9)
        assert difference.high == pytest.approx(0.1, abs=1e-9)
        assert difference.effect_size is None and not difference.has_spread
    assert welch_difference([0.9, 0.9], [0.8, 0.7]).degrees_of_freedom == 1.0
    assert paired_difference(seeds([1.0, 1.0, 1.0]), seeds([1.0, 2.0, 3.0])).correlation is None


def test_the_order_of_the_seeds_changes_no_bit_of_a_difference_and_its_sign_is_that_of_a():
    a, b = drawn(7)
    a_reversed, b_reversed = dict(reversed(a.items())), dict(reversed(b.items()))
    assert paired_difference(a, b) == paired_difference(a_reversed, b_reversed)
    forward, backward = list(a.values()), list(a_reversed.values())
    assert welch_difference(forward, list(b.values())) == welch_difference(backward, list(b_reversed.values()))
    for ours, swapped in (
        (paired_difference(a, b), paired_difference(b, a)),
        (welch_difference(forward, list(b.values())), welch_difference(list(b.values()), forward)),
    ):
        assert (ours.mean, ours.low, ours.high) == (-swapped.mean, -swapped.high, -swapped.low)


def test_a_confidence_in_percent_is_an_error():
    a, b = drawn(5)
    with pytest.raises(ValueError, match="confidence"):
        paired_difference(a, b).at(95)


# Tests


@pytest.mark.parametrize(("n", "floor"), [(3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125)])
def test_the_floor_is_two_over_two_to_the_n_and_below_it_no_p_is_given(n, floor):
    for test in (sign_flip_test, wilcoxon_test):
        result = test(list(range(1, n + 1)), 0.05)  # all of one sign: the least p there is
        assert result.floor == floor
        if n < 6:
            assert result.p is None
            assert "cannot reach 0.05" in result.note and "6 pairs" in result.note
        else:
            assert result.p == floor and result.note == ""
        assert test(list(range(1, n + 1)), 0.3).p == floor


def test_a_difference_of_zero_has_no_sign_and_raises_the_floor():
    for test in (sign_flip_test, wilcoxon_test):
        result = test([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 0.05)
        assert (result.p, result.floor, result.n) == (None, 0.0625, 6)
        assert "1 of 6 differences are zero" in result.note
        assert test([0.0, 0.0], 0.05).floor == 1.0
        assert test([0.0, 1.0, -2.0, 3.0, 4.0, 5.0], 1.0).p == test([1.0, -2.0, 3.0, 4.0, 5.0], 1.0).p


@pytest.mark.parametrize("n", [6, 8, 11])
def test_the_sign_flip_test_equals_scipys_permutation_test(n):
    for seed, digits in itertools.product(range(3), [6, 0]):  # digits 0: ties and zeros
        differences = np.random.default_rng([n, seed]).normal(1, 3, n).round(digits)
        theirs = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_test(differences, 1.0).p == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("n", [6, 9, 25])
def test_wilcoxons_test_equals_scipys_exact_one(n):
    for seed in range(4):
        differences = np.random.default_rng([n, seed]).normal(0.5, 1, n)
        theirs = stats.wilcoxon(differences, method="exact")
        assert wilcoxon_test(differences, 1.0).p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_wilcoxons_test_with_ties_equals_the_enumeration_of_all_signs():
    for seed in range(4):
        differences = np.random.default_rng(seed).integers(1, 4, 9) * np.random.default_rng(seed).choice([-1, 1, 1], 9)
        method = stats.PermutationMethod(n_resamples=np.inf)
        theirs = stats.wilcoxon(differences, method=method)
        assert wilcoxon_test(differences, 1.0).p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_differences_that_tie_but_for_rounding_tie():
    assert 0.4 - 0.3 != 0.9 - 0.8
    # |d| of 1, 1, 1, 1, 1, 2 tenths: ranks 3, 3, 3, 3, 3, 6.
    differences = [0.3 - 0.2, 0.9 - 0.8, 0.4 - 0.3, 0.6 - 0.5, 0.7 - 0.8, 0.5 - 0.3]
    exact = [1, 1, 1, 1, -1, 2]
    for test in (sign_flip_test, wilcoxon_test):
        assert test(differences, 1.0).p == test(exact, 1.0).p


def test_above_sixteen_pairs_signs_are_drawn_from_the_generator_that_is_given():
    differences = np.random.default_rng(0).normal(0.5, 1, 20)
    with pytest.raises(ValueError, match="generator"):
        sign_flip_test(differences, 0.05)
    ours, turned = (
        sign_flip_test(values, 0.05, rng=np.random.default_rng(1), resamples=99_999)
        for values in (differences, differences[::-1])
    )
    assert ours == turned
    every = np.array(list(itertools.product([-1, 1], repeat=20)), dtype=np.int8) @ differences
    exact = np.mean(np.abs(every) >= abs(differences.sum()) - 1e-9)
    assert ours.p == pytest.approx(exact, abs=4 * math.sqrt(exact / 99_999))
    # p is never 0: (b + 1) / (m + 1).
    clear = sign_flip_test([1.0] * 40, 0.05, rng=np.random.default_rng(1), resamples=999)
    assert clear.p == clear.floor == 1 / 1000
    assert sign_flip_test(differences, 0.05, rng=np.random.default_rng(1), resamples=9).p is None


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_t_tests_equal_scipys(n):
    a, b = drawn(n)
    left, right = list(a.values()), [*b.values(), 0.9]
    assert paired_difference(a, b).p == pytest.approx(stats.ttest_rel(left, right[:-1]).pvalue, rel=1e-9)
    theirs = stats.ttest_ind(left, right, equal_var=False)
    assert welch_difference(left, right).p == pytest.approx(theirs.pvalue, rel=1e-9)


def test_without_spread_t_is_not_defined_and_there_is_no_p():
    for values in ([0.1, 0.1, 0.1], [0.0, 0.0], [0.1], [0.4 - 0.3, 0.9 - 0.8]):
        assert paired_difference(seeds(values), seeds([0.0] * len(values))).p is None
    assert welch_difference([0.9, 0.9], [0.8, 0.8]).p is None


def test_the_order_of_the_seeds_changes_no_bit_of_a_test():
    differences = np.random.default_rng(3).normal(0.5, 1, 9).tolist()
    for test in (sign_flip_test, wilcoxon_test):
        assert test(differences, 0.05) == test(sorted(differences), 0.05)


def test_holms_values_equal_statsmodels():
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 21):
        for _ in range(5):
            p_values = rng.beta(0.3, 1, size).round(2)  # with ties
            assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-15)
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, math.nan])


# P(A > B)


def test_pairs_won_lost_and_tied():
    a, b = {0: 2.0, 1: 3.0, 2: 1.0, 3: 5.0, 8: 0.0}, {0: 1.0, 1: 1.0, 2: 1.0, 3: 9.0}
    assert probability_of_improvement(a, b, paired=True).estimate == 2.5 / 4
    # Unpaired: 0 beats none; 2, 3 and 5 beat three each; 1 ties with three: 10.5 of 20.
    assert probability_of_improvement(a, b, paired=False).estimate == 10.5 / 20


@pytest.mark.parametrize("n", [3, 6, 10])
def test_the_paired_interval_equals_scipys_clopper_pearson(n):
    for wins in range(n + 1):
        a = seeds([1.0] * wins + [-1.0] * (n - wins))
        ours = probability_of_improvement(a, seeds([0.0] * n), paired=True)
        theirs = stats.binomtest(wins, n).proportion_ci(0.95, method="exact")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_paired_interval_covers_with_ties_whatever_the_chances(n):
    limits = {}
    for twice in range(2 * n + 1):
        values = [1.0] * (twice // 2) + [0.0] * (twice % 2) + [-1.0] * (n - (twice + 1) // 2)
        found = probability_of_improvement(seeds(values), seeds([0.0] * n), paired=True)
        limits[twice] = (found.low - 1e-9, found.high + 1e-9)
    for win, tie in itertools.product(np.linspace(0, 1, 21), repeat=2):
        if win + tie > 1:
            continue
        counts = [(w, t) for w in range(n + 1) for t in range(n + 1 - w)]
        chances = stats.multinomial.pmf([(w, t, n - w - t) for w, t in counts], n, [win, tie, max(0, 1 - win - tie)])
        covered = [limits[2 * w + t][0] <= win + tie / 2 <= limits[2 * w + t][1] for w, t in counts]
        assert chances @ covered >= 0.95 - 1e-9


@pytest.mark.parametrize(("n", "m"), [(2, 3), (3, 3), (4, 4), (5, 3), (6, 6)])
def test_the_unpaired_interval_lies_above_one_half_just_where_the_exact_mann_whitney_test_rejects(n, m):
    for wins in range(n * m + 1):
        a, b = values_with(wins, n, m)
        assert stats.mannwhitneyu(a, b).statistic == wins
        found = probability_of_improvement(seeds(a), seeds(b), paired=False)
        assert (found.low > 0.5) == (stats.mannwhitneyu(a, b, alternative="greater", method="exact").pvalue < 0.025)
        assert (found.high < 0.5) == (stats.mannwhitneyu(a, b, alternative="less", method="exact").pvalue < 0.025)
        assert 0 <= found.low <= found.estimate <= found.high <= 1


def values_with(wins, n, m):
    """n and m values where those of A win `wins` of the n m comparisons: each of A set above so many of B."""
    beaten = [min(m, max(0, wins - m * i)) for i in range(n)]
    return [count + 0.5 + i / 1000 for i, count in enumerate(beaten)], [j + 1.0 for j in range(m)]


def test_three_seeds_a_method_never_show_an_improvement_unpaired_and_four_do():
    low, high = [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]
    three = probability_of_improvement(seeds(high[:3]), seeds(low[:3]), paired=False)
    assert (three.estimate, three.low > 0.5) == (1.0, False)  # 1 of 20 orders
    assert probability_of_improvement(seeds(high), seeds(low[:3]), paired=False).low < 0.5  # 1 of 35
    assert probability_of_improvement(seeds(high), seeds(low), paired=False).low > 0.5  # 1 of 70
    # The three of B, hazard P, all fall before any of A, hazard 1 - P: the product of j P / (3 (1 - P) + j P), by hand.
    p = three.low
    assert math.prod(j * p / (3 * (1 - p) + j * p) for j in (1, 2, 3)) == pytest.approx(0.025, abs=1e-9)


def test_a_tie_between_unpaired_seeds_leaves_what_either_way_of_breaking_it_leaves():
    b = seeds([1.0, 2.0, 3.0, 4.0])
    tied, above, below = (
        probability_of_improvement(seeds([x, 2.5, 5.0, 6.0]), b, paired=False) for x in (3.0, 3.1, 2.9)
    )
    assert tied.estimate == (above.estimate + below.estimate) / 2
    assert (tied.low, tied.high) == (below.low, above.high)


def test_swapping_the_methods_turns_the_interval_around():
    a, b = drawn(5)
    b = {seed: b[seed] for seed in range(4)}
    for paired in (True, False):
        ours, swapped = (probability_of_improvement(*x, paired=paired) for x in ((a, b), (b, a)))
        assert (ours.low, ours.high) == pytest.approx((1 - swapped.high, 1 - swapped.low), abs=1e-9)


def test_the_worked_line_of_the_seed_claim_supported_by_t_at_five_seeds_but_not_by_signs():
    # Five differences with mean 1.2 and sd 0.5: t = 1.2 / (0.5 / sqrt(5)) = 5.37, p = .006; signs give .0625 at least.
    raw = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    differences = 1.2 + 0.5 * raw / raw.std(ddof=1)
    difference = paired_difference(seeds(differences), seeds([0.0] * 5))
    assert difference.p == pytest.approx(2 * stats.t.sf(5.3666, 4), rel=1e-3)
    assert sign_flip_test(differences, 0.05).p is None
