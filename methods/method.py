"""The base class of all methods, and what a loss receives and returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

Views: TypeAlias = Sequence[Tensor]
"""The augmented views of one batch of N images, each [N, 3, H, W]; row i of every view shows image i."""


@dataclass(frozen=True, eq=False)
class LossTerms:
    """A loss: the scalar to differentiate, and its named parts for the curves (detached scalars, before weighting)."""

    total: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Step:
    """The progress of training. Schedules, masks and queues depend only on this and on the method's state."""

    epoch: int
    """The epoch, counted from 0."""
    step: int
    """The update, counted from 0 over all epochs."""
    steps: int
    """The number of updates of the whole training."""
    sample_indices: Tensor
    """The indices in the dataset of the N images, [N]; with several ranks, those of this rank's rows."""
    generator: Callable[[str], torch.Generator]
    """`generator(purpose)` returns this step's random stream of that name, a method's only source of random numbers.

    Every rank gets the same stream. Draws per image, such as masks, are therefore made for the batch of all ranks,
    [ranks * N], and rank r uses rows r * N to (r + 1) * N. So they equal those of one rank, and no two images share a
    draw.
    """


class Method(nn.Module):
    """A self-supervised algorithm: a backbone, the layers on top of it, and a loss over views.

    A method defines the four class variables, `loss`, `projector` or `project`, and `after_update` if something changes
    after each update. State between steps is in its `state_dict`. Parameters that are not trained have `requires_grad`
    False. Layers are initialised by their classes from torch's global generator; the caller forks and seeds it before.
    """

    name: ClassVar[str]
    """The name in sweep files and records; the key in the registry."""
    version: ClassVar[int]
    """Increased by every change that changes numbers. It is part of a trial's identity."""
    config_class: ClassVar[type]
    """A frozen dataclass of the settings, each with bounds, a default and the default's source."""
    literature_names: ClassVar[Mapping[str, str]]
    """Maps names of settings in papers and libraries to fields here, for suggestions in errors."""
    projector: nn.Module
    """The layers between the backbone and the loss."""

    def __init__(self, backbone: nn.Module, config: Any) -> None:
        """`backbone` maps images [N, 3, H, W] to [N, backbone.feature_dim]; `config` is a `config_class`."""
        super().__init__()
        self.backbone = backbone
        self.config = config

    def loss(self, views: Views, step: Step) -> LossTerms:
        """Return the loss of one batch; runs the forward pass of every view."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def embed(self, images: Tensor) -> Tensor:
        """Return the features that are evaluated, [N, feature_dim]. The caller sets eval mode and no_grad."""
        features: Tensor = self.backbone(images)
        return features

    def project(self, features: Tensor) -> Tensor:
        """Return the projector's output for backbone features, [N, D], on which the loss is computed."""
        projections: Tensor = self.projector(features)
        return projections

    def after_update(self, step: Step) -> None:
        """Called once after the optimiser's update of `step`."""
