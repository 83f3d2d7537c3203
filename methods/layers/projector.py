"""The projector: the MLP between backbone and loss."""

import itertools
from collections.abc import Mapping, Sequence

from torch import nn

WIDTH_NAMES: Mapping[str, str] = {
    "proj_dim": "projector_width",
    "projector_dim": "projector_width",
    "proj_hidden_dim": "projector_width",
}
"""Maps libraries' names of the projector's width to the field that all methods here have."""


class Projector(nn.Sequential):
    """[Linear, BatchNorm, ReLU] for every hidden layer, then a Linear.

    `widths` go from input to output: (512, 2048, 128) is two linear layers. `hidden_bias` says whether the linear
    layers before the last have a bias; `last_batch_norm` adds a BatchNorm with a scale but no offset after the last
    layer. Published projectors differ in these. Weights have torch's default initialisation.
    """

    def __init__(self, widths: Sequence[int], *, hidden_bias: bool, last_batch_norm: bool = False) -> None:
        if len(widths) < 2:
            raise ValueError(f"a projector needs an input and an output width, not {tuple(widths)}")
        layers: list[nn.Module] = []
        for width_in, width in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(width_in, width, bias=hidden_bias), nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(widths[-2], widths[-1], bias=False))
        if last_batch_norm:
            layers.append(nn.BatchNorm1d(widths[-1]))
            layers[-1].register_parameter("bias", None)
        super().__init__(*layers)
