"""Several trainings as one network: grouped convolutions and batched products, as HFTA (arXiv 2102.02344) fuses them.

An alternative to packs. It runs through twinbench's own loop, views, loss, optimiser and CUDA graphs, so that only the
network differs; HFTA itself has only Adam and Adadelta, and a loss averaged over the trainings.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from twinbench.harness.performance import bench
from twinbench.harness.trial.execute import build_method
from twinbench.methods.barlow_twins import barlow_twins_loss
from twinbench.methods.method import LossTerms, Step, Views
from twinbench.sweeps.trial import Trial

LAMBDAS = (0.0005, 0.001, 0.002, 0.0051, 0.01, 0.02, 0.05, 0.1)


def fuse(parts: Sequence[Any]) -> nn.Module:
    """Return one module [N, K * C, ...] -> [N, K * C', ...] that applies the k-th part to the k-th C channels."""
    first, count = parts[0], len(parts)
    if isinstance(first, nn.Conv2d):
        sizes = (count * first.in_channels, count * first.out_channels)
        options: dict[str, Any] = {"kernel_size": first.kernel_size, "stride": first.stride, "padding": first.padding}
        return _with_all(nn.Conv2d(*sizes, **options, groups=count, bias=first.bias is not None), parts)
    if isinstance(first, nn.BatchNorm1d | nn.BatchNorm2d):
        return _with_all(type(first)(count * first.num_features, first.eps, first.momentum), parts)
    if isinstance(first, nn.Linear):
        return Linears(parts)
    fused = copy.deepcopy(first)
    for name, _ in first.named_children():
        setattr(fused, name, fuse([getattr(part, name) for part in parts]))
    return fused


def _with_all(fused: nn.Module, parts: Sequence[nn.Module]) -> nn.Module:
    """Return `fused` with the parts' weights and running statistics concatenated."""
    states = [part.state_dict() for part in parts]
    whole = {name: torch.cat([state[name] for state in states]) for name, value in states[0].items() if value.ndim}
    fused.load_state_dict(whole, strict=False)  # the number of batches of a norm is a scalar
    return fused


class Linears(nn.Module):
    """Linear layers without biases over [N, K * C], as one batched product."""

    def __init__(self, parts: Sequence[nn.Linear]) -> None:
        super().__init__()
        assert all(part.bias is None for part in parts)
        self.weight = nn.Parameter(torch.stack([part.weight.detach() for part in parts]))

    def forward(self, x: Tensor) -> Tensor:
        count, _, width = self.weight.shape
        products = torch.bmm(x.view(len(x), count, width).transpose(0, 1), self.weight.transpose(1, 2))
        return products.transpose(0, 1).reshape(len(x), -1)


class FusedTwins(nn.Module):
    """Barlow Twins with several off-diagonal weights in one network; the losses are summed."""

    def __init__(self, methods: Sequence[Any], weights: Sequence[float]) -> None:
        super().__init__()
        self.backbone = fuse([method.backbone for method in methods])
        self.projector = fuse([method.projector for method in methods])
        self.weights = tuple(weights)

    def loss(self, views: Views, step: Step) -> LossTerms:
        count = len(self.weights)
        z1, z2 = (self.projector(self.backbone(view.repeat(1, count, 1, 1))).chunk(count, dim=1) for view in views)
        terms = [barlow_twins_loss(a, b, weight) for a, b, weight in zip(z1, z2, self.weights, strict=True)]
        return LossTerms(torch.stack([one.total for one in terms]).sum(), {})

    def after_update(self, step: Step) -> None:
        """Nothing."""


def fused_twins(trial: Trial, device: torch.device, count: int) -> FusedTwins:
    """Return `count` trainings of the trial with different lambdas in one network."""
    methods = [build_method(trial, device) for _ in range(count)]
    return FusedTwins(methods, LAMBDAS[:count]).to(device).to(memory_format=torch.channels_last)


@contextmanager
def fused(count: int) -> Iterator[None]:
    """Within this context, `step_timer.seconds_per_step` measures one step of `count` fused trainings."""
    with mock.patch.object(bench, "build_method", lambda trial, device: fused_twins(trial, device, count)):
        yield


def check_equal(trial: Trial, size: int) -> float:
    """Return the largest relative difference of gradients between fused and separate trainings on one batch."""
    device = torch.device("cpu")
    views = [torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(k)).double() for k in range(2)]
    methods: list[Any] = [build_method(trial, device).double().train() for _ in range(3)]
    for k, method in enumerate(methods):  # all different
        for weight in method.parameters():
            weight.data += 0.01 * k * torch.randn(weight.shape, generator=torch.Generator().manual_seed(k)).double()
    together = FusedTwins(methods, LAMBDAS[:3]).double().train()
    together.loss(views, None).total.backward()  # type: ignore[arg-type]
    for method, weight in zip(methods, LAMBDAS, strict=False):
        z1, z2 = (method.project(method.embed(view)) for view in views)
        barlow_twins_loss(z1, z2, weight).total.backward()
    worst = 0.0
    alone = [dict(method.named_parameters()) for method in methods]
    for name, weight in together.named_parameters():
        assert weight.grad is not None
        for gradient, one in zip(weight.grad.view(3, -1), alone, strict=True):
            expected = one[name].grad.flatten()
            worst = max(worst, float((gradient - expected).abs().max() / expected.abs().max()))
    assert worst < 1e-5, worst  # the loss is float32
    return worst
