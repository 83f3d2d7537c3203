"""On a CUDA device, a captured update equals the eager one, and a GPU's views equal a CPU's."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from twinbench.harness.data.augmentation import draw_parameters, training_view
from twinbench.harness.data.images import Images
from twinbench.harness.evaluation import linear
from twinbench.harness.training import loop, step
from twinbench.harness.training.batches import gpu_view_function
from twinbench.harness.training.cuda_graphs import own_streams
from twinbench.harness.training.kernels import choose_kernels
from twinbench.harness.training.loop import Interrupted, train
from twinbench.harness.training.loss_log import Diverged
from twinbench.harness.training.task import Task
from twinbench.methods.backbones.registry import build_backbone
from twinbench.methods.method import Method
from twinbench.methods.registry import METHODS
from twinbench.sweeps.protocol import DatasetRule, Training
from twinbench.sweeps.recipe import ViewRecipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # libraries of another machine warn of other things
]
RULE = DatasetRule("random", (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), 0.1)
RECIPE = ViewRecipe(
    crop_scale=(0.08, 1.0),
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    greyscale_probability=0.2,
    blur_probability=0.5,
)


@pytest.fixture(autouse=True)
def same_kernels() -> Iterator[None]:
    """As a worker chooses them for results that are equal to the bit."""
    choose_kernels("repro")
    yield
    torch.backends.cudnn.deterministic = False
    torch.use_deterministic_algorithms(False)


def _task(folder: Path, precision: Any = "fp32", optimizer: Any = "sgd", epochs: int = 2, size: int = 32) -> Task:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 3, size, size), dtype=np.uint8)
    device = torch.device("cuda")
    training = Training(epochs, 16, optimizer, 0.01, precision=precision)
    folder.mkdir(exist_ok=True)
    return Task(Images(pixels, np.arange(96), device), RULE, (RECIPE, RECIPE), training, 0, folder, device)


def _method(
    name: str, backbone: tuple[str, dict[str, Any]] = ("small_resnet", {"width": 8}), width: int = 64
) -> Method:
    torch.manual_seed(0)
    kind = METHODS[name]
    method: Method = kind(build_backbone(*backbone), kind.config_class(projector_width=width)).cuda()
    return method.to(memory_format=torch.channels_last)


def _train(method: Method, task: Task, should_stop: Callable[[], bool] = lambda: False) -> Any:
    training = train(method, task, lambda _: {}, 1, lambda *_: None, should_stop)
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value


def _take_turns(trainings: dict[Any, Any], device: torch.device) -> dict[Any, Any]:
    """The progress at the end of each, by its key; each has a stream of its own, as in a pack."""
    streams = dict(zip(trainings, own_streams(device, len(trainings)), strict=True))
    found = {}
    while trainings:
        for key, training in list(trainings.items()):
            try:
                with torch.cuda.stream(streams[key]):
                    next(training)
            except StopIteration as end:
                found[key] = end.value
                del trainings[key]
    torch.cuda.synchronize()
    return found


def _weights(method: Method) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("name", ["barlow_twins", "simclr", "vicreg", "byol", "simclr on a vision transformer"])
def test_a_captured_training_equals_the_eager_one(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, _, on_a_transformer = name.partition(" on a ")
    backbone = {"backbone": ("vit_tiny", {"patch_size": 8})} if on_a_transformer else {}
    captured, eager = (_method(name, **backbone) for _ in range(2))
    curves = _train(captured, _task(tmp_path / "captured", precision)).curves
    assert "not captured" not in capsys.readouterr().out
    monkeypatch.setattr(step, "EAGER_UPDATES", 10**9)
    assert _train(eager, _task(tmp_path / "eager", precision)).curves == curves
    for key, value in _weights(eager).items():
        assert torch.equal(captured.state_dict()[key], value), key


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_trainings_on_parallel_streams_equal_each_alone(precision: str, tmp_path: Path) -> None:
    """Twice four of them, three times, since what a race spoils it does not always spoil."""
    alone = {name: _method(name) for name in METHODS}
    curves = {name: _train(alone[name], _task(tmp_path / name, precision)).curves for name in METHODS}
    for attempt in range(3):
        task = replace(_task(tmp_path / f"beside {attempt}", precision), shares_views=True)
        beside = [(name, number, _method(name)) for number in range(2) for name in METHODS]
        trainings = {}
        for name, number, method in beside:
            folder = task.folder / f"{name} {number}"
            folder.mkdir()
            trainings[name, number] = train(
                method, replace(task, folder=folder), lambda _: {}, 1, lambda *_: None, lambda: False
            )
        found = _take_turns(trainings, task.device)
        for name, number, method in beside:
            assert found[name, number].curves == curves[name]
            for key, value in _weights(alone[name]).items():
                assert torch.equal(method.state_dict()[key], value), (name, number, key)


def test_an_update_of_a_packed_training_is_timed_alone_and_equals_one_that_ran_alone(tmp_path: Path) -> None:
    """Of four in a pack, none may get the time of four, nor the little that it takes to launch its own."""
    alone = _method("byol")
    expected = _train(alone, _task(tmp_path / "alone", epochs=12))
    task = replace(_task(tmp_path / "beside", epochs=12), shares_views=True, keeps_its_turn=True)
    methods = [_method("byol") for _ in range(4)]
    trainings = {}
    for number, method in enumerate(methods):
        folder = task.folder / str(number)
        folder.mkdir()
        given = method, replace(task, folder=folder)
        trainings[number] = train(*given, lambda _: {}, 1, lambda *_: None, lambda: False)
    found = _take_turns(trainings, task.device)
    for number, method in enumerate(methods):
        assert found[number].curves == expected.curves and found[number].cuda_graph is True
        assert 0.5 < found[number].solo_step_seconds / expected.solo_step_seconds < 2.0
        for key, value in _weights(alone).items():
            assert torch.equal(method.state_dict()[key], value), (number, key)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_a_resumed_training_equals_an_uninterrupted_one(optimizer: str, tmp_path: Path) -> None:
    whole, parts = _method("barlow_twins"), _method("barlow_twins")
    _train(whole, _task(tmp_path / "whole", optimizer=optimizer))
    calls = itertools.count()
    with pytest.raises(Interrupted):
        _train(parts, _task(tmp_path / "parts", optimizer=optimizer), lambda: next(calls) == 4)
    _train(parts, _task(tmp_path / "parts", optimizer=optimizer))
    for key, value in _weights(whole).items():
        assert torch.equal(parts.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("backbone", "options", "size"),
    [
        ("resnet18", {}, 64),
        ("resnet18", {"stem": "cifar"}, 32),
        ("resnet50", {}, 64),
        ("small_resnet", {"width": 8}, 32),
        ("vit_small", {}, 224),
    ],
)
def test_every_backbone_trains_to_the_same_bits_again(
    backbone: str, options: dict[str, Any], size: int, tmp_path: Path
) -> None:
    """By kernels that torch knows to be deterministic: an operation that has none would raise."""
    weights = []
    for attempt in ("once", "again"):
        method = _method("barlow_twins", (backbone, options))
        _train(method, _task(tmp_path / attempt, "auto", size=size))
        weights.append(_weights(method))
    for key, value in weights[0].items():
        assert torch.equal(weights[1][key], value), key


@pytest.mark.parametrize("left", [2**23, 2**26])
@pytest.mark.parametrize("shares_views", [False, True])
def test_out_of_memory_during_a_capture_leaves_a_training_eager_or_ends_its_place_in_a_pack(
    shares_views: bool, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nearly all of the GPU's memory is filled as the capture begins."""
    usual = step.Update._record

    def record(self: Any, batch: Any) -> Any:
        torch.cuda.empty_cache()
        filling = torch.empty(torch.cuda.mem_get_info()[0] - left, dtype=torch.uint8, device="cuda")
        try:
            return usual(self, batch)
        finally:
            del filling
            torch.cuda.empty_cache()

    monkeypatch.setattr(step.Update, "_record", record)
    method = _method("barlow_twins", width=2048)
    task = replace(_task(tmp_path / "short"), shares_views=shares_views)
    if shares_views:
        with pytest.raises(torch.OutOfMemoryError):
            _train(method, task)
        return
    curves = _train(method, task).curves
    assert "out of memory" in capsys.readouterr().out
    monkeypatch.undo()
    captured = _method("barlow_twins", width=2048)
    assert _train(captured, _task(tmp_path / "enough")).curves == curves
    for key, value in _weights(captured).items():
        assert torch.equal(method.state_dict()[key], value), key


def test_captured_probes_equal_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1000, 64, generator=generator).cuda()
    labels = torch.randint(0, 10, (1000,), generator=generator).cuda()
    arguments: Any = (features, labels, 10, [(0.1, 0.0), (0.3, 0.01)], 5, 96, 3)
    captured = linear.linear_probes(*arguments)
    monkeypatch.setattr(linear, "captured", lambda work: work)
    for one, other in zip(captured, linear.linear_probes(*arguments), strict=True):
        assert torch.equal(one, other) and (one != 0).any()


def test_a_non_finite_loss_is_reported_at_its_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of a captured training are spoiled after its eighth update, of twelve."""
    method = _method("simclr")
    calls = itertools.count(1)

    def spoil(step: Any) -> None:
        if next(calls) == 8:
            method.backbone.conv1.weight.data.fill_(float("nan"))  # type: ignore[union-attr, operator]

    monkeypatch.setattr(method, "after_update", spoil)
    with pytest.raises(Diverged, match="epoch 2, step 9 of 12"):
        _train(method, _task(tmp_path))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["progress"]["epoch"] == 1


def test_a_loss_that_reads_the_step_is_not_captured_and_trains_eagerly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    method = _method("simclr")
    plain = method.loss
    seen: list[int] = []

    def loss(views: Any, step: Any) -> Any:
        terms = plain(views, step)
        seen.append(step.step)
        return terms

    monkeypatch.setattr(method, "loss", loss)
    _train(method, _task(tmp_path))
    assert seen == list(range(12))
    assert "its loss reads the step's step" in capsys.readouterr().out


def test_the_loop_waits_for_a_gpu_once_in_many_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    original = loop.Losses.look

    def look(self: Any, progress: Any) -> None:
        looks.append(len(self))
        original(self, progress)

    monkeypatch.setattr(loop.Losses, "look", look)
    _train(_method("simclr"), _task(tmp_path))
    assert looks == [6, 6]


@pytest.mark.parametrize("by_kernel", [False, True])
def test_a_gpus_views_equal_a_cpus_in_any_batch(by_kernel: bool) -> None:
    make: Any = gpu_view_function() if by_kernel else training_view
    images = torch.randint(0, 256, (48, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    here = draw_parameters(torch.arange(48), RECIPE, 0, 0, 0, 32, 32)
    there = draw_parameters(torch.arange(48, device="cuda"), RECIPE, 0, 0, 0, 32, 32)
    for name in here._fields:
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), rtol=1e-6, atol=1e-7)
    expected = training_view(images, here, RECIPE, 32, RULE, torch.float32)
    views = make(images.cuda(), there, RECIPE, 32, RULE, torch.float32)
    assert (views.cpu() - expected).abs().max() < 1e-4  # of values up to 2.6; float32's sums in another order
    some = slice(5, 13)
    assert torch.equal(make(images[some].cuda(), there.rows(some), RECIPE, 32, RULE, torch.float32), views[some])
