import json
import math
from typing import Any

import pytest

from twinbench.results.plan import BrokenPlan, checked_plan, parse_plan, read_plan
from twinbench.sweeps.errors import InvalidInput

TRIAL: dict[str, Any] = {
    "trial_id": "a" * 16,
    "cell_id": "b" * 16,
    "method": "simclr",
    "method_version": 1,
    "settings": {"temperature": 0.5, "layers": [64, 64]},
    "training": {"epochs": 2},
    "seed": 0,
    "dataset_fingerprint": "f" * 64,
}
PLAN: dict[str, Any] = {
    "schema": 1,
    "name": "synthetic",
    "question": "Which?",
    "protocol": {"name": "p", "version": 3, "hash": "5" * 64, "content": {"margin": 0.01, "views": [{}, {}]}},
    "axes": ["temperature"],
    "trials": [TRIAL],
}


def as_bytes(content: object) -> bytes:
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "more", [{}, {"commands": ["twinbench run a"], "confirm": {"seeds": [7]}}, {"later": [1, 1.0, None]}]
)
def test_a_plan_is_given_back_with_all_its_keys(more):
    content = PLAN | more | {"trials": [TRIAL | {"later": {"x": 1e-300}}]}
    content["protocol"] = PLAN["protocol"] | {"base_hash": "6" * 64, "later": True}
    for plan in (parse_plan(as_bytes(content)), checked_plan(content)):
        assert json.dumps(plan.content(), sort_keys=True) == json.dumps(content, sort_keys=True)
        assert plan.commands == tuple(more.get("commands", ()))


def test_the_trials_of_a_plan_carry_its_protocol():
    (trial,) = parse_plan(as_bytes(PLAN)).full_trials()
    ids = ("trial_id", "cell_id")
    assert trial.content() == {key: value for key, value in TRIAL.items() if key not in ids} | {
        "protocol": PLAN["protocol"]
    }


def test_a_name_that_utf8_cannot_hold_is_read_and_given_back():
    # A command with an undecodable file name; pydantic's own JSON parser refuses its escape.
    data = as_bytes(PLAN | {"commands": ["twinbench run \udcff.toml"]})
    assert b"\\udcff" in data
    assert parse_plan(data).commands == ("twinbench run \udcff.toml",)
    with pytest.raises(BrokenPlan, match="axes: should be a list"):
        parse_plan(as_bytes(PLAN | {"axes": "\udcff"}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_refused(value):
    with pytest.raises(BrokenPlan, match="is not a JSON number"):
        parse_plan(as_bytes(PLAN | {"trials": [TRIAL | {"settings": {"temperature": value}}]}))
    assert parse_plan(as_bytes(PLAN | {"question": "NaN or Infinity?"})).question == "NaN or Infinity?"


@pytest.mark.parametrize("key", [key for key in PLAN if key != "commands"])
def test_a_key_that_is_missing_is_named(key):
    content = {name: value for name, value in PLAN.items() if name != key}
    with pytest.raises(BrokenPlan, match=f"^{key}: is missing$"):
        parse_plan(as_bytes(content))


@pytest.mark.parametrize("key", TRIAL)
def test_a_key_that_a_planned_trial_lacks_is_named(key):
    content = PLAN | {"trials": [TRIAL, {name: value for name, value in TRIAL.items() if name != key}]}
    with pytest.raises(BrokenPlan, match=rf"^trials\.1\.{key}: is missing$"):
        parse_plan(as_bytes(content))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema": 2}, "schema: 2 is not supported; this version reads 1"),
        ({"name": 7}, "name: should be a valid string (seen: 7)"),
        ({"axes": "width"}, "axes: should be a list (seen: 'width')"),
        ({"axes": [5]}, "axes.0: should be a valid string (seen: 5)"),
        ({"commands": [None]}, "commands.0: should be a valid string (seen: None)"),
        ({"protocol": []}, "protocol: should be a table (seen: [])"),
        ({"protocol": {"name": "p", "version": 1, "content": {}}}, "protocol.hash: is missing"),
        ({"trials": [[]]}, "trials.0: should be a table (seen: [])"),
        ({"trials": [TRIAL | {"seed": True}]}, "trials.0.seed: should be a valid integer (seen: True)"),
        ({"trials": [TRIAL | {"seed": 1.0}]}, "trials.0.seed: should be a valid integer (seen: 1.0)"),
        (
            {"trials": [TRIAL | {"method_version": "1"}]},
            "trials.0.method_version: should be a valid integer (seen: '1')",
        ),
        (
            {"name": list(range(10, 99))},
            "name: should be a valid string (seen: [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, ...)",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_and_shown(change, problem):
    with pytest.raises(BrokenPlan) as error:
        parse_plan(as_bytes(PLAN | change))
    assert str(error.value) == problem


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"a":' * 100_000])
def test_what_is_not_json_is_not_a_plan(data, tmp_path):
    with pytest.raises(BrokenPlan, match="not JSON"):
        parse_plan(data)
    (tmp_path / "plan.json").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"its plan\.json is not a plan: not JSON"):
        read_plan(tmp_path)


def test_a_folder_without_a_plan_and_a_plan_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InvalidInput, match=r": not a run folder: it has no plan\.json$"):
        read_plan(tmp_path)
    with pytest.raises(InvalidInput, match=r": not a run folder: it has no plan\.json$"):
        read_plan(tmp_path / "nowhere")
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(InvalidInput, match=r": its plan\.json cannot be read: Is a directory$"):
        read_plan(tmp_path)
