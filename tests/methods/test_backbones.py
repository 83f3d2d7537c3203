"""Backbones give [N, feature_dim] and have the layers that their names promise."""

import pytest
import torch
import torchvision
from torch import nn

from twinbench.methods.backbones import BACKBONES, SmallResNetOptions, UnknownBackbone, build_backbone, feature_dim


def parameters(backbone: nn.Module) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters())


def basic_block(channels_in: int, channels: int) -> int:
    """Two 3x3 convolutions, each with a BatchNorm, and a 1x1 shortcut with one where the width changes."""
    convolutions = 9 * channels_in * channels + 9 * channels * channels + 4 * channels
    return convolutions + (channels_in * channels + 2 * channels if channels_in != channels else 0)


def test_cifar_resnet18_has_the_parameters_counted_by_hand() -> None:
    stem = 3 * 64 * 9 + 2 * 64
    stages = 2 * basic_block(64, 64)
    for channels in (128, 256, 512):
        stages += basic_block(channels // 2, channels) + basic_block(channels, channels)
    assert stem + stages == 11_168_832
    assert parameters(build_backbone("resnet18", {"stem": "cifar"})) == 11_168_832


@pytest.mark.parametrize("blocks", [1, 2])
def test_small_resnet_has_the_parameters_counted_by_hand(blocks: int) -> None:
    expected = 3 * 8 * 9 + 2 * 8
    for channels_in, channels in ((8, 8), (8, 16), (16, 32)):
        expected += basic_block(channels_in, channels) + (blocks - 1) * basic_block(channels, channels)
    assert parameters(build_backbone("small_resnet", {"width": 8, "blocks_per_stage": blocks})) == expected


@pytest.mark.parametrize(
    ("name", "options", "size", "width"),
    [
        ("resnet18", {}, 64, 512),
        ("resnet18", {"stem": "cifar"}, 16, 512),
        ("resnet50", {"stem": "cifar"}, 8, 2048),
        ("small_resnet", {}, 8, 64),
        ("small_resnet", {"width": 4}, 32, 16),
        ("small_resnet", {"width": 4}, 28, 16),
    ],
)
def test_features_are_a_row_of_feature_dim_per_image(
    name: str, options: dict[str, object], size: int, width: int
) -> None:
    backbone = build_backbone(name, options).eval()
    images = torch.ones(2, 3, size, size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert backbone(images).shape == (2, width)
    assert feature_dim(backbone) == width


def test_resnet18_with_the_imagenet_stem_is_torchvisions_without_its_head() -> None:
    ours = build_backbone("resnet18", {}).eval()
    theirs = torchvision.models.resnet18().eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    theirs.fc = nn.Identity()
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_cifar_stem_keeps_the_resolution_up_to_the_first_stage() -> None:
    backbone = build_backbone("resnet18", {"stem": "cifar"})
    images = torch.zeros(1, 3, 32, 32)
    stem = backbone.get_submodule("maxpool")(backbone.get_submodule("conv1")(images))
    assert stem.shape == (1, 64, 32, 32)


def test_small_resnet_halves_the_resolution_twice() -> None:
    backbone = build_backbone("small_resnet", {"width": 4}).eval()
    x = backbone.get_submodule("conv1")(torch.zeros(1, 3, 8, 8))
    shapes = []
    for stage in ("layer1", "layer2", "layer3"):
        x = backbone.get_submodule(stage)(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 8, 8), (8, 4, 4), (16, 2, 2)]


@pytest.mark.parametrize("zero", [True, False])
def test_zero_init_residual_sets_the_last_norm_of_every_block(zero: bool) -> None:
    backbone = build_backbone("resnet18", {"stem": "cifar", "zero_init_residual": zero})
    scales = [parameter for name, parameter in backbone.named_parameters() if name.endswith("bn2.weight")]
    assert len(scales) == 8
    assert all(bool((scale == 0).all()) == zero for scale in scales)


def test_an_unknown_backbone_is_told_the_nearest_and_all() -> None:
    with pytest.raises(UnknownBackbone) as caught:
        build_backbone("resnet_18", {})
    assert "did you mean 'resnet18'?" in str(caught.value)
    assert all(name in str(caught.value) for name in BACKBONES)


def test_an_unknown_option_and_an_unknown_stem_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown option of backbone small_resnet 'widht'; did you mean 'width'\?"):
        build_backbone("small_resnet", {"widht": 3})
    with pytest.raises(ValueError, match=r"unknown stem 'cifar10'; did you mean 'cifar'\?"):
        build_backbone("resnet18", {"stem": "cifar10"})


def test_the_registry_gives_each_backbones_options_class() -> None:
    assert BACKBONES["small_resnet"].options_class is SmallResNetOptions
    assert list(BACKBONES) == ["resnet18", "resnet50", "small_resnet"]
