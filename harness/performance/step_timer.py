"""Time training steps on random images, through the same loop that trials use."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twinbench.harness.data.images import Images
from twinbench.harness.system.memory import Room, memory_that_ends_told
from twinbench.harness.training.cuda_graphs import own_streams, settle
from twinbench.harness.training.loop import Task, train
from twinbench.harness.training.step import AS_IT_IS
from twinbench.harness.trial.execute import build_method
from twinbench.sweeps.protocol import DatasetRule, Training
from twinbench.sweeps.recipe import ViewRecipe
from twinbench.sweeps.trial import Trial

SECONDS = 1.0  # that each thing is measured for, once it is warm
MOST_STEPS = 100
DRAWN = 256  # different images; then they repeat


def noise(count: int, size: int) -> Any:
    """uint8 [count, 3, size, size]; the pixels repeat after DRAWN images."""
    drawn = np.random.default_rng(0).integers(0, 256, (DRAWN, 3, size, size), dtype=np.uint8)
    return np.resize(drawn, (count, 3, size, size))


def seconds_of_a_step(
    trial: Trial,
    image_size: int,
    device: torch.device,
    seconds: float = SECONDS,
    pack: int = 1,
    meet: Callable[[], object] = lambda: None,
) -> float:
    """One step of the trial's training on noise, the mean over `seconds` or MOST_STEPS once it is warm and `meet` met.

    With `pack`, of so many such trainings that take turns: what each step of each adds to the time of all.
    MemoryError where the device has too little for it.
    """
    warm = AS_IT_IS + 1 if device.type == "cuda" else 1  # the last of which is recorded
    with memory_that_ends_told(), tempfile.TemporaryDirectory() as folder:
        task = _task(trial, image_size, device, warm + MOST_STEPS + 1, Path(folder), pack)
        trainings = [
            train(build_method(trial, device), task, lambda _: {}, 1, lambda *_: None, lambda: False)
            for _ in range(pack)
        ]
        streams, room = own_streams(device, pack), Room(device)

        def turn(is_first: bool = False) -> None:
            for training, stream in zip(trainings, streams, strict=True):
                if is_first and not room.for_another():
                    raise MemoryError(f"none is left for more than {room.begun} trials")
                with torch.cuda.stream(stream):
                    next(training)

        for number in range(warm):
            turn(number == 0)
        settle(device)
        meet()
        begun, turns = time.perf_counter(), 0
        while turns < MOST_STEPS and (not turns or time.perf_counter() - begun < seconds):
            turn()
            turns += 1
        settle(device)
        return (time.perf_counter() - begun) / (turns * pack)


def _task(trial: Trial, image_size: int, device: torch.device, steps: int, folder: Path, pack: int) -> Task:
    """The trial's training on noise, at a rate that leaves the weights where they are: no loss diverges meanwhile."""
    content = trial.protocol["content"]
    training = replace(Training(**trial.training), epochs=1, learning_rate=1e-9)
    seen = np.arange(steps * training.batch_size) % DRAWN
    return Task(
        images=Images(noise(DRAWN, image_size), seen, device),
        dataset=DatasetRule(**content["dataset"]),
        views=tuple(ViewRecipe(**view) for view in content["views"]),
        training=training,
        seed=trial.seed,
        image_size=image_size,
        folder=folder,
        device=device,
        shares_views=pack > 1,
    )
