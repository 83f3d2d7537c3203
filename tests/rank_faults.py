"""What the tests let the other ranks of a trial do: functions that their processes can import."""

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
    """From here on this process writes down which images it makes views of, step by step; what is returned ends it."""
    original, seen = Batches.at, []

    def at(batches: Batches, epoch: int, step_in_epoch: int) -> Batch:
        batch = original(batches, epoch, step_in_epoch)
        seen.append({"ids": batch.ids.tolist(), "images": len(batch.images)})
        (folder / f"{name}.json").write_text(json.dumps(seen))
        return batch

    def end() -> None:
        Batches.at = original

    Batches.at = at
    return end


def noting(device: torch.device, trial: Trial, surroundings: Surroundings, folder: Path) -> Run:
    """Trains, and notes its images in the run folder."""
    run = other_rank(device, trial, surroundings, folder)

    def run_and_note() -> None:
        end = note_ids(surroundings.run_folder, str(os.getpid()))
        run()
        end()

    return run_and_note


def raising_early(device: torch.device, trial: Trial, surroundings: Surroundings, folder: Path) -> Run:
    """Cannot even prepare the trial."""
    raise FileNotFoundError("no data here")


def raising(device: torch.device, trial: Trial, surroundings: Surroundings, folder: Path) -> Run:
    """Raises at the sixth step, in the second epoch."""
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
    """Trains, leaves half a second late, and notes in the run folder whether the ranks' own folder is still there."""
    run, leave = other_rank(device, trial, surroundings, folder), ranks._leave

    def leave_late() -> None:
        time.sleep(0.5)
        there = [folder.name for folder in surroundings.run_folder.glob("twinbench-ranks-*")]
        (surroundings.run_folder / "late.json").write_text(json.dumps(there))
        ranks._leave = leave
        leave()

    ranks._leave = leave_late
    return run
