"""The backbones by name. Each maps images [N, 3, H, W] to features [N, feature_dim].

torchvision takes as long to import as torch, so only the functions that build a ResNet import it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, cast

from torch import nn

from twinbench.methods.backbones.resnet import ResNetOptions, SmallResNet, SmallResNetOptions, torchvision_resnet
from twinbench.methods.backbones.vision_transformer import VisionTransformer, ViTOptions
from twinbench.methods.names import unknown_name


@dataclass(frozen=True)
class Backbone:
    """An entry of the registry: the class of the options, and a function that builds a module with `.feature_dim`."""

    options_class: type
    build: Callable[[Any], nn.Module]


def build_backbone(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Return the named backbone, with `.feature_dim` and weights drawn from torch's global generator.

    Raises ValueError for an unknown name or option; the message gives the nearest name and all known ones.
    """
    if name not in BACKBONES:
        raise ValueError(unknown_name("backbone", name, BACKBONES))
    entry = BACKBONES[name]
    known = [field.name for field in fields(entry.options_class)]
    for option in options:
        if option not in known:
            raise ValueError(unknown_name(f"option of backbone {name}", option, known))
    return entry.build(entry.options_class(**options))


def feature_dim(backbone: nn.Module) -> int:
    """Return the width of a backbone's features."""
    return cast(int, backbone.feature_dim)


# Source of the transformers' sizes: arXiv 2012.12877, table 1
BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone(ResNetOptions, partial(torchvision_resnet, "resnet18")),
    "resnet50": Backbone(ResNetOptions, partial(torchvision_resnet, "resnet50")),
    "small_resnet": Backbone(SmallResNetOptions, SmallResNet),
    "vit_tiny": Backbone(ViTOptions, partial(VisionTransformer, width=192, depth=12, heads=3)),
    "vit_small": Backbone(ViTOptions, partial(VisionTransformer, width=384, depth=12, heads=6)),
    "vit_base": Backbone(ViTOptions, partial(VisionTransformer, width=768, depth=12, heads=12)),
}
