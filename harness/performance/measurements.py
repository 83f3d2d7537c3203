"""The speed of a device as `twinbench bench` measured it, in one JSON file per device in the user's cache.

    CACHE/bench/NAME-DIGEST.json         speeds; the digest covers device, cores, threads and torch's version
    CACHE/bench/NAME-DIGEST.packs.json   seconds per step by size of pack, also from `run --pack auto`

Unknown keys are ignored, so that later versions can store more.
"""

import contextlib
import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NotRequired

import numpy as np
from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from twinbench.harness.system.user_cache import cache_folder
from twinbench.results.atomic_files import write_json_atomically
from twinbench.sweeps.file_reader import parse_json, read_regular
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.protocol import BackboneContent
from twinbench.sweeps.trial import Trial

LAYOUT = 1  # of the files; a new number makes all earlier files unknown


class Shape(TypedDict):
    """What the time of a training step depends on, besides the batch size.

    `views` is their number and in a pack, which shares them, their recipes; `optimizer` counts in a pack only.
    """

    backbone: BackboneContent
    image_size: int
    method: str
    settings: Mapping[str, object]
    precision: str
    views: int | Sequence[Mapping[str, object]]
    optimizer: NotRequired[str]


@dataclass(frozen=True)
class Machine:
    """The machine that a measurement is valid for, with `cores` for a process and `threads` for a trial."""

    device: str
    cores: int
    threads: int
    torch: str


@dataclass(frozen=True)
class TrainingStep:
    """The time of one training step on a batch of `batch_size` images; `shape` is from `shape_of`."""

    shape: Shape
    batch_size: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Return training images per second; each image counts once, whatever its number of views."""
        return self.batch_size / self.seconds


@dataclass(frozen=True)
class PackSeconds:
    """Seconds that a step of one trial takes when trials take turns in a process, by the size of such packs.

    `processes` were measured at once, which share a CPU's memory bandwidth or one GPU. Sizes up to `most` were wanted;
    those missing from `seconds` gain nothing or need too much memory. `shape` is from `pack_shape_of`.
    """

    shape: Shape
    batch_size: int
    processes: int
    most: int
    seconds: Mapping[int, float]

    def is_of(self, shape: Shape, batch_size: int, processes: int) -> bool:
        """Return whether this is the measurement for that shape, batch size and number of processes."""
        return (self.batch_size, self.processes) == (batch_size, processes) and digest(self.shape) == digest(shape)


@dataclass(frozen=True)
class Measurement:
    """Speeds of one machine at one `time`.

    A matrix product n x n x n counts 2 n^3 operations, and a copy counts the bytes read and the bytes written.
    `views_per_second` are views of 32 pixels by the recipe of cifar10-small.
    """

    machine: Machine
    time: str
    gemm_gflops: Mapping[str, float]  # by dtype
    copy_gigabytes_per_second: float
    views_per_second: float
    steps: tuple[TrainingStep, ...]

    def seconds_per_step(self, shape: Shape, batch_size: int) -> float | None:
        """Return the seconds of a step at any batch size, linear between measured ones; None if unknown.

        Above the largest measured batch the time per image stays the same, since the device is full; below the smallest
        it is unknown.
        """
        known = sorted((step.batch_size, step.seconds) for step in self.steps if step.shape == shape)
        if not known or batch_size < known[0][0]:
            return None
        batch_sizes, seconds = zip(*known, strict=True)
        within = float(np.interp(batch_size, batch_sizes, seconds))
        return within * max(1.0, batch_size / known[-1][0])


_MEASUREMENT = TypeAdapter(Measurement)
_PACKS = TypeAdapter(tuple[PackSeconds, ...])


def shape_of(trial: Trial, image_size: int) -> Shape:
    """Return the shape of a trial's step. Settings that are floats (weights, temperatures) do not count."""
    return {
        "backbone": trial.protocol["content"]["backbone"],
        "image_size": image_size,
        "method": trial.method,
        "settings": {key: value for key, value in trial.settings.items() if not isinstance(value, float)},
        "precision": trial.training["precision"],
        "views": len(trial.protocol["content"]["views"]),
    }


def pack_shape_of(trial: Trial, image_size: int) -> Shape:
    """Return the shape of a trial's step in a pack."""
    return {
        **shape_of(trial, image_size),
        "views": trial.protocol["content"]["views"],
        "optimizer": trial.training["optimizer"],
    }


def this_machine(device: str, threads: int) -> Machine:
    """Return this machine with that device, `cpu` or `cuda:N`."""
    from twinbench.harness.system.devices import cores

    name = processor()
    if device.startswith("cuda"):
        import torch

        name = torch.cuda.get_device_name(device)
    return Machine(name, cores(), threads, importlib.metadata.version("torch"))


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def measurement_file(machine: Machine) -> Path:
    """Return the path of the machine's measurement, which may not exist."""
    name = re.sub(r"[^a-z0-9]+", "-", machine.device.lower()).strip("-")
    return cache_folder() / "bench" / f"{name}-{digest([LAYOUT, asdict(machine)])[:16]}.json"


def any_stored() -> bool:
    """Return whether `twinbench bench` has measured anything for this user."""
    return (cache_folder() / "bench").is_dir()


def store(found: Measurement) -> Path:
    """Write the measurement atomically and return its file."""
    return write_json_atomically(measurement_file(found.machine), asdict(found) | {"layout": LAYOUT})


def stored(machine: Machine) -> Measurement | None:
    """Read the machine's measurement; None if there is none or it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        return _MEASUREMENT.validate_json(read_regular(measurement_file(machine)))
    return None


def packs_file(machine: Machine) -> Path:
    """Return the path of the packs measured on the machine."""
    return measurement_file(machine).with_suffix(".packs.json")


def stored_packs(machine: Machine) -> tuple[PackSeconds, ...]:
    """Read the packs measured on the machine; none if the file cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _PACKS.validate_python(parse_json(read_regular(packs_file(machine)))["packs"])
    return ()


def store_packs(machine: Machine, found: PackSeconds) -> Path:
    """Add to the machine's packs, replacing an earlier measurement of the same, and return the file.

    A measurement that another process adds at the same moment may be lost.
    """
    others = [pack for pack in stored_packs(machine) if not pack.is_of(found.shape, found.batch_size, found.processes)]
    packs = [asdict(pack) for pack in (*others, found)]
    return write_json_atomically(packs_file(machine), {"machine": asdict(machine), "packs": packs})
