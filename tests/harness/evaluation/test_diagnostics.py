"""Each diagnostic has the value worked out by hand for perfect, collapsed and small inputs."""

import math

import numpy as np
import pytest
import torch

from twinbench.harness.evaluation.diagnostics import (
    alignment,
    feature_std,
    off_diagonal_correlation,
    rankme,
    uniformity,
)


def test_feature_std_is_one_for_signs_in_every_direction_and_zero_when_collapsed() -> None:
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert feature_std(corners) == pytest.approx(1.0)
    assert feature_std(torch.ones(5, 3)) == pytest.approx(0.0, abs=1e-6)


def test_rankme_counts_equal_directions_and_is_one_when_all_features_are_parallel() -> None:
    # p = 1/3 + 1e-7 three times: exp(log 3) up to the paper's epsilon
    assert rankme(torch.eye(3)) == pytest.approx(3.0, rel=1e-5)
    parallel = torch.outer(torch.arange(1.0, 6), torch.tensor([1.0, 2, 3]))
    assert rankme(parallel) == pytest.approx(1.0, rel=1e-4)


def test_rankme_is_the_exponential_entropy_of_singular_values_of_uncentred_features() -> None:
    features = np.random.default_rng(0).normal(size=(20, 6)) + 3.0
    values = np.linalg.svd(features, compute_uv=False)
    p = values / values.sum() + 1e-7
    assert rankme(torch.from_numpy(features)) == pytest.approx(float(np.exp(-(p * np.log(p)).sum())), rel=1e-9)


def test_off_diagonal_correlation_is_the_mean_absolute_one_and_ignores_constant_dimensions() -> None:
    features = np.random.default_rng(1).normal(size=(30, 4))
    features[:, 1] = -features[:, 0]
    expected = np.abs(np.corrcoef(features.T))[~np.eye(4, dtype=bool)].mean()
    padded = torch.from_numpy(np.concatenate([features, np.full((30, 2), 7.0)], axis=1))
    assert off_diagonal_correlation(padded) == pytest.approx(expected, rel=1e-9)
    assert off_diagonal_correlation(torch.ones(5, 3)) is None


def test_alignment_is_the_squared_distance_on_the_sphere() -> None:
    assert alignment(torch.tensor([[2.0, 0]]), torch.tensor([[0.0, 5]])) == pytest.approx(2.0)  # at right angles
    assert alignment(torch.tensor([[2.0, 0]]), torch.tensor([[9.0, 0]])) == pytest.approx(0.0)


def test_uniformity_of_opposite_points_and_of_a_collapse() -> None:
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8.0)  # squared distance 4, t = 2
    square = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # four pairs at 2, two at 4
    assert uniformity(square) == pytest.approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6))
    assert uniformity(torch.ones(4, 3)) == pytest.approx(0.0)
