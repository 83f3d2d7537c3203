"""Barlow Twins (arXiv 2103.03230): bring the cross-correlation matrix of two views close to the identity.

Shapes: N samples, D projector outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from twinbench.methods.backbones.registry import feature_dim
from twinbench.methods.layers.projector import WIDTH_NAMES, Projector
from twinbench.methods.method import LossTerms, Method, Step, Views
from twinbench.methods.ops.correlation import squared_products
from twinbench.methods.ops.distributed import gather
from twinbench.methods.ops.precision import check_batch, in_full_precision


@dataclass(frozen=True)
class BarlowTwinsConfig:
    """Settings of Barlow Twins. Defaults: facebookresearch/barlowtwins, main.py (ImageNet, ResNet-50)."""

    projector_width: Annotated[int, Ge(1)] = 8192
    """Width of every layer of the projector, the output included. Source: `--projector 8192-8192-8192`."""

    projector_depth: Annotated[int, Ge(1)] = 3
    """Linear layers in the projector. Source: `--projector 8192-8192-8192`."""

    off_diagonal_weight: Annotated[float, Ge(0)] = 0.0051
    """Weight of the off-diagonal term, lambda in equation 1. Source: `--lambd 0.0051` (the paper rounds to 5e-3)."""


@in_full_precision
def barlow_twins_loss(z1: Tensor, z2: Tensor, off_diagonal_weight: float) -> LossTerms:
    """sum_i (C_ii - 1)^2 + off_diagonal_weight * sum_{i != j} C_ij^2 (equation 1), C the views' cross-correlation.

    z1, z2: projector outputs [N, D], N >= 2, row i of both from one image. Each feature is standardised over the
    batch with the biased variance and 1e-5 inside the root, as the official code's BatchNorm does; C is a mean over
    the batch. The loss does not change if the views are swapped (C is transposed) nor, up to the 1e-5, if a feature is
    shifted or multiplied by a positive factor.

    Libraries differ: solo-learn scales the loss by .024 or .1 and VISSL by .024, as the official code once did;
    lightly before 2023-08 and stable-pretraining divide by the unbiased deviation, which leaves the diagonal at
    (N-1)/N for identical views; solo-learn, lightly and stable-pretraining standardise per GPU.
    """
    check_batch(z1, z2, least=2)
    samples = len(z1)
    diagonal, off_diagonal = squared_products(_Standardise.apply(z1), _Standardise.apply(z2))
    on_diagonal = (diagonal / samples - 1).pow(2).sum()
    off_diagonal = off_diagonal / samples**2
    total = on_diagonal + off_diagonal_weight * off_diagonal
    return LossTerms(total, {"on_diagonal": on_diagonal.detach(), "off_diagonal": off_diagonal.detach()})


class _Standardise(torch.autograd.Function):
    """Gradient written by hand: autograd through mean and variance took half the time of the matrix products (CPU)."""

    @staticmethod
    def forward(ctx: Any, z_ND: Tensor) -> Tensor:
        standardised = z_ND - z_ND.mean(0)
        scale_D = (standardised.square().mean(0) + 1e-5).rsqrt()
        standardised.mul_(scale_D)
        ctx.save_for_backward(standardised, scale_D)
        return standardised

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_ND: Tensor) -> Tensor:
        standardised, scale_D = ctx.saved_tensors
        along_D = (gradient_ND * standardised).mean(0)
        centred = gradient_ND - gradient_ND.mean(0)
        return centred.addcmul_(standardised, along_D, value=-1).mul_(scale_D)


class BarlowTwins(Method):
    """Backbone, projector without biases, and `barlow_twins_loss`; views are processed one after the other."""

    name: ClassVar[str] = "barlow_twins"
    version: ClassVar[int] = 1
    config_class: ClassVar[type] = BarlowTwinsConfig
    literature_names: ClassVar[Mapping[str, str]] = {
        **WIDTH_NAMES,
        "proj_output_dim": "projector_width",
        "lambda": "off_diagonal_weight",
        "lambd": "off_diagonal_weight",
        "lambda_param": "off_diagonal_weight",
        "lamb": "off_diagonal_weight",
    }

    def __init__(self, backbone: nn.Module, config: BarlowTwinsConfig) -> None:
        super().__init__(backbone, config)
        widths = (feature_dim(backbone), *[config.projector_width] * config.projector_depth)
        self.projector = Projector(widths, hidden_bias=False)

    def loss(self, views: Views, step: Step) -> LossTerms:
        z1, z2 = (gather(self.project(self.embed(view))) for view in views)
        return barlow_twins_loss(z1, z2, self.config.off_diagonal_weight)
