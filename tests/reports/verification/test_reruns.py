"""Claims: an edit in one method's favour is found in records from another machine, and honest ones pass.

The simulated networks have margins per test image. A second run of a trial moves each margin a little, and all margins
of the trial together: its answers differ in both directions, but not independently of each other.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundling import contents_of, genuine_run

from twinbench.reports.verification.reruns import (
    Comparison,
    by_method,
    claimed,
    differing,
    drawn,
    judged_comparisons,
    omitted,
    sampled,
    shifts,
    trial_faults,
)
from twinbench.results.record import COMPUTED_WITH
from twinbench.sweeps.errors import InvalidInput

IMAGES = 359


def record_of(correct: np.ndarray, method: str = "simclr") -> dict[str, Any]:
    metric = {"name": "linear_top1", "split": "test", "value": float(correct.mean()), "n_examples": len(correct)}
    return {"result": {"trial": {"method": method}, "status": "done", "metrics": [metric]}}


def shifts_of(recorded: np.ndarray, repeated: np.ndarray) -> Any:
    outputs = [{"linear_correct": one.astype(np.uint8)} for one in (recorded, repeated)]
    return shifts(record_of(recorded), record_of(repeated), *outputs)  # type: ignore[arg-type]


def two_runs(rng: np.random.Generator, edit: int) -> Any:
    """Return the shifts of a trial: a record and a rerun elsewhere, with so many answers of the record edited."""
    margins = rng.normal(2, 1.2, IMAGES) + rng.laplace(0, 0.2, IMAGES)
    runs = [margins + rng.normal(0, 0.25, IMAGES) + rng.normal(0, 0.04) > 0 for _ in range(2)]
    candidates = np.flatnonzero(runs[0] != (edit > 0))
    runs[0][rng.choice(candidates, abs(edit), replace=False)] = edit > 0
    return shifts_of(*runs)


def families(seeds: int, edit: int, number: int = 200) -> tuple[float, float]:
    """Return in which share of simulated bundles the comparison, and a single trial, is at fault."""
    rng, of_comparisons, of_trials = np.random.default_rng([seeds, edit + 9]), 0, 0
    sides = [tuple(f"{side}{seed}" for seed in range(seeds)) for side in "ab"]
    comparison = Comparison("claim mine, a and b", "linear_top1", *sides, has_direction=True)
    for _ in range(number):
        found = {one: two_runs(rng, edit) for one in sides[0]} | {one: two_runs(rng, -edit) for one in sides[1]}
        of_comparisons += bool(judged_comparisons([comparison], found)[0])
        of_trials += bool([*trial_faults(found)])
    return of_comparisons / number, of_trials / number


def test_honest_reruns_elsewhere_are_at_fault_in_one_bundle_of_a_hundred_at_most():
    rng = np.random.default_rng(3)
    changed, gains = zip(
        *((one.changed, one.gain) for _ in range(300) for one in two_runs(rng, 0).values()), strict=True
    )
    assert 8 < np.mean(changed) < 16  # as measured on digits
    assert 1 < np.var(gains) / np.mean(changed) < 2
    for seeds in (1, 5, 20):
        assert max(families(seeds, 0)) <= 0.02  # of 200


def test_three_answers_a_trial_in_one_methods_favour_are_found_once_enough_trials_are_run_again():
    found = {seeds: families(seeds, 3, 100)[0] for seeds in (3, 10, 20)}
    assert found[3] < found[10] < found[20] and found[20] > 0.9
    assert families(20, -3, 50)[0] == 0  # an edit against the claim does not support it


def test_the_same_edit_is_found_in_three_trials_where_machines_differ_in_few_answers():
    rng = np.random.default_rng(5)
    found = {}
    for one in ("a0", "a1", "a2", "b0", "b1", "b2"):
        repeated = rng.random(IMAGES) < 0.95
        recorded, edit = repeated.copy(), one[0] == "a"
        recorded[rng.choice(np.flatnonzero(repeated != edit), 3, replace=False)] = edit
        found[one] = shifts_of(recorded, repeated)
    claim = Comparison("claim mine, a and b", "linear_top1", ("a0", "a1", "a2"), ("b0", "b1", "b2", "b3"), True)
    ((fault,), notes) = judged_comparisons([claim], found)
    # The means are 3 and -3, the variance of each is 2 (3 + 3 + 3) / 9. 2.326 (one in a hundred) times 2 is 4.7.
    assert fault == (
        "claim mine, a and b: linear_top1 is shifted by +6.0 of 359 answers in the records of 3 of 3 trials and "
        "3 of 4 trials, in favour of the claim; reruns elsewhere allow 4.7"
    )
    assert notes == []


def test_equal_records_are_called_equal_and_a_claim_of_collapses_has_no_accuracy_to_compare():
    equal = shifts_of(np.ones(IMAGES, bool), np.ones(IMAGES, bool))
    won, ends = Comparison("claim w, a and b", "linear_top1", ("a0", "a1"), ("b0", "b1")), Comparison("c", "", ("a0",))
    faults, notes = judged_comparisons([won, ends], {"a0": equal, "b1": equal})
    assert (faults, notes) == ([], ["claim w, a and b: 1 of 2 trials and 1 of 2 trials rerun, with equal linear_top1"])


def test_a_made_up_result_differs_more_than_one_trial_can():
    correct = np.arange(IMAGES) % 10 > 0  # 36 wrong
    (fault,) = trial_faults({"t": shifts_of(np.ones(IMAGES, bool), correct)})
    # The root of 2 x 36 is 8.5; 2.576 leaves half a percent on either side.
    assert fault == (
        "trial t: linear_top1 on test differs from the rerun by 36.0 of 359 answers, with at most 21.9 allowed"
    )


def test_without_outputs_all_wrong_answers_may_be_other_ones():
    there, here = (record_of(np.arange(100) < right) for right in (90, 80))
    (shift,) = shifts(there, here, {}, {}).values()  # type: ignore[arg-type]
    assert (shift.gain, shift.changed, shift.examples) == pytest.approx((10, 30, 100))


# --- what the claims compare ----------------------------------------------------------------------------------------

CLAIMS = """
protocol = "digits-small"
[[claims]]
name = "mine"
sentence = "Under digits-small SimCLR is better than VICReg in kNN accuracy."
kind = "better"
metric = "knn_top1"
a = { method = "simclr" }
b = { method = "vicreg" }
[[claims]]
name = "whole"
sentence = "Under digits-small SimCLR does not collapse."
kind = "does_not_collapse"
a = { method = "simclr" }
[[claims]]
name = "elsewhere"
sentence = "Under digits-small BYOL is better than VICReg in linear accuracy."
kind = "better"
a = { method = "byol" }
b = { method = "vicreg" }
"""


def test_the_trials_of_a_claims_sides_are_compared_and_those_of_methods_without_claims(tmp_path: Path) -> None:
    run = genuine_run(tmp_path / "run", seeds=2)
    without = claimed(contents_of(run.bundle().path, tmp_path))
    assert [(one.name, one.metric) for one in without] == [
        (method, metric) for method in ("simclr", "vicreg") for metric in ("knn_top1", "linear_top1")
    ]
    (run.folder / "claims.toml").write_text(CLAIMS)
    contents = contents_of(run.bundle().path, tmp_path)
    mine, whole = claimed(contents)
    assert mine == Comparison(
        "claim mine, simclr and vicreg", "knn_top1", (*run.ids[:2],), (*run.ids[2:],), has_direction=True, claim="mine"
    )
    # How the trials of a claim of collapses end is compared trial by trial.
    assert whole == Comparison("claim whole, simclr", "", mine.a, claim="whole")
    assert claimed(contents, "whole") == (whole,)
    for name, problem in (("mnie", "did you mean 'mine'"), ("elsewhere", "compares no trials of the bundle")):
        with pytest.raises(InvalidInput, match=problem):
            claimed(contents, name)


# --- the draw -------------------------------------------------------------------------------------------------------


def records_of(*names: str) -> dict[str, Any]:
    return {name: record_of(np.ones(3, bool), name.rstrip("0123456789")) for name in names}


RECORDS = records_of(*(f"{method}{seed}" for method in ("untrained", "simclr", "byol", "vicreg") for seed in range(5)))
SIMCLR, BYOL = (tuple(f"{method}{seed}" for seed in range(5)) for method in ("simclr", "byol"))


def methods(chosen: Sequence[str]) -> list[str]:
    return [name.rstrip("0123456789") for name in chosen]


def test_trials_behind_claims_are_drawn_first_and_in_turns_and_baselines_last():
    claim = Comparison("mine", "linear_top1", SIMCLR, BYOL, True)
    for seed in range(5):
        found = methods(drawn(RECORDS, [claim], 99, seed))
        assert len(found) == 20
        assert all({*found[place : place + 2]} == {"simclr", "byol"} for place in range(0, 10, 2))
        assert found[10:15] == ["vicreg"] * 5 and found[15:] == ["untrained"] * 5
        assert drawn(RECORDS, [claim], 3, seed) == drawn(RECORDS, [claim], 99, seed)[:3]
    assert {drawn(RECORDS, [claim], 1, seed)[0] for seed in range(80)} == {*SIMCLR, *BYOL}


def test_it_is_said_how_many_trials_of_each_claim_were_drawn():
    shown = Comparison("claim shown, simclr and byol", "linear_top1", SIMCLR, BYOL, True, "shown")
    other = Comparison("claim other, vicreg", "knn_top1", ("vicreg0", "vicreg1"), claim="other")
    twice = replace(shown, metric="knn_top1", b=())
    assert [*sampled([shown, twice, other], ["simclr3", "byol0", "untrained1"])] == [
        "claim shown: 2 of 10 trials drawn",
        "claim other: 0 of 2 trials drawn",
    ]
    assert next(sampled(by_method(RECORDS), ["byol1"])) == "byol: 1 of 5 trials drawn"


def test_without_claims_the_methods_take_turns_and_are_compared_with_themselves():
    compared = by_method(RECORDS)
    assert [(one.name, one.has_direction) for one in compared] == [
        ("byol", False),
        ("simclr", False),
        ("vicreg", False),
    ]
    assert {*methods(drawn(RECORDS, compared, 3, 0))} == {"byol", "simclr", "vicreg"}
    found = {one: shifts_of(np.ones(IMAGES, bool), np.arange(IMAGES) > 2) for one in BYOL}
    ((fault,), _) = judged_comparisons(compared, found)
    # The root of 2 (3 + 3 + 3 + 3 + 3) / 25 is 1.1; 2.576 leaves half a percent on either side.
    assert fault.startswith("byol: linear_top1 is shifted by +3.0 of 359 answers in the records of 5 of 5 trials; ")
    assert fault.endswith("reruns elsewhere allow 2.8")


# --- the same machine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({}, []),
        ({"code_hash": "2:b"}, ["code"]),
        ({"code_hash": "a", "commit": "d"}, ["code, perhaps"]),
        ({"threads": 2, "processor": None}, ["threads", "processor"]),
        ({"versions": {"torch": "3"}}, ["versions"]),
    ],
)
def test_bits_must_agree_only_where_all_that_computes_is_known_to_be_the_same(
    there: dict[str, Any], found: list[str]
) -> None:
    same = {key: 1 for key in (*COMPUTED_WITH, "processor")} | {"versions": {}, "code_hash": "2:a", "commit": "c"}
    assert differing({"circumstance": same | there}, {"circumstance": same}) == found  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("there", "found"), [({}, []), ({"code_hash": "2:b"}, []), ({"code_hash": "2:a"}, ["processor"])]
)
def test_what_the_same_code_always_records_was_removed_where_it_is_absent(
    there: dict[str, Any], found: list[str]
) -> None:
    here = {key: 1 for key in COMPUTED_WITH} | {"versions": {}, "processor": "mine", "code_hash": "2:a"}
    removed = {key: value for key, value in here.items() if key != "processor"} | there
    assert omitted({"circumstance": removed if there else here}, {"circumstance": here}) == found  # type: ignore[typeddict-item]
