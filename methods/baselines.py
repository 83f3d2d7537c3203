"""Baselines that a trained method has to beat: raw pixels, and a backbone with its initial weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from twinbench.methods.method import LossTerms, Method, Step, Views


@dataclass(frozen=True)
class NoSettings:
    """A baseline has no settings."""


class Untrained(Method):
    """The backbone with its initial weights."""

    name: ClassVar[str] = "untrained"
    version: ClassVar[int] = 1
    config_class: ClassVar[type] = NoSettings
    literature_names: ClassVar[Mapping[str, str]] = {}

    def loss(self, views: Views, step: Step) -> LossTerms:
        raise RuntimeError(f"{self.name} is a baseline: it has no loss and is not trained")

    def project(self, features: Tensor) -> Tensor:
        return features


class RawPixels(Untrained):
    """The flattened images, [N, 3 * H * W]; the backbone is not used."""

    name: ClassVar[str] = "raw_pixels"

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)
