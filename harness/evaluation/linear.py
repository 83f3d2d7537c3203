"""A linear probe: multinomial logistic regression by SGD on standardised features, all candidates side by side."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from twinbench.harness.data.streams import key, permutation

VARIANT = "linear/sgd-standardised@1"
MOMENTUM = 0.9


def standardiser(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [D] of the bank, which scale every split; a constant feature is only centred."""
    std, mean = torch.std_mean(features, dim=0, correction=0)
    return mean, torch.where(std > 1e-6, std, 1.0)


def linear_probes(
    features: Tensor,
    labels: Tensor,
    classes: int,
    candidates: list[tuple[float, float]],
    epochs: int,
    batch_size: int,
    seed: int,
    look_up: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Weights [K, D, classes] and biases [K, 1, classes] after `epochs`, one per (learning rate, weight decay).

    features [n, D] are standardised already. Weights start at zero and the rate follows half a cosine to zero, so the
    only chance is the order of the samples, which is keyed by `seed` and equal for all candidates. `look_up` is called
    every epoch, and may raise.
    """
    n, width = features.shape
    batch_size = min(batch_size, n)
    weights = torch.zeros(len(candidates), width, classes, device=features.device)
    biases = torch.zeros(len(candidates), 1, classes, device=features.device)
    weight_velocity, bias_velocity = torch.zeros_like(weights), torch.zeros_like(biases)
    rates, decays = (
        torch.tensor(column, device=features.device).view(-1, 1, 1) for column in zip(*candidates, strict=True)
    )
    targets = F.one_hot(labels, classes).float()
    steps = epochs * (n // batch_size)
    for step in range(steps):
        epoch, position = divmod(step, n // batch_size)
        if position == 0:
            look_up()
            shuffled = permutation(key(seed, "probe", epoch), n).to(features.device)
        picked = shuffled[position * batch_size : (position + 1) * batch_size]
        x = features[picked].expand(len(candidates), -1, -1)
        error = ((x @ weights + biases).softmax(dim=2) - targets[picked]) / batch_size
        weight_velocity.mul_(MOMENTUM).add_(x.transpose(1, 2) @ error + decays * weights)
        bias_velocity.mul_(MOMENTUM).add_(error.sum(dim=1, keepdim=True))
        rate = rates * (0.5 * (1 + math.cos(math.pi * step / steps)))
        weights -= rate * weight_velocity
        biases -= rate * bias_velocity
    return weights, biases


def linear_predictions(features: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """int64 [K, n]: each probe's class for standardised features [n, D]."""
    return torch.stack([(features @ w + b).argmax(dim=1) for w, b in zip(weights, biases, strict=True)])
