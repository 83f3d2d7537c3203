"""Baselines that a trained method has to beat: raw pixels, and a backbone with its initial weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from twinbench.methods.method import LossTerms, Method, Step, Views


@dataclass(frozen=True)
class NoSettings:
    """A baseline has no settings."""


class RawPixels(Method):
    """The flattened images, [N, 3 * H * W]; the backbone is not used."""

    name: ClassVar[str] = "raw_pixels"
    version: ClassVar[int] = 1
    config_class: ClassVar[type] = NoSettings
    literature_names: ClassVar[Mapping[str, str]] = {}

    def loss(self, views: Views, step: Step) -> LossTerms:
        raise NotTrained(self.name)

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def project(self, features: Tensor) -> Tensor:
        return features


class Untrained(Method):
    """The backbone with its initial weights."""

    name: ClassVar[str] = "untrained"
    version: ClassVar[int] = 1
    config_class: ClassVar[type] = NoSettings
    literature_names: ClassVar[Mapping[str, str]] = {}

    def loss(self, views: Views, step: Step) -> LossTerms:
        raise NotTrained(self.name)

    def project(self, features: Tensor) -> Tensor:
        return features


class NotTrained(RuntimeError):
    """The loss of a baseline was called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __str__(self) -> str:
        return f"{self.args[0]} is a baseline: it has no loss and is not trained"
