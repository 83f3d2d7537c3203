"""The devices and processor cores that this process may use."""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from twinbench.harness.system.cgroups import least_quota
from twinbench.sweeps.errors import InvalidInput, Mistake


def choose_devices(device: str) -> list[str]:
    """`auto`: every GPU, else the CPU. InvalidInput for a device that is not there."""
    gpus = _gpus()
    if device == "auto":
        return gpus or ["cpu"]
    if device == "cuda" and gpus:
        return gpus
    if device in ("cpu", *gpus):
        return [device]
    raise InvalidInput([Mistake("--device", "", "no such device here", device, ", ".join(["auto", "cpu", *gpus]))])


def _gpus() -> list[str]:
    if not _may_have_gpus():
        return []
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def _may_have_gpus() -> bool:
    """Return False where a GPU's driver is certainly missing, so that torch need not be imported to ask for GPUs."""
    other_drivers = (Path("/dev/kfd"), Path("/dev/dxg"))  # AMD's, and Windows' for Linux
    if sys.platform != "linux" or "torch" in sys.modules or any(driver.exists() for driver in other_drivers):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")  # what torch loads too; this starts no context
    except OSError:
        return False
    return True


def first_devices(devices: list[str], processes: int, workers_per_gpu: int = 1) -> list[str]:
    """The device of rank 0 of every worker: rank k takes the k-th GPU after it. A CPU serves any number of ranks."""
    if devices == ["cpu"]:
        return devices
    if len(devices) < processes:
        allowed = f"at most {len(devices)}, the GPUs there are"
        raise InvalidInput([Mistake("--processes-per-trial", "", "needs one GPU for each process", processes, allowed)])
    return devices[: len(devices) // processes * processes : processes] * workers_per_gpu


def spread(workers: int, devices: Sequence[str]) -> list[str]:
    """Return the device of each worker: the devices in turn."""
    return [devices[number % len(devices)] for number in range(workers)]


def cores() -> int:
    """Those that this process may use, which in a container are fewer than the machine has, or share its time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, least_quota())))
