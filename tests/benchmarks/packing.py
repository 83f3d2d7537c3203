"""Training steps per second of a sweep by how its trials share a device, and the loss from a wrong choice.

    OMP_NUM_THREADS=1 python tests/benchmarks/packing.py --device cpu --out packing.json

Each way is a number of processes at once, with a number of trainings of Barlow Twins in turn in each. A process per
trial is what Ray gives with `num_gpus=1/8`, which divides a GPU only in Ray's accounting. On a GPU the peers run twice,
with eager and with recorded updates. A fused training is one network of grouped convolutions for all lambdas
(fusion.py); its gradients must equal those of separate trainings before anything is timed. Every number is the sum over
the processes, the median of `--repeats` rounds of all ways, alternately forwards and backwards. The last line shows the
choice of `--pack auto` and what it loses to the best.

    OMP_NUM_THREADS=1 python tests/benchmarks/packing.py --ray 200 --shapes 0,2 --repeats 1 --out ray.json

This instead trains eight lambdas for that many steps each, including the start of the processes: by a process per trial
under Ray Tune with `cpu=1`, once as trials are usually written (views by PIL, solo-learn's loss, torch's AdamW or SGD)
and once with our update, and by our processes with the packs that `--pack auto` takes. Networks, images, recipes and
batches are equal.
"""

import argparse
import contextlib
import gc
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fusion import LAMBDAS, check_equal, fused
from measuring import surroundings, there_and_back, write
from peers import Pictures, pil_loader, solo_barlow
from training import WEIGHT, check

from twinbench.harness import planning
from twinbench.harness.performance import step_timer
from twinbench.harness.performance.pack_size import EQUAL, measured_concurrently
from twinbench.harness.system.memory import keep_freed_memory
from twinbench.harness.training import step
from twinbench.harness.training.kernels import choose_kernels
from twinbench.harness.training.loop import train
from twinbench.harness.trial.execute import build_method
from twinbench.sweeps.recipe import ViewRecipe
from twinbench.sweeps.sweep import Axis, Grid, Sweep, read_protocol
from twinbench.sweeps.trial import Trial

# protocol, batch size, projector width; the last is for a GPU only
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
    """Return a trial of Barlow Twins and its image size."""
    protocol = read_protocol(protocol_name)
    axes: dict[str, Axis] = {"batch_size": [batch_size], "projector_width": [projector_width]}
    sweep = Sweep("", protocol.name, (0,), (Grid(("barlow_twins",), axes),), baselines=False)
    trials = planning.trials_of_sweep(sweep, protocol, planning.check(sweep, protocol, "bench"), "")
    return trials[0], 8 if protocol_name.startswith("digits") else 32


def _work(device: str, orders: Any, received: Any) -> None:
    """Measure, in a process, each order that arrives, until one is None."""
    torch.set_num_threads(1)
    choose_kernels("repro")
    recorded_after = step.EAGER_UPDATES
    for shape, pack, recorded, is_fused, seconds in iter(orders.get, None):
        step.EAGER_UPDATES = recorded_after if recorded else 10**9
        trial, size = trial_of(*shape)
        rate, begun, taken = 0.0, time.perf_counter(), []
        with contextlib.suppress(MemoryError), fused(pack) if is_fused else contextlib.nullcontext():
            while time.perf_counter() - begun < seconds:
                turn = step_timer.seconds_per_step(trial, size, torch.device(device), 1.0, 1 if is_fused else pack)
                taken.append(turn / pack if is_fused else turn)
            rate = 1 / statistics.mean(taken)
        if device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()  # the other processes need the memory
        received.put(rate)


class Processes:
    """Processes, all or some of which measure at once."""

    def __init__(self, count: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._received, self._orders = context.Queue(), [context.Queue() for _ in range(count)]
        for orders in self._orders:
            context.Process(target=_work, args=(device, orders, self._received), daemon=True).start()

    def steps_per_second(
        self,
        shape: Any,
        seconds: float,
        processes: int = 1,
        pack: int = 1,
        recorded: bool = True,
        is_fused: bool = False,
    ) -> float:
        """Return the steps per second of `processes` together; 0 if the device has too little memory for all."""
        for orders in self._orders[:processes]:
            orders.put((shape, pack, recorded, is_fused, seconds))
        received = [self._received.get(timeout=300) for _ in range(processes)]
        return float(sum(received)) if all(received) else 0.0


def ways(device: str) -> dict[str, dict[str, Any]]:
    """Return the ways by name: processes, pack, whether updates are recorded, and whether the pack is one network."""
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
    """Return the pack that `--pack auto` chooses here, for trials that divide evenly."""
    processes = 1 if device == "cuda" else len(os.sched_getaffinity(0))
    seconds = measured_concurrently(*trial_of(*shape), device, 1, processes)
    offered = {pack: seconds[pack] for pack in PACKS if pack in seconds}
    return max(pack for pack in offered if offered[pack] <= EQUAL * min(offered.values()))


def measured(
    shape: Any, chosen_ways: dict[str, dict[str, Any]], chosen: Any, processes: Processes
) -> dict[str, list[float]]:
    """Return the steps per second of each way in every round."""
    check_equal(*trial_of(*shape))
    raw: dict[str, list[float]] = {name: [] for name in chosen_ways}
    for way in chosen_ways.values():
        processes.steps_per_second(shape, 0.1, **way)  # warm
    for name in there_and_back(chosen_ways, chosen.repeats):
        raw[name].append(processes.steps_per_second(shape, chosen.seconds, **chosen_ways[name]))
    return raw


# --- eight lambdas, whole ---------------------------------------------------------------------------------------------


def our_steps(trial: Trial, size: int, steps: int, weights: Sequence[float]) -> None:
    """Train that many steps with each of the lambdas, in turn."""
    torch.set_num_threads(1)
    keep_freed_memory()
    choose_kernels("repro")
    with tempfile.TemporaryDirectory() as folder:
        task = step_timer._task(trial, size, torch.device("cpu"), steps + 1, Path(folder), len(weights))
        settings = [{**trial.settings, "off_diagonal_weight": weight} for weight in weights]
        methods = [build_method(replace(trial, settings=one), task.device) for one in settings]
        trainings = [train(method, task, lambda _: {}, 1, lambda *_: None, lambda: False) for method in methods]
        for _ in itertools.islice(zip(*trainings, strict=True), steps):
            pass


def usual_steps(trial: Trial, size: int, steps: int, weight: float) -> None:
    """Train that many steps in the usual form."""
    torch.set_num_threads(1)
    content, training = trial.protocol["content"], trial.training
    batch, rule = int(training["batch_size"]), content["dataset"]
    recipe = ViewRecipe(**content["views"][0])
    method: Any = build_method(trial, torch.device("cpu")).train()
    pictures = Pictures(step_timer.noise(batch * steps, size), size, rule["mean"], rule["std"], recipe)
    options: dict[str, Any] = {"lr": 1e-9, "weight_decay": training["weight_decay"]}
    if training["optimizer"] == "adamw":
        optimiser: torch.optim.Optimizer = torch.optim.AdamW(method.parameters(), **options)
    else:
        optimiser = torch.optim.SGD(method.parameters(), momentum=training["momentum"], **options)
    for views in pil_loader(pictures, batch, 0):
        z1, z2 = (method.project(method.embed(view.to(memory_format=torch.channels_last))) for view in views)
        loss = solo_barlow(z1, z2, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def by_packs(trial: Trial, size: int, steps: int, pack: int) -> float:
    """Return the seconds of all lambdas in packs, with one process per core."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        packs = [LAMBDAS[begin : begin + pack] for begin in range(0, len(LAMBDAS), pack)]
        for one in [pool.submit(our_steps, trial, size, steps, weights) for weights in packs]:
            one.result()
    return time.perf_counter() - begun


def by_ray_tune(trial: Trial, size: int, steps: int, with_our_update: bool) -> float:
    """Return the seconds of all lambdas under Ray Tune, each in its own process, as is its default."""
    from ray import tune

    def run(config: dict[str, float]) -> dict[str, float]:
        if with_our_update:
            our_steps(trial, size, steps, [config["weight"]])
        else:
            usual_steps(trial, size, steps, config["weight"])
        return {"steps": steps}

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tuner = tune.Tuner(
            tune.with_resources(run, {"cpu": 1}),
            param_space={"weight": tune.grid_search(list(LAMBDAS))},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        begun = time.perf_counter()
        results = tuner.fit()
        taken = time.perf_counter() - begun
    assert len(results) == len(LAMBDAS) and not results.errors, results.errors
    return taken


def beside_ray_tune(shape: Any, chosen: Any) -> dict[str, list[float]]:
    """Return the steps per second of all eight together, by way."""
    trial, size = trial_of(*shape)
    pack = min(chosen_by_measurement(shape, "cpu"), len(LAMBDAS) // (os.cpu_count() or 1))
    ways: dict[str, Callable[[], float]] = {
        f"twinbench, packs of {pack}": lambda: by_packs(trial, size, chosen.ray, pack),
        "Ray Tune, our update": lambda: by_ray_tune(trial, size, chosen.ray, with_our_update=True),
        "Ray Tune, the usual form": lambda: by_ray_tune(trial, size, chosen.ray, with_our_update=False),
    }
    raw: dict[str, list[float]] = {name: [] for name in ways}
    for name in there_and_back(ways, chosen.repeats):
        raw[name].append(len(LAMBDAS) * chosen.ray / ways[name]())
    return raw


def start_ray() -> None:
    """Start Ray, before anything is timed, so that its workers find the modules of this folder."""
    import ray

    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", num_cpus=os.cpu_count(), runtime_env={"env_vars": {"PYTHONPATH": here}}, **options)


def tell_what_auto_loses(shape: Any, device: str, rates: dict[str, float]) -> None:
    """Print what `--pack auto` loses to the best way that a sweep can take, which excludes fused networks."""
    auto = chosen_by_measurement(shape, device)
    offered = {name: rate for name, rate in rates.items() if "fused" not in name}
    choice = next(name for name in offered if name.endswith(f"x pack of {auto}"))
    lost = 1 - offered[choice] / max(offered.values())
    print(f"  --pack auto takes {auto}: {lost:.1%} slower than the best that is not fused", flush=True)


def main() -> None:
    """Measure shape after shape, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=4.0, help="for which each way is measured")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shapes", default="", help="their numbers, from 0; by default all for this device")
    parser.add_argument(
        "--ways", default="", help="parts of their names, separated by commas; by default all, and auto"
    )
    parser.add_argument(
        "--ray", type=int, default=0, help="compare eight trainings of this many steps with Ray Tune, on a CPU"
    )
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    of_device = range(len(SHAPES)) if chosen.device == "cuda" else range(len(SHAPES) - 1)
    numbers = [int(number) for number in chosen.shapes.split(",") if number] or of_device
    found: dict[str, Any] = {"surroundings": surroundings(torch.device(chosen.device))}
    print(found["surroundings"], flush=True)
    parts = chosen.ways.split(",")
    chosen_ways = {name: way for name, way in ways(chosen.device).items() if any(part in name for part in parts)}
    if chosen.ray:
        check({"solo-learn's form": lambda z1, z2: solo_barlow(z1, z2, WEIGHT)})
        start_ray()
    processes = Processes(0 if chosen.ray else max(way["processes"] for way in chosen_ways.values()), chosen.device)
    for shape in (SHAPES[number] for number in numbers):
        raw = beside_ray_tune(shape, chosen) if chosen.ray else measured(shape, chosen_ways, chosen, processes)
        found[" ".join(map(str, shape))] = raw
        rates = {name: statistics.median(values) for name, values in raw.items()}
        print(f"{shape[0]}, batch {shape[1]}, projector {shape[2]}, medians of n = {chosen.repeats}")
        for name, rate in rates.items():
            share = f"{rate / max(rates.values()):5.0%} of the best" if rate else "more memory than there is"
            print(f"  {name:<24} {rate:8.1f} steps/s  {share}", flush=True)
        if not chosen.ways and not chosen.ray:
            tell_what_auto_loses(shape, chosen.device, rates)
        write(chosen.out, found)


if __name__ == "__main__":
    main()
