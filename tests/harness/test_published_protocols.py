"""Claims: what the published protocols say of loss scales, weights and rates gives the published update."""

import pytest
import torch
from torch import Tensor, nn

from twinbench.harness.training.optimisers import build_optimiser, set_learning_rate
from twinbench.methods.vicreg import vicreg_loss
from twinbench.sweeps.protocol import Training
from twinbench.sweeps.sweep import read_protocol, shipped_protocols

PUBLISHED = [name for name in shipped_protocols() if read_protocol(name).not_restated]


def test_there_are_published_protocols_and_each_says_what_it_could_not_restate() -> None:
    assert len(PUBLISHED) == 4
    for name in PUBLISHED:
        protocol = read_protocol(name)
        assert protocol.selected_on == "test" and protocol.dataset.validation_fraction == 0


@pytest.mark.parametrize("epochs", [200, 800])
@pytest.mark.parametrize(("method", "ours_over_lightlys"), [("simclr", 2), ("byol", 4)])
def test_lightlys_losses_are_matched_by_rate_and_decay(epochs: int, method: str, ours_over_lightlys: float) -> None:
    """SGD with momentum: a loss of s times the size takes the same steps with rate / s and decay * s."""
    protocol = read_protocol(f"lightly-cifar10-{epochs}ep")
    own = protocol.methods[method]
    assert float(own["learning_rate"]) * ours_over_lightlys == pytest.approx(protocol.training.learning_rate)  # type: ignore[arg-type]
    assert float(own["weight_decay"]) / ours_over_lightlys == pytest.approx(protocol.training.weight_decay)  # type: ignore[arg-type]


def _vicreg_of_eb_jepa(z1: Tensor, z2: Tensor, std: float, cov: float) -> Tensor:
    """Invariance, std times the hinges of both views, cov times the mean squared covariance of each."""
    width = z1.shape[1]
    total = (z1 - z2).pow(2).mean()
    for z in (z1, z2):
        covariance = torch.cov(z.T)
        off_diagonal = covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()
        total = total + std * (1 - (z.var(0) + 1e-4).sqrt()).clamp_min(0).mean()
        total = total + cov * off_diagonal / (width * (width - 1))
    return total


@pytest.mark.parametrize(
    ("std", "cov", "variance_weight", "covariance_weight"),
    [(1, 100, 2, 0.09775171), (1, 10, 2, 0.009775171), (10, 10, 20, 0.009775171), (100, 100, 200, 0.09775171)],
)
def test_eb_jepas_grid_is_that_of_its_own_loss(
    std: float, cov: float, variance_weight: float, covariance_weight: float
) -> None:
    draw = torch.Generator().manual_seed(0)
    z1, z2 = (0.5 * torch.randn(64, 1024, generator=draw, dtype=torch.float64) for _ in range(2))
    ours = vicreg_loss(z1, z2, 1.0, variance_weight, covariance_weight).total
    assert float(ours) == pytest.approx(float(_vicreg_of_eb_jepa(z1, z2, std, cov)), rel=1e-6)
    protocol = read_protocol("eb-jepa-cifar10-vicreg-300ep")
    for name, value in (("variance_weight", variance_weight), ("covariance_weight", covariance_weight)):
        rule = protocol.movable[name]
        assert not isinstance(rule, bool) and rule.at_least <= value <= rule.at_most


def _steps(training: Training, loss_scale: float, steps: int = 4) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    weight, bias = (nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((4, 3), (4,)))
    optimiser = build_optimiser([weight, bias], training)
    set_learning_rate(optimiser, training.learning_rate)
    for step in range(steps):
        size = loss_scale * 10.0 ** (2 * step - 3)  # small gradients, where the clip holds, and large
        weight.grad, bias.grad = (size * torch.randn(p.shape, generator=draw) for p in (weight, bias))
        optimiser.step()
    return [weight.detach(), bias.detach()]


def test_solo_learns_scaled_loss_takes_the_steps_of_a_smaller_rate_and_a_larger_decay() -> None:
    protocol = read_protocol("solo-learn-cifar10-1000ep")
    shared = {"epochs": 1, "batch_size": 256, "optimizer": "lars", "trust_coefficient": 0.02, "clip_trust_ratio": True}
    theirs = Training(**shared, learning_rate=0.3, weight_decay=1e-4)  # type: ignore[arg-type]
    own = {name: protocol.methods["barlow_twins"][name] for name in ("learning_rate", "weight_decay")}
    ours = Training(**shared, **own)  # type: ignore[arg-type]
    assert {name: getattr(protocol.training, name) for name in shared} | {"epochs": 1} == shared
    for mine, published in zip(_steps(ours, 1.0), _steps(theirs, 0.1), strict=True):
        torch.testing.assert_close(mine, published, rtol=1e-4, atol=1e-6)
