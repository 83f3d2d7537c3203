"""Claims: a trial's settings are compared with the protocol's own, and what a sweep fixes is told from an axis."""

from typing import Any

import pytest

from twinbench.harness.commands.protocol import method_defaults
from twinbench.harness.schemas import method_schema
from twinbench.methods.registry import BASELINES, METHODS
from twinbench.sweeps.own_values import (
    METHODS_LOCK,
    ChangedSetting,
    OwnValues,
    fixed_text,
    in_every_cell,
    shipped_versions,
    varied_text,
)
from twinbench.sweeps.sweep import read_protocol
from twinbench.sweeps.toml_reader import read_toml
from twinbench.sweeps.trial import setting_text

EPOCHS = ChangedSetting("epochs", "2", "12")
WIDTH = ChangedSetting("projector_width", "64", "256")
TEMPERATURE = ChangedSetting("temperature", "0.1", "0.5")


def test_the_lock_holds_the_version_and_defaults_of_every_shipped_method_and_baseline() -> None:
    locked = read_toml(METHODS_LOCK)
    defaults = {**{name: {} for name in BASELINES}, **method_defaults()}
    shipped = {name: {str(method_schema(name).version): values} for name, values in defaults.items()}
    assert {name: locked[name] | versions for name, versions in shipped.items()} == locked


def test_no_version_of_a_shipped_method_is_missing_and_none_of_other_packages_is_known() -> None:
    assert all(shipped_versions(name) == [*range(1, len(shipped_versions(name)) + 1)] for name in METHODS | BASELINES)
    assert shipped_versions("simclr") and shipped_versions("of_another_package") == []


@pytest.mark.parametrize(
    ("method", "values", "changed"),
    [
        ("simclr", {"epochs": "2"}, ["epochs = 2 (protocol: 12)"]),
        ("simclr", {"epochs": "12", "warmup_epochs": "2", "learning_rate": "0.1"}, []),
        ("simclr", {"temperature": "0.1"}, ["temperature = 0.1 (protocol: 0.5)"]),  # the protocol's, not the method's
        ("vicreg", {"variance_weight": "50.0"}, ["variance_weight = 50.0 (protocol: 25.0)"]),  # the method's default
        ("vicreg", {"variance_weight": "25"}, []),
        ("simclr", {"projector_depth": "2", "clip_gradient_norm": "null", "decay_bias_and_norm": "false"}, []),
        ("simclr", {"clip_gradient_norm": "1.0"}, ["clip_gradient_norm = 1.0 (protocol: null)"]),
        ("simclr", {"optimizer": "lars", "learning_rate_rule": "none"},
         ["learning_rate_rule = none (protocol: linear)", "optimizer = lars (protocol: sgd)"]),
        ("of_another_package", {"epochs": "2", "its_own": "3"}, ["epochs = 2 (protocol: 12)"]),
    ],
)  # fmt: skip
def test_a_value_is_compared_with_the_protocols_own(method: str, values: dict[str, str], changed: list[str]) -> None:
    content = read_protocol("digits-small").content
    own = OwnValues(content)
    values = {name: setting_text(value) for name, value in content["training"].items()} | values
    assert [str(one) for one in own.changed(method, 1, values)] == changed


def test_the_protocols_table_of_a_method_comes_before_its_training_table() -> None:
    content = read_protocol("digits-small").content
    content["methods"]["byol"]["epochs"] = 20
    content["training"] = {"epochs": 12}
    own = OwnValues(content)
    assert own.changed("byol", 1, {"epochs": "20"}) == ()
    assert own.changed("byol", 1, {"epochs": "12"}) == (ChangedSetting("epochs", "12", "20"),)


def test_a_trial_that_does_not_say_its_epochs_differs_in_them_and_a_baseline_in_nothing() -> None:
    own = OwnValues({"training": {"epochs": 12}})
    assert [str(one) for one in own.changed("byol", 1, {"projector_width": "4096"})] == [
        "epochs = (absent) (protocol: 12)"
    ]
    assert own.changed("untrained", 1, {}) == ()


def test_a_trial_that_follows_a_deviation_does_not_differ_and_others_show_the_value_before_it() -> None:
    content: Any = read_protocol("digits-small").content
    content["training"] = {"epochs": 20}
    own = OwnValues(content, [{"key": "training.epochs", "value": 20, "protocol_value": 12, "reason": "as published"}])
    assert own.changed("byol", 1, {"epochs": "20"}) == ()
    assert own.changed("byol", 1, {"epochs": "2"}) == (EPOCHS,)


@pytest.mark.parametrize("content", [{}, {"methods": 1, "training": [2]}, {"methods": {"byol": "x"}}])
def test_nothing_is_compared_with_a_protocol_that_has_no_values(content: Any) -> None:
    assert OwnValues(content).changed("byol", 1, {"epochs": "2"}) == ()


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ({"byol": [(EPOCHS,)], "simclr": [(EPOCHS,), (EPOCHS, TEMPERATURE)]}, "epochs = 2 (protocol: 12)"),
        ({"byol": [(EPOCHS,)], "simclr": [()]}, "byol.epochs = 2 (protocol: 12)"),
        ({"byol": [(EPOCHS,), ()]}, ""),  # an axis with the protocol's own value
        ({"byol": [(EPOCHS,), (ChangedSetting("epochs", "4", "12"),)]}, ""),  # an axis without it
        (
            {"byol": [(EPOCHS, WIDTH)], "simclr": [(EPOCHS,)]},
            "epochs = 2 (protocol: 12), byol.projector_width = 64 (protocol: 256)",
        ),
        ({"byol": [], "simclr": [(EPOCHS,)]}, "epochs = 2 (protocol: 12)"),
        ({}, ""),
    ],
)
def test_fixed_is_what_differs_alike_in_every_cell_of_a_method(cells: dict[str, Any], text: str) -> None:
    assert fixed_text(in_every_cell(cells)) == text


def test_what_differs_in_some_cells_only_is_given_with_its_values() -> None:
    four = ChangedSetting("epochs", "4", "12")
    cells = {"byol": [(EPOCHS, WIDTH), (four, WIDTH), (WIDTH,)], "simclr": [()]}
    assert varied_text(cells) == "byol.epochs = 2, 4 (protocol: 12)"
    assert fixed_text(in_every_cell(cells)) == "byol.projector_width = 64 (protocol: 256)"
