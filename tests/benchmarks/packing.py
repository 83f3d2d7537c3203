"""Training steps a second of a sweep, by how its trials share a device; and what a wrong choice costs.

    OMP_NUM_THREADS=1 python tests/benchmarks/packing.py --device cpu --out packing.json

Each way is so many processes at once with so many trainings of Barlow Twins in turn in each: a process per trial is
what Ray gives with `num_gpus=1/8`, which divides a GPU in its accounts alone. On a GPU the peers run twice, with
updates as they are and recorded. A fused training is one network of grouped convolutions for all lambdas (fusion.py);
its gradients are held against those of each alone before anything is timed. Every number is the sum over the
processes, the median of `--repeats` rounds of all ways, there and back. Last, what `--pack auto` takes by its own
measurement, of one process, and what that loses to the best.
"""

import argparse
import contextlib
import gc
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from fusion import check_equal, fused
from measuring import surroundings, there_and_back, write

from twinbench.harness import bench
from twinbench.harness.packing import measured_packs
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


def _work(device: str, orders: Any, told: Any) -> None:
    """A process that measures what it is asked to until it is asked nothing."""
    torch.set_num_threads(1)
    choose_kernels("repro")
    recorded_after = update.AS_IT_IS
    for shape, pack, recorded, is_fused, seconds in iter(orders.get, None):
        update.AS_IT_IS = recorded_after if recorded else 10**9
        trial, size = trial_of(*shape)
        rate, begun, taken = 0.0, time.perf_counter(), []
        with contextlib.suppress(torch.OutOfMemoryError), fused(pack) if is_fused else contextlib.nullcontext():
            while time.perf_counter() - begun < seconds:
                turn = bench.seconds_of_a_step(trial, size, torch.device(device), 1.0, 1 if is_fused else pack)
                taken.append(turn / pack if is_fused else turn)
            rate = 1 / statistics.mean(taken)
        if device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()  # what this process keeps, the others lack
        told.put(rate)


class Processes:
    """So many that measure at once, or some of them."""

    def __init__(self, count: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._told, self._orders = context.Queue(), [context.Queue() for _ in range(count)]
        for orders in self._orders:
            context.Process(target=_work, args=(device, orders, self._told), daemon=True).start()

    def steps_per_second(
        self,
        shape: Any,
        seconds: float,
        processes: int = 1,
        pack: int = 1,
        recorded: bool = True,
        is_fused: bool = False,
    ) -> float:
        """Of `processes` together; 0 where the device has no memory for all of them."""
        for orders in self._orders[:processes]:
            orders.put((shape, pack, recorded, is_fused, seconds))
        told = [self._told.get(timeout=300) for _ in range(processes)]
        return float(sum(told)) if all(told) else 0.0


def ways(device: str) -> dict[str, dict[str, Any]]:
    """By name: processes, pack, whether updates are recorded, and whether the pack is one fused network."""
    processes = 1 if device == "cuda" else len(os.sched_getaffinity(0))
    found: dict[str, dict[str, Any]] = {
        f"{processes} x pack of {pack}": {"processes": processes, "pack": pack} for pack in PACKS
    }
    for pack in PACKS[2:]:
        found[f"{processes} x fused {pack}"] = {"processes": processes, "pack": pack, "is_fused": True}
    if device == "cuda":
        found["8 processes, as it is"] = {"processes": 8, "pack": 1, "recorded": False}
        found["8 processes, recorded"] = {"processes": 8, "pack": 1}
        found["2 x pack of 4"] = {"processes": 2, "pack": 4}
    return found


def chosen_by_measurement(shape: Any, device: str) -> int:
    """The pack of least seconds a step, as `--pack auto` measures them, of those that are measured here."""
    trial, size = trial_of(*shape)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        seconds = pool.submit(measured_packs, trial, size, device, 1).result()
    return min(set(PACKS) & seconds.keys(), key=seconds.__getitem__)


def measured(shape: Any, asked: dict[str, dict[str, Any]], chosen: Any, processes: Processes) -> dict[str, list[float]]:
    """Steps a second of each way, in every round."""
    check_equal(*trial_of(*shape))
    raw: dict[str, list[float]] = {name: [] for name in asked}
    for way in asked.values():
        processes.steps_per_second(shape, 0.1, **way)  # warm
    for name in there_and_back(asked, chosen.repeats):
        raw[name].append(processes.steps_per_second(shape, chosen.seconds, **asked[name]))
    return raw


def tell_what_auto_loses(shape: Any, device: str, rates: dict[str, float]) -> None:
    """To the best of the ways that a sweep has: fused networks are none."""
    auto = chosen_by_measurement(shape, device)
    offered = {name: rate for name, rate in rates.items() if "fused" not in name}
    choice = next(name for name in offered if name.endswith(f"x pack of {auto}"))
    lost = 1 - offered[choice] / max(offered.values())
    print(f"  --pack auto takes {auto}: {lost:.1%} of the best that is not fused are lost", flush=True)


def main() -> None:
    """Measures shape after shape, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=4.0, help="that each way is measured for")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shapes", default="", help="their numbers, from 0; by default all that the device is for")
    parser.add_argument("--ways", default="", help="parts of their names, by commas; by default all, and auto")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    of_device = range(len(SHAPES)) if chosen.device == "cuda" else range(len(SHAPES) - 1)
    numbers = [int(number) for number in chosen.shapes.split(",") if number] or of_device
    found: dict[str, Any] = {"surroundings": surroundings(torch.device(chosen.device))}
    print(found["surroundings"], flush=True)
    parts = chosen.ways.split(",")
    asked = {name: way for name, way in ways(chosen.device).items() if any(part in name for part in parts)}
    processes = Processes(max(way["processes"] for way in asked.values()), chosen.device)
    for shape in (SHAPES[number] for number in numbers):
        raw = found[" ".join(map(str, shape))] = measured(shape, asked, chosen, processes)
        rates = {name: statistics.median(values) for name, values in raw.items()}
        print(f"{shape[0]}, batch {shape[1]}, projector {shape[2]}, medians of n = {chosen.repeats}")
        for name, rate in rates.items():
            share = f"{rate / max(rates.values()):5.0%} of the best" if rate else "more memory than there is"
            print(f"  {name:<24} {rate:8.1f} steps/s  {share}", flush=True)
        if not chosen.ways:
            tell_what_auto_loses(shape, chosen.device, rates)
        write(chosen.out, found)


if __name__ == "__main__":
    main()
