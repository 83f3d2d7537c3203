"""Claims: every verdict is what the numbers say by hand, its sentence says no more, and what would settle it would."""

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from claim_evidence import A, B, claim_of, evidence_of, judged
from claim_study import CLAIMS, honest_study
from scipy import stats
from statsmodels.stats.power import TTestPower

from twinbench.reports.rules.case import Case
from twinbench.reports.statistics.intervals import least_wins
from twinbench.reports.statistics.power import pairs_to_win, smallest_detectable_share
from twinbench.reports.verdicts.check import check_claims, in_families
from twinbench.reports.verdicts.formats.text import remarks
from twinbench.reports.verdicts.parts import judge_collapse
from twinbench.reports.verdicts.remedies import more_seeds
from twinbench.reports.verdicts.verdict import SUPPORTING

MARGIN = 0.01


def six(mean: float, step: float) -> list[list[float]]:
    """Values of two sides whose differences are mean ± step at six seeds.

    Their sd is step sqrt(6/5), and their 95 % interval mean ± t(5) step / sqrt(5) = mean ± 1.1496 step.
    """
    shared = [0.60, 0.61, 0.605, 0.615, 0.595, 0.61]
    return [[value + mean + (-1) ** seed * step for seed, value in enumerate(shared)], shared]


def the_verdict(claim, values, margin=MARGIN, **choices):
    (verdict,) = judged(evidence_of(claim, values, margin, **choices))
    return verdict


def word_of(claim, mean, step, margin=MARGIN):
    return the_verdict(claim, six(mean, step), margin).word


def test_the_interval_that_all_cases_below_rest_on():
    (contrast,) = the_verdict(claim_of(), six(0.02, 0.005)).contrasts
    half = stats.t.ppf(0.975, 5) / math.sqrt(5) * 0.005
    assert (contrast.low, contrast.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert half == pytest.approx(1.1496 * 0.005, rel=1e-4)


def test_families_do_not_touch_one_another():
    evidence = [
        evidence_of(claim_of(name=name, family=name[0]), six(0.02, 0.005), MARGIN) for name in ("f1", "g1", "g2")
    ]
    alone, *two = (case.contrasts[0] for case in in_families(evidence))
    assert [one.holm_p for one in (alone, *two)] == pytest.approx([alone.p, 2 * alone.p, 2 * alone.p])


# --- better -----------------------------------------------------------------------------------------------------------

# claim's size, mean, step, verdict; the interval in comments, in points, margin 1
BETTER = [
    ({}, 0.020, 0.005, "SUPPORTED"),  # 1.4 to 2.6
    ({}, 0.005, 0.001, "DIRECTION_ONLY"),  # 0.4 to 0.6: below the margin
    ({}, 0.009, 0.006, "DIRECTION_ONLY"),  # 0.2 to 1.6, mean below the margin
    ({}, 0.001, 0.003, "EQUIVALENT"),  # -0.2 to 0.4
    ({}, -0.003, 0.004, "EQUIVALENT"),  # -0.8 to 0.2
    ({}, -0.003, 0.001, "CONTRADICTED"),  # -0.4 to -0.2
    ({}, -0.020, 0.005, "CONTRADICTED"),
    ({}, 0.005, 0.008, "UNDERPOWERED"),  # -0.4 to 1.4
    ({}, -0.010, 0.020, "UNDERPOWERED"),  # -3.3 to 1.3
    ({"at_least": 0.012}, 0.020, 0.005, "SUPPORTED_AS_STATED"),
    ({"at_least": 0.010}, 0.020, 0.005, "SUPPORTED_AS_STATED"),  # as large as the margin
    ({"at_least": 0.005}, 0.020, 0.005, "SUPPORTED"),  # a size below the margin
    ({"at_least": 0.020}, 0.020, 0.005, "DIRECTION_ONLY"),  # within the interval: not shown
    ({"at_least": 0.030}, 0.020, 0.005, "DIRECTION_ONLY"),  # above it: excluded
    ({"at_least": 1e-9}, 0.005, 0.001, "DIRECTION_ONLY"),  # no way around the margin
    ({"at_least": 0.020}, 0.001, 0.006, "EQUIVALENT"),  # -0.6 to 0.8
    ({"at_least": 0.020}, 0.001, 0.010, "CONTRADICTED"),  # -1.0 to 1.2: leaves 2 points out
    ({"at_least": 0.020}, 0.010, 0.020, "UNDERPOWERED"),  # -1.3 to 3.3
    ({"by": 0.020}, 0.020, 0.005, "SUPPORTED_AS_STATED"),  # 1.4 to 2.6: all within a point of 2
    ({"by": 0.020, "tolerance": 0.005}, 0.020, 0.005, "DIRECTION_ONLY"),  # not all within half a point
    ({"by": 0.025}, 0.020, 0.005, "DIRECTION_ONLY"),  # holds 2.5, and 1.4 too
    ({"by": 0.025, "tolerance": 0.012}, 0.020, 0.005, "SUPPORTED_AS_STATED"),
    ({"by": 0.030}, 0.020, 0.005, "DIRECTION_ONLY"),
    ({"by": 0.012}, 0.020, 0.005, "DIRECTION_ONLY"),  # claims less than there is
    ({"by": 0.012}, 0.014, 0.005, "SUPPORTED_AS_STATED"),  # 0.8 to 2.0
    ({"by": 0.011}, 0.009, 0.006, "DIRECTION_ONLY"),  # 0.2 to 1.6, but the mean is below the margin
    ({"by": 0.006}, 0.010, 0.004, "SUPPORTED"),  # 0.5 to 1.5 of 0 to 1.6: a size below the margin
    ({"by": 0.040}, 0.001, 0.010, "CONTRADICTED"),  # -1.0 to 1.2: nothing within a point of 4
    ({"by": 0.020}, 0.001, 0.010, "UNDERPOWERED"),  # 1.0 to 1.2 are within a point of 2
]


@pytest.mark.parametrize(("size", "mean", "step", "word"), BETTER)
def test_a_better_claim_by_hand(size, mean, step, word):
    assert word_of(claim_of(**size), mean, step) == word


def test_a_tolerance_beyond_the_margin_is_a_part_of_the_sentence():
    claim = replace(claim_of(by=0.025, tolerance=0.012), sentence="SimCLR is about 2.5 points better.")
    verdict = the_verdict(claim, six(0.02, 0.005))
    assert verdict.label == "NARROWED (A19)" and "it allows 1.2 points" in str(verdict.findings)
    stated = replace(claim, sentence="SimCLR is 2.5 points better, give or take 1.2 points.")
    assert the_verdict(stated, six(0.02, 0.005)).word == "SUPPORTED_AS_STATED"


def test_about_a_size_says_nothing_where_neither_claim_nor_protocol_says_how_near():
    quick, slow = [50.0, 51.5, 51.0, 50.0, 52.0, 52.0], [60.0, 61.0, 62.0, 60.5, 61.5, 62.5]  # 10.17 s apart
    verdict = the_verdict(claim_of(metric="train_seconds", by=10.0), [quick, slow])
    assert verdict.word == "DIRECTION_ONLY" and "needs a tolerance" in verdict.reason
    assert verdict.settled_by == ("a tolerance in the claim: the metric has no margin",)
    stated = claim_of(metric="train_seconds", by=10.0, tolerance=2.0)
    assert the_verdict(stated, [quick, slow]).word == "SUPPORTED_AS_STATED"


@pytest.mark.parametrize(
    ("mean", "step", "word"),
    [(0.005, 0.001, "SUPPORTED"), (0.001, 0.003, "UNDERPOWERED"), (-0.003, 0.001, "CONTRADICTED")],
)
def test_without_a_margin_nothing_is_too_small_or_equivalent(mean, step, word):
    assert word_of(claim_of(), mean, step, margin=0.0) == word


def test_five_seeds_that_are_all_won_are_underpowered_and_six_are_not():
    differences = [0.02, 0.021, 0.022, 0.023, 0.024, 0.025]
    verdicts = [the_verdict(claim_of(), [[0.6 + d for d in differences[:n]], [0.6] * n]) for n in (5, 6)]
    assert [verdict.word for verdict in verdicts] == ["UNDERPOWERED", "SUPPORTED"]
    # .025^(1/5) is below one half: Clopper and Pearson's bound where all five are won
    assert verdicts[0].contrasts[0].low > 0 and "P(A > B) of 0.48 to 1.00" in verdicts[0].reason
    assert "6 pairs that all agree" in verdicts[0].reason
    assert verdicts[0].settled_by[0].startswith("1 more seed ")


def test_a_mean_above_zero_that_few_seeds_carry_is_underpowered():
    differences = [0.03, 0.035, 0.04, 0.03, 0.035, 0.04, 0.03, 0.035, -0.001, -0.002]  # two of ten are lost
    verdict = the_verdict(claim_of(), [[0.6 + d for d in differences], [0.6] * 10])
    assert verdict.contrasts[0].low > 0 and verdict.word == "UNDERPOWERED"
    assert "P(A > B) of 0.44 to 0.97 is not shown to be above one half" in verdict.reason
    assert "simclr and byol: +2.72 points (1.61 to 3.83" in verdict.sentence  # and not that one exceeds the other


def test_a_size_that_few_seeds_exclude_is_contradicted_even_where_the_direction_is_open():
    values = [[0.6 + d for d in (0.004, 0.005, 0.006, 0.005, 0.005)], [0.6] * 5]
    assert the_verdict(claim_of(), values, margin=0.0).word == "UNDERPOWERED"
    assert the_verdict(claim_of(at_least=0.02), values, margin=0.0).word == "CONTRADICTED"


OPPOSITES = [
    ({}, "better", {}),
    ({"at_least": 0.01}, "not_worse", {"within": 0.01}),
    ({"at_least": 0.03}, "not_worse", {"within": 0.03}),
]


@pytest.mark.parametrize(("size", "opposite", "allowed"), OPPOSITES)
def test_what_contradicts_a_claim_supports_its_opposite_by_the_same_conditions(size, opposite, allowed):
    """Whatever the number of seeds; without a margin, where nothing is equivalent or too small to matter."""
    rng, seen = np.random.default_rng([31, len(opposite), len(size)]), Counter()
    for _ in range(150):
        n, mean, sd = rng.integers(2, 9), rng.choice([-0.04, -0.02, 0.02, 0.04]), rng.choice([0.001, 0.01])
        b = rng.normal(0.6, 0.01, n)
        values = [(b + rng.normal(mean, sd, n)).tolist(), b.tolist()]
        verdict = the_verdict(claim_of(**size), values, margin=0.0)
        here = "CONTRADICTED" if "smaller than the claimed" in verdict.reason else verdict.word  # else DIRECTION_ONLY
        other = the_verdict(claim_of(opposite, a=B, b=A, **allowed), values[::-1], margin=0.0).word
        assert (here == "CONTRADICTED") == (other in SUPPORTING)
        assert (here in SUPPORTING) == (other == "CONTRADICTED")
        seen[here] += 1
    assert seen["CONTRADICTED"] > 20 and seen["UNDERPOWERED"] > 10


def test_two_pairs_show_neither_that_a_is_better_nor_that_b_is():
    values = [[0.560, 0.561], [0.600, 0.6012]]  # four points below: the interval excludes 0
    for verdict in (the_verdict(claim_of(), values), the_verdict(claim_of(a=B, b=A), values[::-1])):
        assert verdict.contrasts[0].low * verdict.contrasts[0].high > 0
        assert verdict.word == "UNDERPOWERED" and "6 pairs that all agree" in verdict.reason
    flat = claim_of("insensitive", axis="epochs", values=[10, 20], within=0.01)
    loss = claim_of("not_worse", within=0.01)
    assert [the_verdict(claim, values).word for claim in (flat, loss)] == ["UNDERPOWERED"] * 2
    six_pairs = [side * 3 for side in values]
    assert [the_verdict(claim, six_pairs).word for claim in (flat, loss, claim_of())] == ["CONTRADICTED"] * 3


def test_seeds_that_do_not_overlap_are_compared_as_groups():
    a = {seed: 0.65 + 0.001 * seed for seed in range(4)}
    b = {seed: 0.60 + 0.001 * seed for seed in range(4, 8)}
    verdict = the_verdict(claim_of(), [a, b])
    assert verdict.word == "SUPPORTED"  # four seeds a side that are all ordered: exact Mann-Whitney p is .029
    assert not verdict.contrasts[0].difference.paired
    three = the_verdict(claim_of(), [dict(list(a.items())[:3]), dict(list(b.items())[:3])])
    assert three.word == "UNDERPOWERED" and "6 pairs" not in three.reason


def test_the_differences_stand_by_seed_beside_every_verdict():
    verdict = the_verdict(claim_of(), six(0.02, 0.005))
    assert ("by seed", "+2.50 +1.50 +2.50 +1.50 +2.50 +1.50 points") in remarks(verdict)
    unpaired = the_verdict(claim_of(), [{0: 0.61, 1: 0.62}, {2: 0.60, 3: 0.59}])
    assert ("by seed", "61.00 62.00 against 60.00 59.00 points") in remarks(unpaired)
    costs = the_verdict(claim_of(metric="train_seconds"), [[50.0, 52.0], [60.0, 61.0]])
    assert ("by seed", "-10 -9 s") in remarks(costs)
    assert not [one for one in remarks(the_verdict(claim_of(), [[], []])) if one[0] == "by seed"]


def test_one_seed_has_no_interval():
    verdict = the_verdict(claim_of(), [[0.7], [0.6]])
    assert (verdict.word, verdict.reason) == ("UNDERPOWERED", "one seed has no interval")
    assert verdict.settled_by == ("at least two seeds of each side",)


def test_differences_without_spread_say_something_from_six_seeds_on():
    memory = claim_of(metric="peak_memory_bytes")
    assert the_verdict(memory, [[5e8] * 5, [6e8] * 5]).word == "UNDERPOWERED"
    assert the_verdict(memory, [[5e8] * 6, [6e8] * 6]).word == "SUPPORTED"
    assert the_verdict(memory, [[6e8] * 6, [5e8] * 6]).word == "CONTRADICTED"
    same = the_verdict(memory, [[5e8] * 6, [5e8] * 6])
    assert same.word == "UNDERPOWERED" and "more seeds" not in "".join(same.settled_by)


def test_less_is_better_of_costs():
    claim = claim_of(metric="train_seconds", at_least=5.0)
    slow, quick = [60.0, 61.0, 62.0, 60.5, 61.5, 62.5], [50.0, 51.5, 51.0, 50.0, 52.0, 52.0]
    verdict = the_verdict(claim, [quick, slow])
    assert verdict.word == "SUPPORTED_AS_STATED"
    other = the_verdict(claim, [slow, quick])
    assert other.word == "CONTRADICTED"
    assert "in train_seconds: simclr exceeds byol by 10.17 s (" in other.sentence


# --- the other kinds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "step", "word"),
    [
        (-0.003, 0.004, "SUPPORTED_AS_STATED"),  # -0.8 to 0.2
        (0.020, 0.005, "SUPPORTED_AS_STATED"),
        (-0.008, 0.001, "SUPPORTED_AS_STATED"),  # -0.9 to -0.7: worse, by less than is allowed
        (-0.008, 0.004, "UNDERPOWERED"),  # -1.3 to -0.3
        (-0.020, 0.005, "CONTRADICTED"),
    ],
)
def test_not_worse_than_by_a_point(mean, step, word):
    assert word_of(claim_of("not_worse", within=0.01), mean, step) == word


@pytest.mark.parametrize(
    ("mean", "word"), [(-4.0, "SUPPORTED_AS_STATED"), (-9.5, "UNDERPOWERED"), (-20, "CONTRADICTED")]
)
def test_not_worse_of_a_cost_allows_more_of_it(mean, word):
    claim = claim_of("not_worse", within=10.0, metric="train_seconds")
    verdict = the_verdict(claim, [[60 - mean + (-1) ** seed for seed in range(6)], [60.0] * 6])
    assert verdict.word == word  # the interval is mean ± 1.15 s
    assert ("10 s" in verdict.reason) and ("loss" in verdict.reason)


@pytest.mark.parametrize(
    ("mean", "step", "word"),
    [
        (0.003, 0.004, "SUPPORTED_AS_STATED"),
        (-0.008, 0.001, "SUPPORTED_AS_STATED"),
        (0.006, 0.004, "UNDERPOWERED"),  # 0.1 to 1.1
        (0.020, 0.005, "CONTRADICTED"),
        (-0.020, 0.005, "CONTRADICTED"),
    ],
)
def test_insensitive_within_a_point(mean, step, word):
    claim = claim_of("insensitive", axis="batch_size", values=[64, 256], within=0.01)
    assert word_of(claim, mean, step) == word


def test_an_axis_that_is_insensitive_in_a_range_narrows_the_claim_to_it():
    low, shared = six(0.001, 0.002)
    claim = claim_of("insensitive", axis="batch_size", values=[64, 128, 256], within=0.01)
    far = [value + 0.03 for value in shared]
    verdict = the_verdict(claim, [low, shared, far])
    assert verdict.label == "NARROWED (batch_size from 64 to 128)" and not verdict.is_supported
    assert "batch_size = 64 and batch_size = 128 differ by less than 1 point" in verdict.sentence
    assert "256" not in verdict.sentence and "batch_size = 64 against batch_size = 256" in verdict.reason
    middle = the_verdict(claim, [low, far, shared])  # 64 and 256 agree, and 128 between them does not
    assert middle.word == "CONTRADICTED"


def test_a_monotone_claim_needs_every_step_and_is_narrowed_to_the_rising_run():
    axis = {"axis": "epochs", "values": [10, 20, 40]}
    _, base = six(0.0, 0.0)
    up, far = six(0.02, 0.005)[0], six(0.05, 0.002)[0]
    rising = claim_of("monotone", **axis)
    assert the_verdict(rising, [base, up, far]).word == "SUPPORTED"
    assert the_verdict(rising, [far, up, base]).word == "CONTRADICTED"
    assert the_verdict(claim_of("monotone", direction="decreasing", **axis), [far, up, base]).word == "SUPPORTED"
    flat = six(0.05, 0.004)[0]
    verdict = the_verdict(rising, [base, far, flat])
    assert verdict.label == "NARROWED (epochs from 10 to 20)"
    assert "epochs = 20 exceeds epochs = 10 by 5.00 points" in verdict.sentence and "40" not in verdict.sentence
    turned = the_verdict(rising, [far, base, up])
    assert turned.label == "NARROWED (epochs from 20 to 40)"


def test_a_time_that_falls_is_monotone_as_it_is_measured():
    claim = claim_of("monotone", axis="batch_size", values=[64, 256], direction="decreasing", metric="train_seconds")
    slow, quick = [60.0, 61.0, 62.0, 60.5, 61.5, 62.5], [50.0, 51.5, 51.0, 50.0, 52.0, 52.0]
    verdict = the_verdict(claim, [slow, quick])
    assert verdict.word == "SUPPORTED"
    assert "batch_size = 64 exceeds batch_size = 256 by 10.17 s" in verdict.sentence


def test_the_best_of_a_set_is_above_every_other():
    a, b = six(0.02, 0.005)
    claim = claim_of("best_of", among=({"method": "byol"}, {"method": "vicreg"}))
    assert the_verdict(claim, [a, b, b]).word == "SUPPORTED"
    near = [value - 0.001 * (-1) ** seed for seed, value in enumerate(a)]
    verdict = the_verdict(claim, [a, b, near])
    assert verdict.word == "EQUIVALENT" and verdict.reason.startswith("simclr against vicreg: ")
    assert "byol" not in verdict.reason
    assert the_verdict(claim, [a, b, [value + 0.05 for value in b]]).word == "CONTRADICTED"


def test_the_best_of_a_set_of_one_is_compared_with_nothing():
    verdict = the_verdict(claim_of("best_of"), [six(0.0, 0.001)[0]])
    assert (verdict.word, verdict.reason) == ("UNVERIFIABLE", "there is no other method to compare with")


@pytest.mark.parametrize(
    ("mean", "word"), [(0.847, "SUPPORTED_AS_STATED"), (0.855, "UNDERPOWERED"), (0.80, "CONTRADICTED")]
)
def test_equal_to_a_reported_value_within_a_point(mean, word):
    a = {"method": "simclr", "batch_size": 128, "epochs": 200}
    claim = claim_of("equals", a=a, reported="lightly-cifar10", metric="knn_top1", within=0.01)
    values = [[mean + (-1) ** seed * 0.004 for seed in range(6)]]  # the interval is mean ± 0.46 points
    assert the_verdict(claim, values).word == word


def won(wins, n):
    """Values of two sides, of which A wins so many of n seeds, far more clearly than it loses any."""
    return [[0.65 if seed < wins else 0.599 for seed in range(n)], [0.6] * n]


@pytest.mark.parametrize(
    ("wins", "n", "chance", "word"),
    [
        (6, 6, None, "SUPPORTED"),  # .54 to 1, by Clopper and Pearson
        (5, 5, None, "UNDERPOWERED"),  # .48 to 1
        (9, 10, None, "SUPPORTED"),  # .55 to .998
        (8, 10, None, "UNDERPOWERED"),  # .44 to .97
        (1, 10, None, "CONTRADICTED"),
        (13, 13, 0.75, "SUPPORTED_AS_STATED"),  # .753 to 1
        (12, 12, 0.75, "UNDERPOWERED"),  # .735 to 1
        (9, 20, 0.75, "CONTRADICTED"),  # .23 to .68
    ],
)
def test_the_chance_to_win_at_a_new_seed_by_hand(wins, n, chance, word):
    claim = claim_of("wins") if chance is None else claim_of("wins", chance=chance)
    verdict = the_verdict(claim, won(wins, n))
    assert verdict.word == word
    low, high = stats.binomtest(wins, n).proportion_ci(0.95, "exact")
    numbers = f"probability {wins / n:.2f} ({low:.2f} to {high:.2f} at 95 %, {n} pairs)"
    assert verdict.sentence.endswith(f": simclr is better than byol at a new seed with {numbers}.")


def test_that_a_wins_is_contradicted_by_what_supports_that_b_wins():
    for wins in range(11):
        here = the_verdict(claim_of("wins"), won(wins, 10)).word
        other = the_verdict(claim_of("wins", a=B, b=A), won(wins, 10)[::-1]).word
        assert (here == "SUPPORTED") == (other == "CONTRADICTED")
        assert (here == "CONTRADICTED") == (other == "SUPPORTED")


def test_a_chance_to_win_is_not_said_of_methods_as_such():
    claim = replace(claim_of("wins"), sentence="SimCLR is better than BYOL.")
    assert the_verdict(claim, won(6, 6)).label == "NARROWED (A19)"
    assert the_verdict(replace(claim, sentence="At a new seed SimCLR is better than BYOL."), won(6, 6)).is_supported
    share = replace(claim_of("wins", chance=0.75), sentence="At more than 75 % of seeds SimCLR beats BYOL.")
    assert the_verdict(share, won(13, 13)).word == "SUPPORTED_AS_STATED"


@pytest.mark.parametrize(("wins", "n", "chance"), [(5, 5, 0.5), (8, 10, 0.5), (12, 12, 0.75), (9, 10, 0.75)])
def test_the_pairs_that_are_lacking_show_the_chance_with_power_if_as_large_a_share_is_won(wins, n, chance):
    verdict = the_verdict(claim_of("wins", chance=chance), won(wins, n))
    more = more_seeds(verdict.contrasts[0], MARGIN)
    assert n + more == pairs_by_binomial(wins / n, bound=chance)
    assert f"{more} more seed" in verdict.settled_by[0]


# --- collapse ---------------------------------------------------------------------------------------------------------


def collapse_verdict(kind, *states, family_size=1, share=None, **content):
    """Of trials that ended with such a feature_std, or in such a state without one."""
    rows = [
        {"trial_id": f"t{seed}", "seed": seed, "status": state if isinstance(state, str) else "done"}
        for seed, state in enumerate(states)
    ]
    spread = {f"t{seed}": state for seed, state in enumerate(states) if not isinstance(state, str)}
    claim = claim_of(kind) if share is None else claim_of(kind, share=share)
    return judge_collapse(Case(evidence_of(claim, [[]], feature_std=spread, **content), (), family_size), rows)


@pytest.mark.parametrize(
    ("states", "collapses", "does_not"),
    [
        ([0.8] * 36, "CONTRADICTED", "SUPPORTED"),  # Clopper and Pearson: 36 of 36 is .903 to 1
        ([0.8] * 35, "CONTRADICTED", "DIRECTION_ONLY"),  # 35 of 35 is .8999 to 1
        ([0.8] * 6, "CONTRADICTED", "DIRECTION_ONLY"),  # 6 of 6 is .54 to 1
        ([0.8] * 5, "UNDERPOWERED", "UNDERPOWERED"),  # 5 of 5 is .48 to 1
        ([0.01] * 6, "SUPPORTED", "CONTRADICTED"),
        ([0.01] * 3 + ["collapsed"] * 3, "SUPPORTED", "CONTRADICTED"),
        ([0.8] * 3 + [0.01] * 3, "UNDERPOWERED", "CONTRADICTED"),  # 3 of 6 is .12 to .88
        ([0.8] * 4 + [0.01] * 2, "UNDERPOWERED", "UNDERPOWERED"),  # 2 of 6 is .04 to .78
        ([0.8] * 60 + [0.01], "CONTRADICTED", "DIRECTION_ONLY"),  # 1 of 61 is .0004 to .088, and one did
        ([0.8] * 11 + [0.01], "CONTRADICTED", "DIRECTION_ONLY"),  # 11 of 12 is .62 to .998
        ([0.8] * 6 + ["failed"], "UNDERPOWERED", "UNDERPOWERED"),  # 6 of 7 is .42 to .996
        ([0.8] * 6 + [math.nan], "UNDERPOWERED", "UNDERPOWERED"),
        ([0.01] * 6 + ["diverged"], "UNDERPOWERED", "CONTRADICTED"),
    ],
)
def test_a_collapse_is_counted_and_what_is_unknown_supports_neither_side(states, collapses, does_not):
    assert collapse_verdict("collapses", *states).word == collapses
    assert collapse_verdict("does_not_collapse", *states).word == does_not


def test_the_reason_counts_collapsed_and_unknown_trials():
    reason = collapse_verdict("does_not_collapse", *[0.8] * 6, "failed").reason
    shares = "0.00 to 0.58 of all seeds collapse; claimed: below 0.1"
    assert reason == f"6 of 7 trials did not collapse, 1 unknown ({shares})"


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5, 0.8])
def test_a_share_of_seeds_that_collapse_is_above_or_below_what_is_claimed_and_never_both(share):
    for collapsed, n in [(0, 6), (1, 12), (3, 12), (6, 12), (11, 12), (2, 80), (40, 80), (80, 80)]:
        states = [0.01] * collapsed + [0.8] * (n - collapsed)
        above = collapse_verdict("collapses", *states, share=share).word
        below = collapse_verdict("does_not_collapse", *states, share=share).word
        assert (above == "SUPPORTED") == (below == "CONTRADICTED")
        assert (below == "SUPPORTED") == (above == "CONTRADICTED")
        interval = stats.binomtest(collapsed, n).proportion_ci(0.95, "exact")
        assert (below == "SUPPORTED") == (interval.high < share) and (above == "SUPPORTED") == (interval.low > share)


def test_a_share_that_the_claim_gives_is_a_part_of_the_sentence():
    def verdict_of(sentence):
        claim = replace(claim_of("does_not_collapse", share=0.1), sentence=sentence)
        return the_verdict(claim, [[]], margin=0.01)

    for sentence in ("At most 10 % collapse.", "Fewer than one seed in ten collapses.", "The share is below 0.1."):
        assert not [one for one in verdict_of(sentence).findings if (one.rule, one.outcome) == ("A19", "failed")]
    for sentence in ("It does not collapse.", "At most one in five collapses."):
        assert [one for one in verdict_of(sentence).findings if (one.rule, one.outcome) == ("A19", "failed")]


def test_a_protocol_says_what_collapse_is_and_else_a_tenth_of_an_even_spread_does():
    assert collapse_verdict("collapses", *[0.2] * 6).word == "CONTRADICTED"
    assert collapse_verdict("collapses", *[0.2] * 6, collapsed_below=0.3).word == "SUPPORTED"
    assert collapse_verdict("collapses", *[math.nan] * 6).word == "UNVERIFIABLE"
    assert collapse_verdict("collapses", *["diverged"] * 6).word == "UNVERIFIABLE"


def test_claims_of_collapse_share_the_level_of_their_family():
    alone = collapse_verdict("collapses", *[0.01] * 6)
    together = collapse_verdict("collapses", *[0.01] * 6, family_size=5)
    assert (alone.word, together.word) == ("SUPPORTED", "UNDERPOWERED")
    assert "0.54 to 1.00" in alone.reason and f"{0.005 ** (1 / 6):.2f} to 1.00" in together.reason
    alone, together = (collapse_verdict("does_not_collapse", *[0.8] * 40, family_size=size) for size in (1, 5))
    assert (alone.word, together.word) == ("SUPPORTED", "DIRECTION_ONLY")


# --- families, scopes, suffixes ---------------------------------------------------------------------------------------


def test_further_claims_of_a_family_make_each_harder_and_another_family_does_not():
    values = six(0.02, 0.013)  # 0.5 to 3.5 alone; at 99 % ± t(5, .995) / sqrt(5) = 1.803 steps
    assert the_verdict(claim_of(), values).word == "SUPPORTED"
    nothing = [claim_of(name=str(number), b={"method": "vicreg"}) for number in range(4)]
    alike = [evidence_of(claim, six(0.0, 0.013), MARGIN) for claim in nothing]
    assert judged(evidence_of(claim_of(), values, MARGIN), *alike)[0].word == "UNDERPOWERED"
    other_family = [evidence_of(replace(claim, family="g"), six(0.0, 0.013), MARGIN) for claim in nothing]
    assert judged(evidence_of(claim_of(), values, MARGIN), *other_family)[0].word == "SUPPORTED"


def test_holding_at_some_points_of_a_scope_narrows_a_claim_to_them():
    claim = claim_of(scope={"batch_size": [64, 256]})
    good, level = six(0.02, 0.005), six(0.0, 0.02)
    assert the_verdict(claim, [*good, *good]).word == "SUPPORTED"
    verdict = the_verdict(claim, [*good, *level])
    assert verdict.label == "NARROWED (batch_size 64)"
    assert "256" not in verdict.sentence and "simclr exceeds byol by 2.00 points" in verdict.sentence
    assert verdict.sentence.endswith(", both batch_size = 64.")
    assert verdict.reason == "simclr against byol (both batch_size = 256): the interval includes 0"
    assert the_verdict(claim, [*level, *level]).word == "UNDERPOWERED"
    assert the_verdict(claim, [*six(-0.02, 0.005), *level]).word == "CONTRADICTED"


def test_a_claim_of_many_methods_at_many_points_holds_at_a_point_only_against_all():
    claim = claim_of("best_of", among=(B, {"method": "vicreg"}), scope={"epochs": [10, 20]})
    a, b = six(0.02, 0.005)
    verdict = the_verdict(claim, [a, b, b, a, b, a])
    assert verdict.label == "NARROWED (epochs 10)"
    assert "not shown to differ" not in verdict.sentence and verdict.sentence.count("exceeds") == 2


def test_a_reason_shared_by_many_comparisons_is_given_once():
    level = six(0.0, 0.02)[1]
    among = tuple({"method": name} for name in ("byol", "vicreg", "moco"))
    verdict = the_verdict(claim_of("best_of", among=among), [six(0.0, 0.02)[0], level, level, level])
    assert verdict.reason == "all 3 comparisons: the interval includes 0"


def test_what_was_declared_late_is_exploratory_where_there_is_anything_to_explore():
    late = the_verdict(claim_of(), six(0.02, 0.005), declared=False)
    assert late.label == "SUPPORTED, EXPLORATORY" and late.is_supported
    assert the_verdict(claim_of(), six(0.02, 0.005)).label == "SUPPORTED"
    assert the_verdict(claim_of(), [[], []], declared=False).label == "UNVERIFIABLE"


def test_sides_without_results_are_unverifiable_and_named():
    verdict = the_verdict(claim_of(), [six(0.0, 0.01)[0], []])
    assert (verdict.word, verdict.reason) == ("UNVERIFIABLE", "no result of byol")
    assert verdict.settled_by == ("trials of byol",) and verdict.sentence == ""


def test_all_that_a_sentence_says_beyond_what_is_shown_narrows_it():
    claim = replace(claim_of(), sentence="On CIFAR-10, as always, SimCLR is better than BYOL.")
    verdict = the_verdict(claim, six(0.02, 0.005), dataset={"name": "cifar10"})
    assert verdict.label == "NARROWED (A23)" and "the sentence says more" in verdict.reason
    assert "exceeds byol by 2.00 points" in verdict.sentence
    assert the_verdict(claim, six(-0.02, 0.005), dataset={"name": "cifar10"}).word == "CONTRADICTED"


# --- the sentence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "mean", "step", "text"),
    [
        (claim_of(), 0.02, 0.005, "simclr exceeds byol by 2.00 points (1.43 to 2.57 at 95 %, 6 pairs)"),
        (claim_of(), -0.02, 0.005, "simclr lies below byol by 2.00 points (1.43 to 2.57 at 95 %, 6 pairs)"),
        (claim_of(), 0.001, 0.003, "simclr and byol differ by less than 1 point: +0.10 points (-0.24 to 0.44 at 95 %"),
        (
            claim_of(),
            0.005,
            0.008,
            "simclr and byol are not shown to differ: +0.50 points (-0.42 to 1.42 at 95 %, 6 pairs)",
        ),
        (claim_of(at_least=0.02), 0.001, 0.010, "simclr is not 2 points above byol: +0.10 points (-1.05 to 1.25"),
        (claim_of("not_worse", within=0.02), -0.008, 0.009, "simclr is not 2 points below byol: -0.80 points (-1.83"),
    ],
)
def test_the_supported_sentence_says_what_the_interval_shows(claim, mean, step, text):
    sentence = the_verdict(claim, six(mean, step)).sentence
    start = "Under protocol invented v1 (000000000000), in linear_top1 on test: "
    assert sentence.startswith(start + text) and sentence.endswith(".")


# --- what would settle it ---------------------------------------------------------------------------------------------


def seeds_by_statsmodels(effect, alpha=0.05, power=0.8):
    return math.ceil(TTestPower().solve_power(effect, alpha=alpha, power=power))


def power_by_binomial(n, share, bound=0.5, level=0.05):
    """The probability of as many wins as put Clopper and Pearson's interval above the bound."""
    lows = {wins: stats.binomtest(wins, n).proportion_ci(1 - level, "exact").low for wins in range(n + 1)}
    return stats.binom.sf(min((wins for wins in lows if lows[wins] > bound), default=n + 1) - 1, n, share)


def pairs_by_binomial(share, power=0.8, bound=0.5):
    return next(n for n in itertools.count(1) if power_by_binomial(n, share, bound) >= power)


@pytest.mark.parametrize(
    ("share", "bound"), [(0.75, 0.5), (0.8, 0.5), (0.9, 0.5), (0.99, 0.5), (1.0, 0.5), (0.95, 0.75), (1.0, 0.9)]
)
def test_the_pairs_that_show_who_wins_are_those_of_the_binomial(share, bound):
    assert pairs_to_win(share, bound) == pairs_by_binomial(share, bound=bound)
    assert pairs_to_win(bound, bound) is None


@pytest.mark.parametrize(("n", "bound", "level"), [(6, 0.5, 0.05), (20, 0.75, 0.025), (42, 0.9, 0.025)])
def test_a_number_of_pairs_detects_the_share_at_which_the_binomial_has_the_power(n, bound, level):
    share = smallest_detectable_share(n, bound, level)
    assert power_by_binomial(n, share, bound, level) == pytest.approx(0.8)
    assert smallest_detectable_share(least_wins(level, bound) - 1, bound, level) is None


def test_the_seeds_that_are_lacking_find_the_margin_or_what_was_observed():
    sd = 0.008 * math.sqrt(6 / 5)
    verdict = the_verdict(claim_of(), six(0.005, 0.008))  # the mean is below the margin: the margin counts
    (contrast,) = verdict.contrasts
    effect = 0.01 / sd
    needed = max(seeds_by_statsmodels(effect), pairs_by_binomial(stats.norm.cdf(effect)))
    assert more_seeds(contrast, MARGIN) == needed - 6 > 0
    assert f"{needed - 6} more seeds" in verdict.settled_by[0]


def test_a_size_is_settled_by_the_seeds_that_tell_it_from_the_mean():
    sd = 0.005 * math.sqrt(6 / 5)
    (contrast,) = the_verdict(claim_of(at_least=0.018), six(0.02, 0.005)).contrasts
    needed = max(seeds_by_statsmodels(0.002 / sd), pairs_by_binomial(stats.norm.cdf(0.02 / sd)))
    assert more_seeds(contrast, MARGIN) == needed - 6


def test_what_is_to_lie_within_bounds_needs_both_of_them():
    claim = claim_of("insensitive", axis="epochs", values=[10, 20], within=0.01)
    (contrast,) = the_verdict(claim, six(0.006, 0.004)).contrasts
    needed = seeds_by_statsmodels(0.004 / (0.004 * math.sqrt(6 / 5)), power=0.9)
    assert more_seeds(contrast, MARGIN) == needed - 6


def test_a_mean_on_its_bound_is_settled_by_no_number_of_seeds():
    verdict = the_verdict(claim_of(at_least=0.02), six(0.02, 0.005))
    assert "more than 1000 seeds" in verdict.settled_by[0]


def test_only_open_comparisons_ask_for_seeds_and_settled_claims_for_none():
    a, b = six(0.02, 0.005)
    wide = six(0.005, 0.008)
    claim = claim_of("best_of", among=(B, {"method": "vicreg"}))
    near = [x - d for x, d in zip(a, [p - q for p, q in zip(*wide, strict=True)], strict=True)]
    both = the_verdict(claim, [a, b, near])
    alone = judged(evidence_of(replace(claim, among=({"method": "vicreg"},)), [a, near], MARGIN))[0]
    assert both.word == "UNDERPOWERED" and alone.settled_by
    assert both.settled_by == alone.settled_by
    for mean, step in ((0.02, 0.005), (-0.02, 0.005), (0.001, 0.003)):
        assert the_verdict(claim_of(), six(mean, step)).settled_by == ()


# --- from a run folder ------------------------------------------------------------------------------------------------


def checked(folder: Path):
    return check_claims(folder / "claims.toml", folder).verdicts


def test_an_honest_study_supports_its_claim(tmp_path):
    honest_study(tmp_path / "run")
    (verdict,) = checked(tmp_path / "run")
    assert verdict.label == "SUPPORTED_AS_STATED"
    assert [finding.rule for finding in verdict.findings if finding.outcome == "failed"] == []


def test_missing_trials_are_named_with_their_hours(tmp_path):
    study = honest_study(tmp_path / "run")
    gone = [study.of("byol", seed)[0].trial_id for seed in (4, 5)]
    for trial_id in gone:
        (study.folder / "records" / f"{trial_id}.json").unlink()
    (verdict,) = checked(study.folder)
    assert (verdict.word, verdict.sentence) == ("INADMISSIBLE", "") and "A8" in verdict.detail
    # two trials of 55 seconds
    assert verdict.settled_by == (f"2 missing trials ({', '.join(sorted(gone))}), about 0.031 hours of one process",)


def test_an_unfinished_tuning_is_reported_as_missing_trials(tmp_path):
    study = honest_study(tmp_path / "run")
    for seed in range(6):
        study.add(study.trial("simclr", seed, settings={"temperature": 0.1}), 0.55)
        study.add(tuned := study.trial("byol", seed, settings={"target_momentum": 0.9}), 0.55)
    (study.folder / "records" / f"{tuned.trial_id}.json").unlink()  # planned, and not run yet
    study.write_plan()
    (verdict,) = checked(study.folder)
    assert verdict.word == "INADMISSIBLE" and "A7" in verdict.detail
    assert verdict.settled_by == (f"1 missing trial ({tuned.trial_id}), about 0.015 hours of one process",)


def test_seeds_that_the_protocol_requires_are_counted(tmp_path):
    study = honest_study(tmp_path / "run")
    for trial in [trial for trial in study.trials if trial.seed > 0]:
        (study.folder / "records" / f"{trial.trial_id}.json").unlink()
        study.trials.remove(trial)
    study.write_plan()
    (verdict,) = checked(study.folder)
    assert verdict.word == "INADMISSIBLE" and "A9" in verdict.detail
    assert verdict.settled_by == ("1 more seed of simclr", "1 more seed of byol")


def test_the_hours_of_more_seeds_are_those_of_the_trials_that_are_there(tmp_path):
    claims = CLAIMS.replace("at_least = 0.01", "at_least = 0.004").replace("one point", "some points")
    study = honest_study(tmp_path / "run", claims, levels={"simclr": 0.602, "byol": 0.60})
    (verdict,) = checked(study.folder)
    (contrast,) = verdict.contrasts
    more = more_seeds(contrast, MARGIN)
    hours = f"{2 * more * 55 / 3600:.2g}"
    assert verdict.settled_by == (f"{more} more seeds of simclr and byol, about {hours} hours of one process",)
