"""What every algorithm is, and what it is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

Views: TypeAlias = Sequence[Tensor]
"""The augmented batches that a recipe made of the same N images, each [N, 3, H, W]; row i is image i in all of them."""


@dataclass(frozen=True, eq=False)
class LossTerms:
    """A loss: the scalar to differentiate, and named parts for the curves (detached scalars, before their weights)."""

    total: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Step:
    """Where training stands. Schedules, masks and queues of a method come from this and from its own state alone."""

    epoch: int
    """The epoch, from 0."""
    step: int
    """The update over all epochs, from 0."""
    steps: int
    """How many updates the whole training has."""
    sample_indices: Tensor
    """Which images of the dataset the views show, [N]; over several ranks, those of this rank's own N rows."""
    generator: Callable[[str], torch.Generator]
    """`generator(purpose)`: this step's random stream of that name. A method draws from nowhere else.

    Every rank gets the same stream. So what is drawn image by image, a mask say, is drawn for the batch of all ranks,
    [ranks * N], and rank r takes rows r * N to (r + 1) * N of it: as one rank would, and no two images get one draw.
    """


class Method(nn.Module):
    """A self-supervised algorithm: a backbone, what is trained on top of it, and a loss over views.

    The only base class. A method gives the five class variables, `loss`, `project`, and `after_update` if it keeps
    something that moves after each update. What it keeps between steps is in its `state_dict`. Parameters that are
    not to be trained have `requires_grad` False. Layers are initialised as their classes do, from torch's generator:
    whoever builds a method seeds that generator first (and forks it, to leave it as it was).
    """

    name: ClassVar[str]
    """The name in sweep files and records; the key in the registry."""
    version: ClassVar[int]
    """Raised when a change moves numbers, so that old and new trials are told apart: part of a trial's identity."""
    config_class: ClassVar[type]
    """A frozen dataclass: the settings, each with bounds, a default and its source."""
    literature_names: ClassVar[Mapping[str, str]]
    """What papers and libraries call a setting -> the field here; errors point from one to the other."""

    def __init__(self, backbone: nn.Module, config: Any) -> None:
        """`backbone` maps images [N, 3, H, W] to [N, backbone.feature_dim]; `config` is a `config_class`."""
        super().__init__()
        self.backbone = backbone
        self.config = config

    def loss(self, views: Views, step: Step) -> LossTerms:
        """The loss of one batch, with the forward pass of every view."""
        raise NotImplementedError(f"{type(self).__name__} gives no loss")

    def embed(self, images: Tensor) -> Tensor:
        """What is kept after training: backbone features, [N, feature_dim]. Eval mode and no_grad are the caller's."""
        features: Tensor = self.backbone(images)
        return features

    def project(self, features: Tensor) -> Tensor:
        """The projector's output for backbone features, [N, D]: what the loss sees."""
        raise NotImplementedError(f"{type(self).__name__} gives no projection")

    def after_update(self, step: Step) -> None:
        """Called once after the optimiser's update of `step`."""
