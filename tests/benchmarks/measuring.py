"""How benchmarks measure: all in turn, several times, medians, with a description of hardware and versions."""

import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from twinbench.harness.training.cuda_graphs import synchronise as synchronise

LIBRARIES = (
    *("torch", "torchvision", "triton", "kornia", "lightly", "numpy", "pillow", "scikit-learn", "duckdb", "pyarrow"),
    *("plotly", "typer", "starlette", "uvicorn", "mlflow", "ray", "hydra-core", "submitit"),
)


def surroundings(device: torch.device) -> dict[str, Any]:
    """Return hardware, threads, and versions of installed packages."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "gpu": gpu,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def seconds(run: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Return the seconds per call of `calls` in a row, including the device's work."""
    synchronise(device)
    begun = time.perf_counter()
    for _ in range(calls):
        run()
    synchronise(device)
    return (time.perf_counter() - begun) / calls


def there_and_back(names: Iterable[str], repeats: int) -> Iterator[str]:
    """Yield all names `repeats` times, alternately forwards and backwards."""
    order = list(names)
    for repeat in range(repeats):
        yield from order if repeat % 2 == 0 else reversed(order)


def in_turn(
    runs: Mapping[str, Callable[[], object]], device: torch.device, repeats: int = 5, calls: int = 1
) -> dict[str, list[float]]:
    """Return seconds of every run, `repeats` times, alternately forwards and backwards, after one warm-up call each."""
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for name in there_and_back(runs, repeats):
        taken[name].append(seconds(runs[name], device, calls))
    return taken


def rates(taken: dict[str, list[float]], count: int) -> dict[str, dict[str, Any]]:
    """Return `count` per median second, with the raw seconds."""
    return {
        name: {"per_second": count / statistics.median(values), "seconds": values} for name, values in taken.items()
    }


def table(title: str, found: dict[str, dict[str, Any]], ours: str) -> None:
    """Print rates and how many times as fast `ours` is."""
    print(title, flush=True)
    for name, row in found.items():
        ratio = found[ours]["per_second"] / row["per_second"] if ours in found else float("nan")
        print(f"  {name:<34} {row['per_second']:12.0f} a second   ours is {ratio:7.2f} x", flush=True)


def write(out: Path | None, content: dict[str, Any]) -> None:
    """Write the numbers as JSON to `out`, if given."""
    if out:
        out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
