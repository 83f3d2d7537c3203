"""Every registered method keeps what `Method` promises; and what is particular to one is as published."""

import copy
import dataclasses
import itertools
from typing import Any, get_type_hints

import pytest
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F

from twinbench.methods.backbones.registry import build_backbone
from twinbench.methods.barlow_twins import BarlowTwinsConfig
from twinbench.methods.byol import BYOL, BYOLConfig, momentum_at
from twinbench.methods.method import Method, Step
from twinbench.methods.registry import BASELINES, METHODS
from twinbench.methods.simclr import SimCLR, SimCLRConfig, ntxent_loss
from twinbench.methods.vicreg import VICReg, VICRegConfig

WIDTH, FEATURES = 8, 12
N = 16
every_method = pytest.mark.parametrize("method_class", METHODS.values(), ids=METHODS)
every_method_and_baseline = pytest.mark.parametrize(
    "method_class", (METHODS | BASELINES).values(), ids=METHODS | BASELINES
)


def small(method_class: type[Method], seed: int = 0, **settings: Any) -> Method:
    """The method with narrow heads on a backbone of 12 features."""
    names = [field.name for field in dataclasses.fields(method_class.config_class)]
    narrow = {name: WIDTH for name in names if name.endswith("width")} | settings
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return method_class(build_backbone("small_resnet", {"width": 3}), method_class.config_class(**narrow))


def step(number: int = 0, steps: int = 10) -> Step:
    return Step(0, number, steps, torch.arange(N), lambda purpose: torch.Generator().manual_seed(number))


def views(seed: int = 0) -> list[Tensor]:
    """Two noisy views of N random 8x8 images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(N, 3, 8, 8, generator=generator)
    return [images + 0.3 * torch.randn(images.shape, generator=generator) for _ in range(2)]


def optimiser(method: Method) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)


def train(method: Method, updating: torch.optim.Optimizer, numbers: range) -> list[float]:
    method.train()
    losses = []
    for number in numbers:
        total = method.loss(views(), step(number)).total
        updating.zero_grad()
        total.backward()
        updating.step()
        method.after_update(step(number))
        losses.append(float(total.detach()))
    return losses


# ---- every method ----


@every_method
def test_loss_falls_on_a_batch_seen_again_and_again(method_class: type[Method]) -> None:
    method = small(method_class)
    losses = train(method, optimiser(method), range(20))
    assert losses[-1] < 0.8 * losses[0]


@every_method
def test_gradient_reaches_every_trainable_parameter_and_no_other(method_class: type[Method]) -> None:
    method = small(method_class).train()
    terms = method.loss(views(), step())
    terms.total.backward()
    assert terms.total.shape == () and all(part.shape == () for part in terms.parts.values())
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


@every_method
def test_training_goes_on_bit_for_bit_from_a_saved_state(method_class: type[Method]) -> None:
    whole = small(method_class)
    losses = train(whole, whole_optimiser := optimiser(whole), range(6))

    first = small(method_class)
    train(first, first_optimiser := optimiser(first), range(3))
    resumed = small(method_class, seed=1)  # other weights, to be replaced by the state
    resumed_optimiser = optimiser(resumed)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    resumed_optimiser.load_state_dict(copy.deepcopy(first_optimiser.state_dict()))

    assert train(resumed, resumed_optimiser, range(3, 6)) == losses[3:]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert whole_optimiser.state_dict()["param_groups"] == resumed_optimiser.state_dict()["param_groups"]


@every_method
def test_loss_draws_nothing_from_the_global_generator(method_class: type[Method]) -> None:
    method = small(method_class).train()
    before = torch.get_rng_state()
    method.loss(views(), step())
    method.after_update(step())
    assert torch.equal(torch.get_rng_state(), before)


@every_method
def test_loss_is_fp32_and_close_to_the_exact_one_under_bf16_autocast(method_class: type[Method]) -> None:
    exact, rough = small(method_class).train(), small(method_class).train()
    expected = exact.loss(views(), step()).total
    with torch.autocast("cpu", torch.bfloat16):
        total = rough.loss(views(), step()).total
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, expected, rtol=0.05, atol=0.05)


@every_method_and_baseline
def test_embed_gives_a_row_per_image_and_the_same_twice_in_eval_mode(method_class: type[Method]) -> None:
    method = small(method_class).eval()
    with torch.no_grad():
        features = method.embed(views()[0])
        again = method.embed(views()[0])
    assert features.shape == (N, 3 * 8 * 8 if method_class.name == "raw_pixels" else FEATURES)
    assert torch.equal(features, again)


@every_method
def test_projection_has_the_output_width_and_is_what_the_loss_sees(method_class: type[Method]) -> None:
    method = small(method_class, projector_depth=3).eval()
    projections = method.project(method.embed(views()[0]))
    assert projections.shape == (N, WIDTH)
    assert sum(isinstance(layer, nn.Linear) for layer in method.get_submodule("projector")) == 3


@every_method_and_baseline
def test_settings_are_frozen_and_bounded_and_literature_names_lead_to_them(method_class: type[Method]) -> None:
    config_class = method_class.config_class
    fields = {field.name for field in dataclasses.fields(config_class)}
    assert set(method_class.literature_names.values()) <= fields
    assert not set(method_class.literature_names) & fields
    assert config_class.__dataclass_params__.frozen
    for name, hint in get_type_hints(config_class, include_extras=True).items():
        assert any(isinstance(bound, Ge | Gt) for bound in hint.__metadata__), name


@every_method
@pytest.mark.parametrize("common", ["projector_width", "projector_depth"])
def test_every_method_has_the_common_axes(method_class: type[Method], common: str) -> None:
    assert common in {field.name for field in dataclasses.fields(method_class.config_class)}
    assert method_class.literature_names["proj_dim"] == "projector_width"


@pytest.mark.parametrize("method_class", BASELINES.values(), ids=BASELINES)
def test_baselines_have_no_settings_and_no_loss(method_class: type[Method]) -> None:
    method = small(method_class)
    assert dataclasses.fields(method_class.config_class) == ()
    with pytest.raises(RuntimeError, match=f"{method_class.name} is a baseline"):
        method.loss(views(), step())
    features = torch.ones(2, 3)
    assert torch.equal(method.project(features), features)


def test_raw_pixels_are_the_flattened_images() -> None:
    images = torch.arange(24.0).reshape(1, 3, 2, 4).contiguous(memory_format=torch.channels_last)
    assert torch.equal(small(BASELINES["raw_pixels"]).embed(images), torch.arange(24.0).reshape(1, 24))


# ---- as published ----


def test_defaults_are_the_published_ones() -> None:
    assert dataclasses.astuple(BarlowTwinsConfig()) == (8192, 3, 0.0051)
    assert dataclasses.astuple(VICRegConfig()) == (8192, 3, 25, 25, 1)
    assert dataclasses.astuple(SimCLRConfig()) == (2048, 128, 2, 0.1)
    assert dataclasses.astuple(BYOLConfig()) == (4096, 256, 2, 4096, 0.996)


def shape_of(head: nn.Module) -> list[str]:
    """Linear layers as in-out, + where there is a bias; BatchNorm as bn, + where there is an offset."""
    words = []
    for layer in head.children():
        bias = "+" if getattr(layer, "bias", None) is not None else ""
        if isinstance(layer, nn.Linear):
            words.append(f"{layer.in_features}-{layer.out_features}{bias}")
        else:
            words.append("relu" if isinstance(layer, nn.ReLU) else f"bn{bias}")
    return words


def test_projectors_have_the_biases_and_norms_of_the_official_code() -> None:
    heads = {name: shape_of(small(method).get_submodule("projector")) for name, method in METHODS.items()}
    assert heads == {
        "barlow_twins": ["12-8", "bn+", "relu", "8-8", "bn+", "relu", "8-8"],
        "vicreg": ["12-8+", "bn+", "relu", "8-8+", "bn+", "relu", "8-8"],
        "simclr": ["12-8", "bn+", "relu", "8-8", "bn"],
        "byol": ["12-8+", "bn+", "relu", "8-8"],
    }


def test_byol_predictor_maps_the_output_width_to_itself() -> None:
    method = small(BYOL, projector_output_width=5, predictor_width=7)
    assert shape_of(method.get_submodule("predictor")) == ["5-7+", "bn+", "relu", "7-5"]


def test_simclr_passes_both_views_as_one_batch() -> None:
    method = small(SimCLR, temperature=0.5).train()
    reference = copy.deepcopy(method)
    z1, z2 = reference.project(reference.embed(torch.cat(views()))).chunk(2)
    assert torch.equal(method.loss(views(), step()).total, ntxent_loss(z1, z2, 0.5).total)
    assert int(method.get_buffer("backbone.bn1.num_batches_tracked")) == 1


def test_vicreg_weights_reach_their_own_terms() -> None:
    terms = small(VICReg, invariance_weight=2.0, variance_weight=3.0, covariance_weight=5.0).loss(views(), step())
    parts = terms.parts
    expected = 2 * parts["invariance"] + 3 * parts["variance"] + 5 * parts["covariance"]
    torch.testing.assert_close(terms.total.detach(), expected)


def test_byol_momentum_rises_from_its_base_to_one_by_a_cosine() -> None:
    assert momentum_at(0, 100, 0.996) == pytest.approx(0.996)
    assert momentum_at(50, 100, 0.996) == pytest.approx(0.998)
    assert momentum_at(100, 100, 0.996) == 1
    assert momentum_at(25, 100, 0.9) == pytest.approx(1 - 0.1 * (2**-0.5 + 1) / 2)


def test_byol_target_starts_as_a_copy_moves_after_updates_only_and_is_not_trained() -> None:
    method = small(BYOL, target_momentum=0.9).train()
    pairs = [("projector", "target_projector"), ("backbone", "target_backbone")]
    for online, target in pairs:
        online_parameters, target_parameters = (method.get_submodule(name).parameters() for name in (online, target))
        assert all(map(torch.equal, online_parameters, target_parameters))
        assert not any(parameter.requires_grad for parameter in method.get_submodule(target).parameters())

    before = method.get_parameter("target_projector.0.weight").clone()
    train(method, optimiser(method), range(1))
    online, after = method.get_parameter("projector.0.weight"), method.get_parameter("target_projector.0.weight")
    torch.testing.assert_close(after, 0.9 * before + 0.1 * online)
    assert not torch.equal(after, before)


def test_byol_predicts_each_view_from_the_targets_other_view() -> None:
    method = small(BYOL).train()
    reference = copy.deepcopy(method)
    first, second = views()
    directions = []
    for shown, hidden in ((first, second), (second, first)):
        online = copy.deepcopy(reference)
        prediction = online.get_submodule("predictor")(online.project(online.embed(shown)))
        target = online.get_submodule("target_projector")(online.get_submodule("target_backbone")(hidden))
        directions.append((2 - 2 * F.cosine_similarity(prediction, target)).mean())
    parts = method.loss(views(), step()).parts
    torch.testing.assert_close(parts["view_1"], directions[0].detach())
    torch.testing.assert_close(parts["view_2"], directions[1].detach())


def test_byol_target_keeps_batch_norm_statistics_of_its_own_passes() -> None:
    method = small(BYOL).train()
    for _ in itertools.repeat(None, 2):
        method.loss(views(), step())
    assert int(method.get_buffer("target_backbone.bn1.num_batches_tracked")) == 4
    assert int(method.get_buffer("backbone.bn1.num_batches_tracked")) == 4
