"""What a device does in a second, as `twinbench bench` measured it: one JSON file per device in the user's cache.

    CACHE/bench/NAME-DIGEST.json         the digest covers device, cores, threads and torch's version
    CACHE/bench/NAME-DIGEST.packs.json   how many trials should take turns, as `run --pack auto` found

Keys that are not known here are left alone, so that more can be measured and stored later.
"""

import importlib.metadata
import itertools
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinbench.harness.system.user_cache import cache_folder
from twinbench.results.atomic_files import write_json_atomically
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.trial import Trial

LAYOUT = 1  # of the file; with a new number nothing that was stored before is read


@dataclass(frozen=True)
class Machine:
    """What a measurement holds for. `cores` are those that a process may use, `threads` those that one trial does."""

    device: str
    cores: int
    threads: int
    torch: str


@dataclass(frozen=True)
class TrainingStep:
    """One update of a training: `seconds` of the whole step, on a batch of `batch_size` images.

    `shape` is what the time depends on beside the batch: see `shape_of`.
    """

    shape: Mapping[str, Any]
    batch_size: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Training images, each of which is seen in all its views."""
        return self.batch_size / self.seconds


@dataclass(frozen=True)
class PackSeconds:
    """What one step of a training adds to the time of all that take turns in a process, by how many they are.

    With so many `processes` beside each other: they share a CPU's memory's bandwidth, or the GPU. Packs of up to `most`
    were asked for; larger ones than there are here would gain nothing, or have no memory. `shape` is `pack_shape_of`'s.
    """

    shape: Mapping[str, Any]
    batch_size: int
    processes: int
    most: int
    seconds: Mapping[int, float]

    def is_of(self, shape: Mapping[str, Any], batch_size: int, processes: int) -> bool:
        """Whether it was measured of that."""
        return (self.batch_size, self.processes) == (batch_size, processes) and digest(self.shape) == digest(shape)


@dataclass(frozen=True)
class Measurement:
    """Of one machine, at one `time`. Products n x n x n count 2 n^3 operations; a copy counts what is read and written.

    `views_per_second` are views of 32 pixels by the recipe of cifar10-small.
    """

    machine: Machine
    time: str
    gemm_gflops: Mapping[str, float]  # by dtype
    copy_gigabytes_per_second: float
    views_per_second: float
    steps: tuple[TrainingStep, ...]

    def seconds_per_step(self, shape: Mapping[str, Any], batch_size: int) -> float | None:
        """Between two batch sizes that were measured along the line through them; None where it is not known.

        Above the largest one images take as long as there, since more of them fill a device no better; below the
        smallest nothing is known.
        """
        known = sorted((step.batch_size, step.seconds) for step in self.steps if step.shape == shape)
        if not known or batch_size < known[0][0]:
            return None
        for (low, fast), (high, slow) in itertools.pairwise(known):
            if batch_size <= high:
                return fast + (slow - fast) * (batch_size - low) / (high - low)
        largest, seconds = known[-1]
        return seconds * batch_size / largest


def shape_of(trial: Trial, image_size: int) -> dict[str, Any]:
    """What a trial's step takes its time for, the batch aside. Weights and temperatures, being floats, cost nothing."""
    return {
        "backbone": trial.protocol["content"]["backbone"],
        "image_size": image_size,
        "method": trial.method,
        "settings": {key: value for key, value in trial.settings.items() if not isinstance(value, float)},
        "precision": trial.training["precision"],
        "views": len(trial.protocol["content"]["views"]),
    }


def pack_shape_of(trial: Trial, image_size: int) -> dict[str, Any]:
    """What a step in a pack takes its time for, the batch aside: the views, which a pack shares, and the update too."""
    return shape_of(trial, image_size) | {
        "views": trial.protocol["content"]["views"],
        "optimizer": trial.training["optimizer"],
    }


def this_machine(device: str, threads: int) -> Machine:
    """This machine with that device."""
    from twinbench.harness.system.devices import cores

    name = processor()
    if device.startswith("cuda"):
        import torch

        name = torch.cuda.get_device_name(device)
    return Machine(name, cores(), threads, importlib.metadata.version("torch"))


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def measurement_file(machine: Machine) -> Path:
    """Where the machine's measurement stands, or would."""
    name = re.sub(r"[^a-z0-9]+", "-", machine.device.lower()).strip("-")
    return cache_folder() / "bench" / f"{name}-{digest([LAYOUT, asdict(machine)])[:16]}.json"


def any_stored() -> bool:
    """Return whether `twinbench bench` has measured anything for this user."""
    return (cache_folder() / "bench").is_dir()


def store(found: Measurement) -> Path:
    """Writes the measurement, whole or not at all."""
    return write_json_atomically(measurement_file(found.machine), asdict(found) | {"layout": LAYOUT})


def stored(machine: Machine) -> Measurement | None:
    """The machine's measurement; None where there is none or it cannot be read."""
    try:
        told = json.loads(measurement_file(machine).read_bytes())
        steps = tuple(TrainingStep(s["shape"], int(s["batch_size"]), float(s["seconds"])) for s in told["steps"])
        return Measurement(
            machine,
            str(told["time"]),
            told["gemm_gflops"],
            float(told["copy_gigabytes_per_second"]),
            float(told["views_per_second"]),
            steps,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def packs_file(machine: Machine) -> Path:
    """Where stands which packs were measured on the machine."""
    return measurement_file(machine).with_suffix(".packs.json")


def stored_packs(machine: Machine) -> tuple[PackSeconds, ...]:
    """All that were measured; none where the file cannot be read."""
    try:
        told = json.loads(packs_file(machine).read_bytes())["packs"]
        return tuple(
            PackSeconds(
                one["shape"],
                int(one["batch_size"]),
                int(one["processes"]),
                int(one["most"]),
                {int(n): float(s) for n, s in one["seconds"].items()},
            )
            for one in told
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def store_packs(machine: Machine, found: PackSeconds) -> Path:
    """Adds to what was measured, in the place of the same. One that is added meanwhile may be lost."""
    place = found.shape, found.batch_size, found.processes
    others = [one for one in stored_packs(machine) if not one.is_of(*place)]
    file = packs_file(machine)
    file.parent.mkdir(parents=True, exist_ok=True)
    return write_json_atomically(file, {"machine": asdict(machine), "packs": [asdict(one) for one in [*others, found]]})
