from dataclasses import fields

import pytest
from pydantic import TypeAdapter, ValidationError

from twinbench.results.plan import BrokenPlan, checked_plan
from twinbench.results.protocol_content import (
    BackboneShape,
    CheckedProtocol,
    ContentShape,
    DatasetShape,
    EvaluationShape,
)
from twinbench.results.record import TornRecord, read_record
from twinbench.sweeps.hashing import canonical_json, digest
from twinbench.sweeps.protocol import BackboneRule, DatasetRule, Evaluation, Protocol, ProtocolContent
from twinbench.sweeps.sweep import read_protocol, shipped_protocols

CHECK = TypeAdapter(CheckedProtocol).validate_python
WRONG = [
    ("evaluation", 5, "a table"),
    ("dataset", [], "a table"),
    ("backbone", "x", "a table"),
    ("training", None, "a table"),
    ("training.epochs", [1], "a number, a text, true, false or null"),
    ("methods.simclr", 0.5, "a table"),
    ("movable", [], "a table"),
    ("views", {}, "a list"),
    ("views[1]", 7, "a table"),
    ("evaluation.metrics", ["knn_top1"], "a table"),
    ("evaluation.knn_neighbours", 5, "a list"),
    ("evaluation.knn_neighbours[0]", 2**63, "an integer of 64 bits"),
    ("dataset.train_examples", "all", "an integer of 64 bits"),
    ("minimum_seeds", "3", "an integer of 64 bits"),
    ("margin", "0.01", "a finite number"),
    ("checkpoint", "first", "'last' or 'best_on_test'"),
    ("selected_on", 1, "'validation' or 'test'"),
]


def with_value(key, value):
    """The protocol digits-small as a trial carries it, with another value at a key of its content."""
    protocol = read_protocol("digits-small").carried
    *path, last = [int(part) if part.isdigit() else part for part in key.replace("[", ".").replace("]", "").split(".")]
    table = protocol["content"]
    for part in path:
        table = table[part]
    table[last] = value
    return protocol


@pytest.mark.parametrize(("key", "value", "wanted"), WRONG)
def test_a_record_whose_protocol_has_a_value_of_another_shape_is_torn_and_the_key_is_named(
    key, value, wanted, synthetic_run
):
    path = synthetic_run.record(synthetic_run.trial())
    record = read_record(path)
    record["result"]["trial"]["protocol"] = with_value(key, value)
    path.write_bytes(canonical_json(record | {"result_digest": digest(record["result"])}))
    with pytest.raises(TornRecord) as error:
        read_record(path)
    assert f"result.trial.protocol.content.{key} is " in str(error.value)
    assert str(error.value).endswith(f"; must be {wanted}")


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, value, _ in WRONG])
def test_a_plan_whose_protocol_has_a_value_of_another_shape_is_broken_and_the_key_is_named(key, value):
    plan = {"schema": 1, "name": "x", "question": "?", "axes": [], "trials": []}
    with pytest.raises(BrokenPlan, match=f"^protocol.content.{key.replace('[', '.').replace(']', '')}: should be"):
        checked_plan(plan | {"protocol": with_value(key, value)})


@pytest.mark.parametrize("name", shipped_protocols())
def test_every_shipped_protocol_has_the_shape_and_so_has_one_without_any_of_its_keys(name):
    carried = read_protocol(name).carried
    for left_out in ("", *carried["content"]):
        content = {key: value for key, value in carried["content"].items() if key != left_out}
        CHECK(carried | {"content": content | {"of_a_later_version": 1}})


def test_a_protocol_is_given_back_as_it_was_read():
    protocol = with_value("margin", 1) | {
        "deviations": [{"key": "margin", "value": 1, "protocol_value": 0, "reason": ""}]
    }
    assert canonical_json(CHECK(protocol)) == canonical_json(protocol)  # a margin of 1.0 has another hash


@pytest.mark.parametrize("deviations", [5, [5], [{"key": "margin"}], [{"key": 5, "value": 1, "protocol_value": 1}]])
def test_deviations_of_another_shape_are_refused(deviations):
    with pytest.raises(ValidationError, match="deviations"):
        CHECK(read_protocol("digits-small").carried | {"deviations": deviations})


def test_every_field_of_a_protocol_has_a_shape():
    shapes = {
        Protocol: ContentShape,
        DatasetRule: DatasetShape,
        BackboneRule: BackboneShape,
        Evaluation: EvaluationShape,
    }
    for rule, shape in shapes.items():
        assert {field.name for field in fields(rule)} == {*shape.__annotations__}
    assert ContentShape.__annotations__.keys() == ProtocolContent.__annotations__.keys()
