"""Schedule and optimisers are the published ones, and what is excluded from weight decay is excluded."""

import math

import pytest
import torch
from torch import nn

from twinbench.harness.training import optimisers
from twinbench.harness.training.optimisers import build_optimiser, set_learning_rate
from twinbench.harness.training.schedule import learning_rate_at, scaled_learning_rate
from twinbench.sweeps.protocol import Training


def _training(**values: object) -> Training:
    given: dict[str, object] = {"epochs": 10, "batch_size": 128, "optimizer": "sgd", "learning_rate": 0.4}
    return Training(**(given | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(("rule", "expected"), [("linear", 0.2), ("sqrt", 0.4 / math.sqrt(2)), ("none", 0.4)])
def test_the_learning_rate_is_scaled_to_the_batch_by_the_named_rule(rule: str, expected: float) -> None:
    assert scaled_learning_rate(_training(learning_rate_rule=rule)) == pytest.approx(expected)


def test_the_schedule_is_torchs_linear_warm_up_and_cosine() -> None:
    training = _training(warmup_epochs=2, final_learning_rate_factor=0.1, learning_rate_rule="none")
    steps, per_epoch, warmup = 50, 5, 10
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps - warmup, eta_min=0.04)
    assert [learning_rate_at(s, steps, per_epoch, training) for s in range(warmup)] == pytest.approx(
        [0.04 * (s + 1) for s in range(warmup)]
    )
    for step in range(warmup, steps):
        assert learning_rate_at(step, steps, per_epoch, training) == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()


def test_biases_and_norms_take_no_decay_and_their_own_rate() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimiser = build_optimiser(
        network.parameters(), _training(weight_decay=0.1, bias_and_norm_learning_rate_factor=0.024)
    )
    set_learning_rate(optimiser, 0.5)
    weights, others = optimiser.param_groups
    assert [p.ndim for p in weights["params"]] == [2] and [p.ndim for p in others["params"]] == [1, 1, 1]
    assert (weights["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert (weights["lr"], others["lr"]) == (0.5, pytest.approx(0.012))


def test_lars_is_the_update_of_the_paper_and_leaves_excluded_parameters_to_sgd() -> None:
    """arXiv 1708.03888, eq. 6: v = m v + trust |w| / (|g| + decay |w|) * (g + decay w); w = w - lr v."""
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([1.0]))
    training = _training(optimizer="lars", weight_decay=0.1, momentum=0.9, trust_coefficient=0.02)
    optimiser = build_optimiser([weight, bias], training)
    set_learning_rate(optimiser, 0.5)
    w, b, v_w, v_b = weight.detach().clone(), bias.detach().clone(), torch.zeros(1, 2), torch.zeros(1)
    gradient = torch.tensor([[1.0, -2.0]])
    for _ in range(3):
        weight.grad, bias.grad = gradient.clone(), torch.tensor([0.5])
        optimiser.step()
        v_w = 0.9 * v_w + 0.02 * w.norm() / (gradient.norm() + 0.1 * w.norm()) * (gradient + 0.1 * w)
        v_b = 0.9 * v_b + torch.tensor([0.5])
        w, b = w - 0.5 * v_w, b - 0.5 * v_b
    torch.testing.assert_close(weight.detach(), w)
    torch.testing.assert_close(bias.detach(), b)


def test_lars_updates_weights_in_pieces_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order weights and gradients lie in."""
    moved = []
    for elements in (2**30, 7):
        monkeypatch.setattr(optimisers, "CACHED", elements)
        torch.manual_seed(0)
        convolution = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        linear, expanded = nn.Linear(6, 4), nn.Parameter(torch.randn(4, 1))
        weights = [*convolution.parameters(), *linear.parameters(), expanded]
        optimiser = build_optimiser(weights, _training(optimizer="lars", weight_decay=0.1))
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            linear.weight.grad = torch.randn(6, 4).T  # another order than the weight's
            expanded.grad = torch.randn(1, 1).expand(4, 1)  # four elements in the place of one
            optimiser.step()
        moved.append([weight.detach().clone() for weight in weights])
    assert all(torch.equal(whole, piecewise) for whole, piecewise in zip(*moved, strict=True))


def test_lars_adapts_weights_without_decay_too() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimiser = build_optimiser([weight], _training(optimizer="lars", trust_coefficient=0.02))
    set_learning_rate(optimiser, 1.0)
    weight.grad = torch.tensor([[100.0, 0.0]])
    optimiser.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0 - 0.02 * 5, 4.0]]))


def test_a_clipped_trust_ratio_bounds_the_rate() -> None:
    """LARC, as in solo-learn and eb_jepa: w = w - rate v, v = m v + min(trust / rate, 1) (g + decay w)."""
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    training = _training(optimizer="lars", weight_decay=0.1, trust_coefficient=0.02, clip_trust_ratio=True)
    optimiser = build_optimiser([weight], training)
    set_learning_rate(optimiser, 0.5)
    w, v = weight.detach().clone(), torch.zeros(1, 2)
    for size in (0.001, 100.0):  # the paper's ratio is about 0.2, then far less: below the rate
        gradient = size * torch.tensor([[1.0, -2.0]])
        weight.grad = gradient.clone()
        optimiser.step()
        ratio = 0.02 * w.norm() / (gradient.norm() + 0.1 * w.norm())
        v = 0.9 * v + ratio / 0.5 * (gradient + 0.1 * w)
        w = w - 0.5 * v
    torch.testing.assert_close(weight.detach(), w)
    set_learning_rate(optimiser, 0.01)
    weight.grad = torch.zeros(1, 2) + 1e-6
    optimiser.step()
    v = 0.9 * v + (1e-6 + 0.1 * w)  # a ratio of 0.2 is above the rate: the whole gradient and decay
    torch.testing.assert_close(weight.detach(), w - 0.01 * v)
