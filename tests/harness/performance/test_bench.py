"""Claims: `twinbench bench` times real steps, stores all or nothing, and `plan` uses only the shapes measured."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from twinbench.harness.commands.bench import bench
from twinbench.harness.commands.plan import plan as plan_command
from twinbench.harness.performance import bench as measures
from twinbench.harness.performance import pack_size, step_timer
from twinbench.harness.performance.bench import bench_trials, operations_of_an_image, training_steps
from twinbench.harness.performance.cost_estimate import benched_rates
from twinbench.harness.performance.measurements import (
    Machine,
    Measurement,
    Shape,
    TrainingStep,
    measurement_file,
    pack_shape_of,
    packs_file,
    shape_of,
    store,
    stored,
    stored_packs,
    this_machine,
)
from twinbench.harness.performance.step_timer import seconds_per_step
from twinbench.harness.planning import Plan
from twinbench.harness.trial.execute import build_method
from twinbench.methods.backbones.registry import BACKBONES
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.trial import Trial

Planner = Callable[..., Plan]
CPU = torch.device("cpu")
SHAPE: Shape = {
    "backbone": {"name": "small_resnet", "options": {"width": 16}},
    "image_size": 8,
    "method": "simclr",
    "settings": {"projector_width": 64},
    "precision": "auto",
    "views": 2,
}
HERE = Machine("a processor", 2, 1, "2.0")


def measurement(*steps: TrainingStep, machine: Machine = HERE) -> Measurement:
    return Measurement(machine, "2026-01-02T03:04:05+00:00", {"float32": 50.0}, 10.0, 8000.0, steps)


@pytest.fixture
def one_trial(tiny_plan: Planner) -> Trial:
    return tiny_plan("methods=simclr", "epochs=3", "batch_size=32", "baselines=false").trials[0]


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_step_times_are_linear_between_batch_sizes_and_constant_per_image_above() -> None:
    found = measurement(TrainingStep(SHAPE, 128, 0.5), TrainingStep(SHAPE, 32, 0.2))
    expected = {31: None, 32: 0.2, 80: 0.35, 128: 0.5, 256: 1.0}
    for batch_size, seconds in expected.items():
        assert found.seconds_per_step(SHAPE, batch_size) == (seconds and pytest.approx(seconds)), batch_size
    assert found.seconds_per_step(SHAPE | {"method": "byol"}, 64) is None


def test_widths_and_precision_belong_to_a_shape_and_loss_weights_do_not(one_trial: Trial) -> None:
    here = shape_of(one_trial, 8)
    assert "projector_width" in here["settings"] and "temperature" not in here["settings"]

    def changed(**changes: Any) -> dict[str, Any]:
        return shape_of(replace(one_trial, settings={**one_trial.settings, **changes}), 8)

    assert changed(temperature=0.9) == here and changed(projector_width=17) != here
    assert shape_of(one_trial, 32) != here
    assert shape_of(replace(one_trial, training={**one_trial.training, "precision": "fp32"}), 8) != here
    assert shape_of(replace(one_trial, training={**one_trial.training, "learning_rate": 0.5}), 8) == here


def test_a_measurement_is_read_back_on_the_same_machine_only_and_ignores_unknown_keys(
    own_cache: Path,
) -> None:
    found = measurement(TrainingStep(SHAPE, 32, 0.2))
    file = store(found)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"best_packing": {"later": 1}}))
    assert stored(HERE) == found
    for other in (replace(HERE, threads=2), replace(HERE, torch="2.1"), replace(HERE, device="another")):
        assert stored(other) is None
    for damaged in ("", "{}", '{"steps": [{}]}'):
        file.write_text(damaged)
        assert stored(HERE) is None


def test_a_measured_step_includes_the_loss_and_does_not_touch_the_cache(
    one_trial: Trial, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    clock = [0.0]

    def slow(trial: Trial, device: torch.device) -> Any:
        method = build_method(trial, device)
        loss = method.loss

        def takes_three_seconds(*given: Any) -> Any:
            clock[0] += 3
            return loss(*given)

        monkeypatch.setattr(method, "loss", takes_three_seconds)
        return method

    monkeypatch.setattr(step_timer, "build_method", slow)
    monkeypatch.setattr(step_timer.time, "perf_counter", lambda: clock[0])  # no other process's work counts
    assert seconds_per_step(one_trial, 8, CPU, seconds=10) == 3
    assert not own_cache.exists()


def test_a_pack_that_needs_too_much_memory_raises_memory_error(
    one_trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([90, 50, 30, 10])
    monkeypatch.setattr("twinbench.harness.system.memory.available_bytes", lambda device: next(free))
    with pytest.raises(MemoryError, match="more than 3 trials"):
        seconds_per_step(one_trial, 8, CPU, 0.01, pack=4)


@pytest.mark.slow
def test_every_shipped_backbone_is_measured_with_every_method_and_what_takes_too_long_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {
        (trial.protocol["content"]["backbone"]["name"], trial.method)
        for trials, _ in bench_trials()
        for trial in trials
    }
    methods = ("barlow_twins", "byol", "simclr", "vicreg")
    assert there == {(backbone, method) for backbone in BACKBONES for method in methods}
    taken = {32: 0.1, 128: measures.SHAPE_SECONDS["cpu"] / 2 + 1, 512: 0.0}
    monkeypatch.setattr(
        measures,
        "seconds_per_step",
        lambda trial, *_: taken[int(trial.training["batch_size"])] or pytest.fail("was measured"),
    )
    ended = list(training_steps(CPU, 1e9))
    assert {type(one).__name__: one.batch_size for one in ended} == {"TrainingStep": 128, "LeftOut": 512}
    assert len(ended) == (len(BACKBONES) + 1) * 4 * 3  # the small ResNet at two sizes of images
    monkeypatch.setattr(measures, "seconds_per_step", lambda *_: pytest.fail("was measured"))
    assert {type(one).__name__ for one in training_steps(CPU, 1e-3)} == {"LeftOut"}


def test_a_steps_operations_are_twelve_times_the_multiplications_of_a_backbones_convolutions() -> None:
    """Two views, forwards and twice that backwards, and each multiplication with an addition."""
    stem = 3 * 64 * 9 * 32**2
    first = 4 * 64 * 64 * 9 * 32**2
    others = sum(
        ((width // 2) * width * (9 + 1) + 3 * width * width * 9) * side**2
        for width, side in ((128, 16), (256, 8), (512, 4))
    )
    (resnet18,) = (
        trials[0] for trials, _ in bench_trials() if trials[0].protocol["content"]["backbone"]["name"] == "resnet18"
    )
    assert operations_of_an_image(resnet18, 32) == 12 * (stem + first + others)


def test_a_plan_says_that_its_hours_are_from_bench(
    tiny_plan: Planner, own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["methods=simclr", "seeds=[0,1]", "epochs=2", "batch_size=256", "projector_width=16", "baselines=false"]
    planned = tiny_plan(*changes)
    steps = [TrainingStep(shape_of(trial, 8), 64, 0.5) for trial in planned.trials]
    here = this_machine("cpu", 1)
    store(measurement(*steps, machine=here))
    rates = benched_rates(planned.trials, 8, measurement(*steps))
    assert {rate.images_per_second for rate in rates.values()} == {128.0}
    plan_command("digits", tmp_path / "run", changes, None, None, None, False)
    printed = capsys.readouterr().out
    hours = len(planned.trials) * 2 * 1024 / 128 / 3600  # four whole batches of 256 an epoch
    assert f"missing trials: {hours:.2g} hours" in printed and re.search(
        r"2 of them by `twinbench bench` of 2026-01-02", printed
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, own_cache: Path, one_trial: Trial) -> Path:
    """`bench` measures one tiny trial, and everything for a moment; packs in this process, as on one core."""
    monkeypatch.setattr("twinbench.harness.system.devices.cores", lambda: 1)
    monkeypatch.setattr(measures, "SECONDS", 0.02)
    monkeypatch.setattr(measures, "PACKS_SECONDS", 1e6)  # on a busy machine too
    monkeypatch.setattr(pack_size, "SECONDS", 0.02)
    monkeypatch.setattr(measures, "COPIED_BYTES", 2**20)
    monkeypatch.setattr(measures, "GEMM_SIZE", {"cpu": 64})
    monkeypatch.setattr(measures, "bench_trials", lambda: [([one_trial], 8)])
    return own_cache / "bench"


def test_bench_prints_and_stores_what_it_measured(
    quick: Path, one_trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    bench()
    printed = capsys.readouterr().out
    found = stored(this_machine("cpu", 1))
    assert found is not None and set(found.gemm_gflops) == {"float32"} and found.views_per_second > 1
    (step,) = found.steps
    assert step.batch_size == 32 and f"{step.images_per_second:,.0f}" in printed
    (packed,) = stored_packs(found.machine)
    assert packed.is_of(pack_shape_of(one_trial, 8), 32, 1) and packed.seconds[1] > 0
    assert "times as fast as one trial after another" in printed
    files = {measurement_file(found.machine).name, packs_file(found.machine).name}
    assert {file.name for file in quick.iterdir()} == files


def test_bench_stores_only_what_is_complete_when_interrupted_and_reports_an_unwritable_cache(
    quick: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measures, "seconds_per_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bench()
    assert not list(quick.iterdir()) and "nothing is stored" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(measures, "packs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bench()
    assert len(list(quick.iterdir())) == 1 and "everything but packs is stored" in capsys.readouterr().err
    (tmp_path / "file").touch()
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(InvalidInput, match="TWINBENCH_CACHE: the cache cannot be used: Not a directory"):
        bench()
