"""Training steps a second of a sweep, by how its trials share a device; and what a wrong choice costs.

    OMP_NUM_THREADS=1 python tests/benchmarks/packing.py --device cpu --out packing.json

Each way is so many processes at once with so many trainings of Barlow Twins in turn in each: a process per trial is
what Ray gives with `num_gpus=1/8`, which divides a GPU in its accounts alone. On a GPU the peers run twice, with
updates as they are and recorded. Every number is the sum over the processes, after a start together; the median of
`--repeats`, one after another.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from measuring import surroundings, write

from twinbench.harness import bench
from twinbench.harness.training import update
from twinbench.harness.training.kernels import choose_kernels
from twinbench.sweeps.sweep import Grid, Sweep, read_protocol
from twinbench.sweeps.trial import Trial

# protocol, batch size, projector width; the last for a GPU alone
SHAPES = [
    ("digits-small", 64, 64),
    ("digits-small", 256, 512),
    ("cifar10-small", 32, 512),
    ("cifar10-small", 64, 2048),
    ("cifar10-small", 128, 512),
    ("cifar10-r18-200ep", 256, 2048),
]
PACKS = (1, 2, 4, 8)


def trial_of(protocol_name: str, batch_size: int, projector_width: int) -> tuple[Trial, int]:
    """A trial of Barlow Twins, and its images' side."""
    protocol = read_protocol(protocol_name)
    axes = {"batch_size": [batch_size], "projector_width": [projector_width]}
    sweep = Sweep("", protocol.name, (0,), (Grid(("barlow_twins",), axes),), baselines=False)
    trials = bench.plan("bench", sweep, protocol, bench.check(sweep, protocol, "bench"), "").trials
    return trials[0], 8 if protocol_name.startswith("digits") else 32


def _work(shape: Any, pack: int, device: str, recorded: bool, seconds: float, start: Any, told: Any) -> None:
    torch.set_num_threads(1)
    choose_kernels("repro")
    if not recorded:
        update.AS_IT_IS = 10**9
    trial, size = trial_of(*shape)
    bench.seconds_of_a_step(trial, size, torch.device(device), 0.1, pack)  # compiles
    start.wait()
    begun, rates = time.perf_counter(), []
    while time.perf_counter() - begun < seconds:
        rates.append(1 / bench.seconds_of_a_step(trial, size, torch.device(device), 1.0, pack))
    told.put(statistics.harmonic_mean(rates))


def steps_per_second(
    shape: Any, processes: int, pack: int, device: str, seconds: float, recorded: bool = True
) -> float:
    """Of all processes together."""
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(processes), context.Queue()
    arguments = (shape, pack, device, recorded, seconds, start, told)
    workers = [context.Process(target=_work, args=arguments) for _ in range(processes)]
    for worker in workers:
        worker.start()
    total = sum(told.get(timeout=240) for _ in workers)
    for worker in workers:
        worker.join()
    return total


def ways(device: str) -> dict[str, dict[str, Any]]:
    """By name: processes, pack, and whether updates are recorded."""
    processes = 1 if device == "cuda" else len(os.sched_getaffinity(0))
    found: dict[str, dict[str, Any]] = {
        f"{processes} x pack of {pack}": {"processes": processes, "pack": pack} for pack in PACKS
    }
    if device == "cuda":
        found["8 processes, as it is"] = {"processes": 8, "pack": 1, "recorded": False}
        found["8 processes, recorded"] = {"processes": 8, "pack": 1}
        found["2 x pack of 4"] = {"processes": 2, "pack": 4}
    return found


def main() -> None:
    """Measures shape after shape, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=4.0, help="that each way is measured for")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shapes", default="", help="their numbers, from 0; by default all that the device is for")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    of_device = range(len(SHAPES)) if chosen.device == "cuda" else range(len(SHAPES) - 1)
    numbers = [int(number) for number in chosen.shapes.split(",") if number] or of_device
    found: dict[str, Any] = {"surroundings": surroundings(torch.device(chosen.device))}
    print(found["surroundings"], flush=True)
    for number in numbers:
        shape = SHAPES[number]
        raw: dict[str, list[float]] = {name: [] for name in ways(chosen.device)}
        for _ in range(chosen.repeats):
            for name, way in ways(chosen.device).items():
                raw[name].append(steps_per_second(shape, device=chosen.device, seconds=chosen.seconds, **way))
        rates = {name: statistics.median(values) for name, values in raw.items()}
        found[" ".join(map(str, shape))] = raw
        print(f"{shape[0]}, batch {shape[1]}, projector {shape[2]}")
        for name, rate in rates.items():
            print(f"  {name:<24} {rate:8.1f} steps/s  {rate / max(rates.values()):5.0%} of the best", flush=True)
        write(chosen.out, found)


if __name__ == "__main__":
    main()
