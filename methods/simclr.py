"""SimCLR (arXiv 2002.05709): identify the other view of an image among all images of the batch.

Shapes: N samples, D projector outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from twinbench.methods.backbones.registry import feature_dim
from twinbench.methods.layers.projector import WIDTH_NAMES, Projector
from twinbench.methods.method import LossTerms, Method, Step, Views
from twinbench.methods.ops.distributed import gather
from twinbench.methods.ops.precision import check_batch, in_full_precision


@dataclass(frozen=True)
class SimCLRConfig:
    """Settings of SimCLR. Defaults: the paper and google-research/simclr (ImageNet, ResNet-50)."""

    projector_width: Annotated[int, Ge(1)] = 2048
    """Width of the projector's hidden layers. Source: the official code takes the backbone's, 2048 for ResNet-50."""

    projector_output_width: Annotated[int, Ge(1)] = 128
    """Width of the projector's output. Source: paper, section 2.1; `proj_out_dim` 128."""

    projector_depth: Annotated[int, Ge(1)] = 2
    """Linear layers in the projector. Source: paper, section 2.1 (the code's later default of 3 is SimCLR v2's)."""

    temperature: Annotated[float, Gt(0)] = 0.1
    """Divisor of the cosine similarities, tau in equation 1. Source: paper, table 5 (its CIFAR-10 runs favour 0.5)."""


@in_full_precision
def ntxent_loss(z1: Tensor, z2: Tensor, temperature: float) -> LossTerms:
    """NT-Xent (equation 1): cross-entropy of finding the other view of an image among the 2N - 1 other outputs.

    z1, z2: projector outputs [N, D], row i of both from one image; the logits are cosines over the temperature.
    The total is the mean over the first views plus the mean over the second, as in the official objective.py: twice
    the mean over all 2N that the paper writes (algorithm 1) and that solo-learn, lightly and
    stable-pretraining compute. The loss does not change if the views are swapped or a row is multiplied by a
    positive factor.
    """
    check_batch(z1, z2, least=1)
    # 1e-6: the floor under the norm that the official l2_normalize has (1e-12 under its square)
    z_2ND = F.normalize(torch.cat([z1, z2]), dim=1, eps=1e-6)
    total, view_1, view_2 = _CrossEntropies.apply(z_2ND * temperature**-0.5)
    return LossTerms(total, {"view_1": view_1, "view_2": view_2})


BLOCK_ENTRIES = 2**22
"""Number of logits in memory at once: 16 MiB in fp32 for any N. Time hardly depends on it from 2**17 to 2**26 (CPU)."""


class _CrossEntropies(torch.autograd.Function):
    """From z [2N, D] with the logits z z^T: the sum of both views' mean cross-entropies, and each of them.

    The forward pass computes the logits and the gradient a block of rows at a time, so that the 2N x 2N matrix is never
    stored; autograd would make five of it. The backward pass only scales the gradient.
    """

    @staticmethod
    def forward(ctx: Any, z_2ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs = len(z_2ND)
        other_view = torch.arange(outputs, device=z_2ND.device).roll(outputs // 2)
        losses = z_2ND.new_empty(outputs)
        # each view is the positive of the other
        gradient = z_2ND.roll(outputs // 2, 0).mul_(-2) if ctx.needs_input_grad[0] else None
        rows = max(1, BLOCK_ENTRIES // outputs)
        for start in range(0, outputs, rows):
            here = slice(start, start + rows)
            logits = z_2ND[here] @ z_2ND.T
            logits.diagonal(start).fill_(-torch.inf)  # no output is its own negative
            positive = logits.gather(1, other_view[here, None])
            peak = logits.amax(1, keepdim=True)
            total = logits.sub_(peak).exp_().sum(1, keepdim=True)
            losses[here] = (peak + total.log() - positive).squeeze(1)
            if gradient is not None:
                softmax = logits.div_(total)
                gradient[here].addmm_(softmax, z_2ND)
                gradient.addmm_(softmax.T, z_2ND[here])
        view_1, view_2 = (half.mean() for half in losses.chunk(2))
        if gradient is not None:
            ctx.save_for_backward(gradient.div_(outputs // 2))
        ctx.mark_non_differentiable(view_1, view_2)
        return view_1 + view_2, view_1, view_2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_total: Tensor, *_: Tensor) -> Tensor:
        (gradient,) = ctx.saved_tensors
        return cast(Tensor, to_total * gradient)


class SimCLR(Method):
    """Backbone, projector that ends in BatchNorm, and `ntxent_loss`.

    As in the official code, no linear layer of the projector has a bias, and a BatchNorm with a scale but no offset
    follows the last one (section 2.1 of the paper mentions neither). Both views are processed as one batch, so that
    BatchNorm sees 2N images at once; lightly and solo-learn process one view after the other. Unlike in the official
    code, linear layers have torch's default initialisation, not a normal distribution with deviation 0.01.
    """

    name: ClassVar[str] = "simclr"
    version: ClassVar[int] = 1
    config_class: ClassVar[type] = SimCLRConfig
    literature_names: ClassVar[Mapping[str, str]] = {
        **WIDTH_NAMES,
        "proj_output_dim": "projector_output_width",
        "proj_out_dim": "projector_output_width",
        "num_proj_layers": "projector_depth",
        "tau": "temperature",
        "t": "temperature",
    }

    def __init__(self, backbone: nn.Module, config: SimCLRConfig) -> None:
        super().__init__(backbone, config)
        hidden = [config.projector_width] * (config.projector_depth - 1)
        widths = (feature_dim(backbone), *hidden, config.projector_output_width)
        self.projector = Projector(widths, hidden_bias=False, last_batch_norm=True)

    def loss(self, views: Views, step: Step) -> LossTerms:
        first, second = views
        z1, z2 = self.project(self.embed(torch.cat([first, second]))).chunk(2)
        return ntxent_loss(gather(z1), gather(z2), self.config.temperature)
