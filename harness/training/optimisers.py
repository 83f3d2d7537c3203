"""SGD, AdamW and LARS over two groups of parameters: weights, and biases with normalisation (every 1-D parameter)."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from twinbench.sweeps.protocol import Training

ParameterGroup: TypeAlias = dict[str, Any]  # as torch.optim has them
CACHED = 2**18  # elements of a weight that LARS updates at once on a CPU: two to three times as fast as all at once


def build_optimiser(parameters: Iterable[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """Return the optimiser that `training` names. A group's `learning_rate_factor` multiplies the scheduled rate.

    As in the official Barlow Twins and VICReg code, 1-D parameters take neither weight decay nor LARS adaptation,
    unless `decay_bias_and_norm`. LARS is the paper's (arXiv 1708.03888, eq. 6), with |g| + decay |w| under the trust
    ratio; the official Barlow Twins and VICReg code has |g + decay w| there.
    """
    trained = [p for p in parameters if p.requires_grad]
    weights: ParameterGroup = {"params": [p for p in trained if p.ndim > 1], "weight_decay": training.weight_decay}
    others: ParameterGroup = {"params": [p for p in trained if p.ndim <= 1]}
    others["weight_decay"] = training.weight_decay if training.decay_bias_and_norm else 0.0
    weights["learning_rate_factor"] = 1.0
    others["learning_rate_factor"] = training.bias_and_norm_learning_rate_factor
    groups = [group for group in (weights, others) if group["params"]]
    rate = training.learning_rate  # replaced by the schedule before every update
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=training.momentum, fused=True)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=True)
    weights["adapts"], others["adapts"] = True, training.decay_bias_and_norm
    settings = {"momentum": training.momentum, "trust_coefficient": training.trust_coefficient}
    return Lars(groups, {"lr": rate, "clipped": training.clip_trust_ratio, **settings})


class Lars(torch.optim.Optimizer):
    """LARS: v <- momentum v + ratio (g + decay w); w <- w - rate v, in few passes over all tensors together.

    ratio = trust_coefficient |w| / (|g| + decay |w|) for each tensor; 1 if either norm is zero, and in groups that do
    not adapt. If `clipped`, the ratio is divided by the rate, and is at most 1. Every group needs `lr`, `momentum`,
    `weight_decay`, `adapts`, `trust_coefficient` and `clipped`.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. Nothing here waits for a device."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = [p.grad for p in weights]
            for weight in weights:
                if "momentum_buffer" not in self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            momenta = [self.state[weight]["momentum_buffer"] for weight in weights]
            ratios = _trust_ratios(weights, gradients, group) if group["adapts"] else []
            if weights[0].device.type == "cuda":
                _update(weights, gradients, momenta, ratios, group)
                continue
            for number, (weight, gradient, momentum) in enumerate(zip(weights, gradients, momenta, strict=True)):
                for w, g, m in zip(*_pieces(weight, gradient, momentum), strict=True):
                    _update([w], [g], [m], ratios[number : number + 1], group)


def _update(
    weights: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], ratios: list[Tensor], group: ParameterGroup
) -> None:
    updates = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
    if ratios:
        torch._foreach_mul_(updates, ratios)
    torch._foreach_mul_(momenta, group["momentum"])
    torch._foreach_add_(momenta, updates)
    torch._foreach_copy_(updates, momenta)
    torch._foreach_mul_(updates, group["lr"])
    torch._foreach_sub_(weights, updates)


def _pieces(*tensors: Tensor) -> list[Sequence[Tensor]]:
    """Split tensors into corresponding pieces, small enough to stay in a CPU's cache for all passes over them.

    Tensors whose memory layouts differ are not split.
    """
    first = tensors[0]
    extent = 1 + sum((size - 1) * step for size, step in zip(first.shape, first.stride(), strict=True))
    if first.numel() != extent or any(one.stride() != first.stride() for one in tensors):
        return [(one,) for one in tensors]
    return [one.as_strided((one.numel(),), (1,)).split(CACHED) for one in tensors]  # type: ignore[no-untyped-call]


def _trust_ratios(weights: list[Tensor], gradients: list[Tensor], group: ParameterGroup) -> list[Tensor]:
    """Return one scalar per tensor, computed for all of them as one vector."""
    weight_norms = torch.stack(torch._foreach_norm(weights))
    gradient_norms = torch.stack(torch._foreach_norm(gradients))
    # 1e-8 is added as in timm
    quotients = weight_norms / (gradient_norms + group["weight_decay"] * weight_norms + 1e-8)
    ratios = group["trust_coefficient"] * quotients
    ratios = torch.where((weight_norms > 0) & (gradient_norms > 0), ratios, 1.0)
    if group["clipped"]:
        ratios = (ratios / group["lr"]).clamp(max=1.0)
    return list(ratios.unbind())


def fit_to_device(optimiser: torch.optim.Optimizer) -> None:
    """Give the groups the form that their parameters' device needs, whatever device the state was saved on.

    On a GPU the rate is a tensor on it, which a captured update reads at each replay.
    """
    for group in optimiser.param_groups:
        device = group["params"][0].device
        rate = float(group["lr"])
        group["lr"] = torch.tensor(rate, device=device) if device.type == "cuda" else rate
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's rate to the scheduled rate times its own factor."""
    for group in optimiser.param_groups:
        scheduled = rate * group["learning_rate_factor"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(scheduled)
        else:
            group["lr"] = scheduled
