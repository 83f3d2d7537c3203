"""The learning rate: scaled to the batch by a named rule, warmed up, then a cosine."""

import math

from twinbench.sweeps.protocol import Training


def scaled_learning_rate(training: Training) -> float:
    """Return the peak rate, scaled to the batch size linearly (arXiv 1706.02677) or by its square root (1404.5997)."""
    ratio = training.batch_size / training.reference_batch_size
    factor = {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[training.learning_rate_rule]
    return training.learning_rate * factor


def learning_rate_at(step: int, steps: int, steps_per_epoch: int, training: Training) -> float:
    """Return the rate at update `step` (from 0): linear from 0 in the warm-up, then half a cosine to its last share."""
    peak = scaled_learning_rate(training)
    warmup = round(training.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    share = training.final_learning_rate_factor
    return peak * (share + (1 - share) * 0.5 * (1 + math.cos(math.pi * progress)))
