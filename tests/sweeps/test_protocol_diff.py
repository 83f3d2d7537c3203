"""A protocol is printed value by value with what may be varied; two contents differ exactly where hashes do."""

import json
from dataclasses import replace
from typing import Any

import pytest

from twinbench.sweeps.protocol import Protocol
from twinbench.sweeps.protocol_diff import ABSENT, Differing, differences, protocol_values
from twinbench.sweeps.sweep import read_protocol, shipped_protocols


@pytest.fixture
def protocol() -> Protocol:
    return read_protocol("digits-small")


def test_every_value_is_told_once_with_what_a_sweep_may_do_to_it(protocol: Protocol) -> None:
    values = {value.key: value for value in protocol_values(protocol)}
    assert len(values) == len(protocol_values(protocol))
    shown = {key: (values[key].value, values[key].rule) for key in ("training.momentum", "training.epochs")}
    assert shown == {"training.momentum": (0.9, "fixed"), "training.epochs": (12, "may be varied, 1 to 1000")}
    assert values["training.learning_rate_rule"].rule == "may be varied"
    assert values["methods.simclr.temperature"].rule == "may be varied, 0.01 to 2"
    assert values["views.1.crop_scale"].value == [0.4, 1.0]
    assert values["evaluation.metrics.rankme_backbone"].value == "rankme/sv-uncentred@1"
    assert not {"name", "version", "summary", "changelog", "not_restated"} & set(values)


def test_an_axis_that_has_no_value_in_the_protocol_is_told_last(protocol: Protocol) -> None:
    last = protocol_values(protocol)[-1]
    assert (last.key, last.rule) == ("movable.covariance_weight", "may be varied, 0 to 1000")
    filled = protocol_values(protocol, {"vicreg": {"covariance_weight": 1.0, "projector_width": 8192}})
    by_key = {value.key: value for value in filled}
    assert by_key["methods.vicreg.covariance_weight"].set_by == "method"
    assert (by_key["methods.vicreg.projector_width"].value, by_key["methods.vicreg.projector_width"].set_by) == (
        256,
        "protocol",
    )
    assert "movable.covariance_weight" not in by_key


def test_equal_contents_do_not_differ_whatever_the_prose_says(protocol: Protocol) -> None:
    other = replace(protocol, summary="Others.", changelog=(), not_restated=("much",))
    assert differences(protocol.content, other.content) == []
    assert protocol.hash == other.hash


@pytest.mark.parametrize("left", shipped_protocols())
@pytest.mark.parametrize("right", shipped_protocols())
def test_contents_differ_exactly_where_their_hashes_do(left: str, right: str) -> None:
    a, b = read_protocol(left), read_protocol(right)
    assert bool(differences(a.content, b.content)) == (a.hash != b.hash)


def _changed(protocol: Protocol, change: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(protocol.content))
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["training"].update(epochs=13), [Differing("training.epochs", 12, 13)]),
        (lambda c: c["training"].update(epochs=12.0), [Differing("training.epochs", 12, 12.0)]),  # another hash
        (lambda c: c["views"][1].update(hue=0.1), [Differing("views.1.hue", 0.0, 0.1)]),
        (lambda c: c["methods"]["vicreg"].clear(), [
            Differing("methods.vicreg.projector_depth", 2, ABSENT),
            Differing("methods.vicreg.projector_width", 256, ABSENT),
        ]),
        (lambda c: c["training"].pop("clip_gradient_norm"), [Differing("training.clip_gradient_norm", None, ABSENT)]),
        (lambda c: c["movable"].update(momentum=True), [Differing("movable.momentum", ABSENT, True)]),
        (lambda c: c["movable"].update(learning_rate_rule=1), [Differing("movable.learning_rate_rule", True, 1)]),
        (lambda c: c["methods"].update(other={}), [Differing("methods.other", ABSENT, {})]),
        (lambda c: c["dataset"].update(mean=[0.3]), [Differing("dataset.mean", [0.3053] * 3, [0.3])]),
    ],
)  # fmt: skip
def test_a_difference_is_told_by_its_key_with_both_values(
    protocol: Protocol, change: Any, expected: list[Differing]
) -> None:
    changed = _changed(protocol, change)
    assert differences(protocol.content, changed) == expected
    assert differences(changed, protocol.content) == [Differing(one.key, one.right, one.left) for one in expected]


def test_views_of_unequal_number_differ_key_by_key(protocol: Protocol) -> None:
    fewer = _changed(protocol, lambda c: c["views"].pop())
    found = differences(protocol.content, fewer)
    assert {one.right for one in found} == {ABSENT}
    assert {one.key.rpartition(".")[0] for one in found} == {"views.1"}
