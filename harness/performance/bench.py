"""Measures this machine: matrix products, copies, views, and training steps through the loop that trials use."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from twinbench.harness.data.augmentation import draw_parameters, training_view
from twinbench.harness.performance.measurements import (
    Measurement,
    PackSeconds,
    Shape,
    TrainingStep,
    pack_shape_of,
    shape_of,
)
from twinbench.harness.performance.pack_size import ROUNDS, SIZES, measured_concurrently, measured_packs
from twinbench.harness.performance.step_timer import SECONDS, noise, seconds_per_step
from twinbench.harness.planning import check, trials_of_sweep
from twinbench.harness.training.batches import gpu_view_function
from twinbench.harness.training.cuda_graphs import synchronise
from twinbench.harness.training.task import precision_on
from twinbench.methods.backbones.registry import BACKBONES, build_backbone
from twinbench.sweeps.protocol import BackboneRule, Scalar
from twinbench.sweeps.sweep import Grid, Sweep, read_protocol
from twinbench.sweeps.trial import Trial

SHAPE_SECONDS = {"cpu": 12.0, "cuda": 20.0}  # for all methods and batch sizes on one backbone
PACKS_SECONDS = 20.0  # for the packs of one backbone
BATCH_SIZES = (32, 128, 512)
GEMM_SIZE = {"cpu": 1024, "cuda": 8192}
COPIED_BYTES = 2**28  # beyond any cache
VIEWS = 256


@dataclass(frozen=True)
class LeftOut:
    """A training step, or its packs, that was not measured, and why."""

    shape: Shape
    batch_size: int
    reason: str


# --- what the hardware does ------------------------------------------------------------------------------------------


def gemm_gflops(device: torch.device) -> dict[str, float]:
    """Return 10^9 operations per second of a square matrix product, by dtype; bf16 on a GPU only."""
    n = GEMM_SIZE[device.type]
    dtypes = [torch.float32] + ([torch.bfloat16] if device.type == "cuda" else [])
    found = {}
    for dtype in dtypes:
        a, b, c = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(3))
        found[str(dtype).removeprefix("torch.")] = 2 * n**3 * per_second(lambda: torch.mm(a, b, out=c), device) / 1e9  # noqa: B023
    return found


def copy_gigabytes_per_second(device: torch.device) -> float:
    """Return the speed of copies within the device's memory: bytes read and bytes written."""
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES * per_second(lambda: target.copy_(source), device) / 1e9


def views_per_second(device: torch.device) -> float:
    """Return views of 32 pixels per second by the recipe of cifar10-small: drawn, distorted and normalised."""
    protocol = read_protocol("cifar10-small")
    recipe, rule = protocol.views[0], protocol.dataset
    images, ids = torch.from_numpy(noise(VIEWS, 32)).to(device), torch.arange(VIEWS, device=device)
    make = gpu_view_function() if device.type == "cuda" else training_view
    dtype = torch.bfloat16 if precision_on(device, "auto") == "bf16" else torch.float32

    def views() -> None:
        make(images, draw_parameters(ids, recipe, 0, 0, 0, 32, 32), recipe, 32, rule, dtype)

    return VIEWS * per_second(views, device)


def per_second(run: Callable[[], object], device: torch.device) -> float:
    """Return how often per second `run` runs, once warm."""
    for _ in range(3):
        run()
    synchronise(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        for _ in range(1 if device.type == "cpu" else 10):  # between waits for a GPU
            run()
            count += 1
        synchronise(device)
    return count / (time.perf_counter() - began)


# --- what a training does --------------------------------------------------------------------------------------------


def training_steps(device: torch.device, gflops: float) -> Iterator[TrainingStep | LeftOut]:
    """Yield steps of every shipped method on every shipped backbone, small batches first, each as it is measured.

    Steps that would exceed SHAPE_SECONDS or the device's memory are yielded as LeftOut. `gflops` is the speed of the
    device's fastest matrix products, from which the time of the first step is estimated before it is begun.
    """
    limit = SHAPE_SECONDS[device.type]
    for trials, image_size in bench_trials():
        began = time.perf_counter()
        seconds_per_image = operations_of_an_image(trials[0], image_size) / (1e9 * gflops)  # later: of the last step
        for trial in trials:
            batch_size = int(trial.training["batch_size"])
            shape = shape_of(trial, image_size)
            left = limit - (time.perf_counter() - began)
            if 2 * batch_size * seconds_per_image > left:
                yield LeftOut(shape, batch_size, f"takes longer than the {limit:.0f} s of a backbone")
                continue
            try:
                seconds = seconds_per_step(trial, image_size, device, min(SECONDS, left))
            except MemoryError:
                torch.cuda.empty_cache()
                yield LeftOut(shape, batch_size, "takes more memory than the device has")
                continue
            seconds_per_image = seconds / batch_size
            yield TrainingStep(shape, batch_size, seconds)


def packs(device: str, found: Measurement) -> Iterator[PackSeconds | LeftOut]:
    """Yield packs of every shipped backbone's first method at its smallest batch, if PACKS_SECONDS suffice.

    On a CPU as many processes measure at once as `run` starts there by default.
    """
    threads = found.machine.threads
    processes = max(1, found.machine.cores // threads) if device == "cpu" else 1
    for (trial, *_), image_size in bench_trials():
        shape, batch_size = shape_of(trial, image_size), int(trial.training["batch_size"])
        step = found.seconds_per_step(shape, batch_size)
        if not step or 2 * ROUNDS * sum(SIZES) * step >= PACKS_SECONDS:
            continue
        measure = measured_packs if processes == 1 else partial(measured_concurrently, processes=processes)
        try:
            seconds = measure(trial, image_size, device, threads)
        except BrokenProcessPool:
            yield LeftOut(shape, batch_size, "packs could not be measured: a process was killed")
            continue
        if seconds:  # empty if there is no memory for one trial
            yield PackSeconds(pack_shape_of(trial, image_size), batch_size, processes, SIZES[-1], seconds)


def operations_of_an_image(trial: Trial, image_size: int) -> int:
    """Return a backbone's operations per image and training step: all views, forward once and backward twice."""
    content = trial.protocol["content"]
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        backbone = build_backbone(content["backbone"]["name"], content["backbone"]["options"]).eval()
        backbone(torch.empty(1, 3, image_size, image_size))
    return 3 * len(content["views"]) * int(counter.get_total_flops())


def bench_trials() -> Iterator[tuple[list[Trial], int]]:
    """Yield, for each backbone, trials of all its protocol's methods, small batches first, and the image size.

    Backbones come with their shipped protocol; those that no protocol uses are put into the CIFAR-10 protocol of
    ResNet-18.
    """
    resnet18 = read_protocol("cifar10-r18-200ep")
    shapes = [(read_protocol("digits-small"), 8), (read_protocol("cifar10-small"), 32), (resnet18, 32)]
    used = {protocol.backbone.name for protocol, _ in shapes}
    for name in BACKBONES:
        options: dict[str, Scalar] = {"patch_size": 4} if name.startswith("vit_") else {"stem": "cifar"}
        if name not in used:
            shapes.append((replace(resnet18, backbone=BackboneRule(name, options)), 32))
    for protocol, image_size in shapes:
        grid = Grid(tuple(protocol.methods), {"batch_size": list(BATCH_SIZES)})
        sweep = Sweep("", protocol.name, (0,), (grid,), baselines=False)
        trials = trials_of_sweep(sweep, protocol, check(sweep, protocol, "bench"), "")
        yield sorted(trials, key=lambda trial: int(trial.training["batch_size"])), image_size
