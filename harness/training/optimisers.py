"""SGD, AdamW and LARS over two groups of parameters: weights, and biases with normalisation (every 1-D parameter)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from twinbench.sweeps.protocol import Training


def build_optimiser(parameters: Iterable[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """The optimiser that `training` names. Each group's `learning_rate_factor` multiplies the scheduled rate.

    As in the official Barlow Twins and VICReg code, 1-D parameters take neither weight decay nor LARS adaptation,
    unless `decay_bias_and_norm`. LARS is the paper's (arXiv 1708.03888, eq. 6), with |g| + decay |w| under the trust
    ratio; the official Barlow Twins and VICReg code has |g + decay w| there.
    """
    trained = [p for p in parameters if p.requires_grad]
    weights: dict[str, Any] = {"params": [p for p in trained if p.ndim > 1], "weight_decay": training.weight_decay}
    others: dict[str, Any] = {"params": [p for p in trained if p.ndim <= 1]}
    others["weight_decay"] = training.weight_decay if training.decay_bias_and_norm else 0.0
    weights["learning_rate_factor"] = 1.0
    others["learning_rate_factor"] = training.bias_and_norm_learning_rate_factor
    groups = [group for group in (weights, others) if group["params"]]
    rate = training.learning_rate  # replaced by the schedule before every update
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=training.momentum)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    from timm.optim import Lars

    weights["always_adapt"] = True  # timm otherwise leaves a group without weight decay unadapted
    others["always_adapt"] = training.decay_bias_and_norm
    lars: torch.optim.Optimizer = Lars(
        groups,
        lr=rate,
        momentum=training.momentum,
        trust_coeff=training.trust_coefficient,
        trust_clip=training.clip_trust_ratio,
    )
    return lars


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group the scheduled rate times its own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["learning_rate_factor"]
