"""Claims: curves of another trial are named by what they cannot have, and those of honest seeds are not."""

import math

import numpy as np
import pytest

from twinbench.reports.claims.curve_checks import Curves, Final, curves_of, final_of, foreign_curves

IMAGES = 256
SIMCLR = {f"simclr {seed}": Curves(10, 0.306, 10.9 + seed / 50, 0.945 + seed / 100) for seed in range(3)}
AT_END = {name: Final(0.97, IMAGES) for name in SIMCLR}


def test_seeds_of_one_cell_are_not_named():
    assert foreign_curves(SIMCLR, AT_END) == {}
    assert foreign_curves({}, {}) == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"series": 11}, "the number of curves is 11, in the other seeds of its cell 10"),
        ({"learning_rates": 0.151}, "the sum of learning rates is 0.151, in the other seeds of its cell 0.306"),
        ({"loss": 2.85}, "its loss is 2.85 in the first epoch, in the other seeds of its cell 10.9"),
        ({"loss": 150.0}, "its loss is 150 in the first epoch"),
        (
            {"online": 0.70},
            "its curves end at a kNN accuracy of 0.700 on validation, its metrics have 0.970; allowed:",
        ),
    ],
)
def test_curves_of_another_cell_are_named_by_what_they_cannot_have(changes, problem):
    found = foreign_curves(SIMCLR | {"simclr 1": SIMCLR["simclr 1"]._replace(**changes)}, AT_END)
    assert list(found) == ["simclr 1"]
    assert problem in found["simclr 1"]


def test_of_one_or_two_seeds_only_an_end_that_is_far_above_the_metrics_is_named():
    """Few images are compared with during training, by how much less that gives is not known from one seed."""
    for online, is_named in ((0.2, False), (0.9, False), (0.97, True)):
        found = foreign_curves({"one": Curves(10, 0.3, 5.0, online)}, {"one": Final(0.7, IMAGES)})
        assert bool(found) is is_named
    assert foreign_curves({"one": Curves(10, 0.3), "two": Curves(11, 0.1, 5.0)}, {}) == {}


def test_what_was_not_measured_is_not_compared():
    bare = {name: Curves(10) for name in SIMCLR}
    assert foreign_curves(bare, AT_END) == {}
    assert foreign_curves(SIMCLR, {}) == {}


@pytest.mark.parametrize(("accuracy", "images", "lower"), [(0.4, 512, 0.05), (0.9, 256, 0.03), (0.98, 1000, 0.0)])
def test_honest_seeds_are_named_in_fewer_than_one_trial_of_a_thousand(accuracy, images, lower):
    """Each seed has an accuracy of its own; its curve ends `lower`, on as many images that are drawn independently."""
    rng, named, cells = np.random.default_rng(7), 0, 1000
    for _ in range(cells):
        true = np.clip(accuracy + rng.normal(0, 0.02, 4), 0.01, 0.99)
        online = rng.binomial(images, true - lower) / images
        final = rng.binomial(images, true) / images
        curves = {str(seed): Curves(10, 0.3, 5.0, float(online[seed])) for seed in range(4)}
        named += len(foreign_curves(curves, {str(seed): Final(float(final[seed]), images) for seed in range(4)}))
    assert named < 4 * cells / 1000


def test_curves_are_read_as_they_were_written():
    epochs = np.array([1.0, 2.0])
    series = [
        ("a", "loss", epochs, np.array([5.0, 3.0])),
        ("a", "learning_rate", epochs, np.array([0.2, 0.1])),
        ("a", "validation/knn_top1", epochs[1:], np.array([0.9])),
        ("a", "never", epochs[:0], np.array([])),
    ]
    found = curves_of(series)
    assert (found.series, found.loss, found.online) == (3, 5.0, 0.9)
    assert found.learning_rates is not None and math.isclose(found.learning_rates, 0.3)


def test_the_final_accuracy_is_that_of_a_done_trial_on_at_most_the_images_of_the_diagnostics():
    content = {"evaluation": {"diagnostics_examples": 256}}
    metric = {"name": "knn_top1", "split": "validation", "value": 0.9, "n_examples": 287}
    result = {"trial": {"protocol": {"content": content}}, "status": "done", "metrics": [metric]}
    assert final_of(result) == Final(0.9, 256)
    assert final_of(result | {"metrics": [metric | {"n_examples": 100}]}) == Final(0.9, 100)
    assert final_of(result | {"status": "collapsed"}) is None
    assert final_of(result | {"metrics": [metric | {"split": "test"}]}) is None
    assert final_of(result | {"metrics": []}) is None
