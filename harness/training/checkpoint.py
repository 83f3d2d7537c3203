"""Save and load what a trial resumes from: written whole or not at all, and loaded without executing any code."""

import copy
import errno
import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from twinbench.harness.system.memory import is_out_of_memory
from twinbench.sweeps.file_reader import open_regular

FILE_NAME = "state.pt"
DAMAGED = "state.pt.damaged"
# Of a state that may not be read, is no file, or was cut so short that its parts would begin before it.
OF_THE_FILE = (None, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.EINVAL)


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
    states = {"method": method.state_dict(), "optimiser": optimiser.state_dict()}
    content = {"folder": folder.name, "progress": asdict(progress), **states}
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
    """Restore method and optimiser in place. Return the saved progress, or a new one if nothing was saved.

    A state that cannot be restored is set aside as DAMAGED, and method and optimiser stay as they were. Errors of the
    system, the device or its memory are raised: the state may be whole.
    """
    if not os.path.lexists(folder / FILE_NAME):
        return Progress()
    initial = copy.deepcopy((method.state_dict(), optimiser.state_dict()))
    try:
        content = _read(folder, device)
        method.load_state_dict(content["method"])
        optimiser.load_state_dict(content["optimiser"])
        return _progress(content)
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, torch.AcceleratorError) or _is_of_the_system(error):
            raise
        _set_aside(folder, error)
    method.load_state_dict(initial[0])
    optimiser.load_state_dict(initial[1])
    return Progress()


def saved_progress(folder: Path) -> Progress:
    """Return the saved progress without restoring a method, or a new one if nothing was saved or it is damaged."""
    try:
        return _progress(_read(folder, torch.device("cpu")))
    except Exception:  # a state that the trial's next attempt sets aside
        return Progress()


def _read(folder: Path, device: torch.device) -> dict[str, Any]:
    """Return the content of the folder's state; an error of any kind if it is damaged or another trial's."""
    with open_regular(folder / FILE_NAME) as file:
        with zipfile.ZipFile(file) as archive:  # torch itself does not look at the checksums
            if damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
        file.seek(0)
        content: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    if content.get("folder", folder.name) != folder.name:
        raise ValueError(f"it is the state of trial {content['folder']}")
    return content


def _progress(content: Mapping[str, Any]) -> Progress:
    """Return the progress in a state. ValueError if a value is of another type than in a new one."""
    progress = Progress(**content["progress"])
    for name, expected in asdict(Progress()).items():
        value = getattr(progress, name)
        if expected is not None and type(value) is not type(expected):
            raise ValueError(f"its {name} is {value!r}")
    return progress


def _is_of_the_system(error: Exception) -> bool:
    """Whether the system failed, and not the file: a lost mount, for example, or too many open files."""
    return isinstance(error, OSError) and error.errno not in OF_THE_FILE


def _set_aside(folder: Path, error: Exception) -> None:
    reason = (str(error).splitlines() or [""])[0]
    print(f"{FILE_NAME} cannot be restored: {type(error).__name__}: {reason}", flush=True)
    print(f"it is set aside as {DAMAGED}, and the trial starts from the beginning", flush=True)
    os.replace(folder / FILE_NAME, folder / DAMAGED)


def drop_state(folder: Path) -> None:
    """Delete the state: once the record is written, nothing resumes from it."""
    (folder / FILE_NAME).unlink(missing_ok=True)
