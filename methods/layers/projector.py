"""The projector: the MLP between backbone and loss."""

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

    `widths` go from input to output: (512, 2048, 128) is two linear layers. `hidden_bias` and `last_bias` say whether
    the linear layers have a bias; `last_batch_norm` adds a BatchNorm with a scale but no offset after the last layer.
    Published projectors differ in these. Weights have torch's default initialisation.
    """

    def __init__(
        self, widths: Sequence[int], *, hidden_bias: bool, last_bias: bool = False, last_batch_norm: bool = False
    ) -> None:
        if len(widths) < 2:
            raise ValueError(f"a projector needs an input and an output width, not {tuple(widths)}")
        layers: list[nn.Module] = []
        for i in range(len(widths) - 2):
            layers.append(nn.Linear(widths[i], widths[i + 1], bias=hidden_bias))
            layers.append(nn.BatchNorm1d(widths[i + 1]))
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Linear(widths[-2], widths[-1], bias=last_bias))
        if last_batch_norm:
            layers.append(_batch_norm_without_offset(widths[-1]))
        super().__init__(*layers)


def _batch_norm_without_offset(width: int) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(width)
    norm.register_parameter("bias", None)
    return norm
