"""Exponential moving averages of a network, such as BYOL's target."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """Return a copy with the same weights and statistics, whose parameters have `requires_grad` False."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def update_ema(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Set target <- momentum * target + (1 - momentum) * online in place for every parameter; momentum in [0, 1].

    Buffers do not change: a target that runs in training mode has the BatchNorm statistics of its own forward passes,
    as in the official BYOL. Some libraries copy or average the online network's statistics instead.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"the momentum of a moving average must be in [0, 1], not {momentum}")
    pairs = list(zip(target.parameters(), online.parameters(), strict=True))
    if not pairs:
        return
    # On a GPU this is one kernel for many parameters instead of one for each.
    average = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]
    average(*zip(*pairs, strict=True), None)
