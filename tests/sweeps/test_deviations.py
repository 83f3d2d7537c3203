"""Claims: a sweep may deviate from its protocol's values, and its trials then say so; all mistakes come at once."""

from pathlib import Path
from typing import Any

import pytest

from twinbench.sweeps.deviations import DeviatingProtocol
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.protocol import Protocol
from twinbench.sweeps.protocol_diff import Differing, differences
from twinbench.sweeps.sweep import read_protocol, read_sweep

SWEEP = 'question = "q"\nprotocol = "digits-small"\nseeds = [0]\n[[grids]]\nmethods = ["simclr"]\n'


def _deviating(tmp_path: Path, *tables: tuple[str, str, str], changes: tuple[str, ...] = ()) -> Protocol:
    text = "".join(
        f'[[deviations]]\nkey = "{key}"\nvalue = {value}\nreason = "{reason}"\n' for key, value, reason in tables
    )
    (tmp_path / "s.toml").write_text(SWEEP + text)
    return read_sweep(str(tmp_path / "s.toml"), changes)[1]


def _mistakes(tmp_path: Path, *tables: tuple[str, str, str]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        _deviating(tmp_path, *tables)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_a_deviation_changes_the_content_and_nothing_else(tmp_path: Path) -> None:
    base = read_protocol("digits-small")
    protocol = _deviating(tmp_path, ("training.warmup_epochs", "0", "None in the paper."))
    assert differences(base.content, protocol.content) == [Differing("training.warmup_epochs", 2.0, 0.0)]
    assert (protocol.name, protocol.version) == (base.name, base.version)


def test_what_a_trial_carries_says_what_deviates_from_what_and_why(tmp_path: Path) -> None:
    base = read_protocol("digits-small")
    protocol = _deviating(tmp_path, ("training.warmup_epochs", "0", "None in the paper."))
    carried = protocol.carried
    expected = {"key": "training.warmup_epochs", "value": 0.0, "protocol_value": 2.0, "reason": "None in the paper."}
    assert carried["deviations"] == [expected]
    assert carried["base_hash"] == base.hash != carried["hash"] == protocol.hash
    plain = {key: value for key, value in carried.items() if key not in ("deviations", "base_hash")}
    assert plain == {
        "name": "digits-small",
        "version": base.version,
        "hash": protocol.hash,
        "content": protocol.content,
    }


def test_a_sweep_without_deviations_has_the_protocol_itself(tmp_path: Path) -> None:
    protocol = _deviating(tmp_path)
    assert not isinstance(protocol, DeviatingProtocol)
    assert set(protocol.carried) == {"name", "version", "hash", "content"}


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("views.1.hue", "0.1", 0.0, 0.1),
        ("evaluation.knn_neighbours", "[5]", [5, 10, 20], [5]),
        ("methods.simclr.temperature", "0.2", 0.5, 0.2),
        ("methods.simclr.momentum", "0.8", None, 0.8),  # the protocol leaves it to `training`
        ("backbone.options.width", "8", 16, 8),
        ("movable.momentum", "true", None, True),
        ("movable.epochs.at_most", "2000", 1000.0, 2000.0),
        ("dataset.train_examples", "100", None, 100),
        ("selected_on", '"test"', "validation", "test"),
    ],
)
def test_any_value_can_deviate(tmp_path: Path, key: str, value: str, before: object, after: object) -> None:
    protocol = _deviating(tmp_path, (key, value, "because"))
    assert isinstance(protocol, DeviatingProtocol)
    assert [(one["protocol_value"], one["value"]) for one in protocol.deviations] == [(before, after)]


def test_a_sweep_may_add_ridge_regression_with_penalties_of_its_own(tmp_path: Path) -> None:
    metric = ("evaluation.metrics.ridge_top1", '"ridge/eigh-standardised@1"', "exact")
    protocol = _deviating(tmp_path, metric, ("evaluation.ridge_penalties", "[1]", "one is enough"))
    assert isinstance(protocol, DeviatingProtocol)
    error_lines = [(one["protocol_value"], one["value"]) for one in protocol.deviations]
    assert error_lines == [(None, "ridge/eigh-standardised@1"), (None, [1.0])]


def test_every_mistake_in_deviations_is_told_at_once(tmp_path: Path) -> None:
    error_lines = _mistakes(
        tmp_path,
        ("training.warmup_epoch", "0", "a misspelling"),
        ("training.momentum", "0.9", "what the protocol has"),
        ("training.weight_decay", "0.1", " "),
        ("version", "3", "a renaming"),
        ("views.2.hue", "0.1", "there are two"),
        ("margin", "0.02", "once"),
        ("margin", "0.03", "twice"),
    )
    assert len(error_lines) == 6
    text = "\n".join(error_lines)
    for piece in (
        "deviations.0.key: is not a key of the protocol",
        "did you mean 'training.warmup_epochs'?",
        "training.momentum: changes nothing",
        "deviations.2.reason: is empty",
        "deviations.3.key: identifies the protocol",
        "(seen: 'views.2.hue'); allowed: views.0, views.1",
        "deviations.6.key: is changed twice, by margin too",
    ):
        assert piece in text, piece


def test_a_value_that_the_protocol_could_not_have_is_told_beside_the_other_mistakes(tmp_path: Path) -> None:
    error_lines = _mistakes(
        tmp_path,
        ("training.optimizer", '"sdg"', "a misspelling"),
        ("training.epochs", "-1", "too few"),
        ("dataset.validation_fraction", "0", "leaves nothing to select on"),
        ("trainig", "1", "a misspelling"),
    )
    text = "\n".join(error_lines)
    for piece in ("training.optimizer", "did you mean 'sgd'?", "training.epochs", "-1", "did you mean 'training'?"):
        assert piece in text, piece


def test_the_effective_protocol_is_checked_whole(tmp_path: Path) -> None:
    (line,) = _mistakes(tmp_path, ("evaluation.linear_learning_rates", "[]", "no probe"))
    assert "linear_top1 is measured" in line


def test_a_table_and_a_value_within_it_cannot_both_deviate(tmp_path: Path) -> None:
    (line,) = _mistakes(tmp_path, ("methods.simclr", "{}", "bare"), ("methods.simclr.temperature", "1.0", "warm"))
    assert "is changed twice, by methods.simclr too" in line


@pytest.mark.parametrize(
    ("table", "piece"),
    [
        ('key = "margin"\nvalue = 0.02\n', "deviations.0.reason: is missing"),
        ('key = "margin"\nreason = "r"\n', "deviations.0.value: is missing"),
        ('key = "margin"\nvalue = 0.02\nraeson = "r"\n', "did you mean 'reason'?"),
    ],
)
def test_a_deviation_without_one_of_its_three_parts_is_a_mistake(tmp_path: Path, table: str, piece: str) -> None:
    (tmp_path / "s.toml").write_text(f"{SWEEP}[[deviations]]\n{table}")
    with pytest.raises(InvalidInput) as caught:
        read_sweep(str(tmp_path / "s.toml"))
    assert piece in str(caught.value)


def test_set_replaces_the_deviations(tmp_path: Path) -> None:
    deviations: Any = 'deviations=[{key = "margin", value = 0.02, reason = "r"}]'
    protocol = _deviating(tmp_path, ("margin", "0.03", "r"), changes=(deviations,))
    assert protocol.margin == 0.02
    assert not isinstance(_deviating(tmp_path, ("margin", "0.03", "r"), changes=("deviations=[]",)), DeviatingProtocol)
