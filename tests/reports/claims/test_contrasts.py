"""Claims: a comparison's p and its interval never disagree, Holm's procedure sets both, numbers are those of scipy."""

import math
from dataclasses import replace

import numpy as np
import pytest
from claim_evidence import claim_of, evidence_of
from scipy import stats
from statsmodels.stats.multitest import multipletests

from twinbench.reports.claims.contrasts import contrasts_of, holm, sign_of
from twinbench.reports.statistics.intervals import ALPHA, least_wins
from twinbench.reports.statistics.power import smallest_detectable_difference


def the_contrast(claim, *values, **choices):
    (contrast,) = contrasts_of(evidence_of(claim, values, **choices))
    return contrast


def differing(differences, level=0.6):
    """Values of two sides with these differences at seeds 0, 1, …"""
    shared = [level + 0.003 * math.sin(seed) for seed in range(len(differences))]
    return [value + d for value, d in zip(shared, differences, strict=True)], shared


def test_a_paired_difference_by_hand():
    # differences .01 .02 .03 .04 .05: mean .03, sd sqrt(.001 / 4), error .0070711, t(4, .975) = 2.776445
    contrast = the_contrast(claim_of(), *differing([0.01, 0.02, 0.03, 0.04, 0.05]))
    assert contrast.difference.mean == pytest.approx(0.03)
    assert contrast.difference.sd == pytest.approx(0.0158114, rel=1e-5)
    assert contrast.low == pytest.approx(0.03 - 2.776445 * 0.0070711, rel=1e-5)
    assert contrast.high == pytest.approx(0.03 + 2.776445 * 0.0070711, rel=1e-5)
    assert contrast.p == pytest.approx(0.0132356, rel=1e-4)  # 2 P(T4 > 4.242641)
    assert contrast.sign_flip.p is None and contrast.sign_flip.floor == 2 / 2**5
    assert (contrast.wins.estimate, contrast.wins.low) == (1.0, pytest.approx(0.025 ** (1 / 5)))
    assert contrast.difference.effect_size == pytest.approx(0.03 / 0.0158114, rel=1e-5)
    assert contrast.detectable == pytest.approx(smallest_detectable_difference(0.0158114, 5), rel=1e-5)


def test_p_is_that_of_scipys_t_tests():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.60, 0.01, 7).tolist(), rng.normal(0.595, 0.01, 7).tolist()
    above = stats.ttest_rel(a, b, alternative="greater").pvalue
    assert the_contrast(claim_of(), a, b).p == pytest.approx(min(1, 2 * above))
    shifted = stats.ttest_rel(a, np.subtract(b, 0.01), alternative="greater").pvalue
    assert the_contrast(claim_of("not_worse", within=0.01), a, b).p == pytest.approx(2 * shifted)
    sized = stats.ttest_rel(a, np.add(b, 0.002), alternative="greater").pvalue
    assert the_contrast(claim_of(at_least=0.002), a, b).p == pytest.approx(min(1, 2 * sized))
    other_seeds = dict(enumerate(b, 100))
    welch = stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
    contrast = the_contrast(claim_of(), a, other_seeds)
    assert contrast.p == pytest.approx(min(1, 2 * welch)) and not contrast.difference.paired


def test_within_is_two_one_sided_tests_at_half_the_level():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.6, 0.002, 6).tolist(), rng.normal(0.6, 0.002, 6).tolist()
    claim = claim_of("insensitive", axis="epochs", values=[10, 20], within=0.01)
    below = stats.ttest_rel(a, np.add(b, 0.01), alternative="less").pvalue
    above = stats.ttest_rel(a, np.subtract(b, 0.01), alternative="greater").pvalue
    assert the_contrast(claim, a, b).p == pytest.approx(2 * max(below, above))


CLAIMS = (
    claim_of(),
    claim_of(at_least=0.002),
    claim_of(by=0.002, tolerance=0.005),
    claim_of("not_worse", within=0.004),
    claim_of("insensitive", axis="epochs", values=[10, 20], within=0.008),
    claim_of("monotone", axis="epochs", values=[10, 20], direction="decreasing"),
)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.kind} {claim.claimed_size}")
def test_a_p_below_a_level_and_an_interval_at_it_that_shows_the_claim_are_one(claim):
    rng = np.random.default_rng(3)
    shown = 0
    for _ in range(200):
        contrast = the_contrast(claim, *differing(rng.normal(0.002, 0.004, rng.integers(2, 9))))
        for level in (0.3, 0.05, 0.01):
            interval = contrast.difference.at(1 - level)
            if contrast.criterion == "within":
                holds = contrast.target - contrast.bound < interval.low
                holds &= interval.high < contrast.target + contrast.bound
            else:
                holds = interval.low > contrast.bound
            assert holds == (contrast.p < level)
            shown += holds
    assert 30 < shown < 570


@pytest.mark.parametrize("chance", [0.5, 0.75])
@pytest.mark.parametrize("paired", [True, False])
def test_a_chance_to_win_is_shown_at_a_level_exactly_where_its_interval_lies_above(chance, paired):
    claim, rng, shown = claim_of("wins", chance=chance), np.random.default_rng(5), 0
    for _ in range(60):
        a, b = differing(rng.normal(0.006, 0.004, rng.integers(2, 15)))
        contrast = the_contrast(claim, a, b if paired else dict(enumerate(b, 100)))
        for level in (0.3, 0.05, 0.01):
            assert (contrast.wins.at(1 - level).low > chance) == (contrast.p < level)
            assert contrast.room(1 - level) == contrast.wins.at(1 - level).low - chance
            shown += contrast.p < level
    assert 20 < shown < 160


def test_the_p_of_a_chance_to_win_is_that_of_the_binomial_test_and_of_mann_and_whitneys():
    a, b = differing([0.01, 0.02, 0.03, -0.01, 0.04, 0.02, 0.01, 0.05])
    binomial = stats.binomtest(7, 8, 0.6, alternative="greater").pvalue
    assert the_contrast(claim_of("wins", chance=0.6), a, b).p == pytest.approx(2 * binomial)
    unpaired = the_contrast(claim_of("wins"), a, dict(enumerate(b, 100)))
    exact = stats.mannwhitneyu(a, b, alternative="greater", method="exact").pvalue
    assert unpaired.p == pytest.approx(2 * exact)


def test_the_chance_to_win_is_judged_at_the_confidence_of_the_family():
    contrasts = [the_contrast(claim_of("wins", str(n)), *differing([0.01] * 3 + [0.02] * 5)) for n in range(4)]
    found = holm(contrasts)
    assert [one.wins.confidence for one in found] == pytest.approx([one.difference.confidence for one in found])
    assert found[0].wins.confidence == pytest.approx(1 - ALPHA / 4) and found[0].wins.low < contrasts[0].wins.low
    other = holm([the_contrast(claim_of(), *differing([0.01] * 3 + [0.02] * 5))] * 4)
    assert other[0].wins == contrasts[0].wins  # of other claims it stays at 95 %


def families(rng, size):
    """Comparisons of which some are clear and some are nothing."""
    effects = rng.choice([0.0, 0.003, 0.02], size)
    return [the_contrast(claim_of(), *differing(rng.normal(effect, 0.004, 6))) for effect in effects]


@pytest.mark.parametrize("size", [1, 2, 6, 15])
def test_holms_p_and_what_it_rejects_are_those_of_statsmodels(size):
    rng = np.random.default_rng([4, size])
    for _ in range(4):
        contrasts = families(rng, size)
        theirs = multipletests([contrast.p for contrast in contrasts], ALPHA, "holm")
        ours = holm(contrasts)
        assert [contrast.holm_p for contrast in ours] == pytest.approx(theirs[1].tolist())
        # what the judged interval shows is what Holm rejects
        assert [contrast.low > 0 for contrast in ours] == theirs[0].tolist()
        assert [contrast.a for contrast in ours] == [contrast.a for contrast in contrasts]


def test_the_judged_confidence_steps_up_until_one_fails_and_stays_there():
    clear = [the_contrast(claim_of(), *differing([d, d + 0.001, d + 0.002] * 2)) for d in (0.1, 0.05)]
    nothing = [the_contrast(claim_of(), *differing([-d, d, 0.0] * 2)) for d in (0.01, 0.02)]
    found = holm([nothing[0], clear[0], nothing[1], clear[1]])
    divisors = [ALPHA / (1 - contrast.difference.confidence) for contrast in found]
    assert divisors == pytest.approx([2, 4, 2, 3])
    assert [contrast.detectable > before.detectable for contrast, before in zip(found, nothing + clear, strict=True)]


def test_further_tests_of_a_family_count_in_its_correction():
    contrast = the_contrast(claim_of(), *differing([0.01, 0.02, 0.03, 0.04, 0.05]))
    (alone,) = holm([contrast])
    (adjusted,) = holm([contrast], 2)
    assert alone.difference.confidence == pytest.approx(0.95)
    assert adjusted.difference.confidence == pytest.approx(1 - 0.05 / 3)
    assert adjusted.holm_p == pytest.approx(3 * contrast.p)


def test_a_contrast_without_p_counts_and_fails():
    one_seed = the_contrast(claim_of(), [0.6], [0.5])
    clear = the_contrast(claim_of(), *differing([0.01, 0.02, 0.03, 0.04, 0.05]))
    found = holm([one_seed, clear])
    assert found[0].holm_p is None and found[0].p is None
    assert found[1].holm_p == pytest.approx(2 * clear.p)


@pytest.mark.parametrize("metric", ["train_seconds", "peak_memory_bytes", "minutes", "peak_memory_gb"])
def test_less_is_better_for_costs_and_monotone_claims_compare_them_as_measured(metric):
    claim = claim_of(metric=metric)
    less, more = [50.0, 51.0, 52.5], [60.0, 61.5, 62.0]
    contrast = the_contrast(claim, less, more)
    assert sign_of(claim) == -1 and contrast.difference.mean == pytest.approx(10)
    assert contrast.wins.estimate == 1.0
    allowed = the_contrast(claim_of("not_worse", metric=metric, within=5.0), more, less)
    assert (allowed.difference.mean, allowed.bound) == (pytest.approx(-10), -5)
    falling = claim_of("monotone", axis="batch_size", values=[64, 128], direction="decreasing", metric=metric)
    assert sign_of(falling) == 1
    assert the_contrast(falling, more, less).difference.mean == pytest.approx(10)


def test_a_monotone_claim_compares_neighbouring_values_and_an_insensitive_one_any_two():
    values = [[0.5, 0.51], [0.6, 0.62], [0.7, 0.71]]
    axis = {"axis": "epochs", "values": [10, 20, 40]}
    rising = contrasts_of(evidence_of(claim_of("monotone", **axis), values))
    assert [contrast.difference.mean for contrast in rising] == pytest.approx([0.095, 0.105])
    falling = contrasts_of(evidence_of(claim_of("monotone", direction="decreasing", **axis), values))
    assert [contrast.difference.mean for contrast in falling] == pytest.approx([-0.105, -0.095])
    flat = contrasts_of(evidence_of(claim_of("insensitive", within=0.01, **axis), values))
    assert [contrast.difference.mean for contrast in flat] == pytest.approx([-0.105, -0.2, -0.095])


def test_a_reported_value_is_a_fixed_number_for_every_seed_and_each_point_has_its_own():
    claim = claim_of(
        "equals",
        a={"method": "simclr", "epochs": 200},
        reported="lightly-cifar10",
        metric="knn_top1",
        within=0.01,
        scope={"batch_size": [128, 512]},
    )
    first, second = contrasts_of(evidence_of(claim, [[0.85, 0.851], [0.85, 0.851]]))
    assert (first.difference.mean, second.difference.mean) == pytest.approx((0.8505 - 0.847, 0.8505 - 0.848))
    assert first.wins is None and first.label.endswith("against the reported value")


def test_raw_pixels_have_no_seeds_and_are_compared_at_every_seed():
    contrast = the_contrast(claim_of(b={"method": "raw_pixels"}), [0.6, 0.61, 0.62], [0.5])
    one_sample = stats.ttest_1samp([0.6, 0.61, 0.62], 0.5)
    assert (contrast.difference.n, contrast.p) == (3, pytest.approx(one_sample.pvalue))
    other = the_contrast(claim_of(), [0.6, 0.61, 0.62], [0.5])
    assert other.low is None


@pytest.mark.parametrize(
    ("of_b", "paired"),
    [(range(6), True), (range(3, 9), True), (range(4, 10), False), (range(6, 12), False), ((5,), True), ((9,), False)],
)
def test_seeds_are_compared_in_pairs_where_half_of_the_smaller_side_is_in_one(of_b, paired):
    contrast = the_contrast(claim_of(), dict.fromkeys(range(6), 0.6), dict.fromkeys(of_b, 0.5))
    assert contrast.difference.paired == paired
    assert contrast.difference.n == (len(set(range(6)) & set(of_b)) if paired else len(of_b))


def test_differences_without_spread_are_informative_from_six_seeds_on():
    five, six = (the_contrast(claim_of(), [0.6] * n, [0.5] * n) for n in (5, 6))
    assert (five.p, six.p) == (2 / 2**5, 2 / 2**6)  # the chance that all fall on one side
    assert not five.is_informative and six.is_informative
    assert the_contrast(claim_of(), [0.5] * 6, [0.6] * 6).p == 1.0
    assert the_contrast(claim_of(), [0.5] * 6, [0.5] * 6).p == 1.0
    unpaired = the_contrast(claim_of(), [0.6] * 6, dict.fromkeys(range(6, 12), 0.5))
    assert unpaired.p is None and not unpaired.is_informative
    (judged, _) = holm([six, six])
    assert not judged.is_informative  # of two comparisons six are not enough
    assert the_contrast(claim_of(), [0.6, 0.601, 0.602], [0.5] * 3).is_informative


@pytest.mark.parametrize(("alpha", "least"), [(0.05, 6), (ALPHA, 6), (2 / 2**6, 6), (0.025, 7), (0.05 / 15, 10)])
def test_least_wins_is_the_fewest_seeds_that_agree_by_chance_less_often_than_the_level(alpha, least):
    assert least_wins(alpha) == least
    for share in (0.1, 0.5, 0.9):
        n = least_wins(alpha, share)
        assert stats.binomtest(n, n).proportion_ci(1 - alpha, "exact").low >= share - 1e-9
        assert n == 1 or stats.binomtest(n - 1, n - 1).proportion_ci(1 - alpha, "exact").low < share
    assert 2 / 2**least <= alpha < 2 / 2 ** (least - 1)


def test_seventeen_pairs_have_a_sign_flip_test_by_resampling():
    contrast = the_contrast(claim_of(), *differing([0.01 + 0.001 * (seed % 5) for seed in range(17)]))
    assert contrast.sign_flip.p == pytest.approx(1e-4) and contrast.sign_flip.n == 17
    assert contrast == the_contrast(claim_of(), *differing([0.01 + 0.001 * (seed % 5) for seed in range(17)]))


def test_sides_without_numbers_leave_a_bare_contrast_and_claims_of_collapse_have_none():
    bare = the_contrast(claim_of(), [0.6], [])
    assert (bare.difference, bare.p, bare.low, bare.is_informative) == (None, None, None, False)
    (after,) = holm([bare])
    assert after == bare
    assert contrasts_of(evidence_of(claim_of("collapses"), [[]])) == ()


def test_test_examples_are_compared_where_both_sides_have_the_same_ones():
    evidence = evidence_of(claim_of(), differing([0.01, 0.02, 0.03]))
    rng = np.random.default_rng(5)
    right = [rng.random((3, 500)) < level for level in (0.62, 0.60)]
    (a, b, point) = evidence.pairs[0]

    def over(of_a, of_b):
        pair = (replace(a, correct=of_a), replace(b, correct=of_b), point)
        (contrast,) = contrasts_of(replace(evidence, pairs=(pair,)))
        return contrast.examples

    found = over(*right)
    assert found.estimate == pytest.approx(right[0].mean() - right[1].mean()) and found.n == 500
    assert over(right[0], right[1][:, :400]) is None
    assert over(right[0], None) is None


def test_a_comparison_is_named_by_what_its_sides_do_not_share():
    def named(a, b):
        return the_contrast(claim_of(a=a, b=b), [0.6, 0.61], [0.5, 0.52]).label

    assert named({"method": "simclr"}, {"method": "byol"}) == "simclr against byol"
    at = {"epochs": 20, "batch_size": 64}
    assert named({"method": "simclr", **at}, {"method": "byol", **at}) == (
        "simclr against byol (both epochs = 20, batch_size = 64)"
    )
    one, other = {"method": "byol", "epochs": 20}, {"method": "byol", "epochs": 40}
    assert named(one | {"width": 8}, other | {"width": 8}) == "epochs = 20 against epochs = 40 (both byol, width = 8)"
    assert named({"method": "byol"}, {"method": "byol", "epochs": 20}) == "byol against byol, epochs = 20"
