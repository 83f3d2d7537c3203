"""What a trial needs to go on where it stopped: written whole or not at all, read without running anybody's code."""

import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

FILE_NAME = "state.pt"


@dataclass
class Progress:
    """Where training stands. `sums` adds up the current epoch's loss terms; `curves` holds the finished epochs.

    `train_seconds` are those of training alone: of a batch that was made for another trial it counts the making, whose
    seconds are also in `shared_seconds`. `solo_step_seconds` is what an update took, the making of its batch included,
    with nothing of the pack beside it. On a GPU `cuda_graph` says whether the latest update was replayed as one.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    images_seen: int = 0
    train_seconds: float = 0.0
    shared_seconds: float = 0.0
    solo_step_seconds: float | None = None
    cuda_graph: bool | None = None
    sums: dict[str, float] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)
    curves: dict[str, list[float | None]] = field(default_factory=dict)


def save_state(folder: Path, progress: Progress, method: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Replaces the folder's state in one step, so a kill at any moment leaves the old state or the new one."""
    content = {"progress": asdict(progress), "method": method.state_dict(), "optimiser": optimiser.state_dict()}
    temporary = folder / f"{FILE_NAME}.{os.getpid()}.{time.monotonic_ns()}"
    try:
        with temporary.open("wb") as file:
            _write(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / FILE_NAME)
    finally:
        temporary.unlink(missing_ok=True)


def _write(content: dict[str, Any], file: BinaryIO) -> None:
    """torch.save, which would tell of a full disk as a RuntimeError about its own archive."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def load_state(folder: Path, method: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device) -> Progress:
    """Restores method and optimiser in place; a fresh Progress where nothing was saved."""
    if not (folder / FILE_NAME).exists():
        return Progress()
    content: dict[str, Any] = torch.load(folder / FILE_NAME, map_location=device, weights_only=True)
    method.load_state_dict(content["method"])
    optimiser.load_state_dict(content["optimiser"])
    return Progress(**content["progress"])


def saved_progress(folder: Path) -> Progress:
    """How far the saved state is, without a method to restore; a fresh Progress where there is none."""
    if not (folder / FILE_NAME).exists():
        return Progress()
    return Progress(**torch.load(folder / FILE_NAME, map_location="cpu", weights_only=True)["progress"])


def drop_state(folder: Path) -> None:
    """Once the record is written nothing resumes from here."""
    (folder / FILE_NAME).unlink(missing_ok=True)
