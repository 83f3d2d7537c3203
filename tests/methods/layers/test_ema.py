"""A moving average moves parameters by the stated share, in place, and nothing else."""

import pytest
import torch
from torch import nn

from twinbench.methods.layers.ema import frozen_copy, update_ema


def network(value: float) -> nn.Sequential:
    """A Linear and a BatchNorm with every parameter and running mean at `value`."""
    layers = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    for parameter in layers.parameters():
        nn.init.constant_(parameter, value)
    nn.init.constant_(layers.get_buffer("1.running_mean"), value)
    return layers


@pytest.mark.parametrize(("momentum", "expected"), [(0.75, 3.0), (1.0, 2.0), (0.0, 6.0), (0.5, 4.0)])
def test_parameters_take_the_values_worked_out_by_hand(momentum: float, expected: float) -> None:
    target, online = network(2.0), network(6.0)
    update_ema(target, online, momentum)
    assert all((parameter == expected).all() for parameter in target.parameters())
    assert all((parameter == 6).all() for parameter in online.parameters())


def test_two_updates_follow_the_geometric_weights() -> None:
    target, online = network(0.0), network(1.0)
    for _ in range(2):
        update_ema(target, online, 0.9)
    torch.testing.assert_close(target.get_parameter("0.weight"), torch.full((1, 2), 1 - 0.9**2))


def test_buffers_stay_the_targets_own() -> None:
    target, online = network(2.0), network(6.0)
    update_ema(target, online, 0.5)
    assert float(target.get_buffer("1.running_mean")) == 2


def test_parameters_are_moved_in_place_and_leave_no_graph() -> None:
    target, online = frozen_copy(network(2.0)), network(6.0)
    places = [parameter.data_ptr() for parameter in target.parameters()]
    update_ema(target, online, 0.5)
    assert [parameter.data_ptr() for parameter in target.parameters()] == places
    assert all(parameter.grad_fn is None and not parameter.requires_grad for parameter in target.parameters())


def test_a_frozen_copy_shares_nothing_and_leaves_the_original_trainable() -> None:
    original = network(2.0)
    copied = frozen_copy(original)
    nn.init.constant_(original.get_parameter("0.weight"), 9)
    assert (copied.get_parameter("0.weight") == 2).all()
    assert all(parameter.requires_grad for parameter in original.parameters())


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_a_momentum_outside_zero_to_one_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        update_ema(network(0.0), network(1.0), momentum)


def test_a_network_without_parameters_has_nothing_to_average() -> None:
    update_ema(nn.Identity(), nn.Identity(), 0.5)


def test_networks_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        update_ema(network(0.0), nn.Linear(2, 1), 0.5)
