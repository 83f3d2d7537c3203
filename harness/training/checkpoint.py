"""Save and load what a trial resumes from: written whole or not at all, and loaded without executing any code."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

FILE_NAME = "state.pt"


@dataclass
class Progress:
    """How far a training is. `sums` adds up the current epoch's loss terms; `curves` holds the finished epochs.

    `train_seconds` excludes evaluation. It includes making a batch even if that was done for another trial of the pack;
    those seconds are also in `shared_seconds`. `solo_step_seconds` is the time of an update and its batch while no
    other trial of the pack runs. On a GPU `cuda_graph` says whether the latest update was replayed as a CUDA graph.
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
    """Replace the folder's state atomically: a kill at any moment leaves the old state or the new one."""
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


def _write(content: Mapping[str, object], file: BinaryIO) -> None:
    """Call torch.save, but raise the OSError of a full disk, which it turns into a RuntimeError."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def load_state(folder: Path, method: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device) -> Progress:
    """Restore method and optimiser in place. Return the saved progress, or a new one if nothing was saved."""
    if not (folder / FILE_NAME).exists():
        return Progress()
    content: dict[str, Any] = torch.load(folder / FILE_NAME, map_location=device, weights_only=True)
    method.load_state_dict(content["method"])
    optimiser.load_state_dict(content["optimiser"])
    return Progress(**content["progress"])


def saved_progress(folder: Path) -> Progress:
    """Return the saved progress without restoring a method, or a new one if nothing was saved."""
    if not (folder / FILE_NAME).exists():
        return Progress()
    return Progress(**torch.load(folder / FILE_NAME, map_location="cpu", weights_only=True)["progress"])


def drop_state(folder: Path) -> None:
    """Delete the state: once the record is written, nothing resumes from it."""
    (folder / FILE_NAME).unlink(missing_ok=True)
