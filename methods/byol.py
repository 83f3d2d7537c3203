"""BYOL (arXiv 2006.07733): predict from one view the projection of the other by a moving average of the network.

Shapes: N samples, D projector outputs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F

from twinbench.methods.backbones.registry import feature_dim
from twinbench.methods.layers.ema import frozen_copy, update_ema
from twinbench.methods.layers.projector import WIDTH_NAMES, Projector
from twinbench.methods.method import LossTerms, Method, Step, Views
from twinbench.methods.ops.distributed import gather
from twinbench.methods.ops.precision import check_batch, in_full_precision


@dataclass(frozen=True)
class BYOLConfig:
    """Settings of BYOL. Defaults: paper, section 3.3 (ImageNet, ResNet-50)."""

    projector_width: Annotated[int, Ge(1)] = 4096
    """Width of the projector's hidden layers. Source: paper, section 3.3."""

    projector_output_width: Annotated[int, Ge(1)] = 256
    """Width of the projector's and the predictor's output. Source: paper, section 3.3."""

    projector_depth: Annotated[int, Ge(1)] = 2
    """Linear layers in the projector. Source: paper, section 3.3."""

    predictor_width: Annotated[int, Ge(1)] = 4096
    """Width of the hidden layer of the predictor, which has two linear layers. Source: paper, section 3.3."""

    target_momentum: Annotated[float, Ge(0), Le(1)] = 0.996
    """Momentum of the target at the first update, tau_base; it rises to 1. Source: paper, section 3.3."""


@in_full_precision
def byol_loss(p1: Tensor, p2: Tensor, t1: Tensor, t2: Tensor) -> LossTerms:
    """2 - 2 cos(p1, t2) + 2 - 2 cos(p2, t1), averaged over the batch (equation 2 and its mirror image).

    p1, p2: predictions of the online network, t1, t2: projections of the target network, all [N, D], row i of all
    from one image. No gradient reaches the targets. Computed as the squared distance of the normalised vectors, as
    in the official code, which is never negative. The loss does not change if the views are swapped or a row is
    multiplied by a positive factor. lightly averages -cos over the two directions, which gives a quarter of this
    gradient; solo-learn sums as here.
    """
    check_batch(p1, p2, t1, t2, least=1)
    view_1 = _squared_distance(p1, t2.detach())
    view_2 = _squared_distance(p2, t1.detach())
    return LossTerms(view_1 + view_2, {"view_1": view_1.detach(), "view_2": view_2.detach()})


def _squared_distance(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    # 1e-6: the floor under the norm that the official l2_normalize has (1e-12 under its square)
    difference = F.normalize(prediction_ND, dim=1, eps=1e-6) - F.normalize(target_ND, dim=1, eps=1e-6)
    return difference.pow(2).sum(1).mean()


def momentum_at(step: int, steps: int, base: float) -> float:
    """Return the target's momentum after update `step`, from 0: 1 - (1 - base)(cos(pi step / steps) + 1) / 2.

    It is `base` after the first update and close to 1, where the target stops changing, after the last.
    """
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


class BYOL(Method):
    """Backbone, projector, predictor, a moving-average target of the first two, and `byol_loss`.

    As in the official code, hidden linear layers have biases and last layers have none, views are processed one after
    the other, and the target also runs in training mode and has its own BatchNorm statistics. Unlike in the official
    code, which draws the target's initial weights separately and "did not notice a significant difference", the target
    starts as a copy. The target's parameters have `requires_grad` False.
    """

    name: ClassVar[str] = "byol"
    version: ClassVar[int] = 1
    config_class: ClassVar[type] = BYOLConfig
    literature_names: ClassVar[Mapping[str, str]] = {
        **WIDTH_NAMES,
        "proj_output_dim": "projector_output_width",
        "pred_hidden_dim": "predictor_width",
        "tau": "target_momentum",
        "base_momentum": "target_momentum",
        "base_target_ema": "target_momentum",
        "base_tau": "target_momentum",
    }

    def __init__(self, backbone: nn.Module, config: BYOLConfig) -> None:
        super().__init__(backbone, config)
        hidden = [config.projector_width] * (config.projector_depth - 1)
        output = config.projector_output_width
        self.projector = Projector((feature_dim(backbone), *hidden, output), hidden_bias=True)
        self.predictor = Projector((output, config.predictor_width, output), hidden_bias=True)
        self.target_backbone = frozen_copy(self.backbone)
        self.target_projector = frozen_copy(self.projector)

    def loss(self, views: Views, step: Step) -> LossTerms:
        p1, p2 = (self.predictor(self.project(self.embed(view))) for view in views)
        with torch.no_grad():
            t1, t2 = (self.target_projector(self.target_backbone(view)) for view in views)
        return byol_loss(*map(gather, (p1, p2, t1, t2)))

    def after_update(self, step: Step) -> None:
        momentum = momentum_at(step.step, step.steps, self.config.target_momentum)
        update_ema(self.target_backbone, self.backbone, momentum)
        update_ema(self.target_projector, self.projector, momentum)
