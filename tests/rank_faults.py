"""Work for the other ranks in tests, in a module that their processes can import."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from twinbench.harness.training import loop
from twinbench.harness.training.batches import Batch, Batches
from twinbench.harness.trial import ranks
from twinbench.harness.trial.execute import Surroundings, other_rank
from twinbench.sweeps.trial import Trial

Run = Callable[[], None]


def note_ids(folder: Path, name: str) -> Run:
    """Write the images of each step of this process to a file from now on; return a function that ends this."""
    original, batches_seen = Batches.at, []

    def at(batches: Batches, epoch: int, step_in_epoch: int) -> Batch:
        batch = original(batches, epoch, step_in_epoch)
        batches_seen.append({"ids": batch.ids.tolist(), "images": len(batch.images)})
        (folder / f"{name}.json").write_text(json.dumps(batches_seen))
        return batch

    def end() -> None:
        Batches.at = original

    Batches.at = at
    return end


def noting(device: torch.device, trial: Trial, surroundings: Surroundings, folder: Path) -> Run:
    """Train, and write the images of each step to the run folder."""
    run = other_rank(device, trial, surroundings, folder)

    def run_and_note() -> None:
        end = note_ids(surroundings.run_folder, str(os.getpid()))
        run()
        end()

    return run_and_note


def raising_early(device: torch.device, trial: Trial, surroundings: Surroundings, folder: Path) -> Run:
    """Raise while the trial is prepared."""
    raise FileNotFoundError("no data here")


def raising(device: torch.device, trial: Trial, surroundings: Surroundings, folder: Path) -> Run:
    """Raise at the sixth step, in the second epoch."""
    run, original = other_rank(device, trial, surroundings, folder), loop._step

    def step(*arguments: Any) -> Any:
        made = original(*arguments)
        if made.step == 5:
            raise MemoryError("this rank has too little of it")
        return made

    def run_and_raise() -> None:
        loop._step = step
        run()

    return run_and_raise


def leaving_late(device: torch.device, trial: Trial, surroundings: Surroundings, folder: Path) -> Run:
    """Train, leave the group half a second late, and write whether the rendezvous folder still exists."""
    run, leave = other_rank(device, trial, surroundings, folder), ranks._leave

    def leave_late() -> None:
        time.sleep(0.5)
        there = [folder.name for folder in surroundings.run_folder.glob("twinbench-ranks-*")]
        (surroundings.run_folder / "late.json").write_text(json.dumps(there))
        ranks._leave = leave
        leave()

    ranks._leave = leave_late
    return run
