"""kNN and linear probe agree with independent implementations; metrics say what selected them, of how many."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from trial_runs import run_trial

from twinbench.harness.data.random_streams import key, permutation
from twinbench.harness.evaluation.evaluate import Evaluator, Part
from twinbench.harness.evaluation.features import extract
from twinbench.harness.evaluation.knn import knn_predictions, largest
from twinbench.harness.evaluation.linear import linear_predictions, linear_probes, standardiser
from twinbench.harness.evaluation.ridge import ridge_probes
from twinbench.harness.planning import Plan
from twinbench.harness.trial.execute import Surroundings
from twinbench.methods.method import Method
from twinbench.results.record import read_artefact, read_record, record_path
from twinbench.sweeps.metrics import METRICS, RIDGE
from twinbench.sweeps.protocol import RIDGE_PENALTIES
from twinbench.sweeps.sweep import shipped_protocols
from twinbench.sweeps.trial import Trial

Planner = Callable[..., Plan]


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order].astype("float32"), y[order].astype("int64")
    return x[:1000], y[:1000], x[1000:], y[1000:]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.1), (200, 1.0)])
def test_knn_equals_scikit_learns_with_the_same_weights(digits, k: int, temperature: float) -> None:  # type: ignore[no-untyped-def]
    x, y, queries, _ = digits
    other = KNeighborsClassifier(
        n_neighbors=k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature)
    )
    expected = other.fit(x, y).predict(queries)
    tensors = (torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(queries))
    found = knn_predictions(*tensors, classes=10, candidates=[(3, 0.5), (k, temperature)])[1].numpy()
    assert (found == expected).mean() > 0.998  # the last bits of a tie may fall either way


@pytest.mark.parametrize(("columns", "k"), [(8, 8), (64, 8), (67, 8), (400, 31), (1000, 200)])
def test_the_largest_values_equal_those_of_sorting(columns: int, k: int) -> None:
    rows = torch.randn(5, columns, generator=torch.Generator().manual_seed(columns))
    values, places = largest(rows, k)
    expected = np.sort(rows.numpy(), axis=1)[:, ::-1][:, :k]
    assert np.array_equal(values.numpy(), expected)
    assert torch.equal(rows.gather(1, places), values)
    assert all(len(set(row)) == k for row in places.tolist())


def test_equal_votes_go_to_the_lower_class() -> None:
    bank = torch.tensor([[1.0, 0], [1, 0]])
    found = knn_predictions(bank, torch.tensor([2, 1]), torch.tensor([[1.0, 0]]), classes=3, candidates=[(2, 0.1)])
    assert found.tolist() == [[1]]


def test_a_tiny_temperature_does_not_overflow() -> None:
    bank = torch.tensor([[1.0, 0], [0, 1]])
    found = knn_predictions(bank, torch.tensor([0, 1]), torch.tensor([[0.9, 0.1]]), classes=2, candidates=[(2, 1e-4)])
    assert found.tolist() == [[0]]


def test_linear_probe_reaches_the_optimum_that_scikit_learn_finds(digits) -> None:  # type: ignore[no-untyped-def]
    x, y, queries, truth = (torch.from_numpy(part) for part in digits)
    mean, std = standardiser(x)
    x, queries = (x - mean) / std, (queries - mean) / std
    decay = 0.01
    weights, biases = linear_probes(x, y, 10, [(0.3, decay)], epochs=100, batch_size=250, seed=0)
    # sklearn minimises the sum of losses plus |w|^2 / 2C: the mean plus decay/2 |w|^2 at C = 1 / (decay n)
    other = LogisticRegression(C=1 / (decay * len(y)), tol=1e-8, max_iter=5000).fit(x.numpy(), y.numpy())
    relative = np.linalg.norm(weights[:, 0].numpy() - other.coef_) / np.linalg.norm(other.coef_)
    assert relative < 0.02
    agreement = (linear_predictions(queries, weights, biases)[0].numpy() == other.predict(queries.numpy())).mean()
    assert agreement > 0.99
    assert (torch.from_numpy(other.predict(queries.numpy())) == truth).float().mean() > 0.9


def test_candidates_trained_together_equal_each_trained_alone(digits) -> None:  # type: ignore[no-untyped-def]
    x, y = torch.from_numpy(digits[0]) / 16, torch.from_numpy(digits[1])
    grid = [(0.1, 0.0), (0.3, 0.01)]
    together = linear_probes(x, y, 10, grid, epochs=3, batch_size=100, seed=3)
    for number, candidate in enumerate(grid):
        alone = linear_probes(x, y, 10, [candidate], epochs=3, batch_size=100, seed=3)
        for side_by_side, single in zip(together, alone, strict=True):
            torch.testing.assert_close(side_by_side[:, number], single[:, 0])
            assert (side_by_side[:, number] != 0).any()


def _by_torch(x: Tensor, y: Tensor, candidate: tuple[float, float], epochs: int, batch_size: int) -> nn.Linear:
    """One probe of float64 by autograd and torch's optimiser; biases do not decay."""
    probe = nn.Linear(x.shape[1], 10).double()
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    rate, decay = candidate
    groups: list[dict[str, Any]] = [{"params": [probe.weight], "weight_decay": decay}, {"params": [probe.bias]}]
    optimiser = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    steps = epochs * (len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for epoch in range(epochs):
        order = permutation(key(3, "probe", epoch), len(x))[: len(x) // batch_size * batch_size]
        for picked in order.split(batch_size):
            optimiser.zero_grad()
            nn.functional.cross_entropy(probe(x[picked].double()), y[picked]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return probe


def test_every_probe_equals_one_trained_by_torch_in_float64(digits) -> None:  # type: ignore[no-untyped-def]
    x, y, queries, _ = (torch.from_numpy(part) for part in digits)
    mean, std = standardiser(x)
    x, queries = (x - mean) / std, (queries - mean) / std
    grid = [(rate, decay) for rate in (0.01, 0.3) for decay in (0.0, 0.1)]
    weights, biases = linear_probes(x, y, 10, grid, epochs=3, batch_size=96, seed=3)  # 96 leave a part of an epoch over
    predictions = linear_predictions(queries, weights, biases)
    for number, candidate in enumerate(grid):
        probe = _by_torch(x, y, candidate, epochs=3, batch_size=96)
        torch.testing.assert_close(weights[:, number].double(), probe.weight.data, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(biases[:, number].double(), probe.bias.data, rtol=1e-4, atol=1e-6)
        assert (predictions[number] == probe(queries.double()).argmax(dim=1)).float().mean() > 0.997


def test_constant_features_are_centred_and_not_scaled() -> None:
    mean, std = standardiser(torch.tensor([[1.0, 0], [1, 2]]))
    assert mean.tolist() == [1, 1] and std.tolist() == [1, 1]


# --- ridge regression ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("examples", "form"), [(1000, "features"), (40, "examples")])
def test_ridge_equals_scikit_learns_at_every_penalty(digits, examples: int, form: str) -> None:  # type: ignore[no-untyped-def]
    x, y, queries, _ = (torch.from_numpy(part) for part in digits)
    x, y, queries = x[:examples].double(), y[:examples], queries.double()
    assert (examples < x.shape[1]) == (form == "examples")
    mean, std = standardiser(x)
    x, queries = (x - mean) / std, (queries - mean) / std
    penalties = [1e-4, 0.1, 30.0]
    weights, biases = ridge_probes(x, y, 10, penalties)
    predictions = linear_predictions(queries, weights, biases)
    for number, penalty in enumerate(penalties):
        # sklearn minimises sums where ours are means; RidgeClassifier's targets are -1 and 1, which moves no argmax
        other = Ridge(penalty * examples).fit(x, np.eye(10)[y])
        np.testing.assert_allclose(weights[:, number], other.coef_, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(biases[:, number], other.intercept_, rtol=1e-8, atol=1e-10)
        classified = RidgeClassifier(penalty * examples).fit(x, y).predict(queries)
        assert (predictions[number].numpy() == classified).all()


def test_ridge_is_exact_for_rank_deficient_float32_features(digits) -> None:  # type: ignore[no-untyped-def]
    x, y, queries, _ = (torch.from_numpy(part) for part in digits)
    mean, std = standardiser(x)
    x, queries = (x - mean) / std, (queries - mean) / std
    twice = torch.cat([x, x], dim=1)
    weights, biases = ridge_probes(twice, y, 10, [1e-6])
    other = Ridge(1e-6 * len(x), solver="svd").fit(twice.double(), np.eye(10)[y])
    np.testing.assert_allclose(weights[:, 0], other.coef_, rtol=1e-4, atol=1e-6)
    found = linear_predictions(torch.cat([queries, queries], dim=1), weights, biases)[0].numpy()
    assert (found == other.predict(torch.cat([queries, queries], dim=1)).argmax(axis=1)).all()


def _with_ridge(folder: Path, penalties: str = "") -> str:
    text = shipped_protocols()["digits-small"].read_text().replace('"digits-small"', '"digits-ridge"')
    text = text.replace("[evaluation.metrics]", f"{penalties}\n[evaluation.metrics]\nridge_top1 = '{RIDGE.variant}'")
    (folder / "p.toml").write_text(text)
    return f"protocol={folder / 'p.toml'}"


@pytest.mark.parametrize("penalties", ["", "ridge_penalties = [0.01, 1.0]"])
def test_a_protocol_with_ridge_selects_among_its_penalties_on_validation(
    tiny_plan: Planner, tmp_path: Path, penalties: str
) -> None:
    trial = _trial(tiny_plan(_with_ridge(tmp_path, penalties)), "untrained")
    assert run_trial(trial, Surroundings(tmp_path / "run")) == "done"
    result = _result(tmp_path / "run", trial)
    found = {one["split"]: one for one in result["metrics"] if one["name"] == "ridge_top1"}
    assert found.keys() == {"validation", "test"}
    allowed = [0.01, 1.0] if penalties else list(RIDGE_PENALTIES)
    for metric in found.values():
        assert (metric["variant"], metric["selected_on"]) == ("ridge/eigh-standardised@1", "validation")
        assert metric["candidates"] == len(allowed) and metric["selected"]["penalty"] in allowed
    assert all(metric["selected"].keys() == {*METRICS[metric["name"]].chosen} for metric in result["metrics"])
    outputs = load(read_artefact(tmp_path / "run", result["outputs"]))
    assert outputs["ridge_correct"].mean() == pytest.approx(found["test"]["value"])
    assert ((outputs["ridge_prediction"] == outputs["labels"]) == outputs["ridge_correct"]).all()
    assert found["test"]["value"] > 0.8


# --- protocols that select on test ----------------------------------------------------------------------------------


def _on_test(folder: Path, checkpoint: str, *without: str, **lines: str) -> str:
    """The digits protocol by another name, all of train in it, selected on test; `lines` replaces lines by key."""
    given = {"validation_fraction": "0", "margin": f'0.01\nselected_on = "test"\ncheckpoint = "{checkpoint}"'} | lines
    text = []
    for line in (
        shipped_protocols()["digits-small"].read_text().replace('"digits-small"', '"digits-on-test"').splitlines()
    ):
        key = line.partition(" =")[0]
        if key not in ("online_knn_top1", *without):
            text.append(f"{key} = {given[key]}" if key in given else line)
    (folder / "p.toml").write_text("\n".join(text))
    return f"protocol={folder / 'p.toml'}"


def _best_on_test(folder: Path) -> str:
    lines = {"knn_neighbours": "[5, 20]", "knn_temperatures": "[0.1]", "diagnostics_every_epochs": "1"}
    lines["knn_top1"] = '"knn/cosine-softmax-max-over-epochs@1"'
    return _on_test(
        folder,
        "best_on_test",
        "linear_top1",
        "linear_learning_rates",
        "linear_weight_decays",
        "projector_depth",
        **lines,
    )


def _trial(planned: Plan, method: str) -> Trial:
    return next(trial for trial in planned.trials if trial.method == method)


def _result(folder: Path, trial: Trial) -> dict[str, Any]:
    result: dict[str, Any] = read_record(record_path(folder, trial.trial_id))["result"]
    return result


def _sklearn_top1(method: Method, train: Part, test: Part, evaluator: Evaluator, k: int) -> float:
    other = KNeighborsClassifier(
        n_neighbors=k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.1)
    )
    bank, queries = (extract(method, part.images, evaluator.dataset).numpy() for part in (train, test))
    return float(other.fit(bank, train.labels.numpy()).score(queries, test.labels.numpy()))


def test_the_best_epoch_on_test_is_the_maximum_that_scikit_learn_finds_and_is_recorded_as_such(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = _trial(tiny_plan(_best_on_test(tmp_path), "methods=simclr", "epochs=4"), "simclr")
    expected: dict[tuple[int, int], float] = {}
    images = []
    original = Evaluator.diagnose

    def spy(self: Evaluator, method: Method) -> dict[str, float | None]:
        images.append((len(self.train.labels), len(self.validation.labels)))
        for k in (5, 20):
            expected[len(images), k] = _sklearn_top1(method, self.train, self.test, self, k)
        return original(self, method)

    monkeypatch.setattr(Evaluator, "diagnose", spy)
    assert run_trial(trial, Surroundings(tmp_path / "run")) == "done"
    result = _result(tmp_path / "run", trial)
    (metric,) = result["metrics"]
    best = metric["selected"]
    assert metric["value"] == pytest.approx(max(expected.values()), abs=1 / 359)  # a tie may fall either way
    assert expected[best["epoch"], best["k"]] == pytest.approx(metric["value"], abs=1 / 359)
    assert (metric["name"], metric["variant"]) == ("knn_top1", "knn/cosine-softmax-max-over-epochs@1")
    assert (metric["split"], metric["selected_on"], metric["candidates"]) == ("test", "test", 4 * 2)
    assert images == [(1438, 0)] * 4  # the whole train split
    curves = json.loads(read_artefact(tmp_path / "run", result["curves"]))["series"]
    tested = {name: values for name, values in curves.items() if name.startswith("test/")}
    assert len(tested) == 2 and max(map(max, tested.values())) == metric["value"]
    assert "validation/knn_top1" not in curves and len(curves["diagnostics/feature_std"]) == 4


def test_the_best_epoch_survives_a_stop_after_every_step(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = _trial(tiny_plan(_best_on_test(tmp_path), "methods=simclr"), "simclr")
    assert run_trial(trial, Surroundings(tmp_path / "whole")) == "done"
    while run_trial(trial, Surroundings(tmp_path / "parts"), lambda: True) == "interrupted":
        pass
    whole, parts = (read_record(record_path(tmp_path / name, trial.trial_id)) for name in ("whole", "parts"))
    assert parts["circumstance"]["attempts"] > 5
    assert parts["result_digest"] == whole["result_digest"]


def test_a_baseline_has_one_epoch_to_choose_from(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = _trial(tiny_plan(_best_on_test(tmp_path)), "raw_pixels")
    assert run_trial(trial, Surroundings(tmp_path / "run")) == "done"
    (metric,) = _result(tmp_path / "run", trial)["metrics"]
    assert (metric["candidates"], metric["selected"]["epoch"]) == (2, 0)


def test_a_probe_selected_on_test_says_so_and_has_no_validation_value(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = _trial(tiny_plan(_on_test(tmp_path, "last")), "untrained")
    assert run_trial(trial, Surroundings(tmp_path / "run")) == "done"
    result = _result(tmp_path / "run", trial)
    recorded = {(one["name"], one["split"], one["selected_on"], one["candidates"]) for one in result["metrics"]}
    assert recorded == {("knn_top1", "test", "test", 6), ("linear_top1", "test", "test", 6)}
    outputs = load(read_artefact(tmp_path / "run", result["outputs"]))
    for metric in result["metrics"]:
        correct = outputs[f"{metric['name'].removesuffix('_top1')}_correct"]
        assert correct.mean() == pytest.approx(metric["value"])


def test_only_the_metrics_that_the_protocol_names_are_measured(tiny_plan: Planner, tmp_path: Path) -> None:
    without = ("linear_top1", "linear_learning_rates", "linear_weight_decays", "alignment", "rankme_projector")
    protocol = _on_test(tmp_path, "last", *without)
    trial = _trial(tiny_plan(protocol, "methods=simclr", "epochs=1"), "simclr")
    assert run_trial(trial, Surroundings(tmp_path / "run")) == "done"
    result = _result(tmp_path / "run", trial)
    assert {metric["name"] for metric in result["metrics"]} == {"knn_top1"}
    curves = json.loads(read_artefact(tmp_path / "run", result["curves"]))["series"]
    measured = {name.removeprefix("diagnostics/") for name in curves if name.startswith("diagnostics/")}
    assert measured == {"feature_std", "rankme_backbone", "off_diagonal_correlation", "uniformity"}


def test_a_worker_without_a_metrics_variant_measures_nothing(tiny_plan: Planner, tmp_path: Path) -> None:
    """Its code is another version's than that which planned."""
    content = json.loads(json.dumps(_trial(tiny_plan("methods=simclr"), "simclr").content()))
    content["protocol"]["content"]["evaluation"]["metrics"]["knn_top1"] = "knn/cosine-softmax@9"
    trial = Trial(**content)
    assert run_trial(trial, Surroundings(tmp_path)) == "failed"
    assert "knn/cosine-softmax@9" in _result(tmp_path, trial)["reason"]
