"""VICReg (arXiv 2105.04906): variance, invariance, covariance.

Shapes: N samples, D projector outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from twinbench.methods.backbones.registry import feature_dim
from twinbench.methods.layers.projector import WIDTH_NAMES, Projector
from twinbench.methods.method import LossTerms, Method, Step, Views
from twinbench.methods.ops.correlation import squared_products
from twinbench.methods.ops.distributed import gather
from twinbench.methods.ops.precision import check_batch, in_full_precision


@dataclass(frozen=True)
class VICRegConfig:
    """Settings of VICReg. Defaults: facebookresearch/vicreg, main_vicreg.py (ImageNet, ResNet-50)."""

    projector_width: Annotated[int, Ge(1)] = 8192
    """Width of every layer of the projector ("expander"), the output included. Source: `--mlp 8192-8192-8192`."""

    projector_depth: Annotated[int, Ge(1)] = 3
    """Linear layers in the projector. Source: `--mlp 8192-8192-8192`."""

    invariance_weight: Annotated[float, Ge(0)] = 25.0
    """Weight of the distance between the views, lambda in equation 6. Source: `--sim-coeff 25.0`."""

    variance_weight: Annotated[float, Ge(0)] = 25.0
    """Weight of the hinge that keeps each feature's deviation at 1, mu in equation 6. Source: `--std-coeff 25.0`."""

    covariance_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the squared covariances between features, nu in equation 6. Source: `--cov-coeff 1.0`."""


@in_full_precision
def vicreg_loss(
    z1: Tensor, z2: Tensor, invariance_weight: float, variance_weight: float, covariance_weight: float
) -> LossTerms:
    """The weighted sum of invariance, variance and covariance, as in the official code.

    z1, z2: projector outputs [N, D], N >= 2, row i of both from one image.
    invariance: mean over N and D of (z1 - z2)^2.
    variance: mean over the two views and D of max(0, 1 - sqrt(Var + 1e-4)), Var with N - 1.
    covariance: sum over the two views of 1/D times the squared off-diagonal entries of the covariance (with N - 1).
    The loss does not change if the views are swapped or both are shifted alike. Variance and covariance do not change
    if one view is shifted.

    The paper (equation 6) sums the variance over the views where the code halves it, and its invariance is a mean
    over N of squared distances, D times the code's mean over N and D. The published weights belong to the code.
    Libraries differ: solo-learn and eb_jepa sum the variance (twice this weight); eb_jepa also averages the squared
    covariances over D(D-1); lightly's `lambda_param` is the invariance weight here, the off-diagonal one in its
    Barlow Twins.
    """
    check_batch(z1, z2, least=2)
    invariance = F.mse_loss(z1, z2)
    (variances_1, covariance_1), (variances_2, covariance_2) = _covariances(z1), _covariances(z2)
    variance = (_deviation_below_one(variances_1) + _deviation_below_one(variances_2)) / 2
    covariance = covariance_1 + covariance_2
    total = invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance
    parts = {"invariance": invariance, "variance": variance, "covariance": covariance}
    return LossTerms(total, {name: part.detach() for name, part in parts.items()})


def _covariances(z_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features' variances, [D], and 1/D times the sum of their squared covariances."""
    samples, width = z_ND.shape
    diagonal, off_diagonal = squared_products(z_ND - z_ND.mean(0))
    return diagonal / (samples - 1), off_diagonal / ((samples - 1) ** 2 * width)


def _deviation_below_one(variances_D: Tensor) -> Tensor:
    return F.relu(1 - (variances_D + 1e-4).sqrt()).mean()


class VICReg(Method):
    """Backbone, projector with biases in all layers but the last, and `vicreg_loss`."""

    name: ClassVar[str] = "vicreg"
    version: ClassVar[int] = 1
    config_class: ClassVar[type] = VICRegConfig
    literature_names: ClassVar[Mapping[str, str]] = {
        **WIDTH_NAMES,
        "proj_output_dim": "projector_width",
        "lambda": "invariance_weight",
        "lambda_param": "invariance_weight",
        "sim_coeff": "invariance_weight",
        "sim_loss_weight": "invariance_weight",
        "mu": "variance_weight",
        "mu_param": "variance_weight",
        "std_coeff": "variance_weight",
        "var_loss_weight": "variance_weight",
        "nu": "covariance_weight",
        "nu_param": "covariance_weight",
        "cov_coeff": "covariance_weight",
        "cov_loss_weight": "covariance_weight",
    }

    def __init__(self, backbone: nn.Module, config: VICRegConfig) -> None:
        super().__init__(backbone, config)
        widths = (feature_dim(backbone), *[config.projector_width] * config.projector_depth)
        self.projector = Projector(widths, hidden_bias=True)

    def loss(self, views: Views, step: Step) -> LossTerms:
        z1, z2 = (gather(self.project(self.embed(view))) for view in views)
        config = self.config
        return vicreg_loss(z1, z2, config.invariance_weight, config.variance_weight, config.covariance_weight)
