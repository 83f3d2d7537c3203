"""Losses kept on a device until they are needed change no result, and a captured update repeats no changing number."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from twinbench.harness.data.augmentation import draw_parameters
from twinbench.harness.data.images import Images, _copied
from twinbench.harness.data.random_streams import order
from twinbench.harness.planning import Plan
from twinbench.harness.training import batches as batches_module
from twinbench.harness.training import step as update_module
from twinbench.harness.training.batches import Batches
from twinbench.harness.training.checkpoint import Progress, load_state, save_state
from twinbench.harness.training.cuda_graphs import CaptureStep, NotCapturable, first_change, python_state
from twinbench.harness.training.kernels import compile_networks
from twinbench.harness.training.loss_log import Diverged, Losses
from twinbench.harness.training.optimisers import Lars, build_optimiser, fit_to_device, set_learning_rate
from twinbench.harness.training.step import EAGER_UPDATES, Update
from twinbench.harness.training.task import Task, precision_on
from twinbench.harness.trial.execute import build_method
from twinbench.methods.method import LossTerms, Step
from twinbench.methods.registry import METHODS
from twinbench.sweeps.protocol import DatasetRule, Training
from twinbench.sweeps.recipe import ViewRecipe

CPU = torch.device("cpu")
RECIPES = (ViewRecipe(crop_scale=(0.2, 1.0), flip_probability=0.5), ViewRecipe(jitter_probability=0.8, hue=0.1))
NAMES = ("loss", "loss/part")
RULE = DatasetRule("random", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 0.1)


def _images(n: int = 70) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (2 * n, 3, 8, 8), dtype=np.uint8)
    return Images(pixels, np.arange(n) * 2, CPU)


def _task(batch_size: int, seed: int = 0) -> Task:
    return Task(_images(), RULE, RECIPES, Training(1, batch_size, "sgd", 0.1), seed, Path(), CPU)


@pytest.mark.parametrize("at_once", [1, 3, 32])
def test_a_batch_does_not_depend_on_the_order_of_requests_or_how_many_are_drawn_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "DRAWN_AT_ONCE", at_once)
    images, batches = _images(), Batches(_task(10, seed=5))
    for epoch, step in ((0, 0), (0, 1), (0, 6), (1, 4), (0, 2)):
        batch = batches.at(epoch, step)
        positions = order(5, epoch, 70)[step * 10 : step * 10 + 10]
        assert torch.equal(batch.ids, images.ids[positions])
        assert torch.equal(batch.images, images.batch(positions))
        for view, (recipe, drawn) in enumerate(zip(RECIPES, batch.parameters, strict=True)):
            alone = draw_parameters(batch.ids, recipe, 5, epoch, view, 8, 8)
            for name in alone._fields:
                assert torch.equal(getattr(drawn, name), getattr(alone, name)), name


def test_ranks_share_each_batch_in_order() -> None:
    whole = Batches(_task(12)).at(0, 2)
    shares = [Batches(_task(12), rank, 3).at(0, 2) for rank in range(3)]
    assert torch.equal(torch.cat([share.ids for share in shares]), whole.ids)
    assert torch.equal(torch.cat([share.parameters[0].crop_top for share in shares]), whole.parameters[0].crop_top)


def test_images_read_ahead_are_the_requested_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    at_hand = _images()
    monkeypatch.setattr("twinbench.harness.data.images.CACHED_BYTES", 0)
    read_ahead = _images()
    gathered: list[list[int]] = []
    gather = Images._gather
    monkeypatch.setattr(
        Images, "_gather", lambda self, which: (gathered.append(which.tolist()), gather(self, which))[1]
    )
    first, second = torch.tensor([3, 1, 60]), torch.tensor([5, 5, 0])
    read_ahead.prefetch(first)
    assert torch.equal(read_ahead.batch(first), at_hand.batch(first))
    assert gathered == [[3, 1, 60]] * 2  # ahead, and of those that are at hand: not once more
    read_ahead.prefetch(first)
    assert torch.equal(read_ahead.batch(second), at_hand.batch(second))  # another than what was read ahead
    assert gathered.count([5, 5, 0]) == 2
    at_hand.prefetch(first)
    assert at_hand._reader is None


@pytest.mark.parametrize("block", [1, 3 * 192, 2**20])
def test_images_are_copied_to_a_device_in_their_order_whatever_the_block(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinbench.harness.data.images._BLOCK_BYTES", block)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    positions = np.array([3, 19, 3, 0, 7, 11, 2])
    assert np.array_equal(_copied(pixels, positions, CPU).numpy(), pixels[positions])


@pytest.mark.parametrize("every", [1, 3, 7])
def test_sums_of_losses_do_not_depend_on_when_they_are_checked(every: int) -> None:
    progress, losses = Progress(), Losses(4, 7, 14)
    values = [0.1 * 3**n for n in range(7)]
    for step, value in enumerate(values):
        losses.keep(step, NAMES, torch.tensor([value, value / 3], dtype=torch.float64))
        if len(losses) == every:
            losses.look(progress)
    losses.look(progress)
    expected = 0.0
    for value in values:
        expected += value
    assert progress.sums["loss"] == expected and len(losses) == 0


def test_a_non_finite_loss_found_late_is_reported_at_its_own_step_and_nothing_after_it_counts() -> None:
    progress, losses = Progress(epoch=1, step_in_epoch=7, images_seen=4 * 14), Losses(4, 7, 28)
    for step, value in ((9, 1.0), (10, 2.0), (11, float("inf")), (12, float("nan")), (13, 3.0)):
        losses.keep(step, NAMES, torch.tensor([value, 0.5], dtype=torch.float64))
    with pytest.raises(Diverged, match="the loss was inf at epoch 2, step 12 of 28"):
        losses.look(progress)
    assert progress.sums == {"loss": 3.0, "loss/part": 1.0}
    assert (progress.step_in_epoch, progress.images_seen) == (4, 44)


def test_the_step_of_a_capture_gives_its_samples_and_refuses_what_changes() -> None:
    step: Any = CaptureStep(torch.arange(3))
    assert torch.equal(step.sample_indices, torch.arange(3))
    for name in ("epoch", "step", "steps", "generator"):
        with pytest.raises(NotCapturable, match=name):
            getattr(step, name)


GRAPHS_OWN = torch.AcceleratorError("CUDA error: out of memory")  # of an instantiation, say


def _fails_at_its_end(batch: Any) -> None:
    """Fail as a capture does: running out of memory is the context of the error that its end raises."""
    try:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    finally:
        raise torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture")


def _raises(error: Exception) -> Callable[..., Any]:
    def fails(*given: Any) -> Any:
        raise error

    return fails


def _update_whose_capture_fails(
    fails: Callable[..., Any], packed: bool, monkeypatch: pytest.MonkeyPatch, afterwards: Callable[..., Any] = int
) -> Update:
    """Return an update after the call that would have captured it, on a GPU that works `afterwards` or does not."""
    monkeypatch.setattr(update_module, "on_side_stream", lambda work: work())
    monkeypatch.setattr(update_module, "CapturedUpdate", lambda update, batch: fails(batch))
    monkeypatch.setattr(torch.cuda, "synchronize", afterwards)
    task, network = _task(10), nn.Linear(8, 1)
    batches = Batches(task, makes_views=packed)
    update = Update(
        task,
        network,
        lambda views, step: LossTerms(network(views[0]).square().mean(), {}),
        build_optimiser(network.parameters(), task.training),
        Losses(10, 7, 7),
        Progress(),
        runs_ahead=True,
    )
    for step in range(EAGER_UPDATES + 1):
        batch = batches.at(0, step)
        update(batch, Step(0, step, 7, batch.ids, lambda purpose: torch.Generator()))
    return update


@pytest.mark.parametrize(
    "fails", [_raises(torch.OutOfMemoryError("CUDA out of memory.")), _raises(GRAPHS_OWN), _fails_at_its_end]
)
def test_running_out_of_memory_during_a_capture_ends_a_packed_trial_and_no_other(
    fails: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        _update_whose_capture_fails(fails, True, monkeypatch)
    assert not _update_whose_capture_fails(fails, False, monkeypatch).is_captured


@pytest.mark.parametrize("packed", [False, True])
def test_a_device_that_breaks_during_a_capture_is_an_error_and_a_failed_capture_is_not(
    packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = _raises(torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing"))
    assert not _update_whose_capture_fails(waits, packed, monkeypatch).is_captured
    broken = _raises(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(torch.AcceleratorError, match="illegal"):
        _update_whose_capture_fails(broken, packed, monkeypatch, broken)


def test_the_first_change_in_what_a_module_keeps_is_found() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network[0].place = 0  # type: ignore[assignment]
    network[0].register_buffer("centre", torch.zeros(2))
    before = python_state(network)
    network(torch.ones(3, 2)).sum().backward()
    network[0].centre += 1
    assert first_change(before, network) == ""  # in place: a graph repeats it
    network[0].centre = 0.9 * network[0].centre
    assert first_change(before, network) == "0.centre"
    network[0].place = 5  # type: ignore[assignment]
    assert first_change(before, network) == "0.place"


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_method_keeps_a_changing_number_so_updates_can_be_captured(
    name: str, tiny_plan: Callable[..., Plan]
) -> None:
    trial, *_ = tiny_plan(f"methods={name}", "epochs=2", "batch_size=32", "baselines=false", "seeds=[0]").trials
    method, before = build_method(trial, CPU), {}
    optimiser = build_optimiser(method.parameters(), Training(**trial.training))
    for _ in range(2):
        before = python_state(method)
        views = [torch.rand(32, 3, 8, 8) for _ in range(2)]
        step = CaptureStep(torch.arange(32))
        method.loss(views, step).total.backward()  # type: ignore[arg-type, no-untyped-call]
        optimiser.step()
        method.after_update(Step(0, 0, 2, torch.arange(32), lambda purpose: torch.Generator()))
    assert first_change(before, method) == ""


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("everywhere", [False, True])
def test_lars_equals_timms(clipped: bool, everywhere: bool) -> None:
    from timm.optim import Lars as Timms

    training = Training(
        1,
        8,
        "lars",
        0.3,
        weight_decay=0.01,
        trust_coefficient=0.02,
        clip_trust_ratio=clipped,
        decay_bias_and_norm=everywhere,
    )
    ours, theirs = _network(), _network()
    optimiser = build_optimiser(ours.parameters(), training)
    weights, others = ([p for p in theirs.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    peer = Timms(
        [
            {"params": weights, "weight_decay": 0.01, "always_adapt": True},
            {"params": others, "weight_decay": 0.01 if everywhere else 0.0, "always_adapt": everywhere},
        ],
        lr=0.3,
        momentum=0.9,
        trust_coeff=0.02,
        trust_clip=clipped,
    )
    for _ in range(5):
        x = torch.randn(8, 7)
        for network, way in ((ours, optimiser), (theirs, peer)):
            way.zero_grad()
            network(x).square().mean().backward()
            way.step()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_a_state_saved_on_a_gpu_resumes_on_a_cpu(optimizer: Any, tmp_path: Path) -> None:
    """There the rate is a tensor and AdamW's groups are `capturable`, which a CPU refuses."""
    training = Training(1, 8, optimizer, 0.3)
    network = _network()
    optimiser = build_optimiser(network.parameters(), training)
    for group in optimiser.param_groups:
        group["lr"] = torch.tensor(0.3)
        if "capturable" in group:
            group["capturable"] = True
    save_state(tmp_path, Progress(), network, optimiser)
    again = build_optimiser(network.parameters(), training)
    load_state(tmp_path, network, again, CPU)
    fit_to_device(again)
    set_learning_rate(again, 0.25)
    assert all(group["lr"] == 0.25 and isinstance(group["lr"], float) for group in again.param_groups)
    network(torch.randn(8, 7)).sum().backward()
    again.step()


def test_lars_takes_its_rate_from_a_tensor_as_from_a_number() -> None:
    results = []
    for rate in (0.2, torch.tensor(0.2)):
        network = _network()
        group = {"params": list(network.parameters()), "lr": rate, "momentum": 0.9, "weight_decay": 0.0}
        optimiser = Lars([group | {"adapts": True, "trust_coefficient": 0.02, "clipped": True}], {})
        network(torch.ones(8, 7)).sum().backward()
        optimiser.step()
        results.append(list(network.parameters()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_worker_compiles_its_ninth_width_too(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = list[torch.fx.GraphModule]()

    def counts(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend=counts))
    config = torch._dynamo.config
    limits = {name: getattr(config, name) for name in ("recompile_limit", "accumulated_recompile_limit")}
    with config.patch(limits):  # which puts them back
        for width in range(1, 12):
            method = nn.ModuleList([nn.Linear(4, width)])
            compile_networks(method)
            method[0](torch.zeros(2, 4))
            assert len(graphs) == width
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("device", "precision", "capability", "allowed", "expected"),
    [
        ("cpu", "auto", None, True, "fp32"),
        ("cuda", "auto", (9, 0), True, "bf16"),
        ("cuda", "fp32", (8, 0), True, "tf32"),
        ("cuda", "fp32", (8, 0), False, "fp32"),
        ("cuda", "fp32", (7, 5), True, "fp32"),
        ("cuda", "auto", (7, 5), True, "fp32"),  # where bf16 is emulated
    ],
)
def test_the_recorded_precision_is_that_of_convolutions(
    device: str,
    precision: str,
    capability: tuple[int, int] | None,
    allowed: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
    assert precision_on(torch.device(device), precision) == expected
