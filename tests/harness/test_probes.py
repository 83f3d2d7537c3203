"""Claims: kNN and linear probe agree with independent implementations, and validation alone chooses."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from twinbench.harness.evaluation.knn import knn_predictions
from twinbench.harness.evaluation.linear import linear_predictions, linear_probes, standardiser


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
    relative = np.linalg.norm(weights[0].T.numpy() - other.coef_) / np.linalg.norm(other.coef_)
    assert relative < 0.02
    agreement = (linear_predictions(queries, weights, biases)[0].numpy() == other.predict(queries.numpy())).mean()
    assert agreement > 0.99
    assert (torch.from_numpy(other.predict(queries.numpy())) == truth).float().mean() > 0.9


def test_candidates_trained_side_by_side_equal_each_alone(digits) -> None:  # type: ignore[no-untyped-def]
    x, y = torch.from_numpy(digits[0]) / 16, torch.from_numpy(digits[1])
    grid = [(0.1, 0.0), (0.3, 0.01)]
    together = linear_probes(x, y, 10, grid, epochs=3, batch_size=100, seed=3)
    for number, candidate in enumerate(grid):
        alone = linear_probes(x, y, 10, [candidate], epochs=3, batch_size=100, seed=3)
        torch.testing.assert_close(together[0][number], alone[0][0])
        torch.testing.assert_close(together[1][number], alone[1][0])


def test_constant_features_are_centred_and_not_blown_up() -> None:
    mean, std = standardiser(torch.tensor([[1.0, 0], [1, 2]]))
    assert mean.tolist() == [1, 1] and std.tolist() == [1, 1]
