"""ResNet-18 and ResNet-50 with an ImageNet or CIFAR stem, and a small ResNet for two CPU cores."""

from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from twinbench.methods.names import unknown_name

ONEDNN_BLOCK = 16  # input channels, with AVX-512; 8 with AVX2


@dataclass(frozen=True)
class ResNetOptions:
    """ResNets from torchvision, with a stem for images of 224 pixels or of 32."""

    stem: Literal["imagenet", "cifar"] = "imagenet"
    """The first layers: "imagenet" has a 7x7 convolution of stride 2 and a max-pool, as in torchvision; "cifar" has a
    3x3 convolution of stride 1 and no max-pool, for images of 32 pixels. Source: arXiv 2002.05709, appendix B.9."""

    zero_init_residual: bool = False
    """Start the last BatchNorm of every block at 0, so that blocks start as the identity. Source: torchvision's
    default; the official Barlow Twins and VICReg set it."""


@dataclass(frozen=True)
class SmallResNetOptions:
    """A small ResNet for images of 8 to 32 pixels, fast enough for a CPU."""

    width: Annotated[int, Ge(1)] = 16
    """Channels of the first stage; the others have two and four times as many. Source: arXiv 1512.03385, 4.2."""

    blocks_per_stage: Annotated[int, Ge(1)] = 1
    """Basic blocks in each of the three stages. Source: our choice, the minimum."""


def torchvision_resnet(name: str, options: ResNetOptions) -> nn.Module:
    """Return torchvision's ResNet of that name without its classifier and, for "cifar", with another stem.

    Parameter names stay those of torchvision.
    """
    from torchvision.models import get_model

    resnet = get_model(name, weights=None, zero_init_residual=options.zero_init_residual)
    resnet.feature_dim = resnet.fc.in_features
    resnet.fc = nn.Identity()
    if options.stem == "cifar":
        resnet.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        resnet.maxpool = nn.Identity()
    elif options.stem != "imagenet":
        raise ValueError(unknown_name("stem", options.stem, ("imagenet", "cifar")))
    return cast(nn.Module, resnet)


class SmallResNet(nn.Module):
    """A small ResNet for images of 8 to 32 pixels: 3x3 stem, three stages of basic blocks, average pool.

    The CIFAR ResNets of arXiv 1512.03385, section 4.2 (6n + 2 layers), with torchvision's blocks and initialisation,
    and 1x1 convolutions where a shortcut changes shape.
    """

    def __init__(self, options: SmallResNetOptions) -> None:
        super().__init__()
        widths = [options.width, 2 * options.width, 4 * options.width]
        self.conv1 = nn.Conv2d(3, widths[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(widths[0], widths[0], options.blocks_per_stage, stride=1)
        self.layer2 = _stage(widths[0], widths[1], options.blocks_per_stage, stride=2)
        self.layer3 = _stage(widths[1], widths[2], options.blocks_per_stage, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.feature_dim = widths[2]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.avgpool(self.layer3(self.layer2(self.layer1(x))))
        features: Tensor = x.flatten(1)
        return features


class SubsampledConv2d(nn.Conv2d):
    """A strided 1x1 convolution, computed by subsampling the pixels first, which gives the same sums.

    With a stride, channels last and fewer input channels than a oneDNN block, oneDNN's weight gradient writes beyond
    its buffer, and the process crashes or continues with corrupted memory (oneDNN issue 6035; torch 2.14).
    """

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(images[..., ::rows, ::columns], self.weight, self.bias)


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock

    shortcut = None
    if stride != 1 or channels_in != channels:
        kind = nn.Conv2d if channels_in >= ONEDNN_BLOCK else SubsampledConv2d
        convolution = kind(channels_in, channels, kernel_size=1, stride=stride, bias=False)
        shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))
    first = BasicBlock(channels_in, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))
