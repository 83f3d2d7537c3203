"""Backbones give [N, feature_dim] and have the layers that their names promise."""

import math
import re
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

from twinbench.methods.backbones.registry import BACKBONES, build_backbone, feature_dim
from twinbench.methods.backbones.resnet import SmallResNetOptions, SubsampledConv2d
from twinbench.methods.backbones.vision_transformer import sine_positions


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


@pytest.mark.parametrize(("name", "width"), [("vit_tiny", 192), ("vit_small", 384)])
def test_vision_transformers_have_the_parameters_counted_by_hand(name: str, width: int) -> None:
    attention = 4 * width * width + 4 * width
    perceptron = 8 * width * width + 5 * width
    block = attention + perceptron + 2 * 2 * width
    patches, class_token, norm = 3 * 16 * 16 * width + width, width, 2 * width
    assert parameters(build_backbone(name, {})) == patches + class_token + 12 * block + norm


@pytest.mark.parametrize("training", [True, False])
def test_a_vision_transformer_is_torchvisions_with_fixed_positions(training: bool) -> None:
    ours = build_backbone("vit_tiny", {"patch_size": 8}).train(training)
    theirs = torchvision.models.VisionTransformer(32, 8, 12, 3, 192, 768).train(training)
    names = {"patches": "conv_proj", "norm": "encoder.ln", "self_attn": "self_attention", "norm1": "ln_1"}
    names |= {"norm2": "ln_2", "linear1": "mlp.0", "linear2": "mlp.3", "blocks": "encoder.layers"}
    state = {}
    for name, value in ours.state_dict().items():
        name = re.sub(r"blocks\.(\d+)", r"blocks.encoder_layer_\1", name)
        state[".".join(names.get(part, part) for part in name.split("."))] = value
    positions = torch.zeros(1, 17, 192)  # the class token has none
    positions[0, 1:] = sine_positions(4, 4, 192, torch.device("cpu"))
    theirs.load_state_dict(state | {"encoder.pos_embedding": positions}, strict=False)
    theirs.heads = nn.Identity()
    images = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_positions_are_the_sines_of_the_papers() -> None:
    found = sine_positions(3, 5, 8, torch.device("cpu"))
    for row in range(3):
        for column in range(5):
            expected = [
                turn(place / 10_000 ** (2 * k / 4))
                for place in (row, column)
                for turn in (math.sin, math.cos)
                for k in range(2)
            ]
            assert found[5 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_vision_transformer_takes_images_of_any_whole_number_of_patches() -> None:
    backbone = build_backbone("vit_tiny", {"patch_size": 4})
    assert backbone(torch.zeros(1, 3, 8, 12)).shape == (1, 192)
    with pytest.raises(ValueError, match=r"images of 8 x 10 pixels cannot be divided into patches of 4"):
        backbone(torch.zeros(1, 3, 8, 10))


@pytest.mark.parametrize(
    ("name", "options", "size", "width"),
    [
        ("resnet18", {}, 64, 512),
        ("resnet18", {"stem": "cifar"}, 16, 512),
        ("resnet50", {"stem": "cifar"}, 8, 2048),
        ("small_resnet", {}, 8, 64),
        ("small_resnet", {"width": 4}, 32, 16),
        ("small_resnet", {"width": 4}, 28, 16),
        ("vit_tiny", {"patch_size": 4}, 8, 192),
        ("vit_small", {}, 32, 384),
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


def test_the_error_for_an_unknown_backbone_gives_the_nearest_and_all() -> None:
    with pytest.raises(ValueError) as caught:
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
    assert list(BACKBONES) == ["resnet18", "resnet50", "small_resnet", "vit_tiny", "vit_small", "vit_base"]


def test_a_subsampled_convolution_is_the_one_with_the_stride() -> None:
    images = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(0))
    ours = SubsampledConv2d(3, 5, kernel_size=1, stride=2)
    expected = nn.functional.conv2d(images, ours.weight, ours.bias, stride=2)
    torch.testing.assert_close(ours(images), expected)


NARROW = """
import torch
from twinbench.methods.backbones.registry import build_backbone

torch.set_num_threads(1)
for width in (3, 4, 8):
    backbone = build_backbone("small_resnet", {"width": width}).to(memory_format=torch.channels_last)
    images = torch.randn(32, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    for _ in range(10):
        backbone(images).square().mean().backward()
"""


@pytest.mark.slow
def test_a_narrow_network_trains_on_a_processor_without_spoiling_memory() -> None:
    """In a process of its own, which oneDNN's fault would end or leave hanging."""
    subprocess.run([sys.executable, "-c", NARROW], check=True, timeout=60)
