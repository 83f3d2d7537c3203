"""Times training steps on random images, through the loop that trials use."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from twinbench.harness.data.images import Images
from twinbench.harness.system.memory import Room, oom_as_memory_error
from twinbench.harness.training.cuda_graphs import own_streams, synchronise
from twinbench.harness.training.loop import train
from twinbench.harness.training.step import EAGER_UPDATES
from twinbench.harness.training.task import Task
from twinbench.harness.trial.execute import build_method
from twinbench.sweeps.errors import counted
from twinbench.sweeps.protocol import DatasetRule, Training
from twinbench.sweeps.recipe import ViewRecipe
from twinbench.sweeps.trial import Trial

SECONDS = 1.0  # for which each thing is measured, once it is warm
MOST_STEPS = 100
DRAWN = 256  # different images; then they repeat


def noise(count: int, size: int) -> NDArray[np.uint8]:
    """Return random images, uint8 [count, 3, size, size]; they repeat after DRAWN images."""
    drawn = np.random.default_rng(0).integers(0, 256, (DRAWN, 3, size, size), dtype=np.uint8)
    return np.resize(drawn, (count, 3, size, size))


def seconds_per_step(
    trial: Trial,
    image_size: int,
    device: torch.device,
    seconds: float = SECONDS,
    pack: int = 1,
    wait_for_others: Callable[[], object] = lambda: None,
) -> float:
    """Return the seconds of one step of the trial's training on noise: the mean over `seconds` or MOST_STEPS.

    Timing starts once the training is warm and `wait_for_others` has returned. With `pack`, so many such trainings take
    turns, and the result is what each step of each adds to the time of all. MemoryError if the device has too little.
    """
    warm_up = EAGER_UPDATES + 1 if device.type == "cuda" else 1  # the last of them is recorded as a CUDA graph
    with oom_as_memory_error(), tempfile.TemporaryDirectory() as folder:
        task = _task(trial, image_size, device, warm_up + MOST_STEPS + 1, Path(folder), pack)
        trainings = [
            train(build_method(trial, device), task, lambda _: {}, 1, lambda *_: None, lambda: False)
            for _ in range(pack)
        ]
        streams, room = own_streams(device, pack), Room(device)

        def step_each(is_first: bool = False) -> None:
            for training, stream in zip(trainings, streams, strict=True):
                if is_first and not room.has_room_for_another():
                    raise MemoryError(f"there is none for more than {counted(room.begun, 'trial')}")
                with torch.cuda.stream(stream):
                    next(training)

        for number in range(warm_up):
            step_each(is_first=number == 0)
        synchronise(device)
        wait_for_others()
        began, turns = time.perf_counter(), 0
        while turns < MOST_STEPS and (not turns or time.perf_counter() - began < seconds):
            step_each()
            turns += 1
        synchronise(device)
        return (time.perf_counter() - began) / (turns * pack)


def _task(trial: Trial, image_size: int, device: torch.device, steps: int, folder: Path, pack: int) -> Task:
    """Return the trial's training on noise, with a learning rate so small that no loss diverges while it is timed."""
    content = trial.protocol["content"]
    training = replace(Training(**trial.training), epochs=1, learning_rate=1e-9)
    positions = np.arange(steps * training.batch_size) % DRAWN
    return Task(
        images=Images(noise(DRAWN, image_size), positions, device),
        dataset=DatasetRule(**content["dataset"]),
        views=tuple(ViewRecipe(**view) for view in content["views"]),
        training=training,
        seed=trial.seed,
        folder=folder,
        device=device,
        shares_views=pack > 1,
    )
