"""A linear probe: multinomial logistic regression by SGD on standardised features, all candidates side by side.

A change that alters the predictions needs a new variant in sweeps/metrics.py.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from twinbench.harness.data.random_streams import key, permutation
from twinbench.harness.training.cuda_graphs import captured

MOMENTUM = 0.9
EXAMPLES_AT_ONCE = 1024  # for which the scores of all candidates are held in memory


def standardiser(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation [D] of the bank, which scale every split; 1 for a constant feature."""
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
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Tensor]:
    """Return weights [classes, K, D] and biases [classes, K], one probe per (learning rate, weight decay).

    features [n, D] are standardised already. Weights start at zero and the rate follows half a cosine to zero, so the
    only randomness is the order of the samples, which is keyed by `seed` and equal for all candidates. `check_stop` is
    called every epoch, and may raise.

    A step costs one product forward and one backward for all candidates. Classes are the first dimension and samples
    the last, for the softmax: over ten adjacent numbers it took as long as both products.
    """
    n, width = features.shape
    batch_size, probes, device = min(batch_size, n), len(candidates), features.device
    weights, biases = (torch.zeros(classes * probes, columns, device=device) for columns in (width, 1))
    weight_velocity, bias_velocity = torch.zeros_like(weights), torch.zeros_like(biases)
    rates, decays = (
        torch.tensor(column, device=device).repeat(classes)[:, None] for column in zip(*candidates, strict=True)
    )
    one_hot = torch.eye(classes, device=device)
    per_epoch = n // batch_size
    shuffled = torch.empty(per_epoch, batch_size, dtype=torch.int64, device=device)
    step_sizes = torch.empty(per_epoch, classes * probes, 1, device=device)

    def epoch() -> None:
        for picked, sizes in zip(shuffled, step_sizes, strict=True):
            x, targets = features.index_select(0, picked), one_hot[labels[picked]].T[:, None]
            scores = torch.addmm(biases, weights, x.T).view(classes, probes, batch_size)
            error = (scores.softmax(dim=0) - targets).view(-1, batch_size)
            weight_velocity.addmm_(error, x, beta=MOMENTUM, alpha=1 / batch_size).addcmul_(decays, weights)
            bias_velocity.mul_(MOMENTUM).add_(error.sum(dim=1, keepdim=True), alpha=1 / batch_size)
            weights.addcmul_(sizes, weight_velocity)
            biases.addcmul_(sizes, bias_velocity)

    run: Callable[[], None] = epoch
    for number in range(epochs):
        check_stop()
        if number == 1 and device.type == "cuda":  # a step's time is nearly all spent on a dozen launches
            run = captured(epoch)
        order = permutation(key(seed, "probe", number), n, device)
        shuffled.copy_(order[: per_epoch * batch_size].view(per_epoch, batch_size))
        steps = range(number * per_epoch, (number + 1) * per_epoch)
        angles = (math.pi * (step / (epochs * per_epoch)) for step in steps)
        # minus half a cosine, since a step goes down the gradient
        shares = torch.tensor([-0.5 * (1 + math.cos(angle)) for angle in angles], device=device)
        step_sizes.copy_(rates * shares[:, None, None])
        run()
    return weights.view(classes, probes, width), biases.view(classes, probes)


def linear_predictions(features: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Return int64 [K, n]: each probe's class for standardised features [n, D], by `linear_probes`' result."""
    classes, probes, width = weights.shape
    flat, offsets = weights.reshape(-1, width), biases.reshape(-1, 1)
    parts = [
        torch.addmm(offsets, flat, block.T).view(classes, probes, -1).argmax(dim=0)
        for block in torch.split(features, EXAMPLES_AT_ONCE)
    ]
    return torch.cat(parts, dim=1)
