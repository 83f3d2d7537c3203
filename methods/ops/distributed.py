"""Several ranks per trial: loss and BatchNorm are computed over the batch of all ranks, as on one rank.

A rank is one process of `torch.distributed`. Each has n rows of the global batch; a plan checks that the number of
ranks divides the batch size. Without an initialised process group there is one rank, and nothing here changes a result.

Gradients: `gather` gives every rank the same global batch of outputs, so every rank computes the same loss L and dL/dz
for all rows. Its backward keeps the rank's own n rows, the only ones that its forward pass produced. A rank's parameter
gradient is thus the sum over its own rows of dL/dz dz/dw, and the gradient of L is the SUM over ranks.
DistributedDataParallel takes the mean, so the loss that is differentiated is L times the number of ranks. BatchNorm is
consistent with this: its statistics are sums over ranks, so their gradient is the sum of all ranks' gradients.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def rank_count() -> int:
    """Return the number of processes that share a batch; 1 without an initialised process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(z: Tensor) -> Tensor:
    """Return the rows of all ranks, [n, ...] to [ranks * n, ...], in the order of ranks; with one rank, `z` itself.

    Backward returns the rank's own rows of the incoming gradient, unscaled: see the top of this file.
    """
    if rank_count() == 1:
        return z
    gathered: Tensor = _Gather.apply(z)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.rows = len(z)
        ranks = rank_count()
        gathered = z.new_empty(ranks * len(z), *z.shape[1:])
        dist.all_gather(list(gathered.chunk(ranks)), z.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.narrow(0, dist.get_rank() * ctx.rows, ctx.rows)


class _SumOverRanks(torch.autograd.Function):
    """The sum of all ranks' tensors, on every rank. Each rank contributes to all sums, so backward is the same sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total: Tensor = _SumOverRanks.apply(gradient)
        return total


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm1d and 2d whose training statistics are over the batch of all ranks (arXiv 1502.03167, algorithm 1).

    In eval mode and with one rank this is torch's BatchNorm: no rank waits for another, even if statistics are not
    tracked and those of the current batch are used. torch's SyncBatchNorm has fused kernels but rejects CPU tensors,
    and the tests, which run on CPUs, must check the code that runs on GPUs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [n, C], [n, C, L] or [n, C, H, W], with the same n on all ranks. Shape, dtype and layout stay."""
        if rank_count() == 1 or not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._normalise_over_ranks(x)

    def _normalise_over_ranks(self, x: Tensor) -> Tensor:
        # At least fp32, as in torch's kernels. Two passes, since E[x^2] - E[x]^2 loses all digits where a channel's
        # mean is much larger than its deviation.
        wide = x.double() if x.dtype == torch.float64 else x.float()
        count = x.numel() // x.shape[1] * rank_count()
        not_channel = [d for d in range(x.ndim) if d != 1]
        per_channel = [-1 if d == 1 else 1 for d in range(x.ndim)]
        mean_C: Tensor = _SumOverRanks.apply(wide.sum(not_channel)) / count
        centred = wide - mean_C.view(per_channel)
        variance_C: Tensor = _SumOverRanks.apply(centred.square().sum(not_channel)) / count
        self._track(mean_C.detach(), variance_C.detach() * (count / (count - 1)))
        scale_C = (variance_C + self.eps).rsqrt()
        if self.weight is not None:
            scale_C = scale_C * self.weight
        normalised = centred * scale_C.view(per_channel)
        if self.bias is not None:
            normalised = normalised + self.bias.view(per_channel)
        return normalised.to(x.dtype)

    @torch.no_grad()
    def _track(self, batch_mean_C: Tensor, unbiased_variance_C: Tensor) -> None:
        mean_C, variance_C, batches = self.running_mean, self.running_var, self.num_batches_tracked
        if not self.track_running_stats or mean_C is None or variance_C is None or batches is None:
            return
        batches.add_(1)
        share = 1 / float(batches) if self.momentum is None else self.momentum  # None: the mean over all batches
        mean_C.lerp_(batch_mean_C.to(mean_C.dtype), share)
        variance_C.lerp_(unbiased_variance_C.to(variance_C.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:
        if not 2 <= input.ndim <= 4:
            raise ValueError(f"expected [n, C], [n, C, L] or [n, C, H, W], not {list(input.shape)}")


def use_global_batch_norm(module: nn.Module) -> nn.Module:
    """Turn every BatchNorm1d and 2d in `module` into a `GlobalBatchNorm`, in place, and return `module`.

    Their state stays the same objects, so the optimiser may be built before or after.
    TypeError for any other kind of BatchNorm, which would silently normalise over one rank's rows.
    """
    for norm in module.modules():
        if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d):
            norm.__class__ = GlobalBatchNorm  # it has the same attributes, and computes otherwise
        elif isinstance(norm, _BatchNorm) and not isinstance(norm, GlobalBatchNorm):
            kind = type(norm).__name__
            raise TypeError(f"{kind} is not supported over several ranks, only BatchNorm1d and BatchNorm2d")
    return module
