"""Claims: what cannot be true of one trial, or of the trials of one dataset, is named with what is allowed."""

from typing import Any

import pytest

from twinbench.reports.claims.consistency import (
    Seen,
    choice_problems,
    image_problems,
    images_seen,
    second_problems,
    setting_problems,
    validation_problems,
)
from twinbench.sweeps.metrics import METRICS
from twinbench.sweeps.sweep import read_protocol

PROTOCOL = read_protocol("digits-small").carried
BEST_ON_TEST = {**PROTOCOL, "content": {**PROTOCOL["content"], "checkpoint": "best_on_test"}}


def result(method: str = "simclr", version: int = 1, protocol: Any = PROTOCOL, **selected: object) -> Any:
    trial = {"method": method, "method_version": version, "protocol": protocol, "training": {"epochs": 12}}
    metric = {"name": "knn_top1", "split": "test", "selected": selected}
    return {"trial": trial, "metrics": [metric], "status": "done", "trial_id": "0" * 16}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (result(k=10, temperature=0.07), ""),
        (result(), ""),
        (result(k=7), "knn_top1 on test was measured with k 7; candidates of the protocol: 5, 10, 20"),
        (result(temperature="0.07"), "with temperature '0.07'; candidates of the protocol: 0.07, 0.1"),
        (result(k=[10]), "with k [10]"),
        (result(penalty=1.0), "with penalty 1.0; settings of this probe: k, temperature"),
        (result(epoch=3), "with epoch 3; settings of this probe: k, temperature"),
        (result(protocol=BEST_ON_TEST, k=10, epoch=12), ""),
        (result(protocol=BEST_ON_TEST, k=10, epoch=13), "with epoch 13; candidates of the protocol: 0 to 12"),
        (result(version=2), "simclr has version 2; versions that exist here: 1"),
        (result("outsider", version=7), ""),
    ],
)
def test_what_was_chosen_is_a_candidate_of_the_protocol_and_a_shipped_method_has_a_version_that_exists(given, problem):
    (found,) = [*choice_problems(given), ""][:1]
    assert problem in found if problem else not found


SETTINGS = {"projector_width": 128, "projector_output_width": 32, "projector_depth": 2, "temperature": 0.5}
TRAINING = PROTOCOL["content"]["training"]


@pytest.mark.parametrize(
    ("method", "settings", "training", "problem"),
    [
        ("simclr", {}, {}, ""),
        ("simclr", {"temperature": 2}, {"epochs": 1000, "learning_rate_rule": "none"}, ""),  # the ends of the ranges
        ("simclr", {"temperature": 2.5}, {}, "simclr has temperature 2.5; allowed: 0.5, by the protocol, or 0.01 to 2"),
        ("simclr", {}, {"momentum": 0.5}, "simclr has momentum 0.5; allowed: 0.9, by the protocol, which fixes it"),
        ("simclr", {"help": 1}, {}, "'help' is no setting of simclr; allowed: projector_depth, projector_output_width"),
        ("simclr", {}, {"help": 1}, "'help' is no setting of the protocol's training; allowed: batch_size"),
        ("simclr", {"temperature": None}, {}, "temperature of simclr is missing"),
        ("simclr", {}, {"epochs": None}, "epochs of the protocol's training is missing"),
        ("Sim-CLR", {}, {}, "its method Sim-CLR is not the shipped simclr, whose name it reads as"),
        ("simclr_2", {"help": 1}, {}, ""),  # nothing is known of another package's methods
        ("simclr_2", {}, {"momentum": 0.5}, "simclr_2 has momentum 0.5"),
    ],
)
def test_settings_are_the_methods_own_and_their_values_the_protocols_or_what_it_lets_vary(
    method: str, settings: dict[str, Any], training: dict[str, Any], problem: str
) -> None:
    given = result(method)
    for key, own, changes in (("settings", SETTINGS, settings), ("training", TRAINING, training)):
        given["trial"][key] = {name: value for name, value in (own | changes).items() if name not in changes or value}
    found = list(setting_problems(given))
    assert (problem in found[0] and len(found) == 1) if problem else not found, found


@pytest.mark.parametrize("name", ["knn_top1", "linear_top1"])
def test_every_setting_that_a_probe_chooses_is_compared(name):
    given = result()
    given["metrics"] = [{"name": name, "split": "test", "selected": dict.fromkeys(METRICS[name].chosen, -1)}]
    assert len(list(choice_problems(given))) == len(METRICS[name].chosen) == 2


def test_images_seen_are_whole_batches_of_as_many_images_as_the_other_trials_show():
    """1,150 images are 8 batches of 128 and 17 of 64, in each of 12 epochs: counted by hand."""
    honest = [Seen("a", 12 * 1024, 12, 128), Seen("b", 12 * 1024, 12, 128), Seen("c", 12 * 1088, 12, 64)]
    assert image_problems(honest) == {}
    more, part = Seen("d", 24 * 1024, 12, 128), Seen("e", 12 * 1024 - 1, 12, 128)
    assert image_problems([*honest, more, part]) == {
        "d": "saw 24,576 images in 12 epochs with batches of 128; allowed: 12,288, by the other trials",
        "e": "saw 12,287 images in 12 epochs with batches of 128; allowed: 12,288, by the other trials",
    }
    assert image_problems([part]) == {
        "e": "saw 12,287 images in 12 epochs with batches of 128; allowed: a multiple of 1,536"
    }
    assert list(image_problems([Seen("f", 0, 12, 128)])) == ["f"]


def test_a_trial_that_did_not_train_to_its_end_or_does_not_count_its_images_says_nothing_of_them():
    record = {"result": result(), "circumstance": {"images_seen": 12288}}
    record["result"]["trial"]["training"]["batch_size"] = 128
    assert images_seen(record) == Seen("0" * 16, 12288, 12, 128)
    assert images_seen(record | {"circumstance": {"images_seen": "many"}}) is None
    assert images_seen(record | {"circumstance": {}}) is None
    assert images_seen(record | {"result": record["result"] | {"status": "diverged"}}) is None


TIMES = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00", "attempts": 1}


@pytest.mark.parametrize(
    ("circumstance", "seconds", "problem"),
    [
        ({"train_seconds": 55.0, "evaluation_seconds": 4.9}, [60.0], ""),
        ({"train_seconds": 66.0}, [], "trained and was evaluated for 66.0 seconds, but finished 60 seconds after it"),
        ({"train_seconds": 50.0}, [20.0, 20.0], "for 50.0 seconds, but its attempts took 40.0"),
        ({"train_seconds": 50.0}, [20.0, None], ""),  # an attempt that died has not measured its time
        ({"train_seconds": 200.0, "attempts": 2}, [], ""),  # clocks of two machines may differ
        ({"train_seconds": 400.0, "attempts": 2}, [], "finished 60 seconds after it started"),
        ({"train_seconds": -1.0}, [], "has -1 seconds of training or evaluation; allowed: 0 or more"),
        ({"train_seconds": 0.0, "images_seen": 12288}, [], "saw 12,288 images in 0 seconds of training"),
        ({"train_seconds": "long", "finished": 5}, [], ""),
    ],
)
def test_seconds_fit_the_times_of_the_record_and_of_its_attempts(circumstance, seconds, problem):
    attempts = [{} if one is None else {"seconds": one} for one in seconds]
    (found,) = [*second_problems({"circumstance": TIMES | circumstance}, attempts), ""][:1]
    assert problem in found if problem else not found


def test_a_part_of_the_validation_images_is_found_by_the_other_trials() -> None:
    honest = {"a": {115}, "b": {115}, "c": set[int]()}
    assert validation_problems(honest) == {}
    assert validation_problems(honest | {"d": {115, 60}}) == {
        "d": "was selected on 60 validation images; allowed: 115, by the other trials"
    }
