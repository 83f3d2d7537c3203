"""Copied seeds: identical results of different seeds are named, unless honest seeds may agree in them."""

import numpy as np
import pytest

from twinbench.reports.claims.copied_seeds import Result, copied_seeds, may_agree, shared_files

LABELS = np.arange(20) % 10


def test_two_seeds_with_identical_curves_or_outputs_are_named_once():
    one, two = Result("a", "simclr", 0, "curves", "outputs"), Result("b", "simclr", 1, "curves", "outputs")
    assert list(copied_seeds([one, two])) == [
        "simclr seed 0 (a) and simclr seed 1 (b) have identical curves: one is a copy of another"
    ]
    other = Result("b", "simclr", 1, "its own", "outputs")
    assert list(copied_seeds([one, other])) == [
        "simclr seed 0 (a) and simclr seed 1 (b) have identical outputs: one is a copy of another"
    ]


@pytest.mark.parametrize(
    "other",
    [
        Result("b", "simclr", 1, "other curves", "other outputs"),
        Result("b", "simclr", 0, "curves", "outputs"),  # the same seed in another cell
        Result("b", "simclr", 1, "", ""),
    ],
)
def test_other_results_or_the_same_seed_are_no_copy(other):
    assert list(copied_seeds([Result("a", "simclr", 0, "curves", "outputs"), other])) == []


def test_raw_pixels_have_the_same_result_for_every_seed():
    results = [Result(str(seed), "raw_pixels", seed, "", "outputs") for seed in range(3)]
    assert list(copied_seeds(results)) == [] and shared_files(results, "outputs") == []


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"labels": LABELS},
        {"labels": LABELS, "knn_prediction": LABELS, "knn_correct": np.ones(20)},  # always right
        {"labels": LABELS, "knn_prediction": np.full(20, 3), "knn_correct": LABELS == 3},  # one class
        {"knn_correct": np.zeros(20)},
    ],
)
def test_honest_seeds_may_agree_in_trivial_predictions(outputs):
    assert may_agree(outputs)


def test_one_probe_that_is_not_trivial_is_enough_to_distinguish_seeds():
    shifted = (LABELS + (np.arange(20) < 5)) % 10
    knn = {"knn_prediction": np.full(20, 3), "knn_correct": LABELS == 3}
    assert not may_agree({"labels": LABELS, **knn, "linear_prediction": shifted, "linear_correct": shifted == LABELS})
    assert not may_agree({"linear_correct": np.arange(20) < 5})
    assert not may_agree({"labels": LABELS, "linear_prediction": (LABELS + 1) % 10, "linear_correct": np.zeros(20)})
