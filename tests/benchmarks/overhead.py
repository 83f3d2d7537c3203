"""The cost of the harness per trial, compared with other tools on the same no-op in the same run.

    python tests/benchmarks/overhead.py --trials 100 1000 10000 --out overhead.json

Needs `pip install -e '.[bench]'`. Prints milliseconds per trial once warm, and the ratio to twinbench under
the local launcher. Starting and ending workers is subtracted: for twinbench, the time until the first record, which
waits for all workers to be ready, and from the last record until they are gone; for the others, the time of a run of
two trials. Planning, writing the plan and ingesting count. Peers that take minutes for a thousand trials get a hundred.

Ray Tune by default starts a new process for every trial, twinbench with `--isolate`. Ray Tune is also measured with a
trial that imports torch, as one that trains has to. The lower bound for twinbench on a disk is writing the files of its
trials: folder, lease, log, lease again, and the record with its two syncs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measuring import surroundings, there_and_back, write
from rich.console import Console

from twinbench.harness.launchers.launcher import count_statuses
from twinbench.harness.launchers.worker_pool import WorkerPool
from twinbench.harness.monitor.progress_bars import ProgressBars
from twinbench.harness.planning import Plan, check, plan
from twinbench.harness.run_folder.layout import write_plan
from twinbench.harness.trial import worker
from twinbench.harness.trial.execute import Surroundings
from twinbench.results.record import record_files
from twinbench.results.store import ResultStore
from twinbench.sweeps.sweep import read_sweep

WORKERS = 2
Run = Callable[[int, Path], float | None]


def no_op(*_: Any) -> tuple[str, str]:
    """Do nothing, as a trial."""
    return "done", ""


_is_warm = False


def no_op_once_all_are_warm(trial: Any, surroundings: Surroundings, *_: Any) -> Generator[None, None, tuple[str, str]]:
    """Do nothing; as the first trial of a worker, wait for the other workers first."""
    global _is_warm
    if not _is_warm:
        here = surroundings.run_folder / "warm"
        here.mkdir(exist_ok=True)
        (here / str(os.getpid())).touch()
        while len(os.listdir(here)) < WORKERS:
            time.sleep(0.001)
        _is_warm = True
    yield from ()
    return no_op()


# Also in the worker processes, which run this file first.
mock.patch.object(worker, "train_and_evaluate", no_op_once_all_are_warm).start()


def planned(count: int) -> Plan:
    """Return a plan of `count` trials of one cell."""
    changes = (f"seeds={list(range(count))}", "methods=byol", "baselines=false")
    sweep, protocol, path = read_sweep("digits", changes)
    return plan(
        "overhead",
        sweep,
        protocol,
        check(sweep, protocol, str(path)),
        "sha256:none",
        training_images=1150,
        image_size=8,
    )


def finish(content: Plan, folder: Path) -> None:
    """Ingest the records and check that there is one for every trial."""
    with ResultStore(folder) as store:
        store.ingest()
    statuses = count_statuses(content, folder)
    assert statuses == {"done": len(content.trials)}, statuses


def local(count: int, folder: Path, isolate: bool = False) -> float:
    """Plan, run, record and ingest under the local launcher; return the seconds of starting and ending its workers."""
    content = planned(count)
    write_plan(folder, content)
    watch = ProgressBars(folder, content.axes, content.trials, Console(quiet=True))
    begun = time.time()
    here = Surroundings(folder, keep_log=True, isolate=isolate)
    WorkerPool(here, WORKERS, ["cpu"]).run(watch.update)
    ended = time.time()
    finish(content, folder)
    return idle(folder, begun, ended)


def idle(folder: Path, begun: float, ended: float) -> float:
    """Return the seconds before the first and after the last record."""
    written = [file.stat().st_mtime for file in record_files(folder)]
    return min(written) - begun + ended - max(written)


def process_each(count: int, folder: Path) -> float:
    """Do the same with a process for each trial."""
    return local(count, folder, isolate=True)


def on_ray(count: int, folder: Path) -> float:
    """Do the same with Ray's actors, in a Ray that is already running."""
    from twinbench.harness.launchers import ray_actors
    from twinbench.harness.launchers.site import RaySite

    class NoOp(ray_actors.Worker):
        """An actor whose trials do nothing."""

        def __init__(self, *given: Any) -> None:
            mock.patch.object(worker, "train_and_evaluate", no_op_once_all_are_warm).start()
            super().__init__(*given)

    content = planned(count)
    write_plan(folder, content)
    watch = ProgressBars(folder, content.axes, content.trials, Console(quiet=True))
    actors = ray_actors.Actors(Surroundings(folder, keep_log=True), RaySite())
    begun = time.time()
    with mock.patch.object(ray_actors, "Worker", NoOp):
        actors.start(WORKERS, print)
    while not watch.update():
        time.sleep(0.05)
    ended = time.time()
    finish(content, folder)
    return idle(folder, begun, ended)


def tune(reuse_actors: bool, with_torch: bool = False) -> Run:
    """Return the run with Ray Tune's function trainable on the same Ray."""

    def trial(config: dict[str, int]) -> dict[str, int]:
        if with_torch:
            import torch  # noqa: F401
        return {"value": config["seed"]}

    def run(count: int, folder: Path) -> None:
        from ray import tune

        config = tune.TuneConfig(reuse_actors=reuse_actors, max_concurrent_trials=WORKERS)
        tuner = tune.Tuner(
            trial,
            param_space={"seed": tune.grid_search(list(range(count)))},
            tune_config=config,
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
        )
        assert len(tuner.fit()) == count

    return run


HYDRA = """
import hydra

@hydra.main(version_base=None, config_path=None)
def main(config):
    pass

main()
"""


def hydra(launcher: str) -> Run:
    """Return the run with Hydra's multirun: `basic` in one process, `submitit_local` with a process each, at once."""

    def run(count: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.py").write_text(HYDRA)
        seeds = ",".join(map(str, range(count)))
        command = [sys.executable, "job.py", "-m", f"hydra/launcher={launcher}", f"+seed={seeds}"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        assert len(list(folder.glob("multirun/*/*/*/.hydra"))) == count

    return run


def submitit_local(count: int, folder: Path) -> None:
    """Run submitit's local executor: a process per job, two at a time."""
    import submitit

    executor = submitit.LocalExecutor(folder)
    running: list[Any] = []
    for _ in range(count):
        running.append(executor.submit(no_op))
        if len(running) == WORKERS:
            running.pop(0).result()
    for job in running:
        job.result()


FILES = """
import os, sys, time

def create(name, size):
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    os.write(handle, b"x" * size)
    return handle

begun = time.perf_counter()
for number in range(int(sys.argv[1]), int(sys.argv[2])):
    os.mkdir(f"trials/{number}")
    os.close(create(f"trials/{number}/attempt.json", 400))
    os.close(create(f"trials/{number}/attempt.log", 100))
    handle = create(f"records/.{number}", 7000)
    os.fsync(handle)
    os.close(handle)
    os.replace(f"records/.{number}", f"records/{number}.json")
    handle = os.open("records", os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    os.close(create(f"trials/{number}/.attempt", 500))
    os.replace(f"trials/{number}/.attempt", f"trials/{number}/attempt.json")
print(time.perf_counter() - begun)
"""


def files_alone(count: int, folder: Path) -> float:
    """Write the files of our trials with as many processes, by plain system calls."""
    for name in ("trials", "records"):
        (folder / name).mkdir(parents=True)
    begun = time.perf_counter()
    writers = []
    for number in range(WORKERS):
        span = [str(count * one // WORKERS) for one in (number, number + 1)]
        command = [sys.executable, "-c", FILES, *span]
        writers.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True))
    took = max(float(writer.communicate()[0]) for writer in writers)
    assert len(record_files(folder)) == count
    return time.perf_counter() - begun - took


def seconds(run: Run, count: int) -> float:
    """Return the seconds of `count` trials in a new folder, without the start and end that `run` reports."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        begun = time.perf_counter()
        start = run(count, Path(folder) / "run")
        return time.perf_counter() - begun - (start or 0.0)


def seconds_once_warm(run: Run, count: int) -> float:
    """Return the same without start and end, which for a peer is the time of two trials."""
    if run in (local, process_each, on_ray, files_alone):
        return seconds(run, count)
    return max(0.0, seconds(run, count + 2) - seconds(run, 2))


def main() -> None:
    """Measure everything in turn, several times, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="rows of the table to leave out")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Any] = {"surroundings": surroundings(torch.device("cpu")), "milliseconds_a_trial": {}}
    print(found["surroundings"], flush=True)
    import ray

    ray.init(address="local", num_cpus=WORKERS, namespace="twinbench", include_dashboard=False, log_to_driver=False)
    begun = time.perf_counter()
    planned(100_000)
    found["planning_100000_seconds"] = time.perf_counter() - begun
    print(f"planning 100,000 trials: {found['planning_100000_seconds']:.2f} s", flush=True)
    runs: dict[str, tuple[Run, int]] = {
        "twinbench local": (local, 10**9),
        "twinbench ray": (on_ray, 10**9),
        "twinbench's files alone": (files_alone, 10**9),
        "ray tune, reuse_actors": (tune(True), 1000),
        "ray tune": (tune(False), 100),
        "ray tune, torch imported": (tune(False, with_torch=True), 100),
        "twinbench, process each": (process_each, 1000),
        "hydra multirun": (hydra("basic"), 1000),
        "hydra multirun, submitit": (hydra("submitit_local"), 100),
        "submitit local": (submitit_local, 100),
    }
    for count in chosen.trials:
        names = [name for name, (_, most) in runs.items() if count <= most and name not in chosen.without]
        cost: dict[str, list[float]] = {name: [] for name in names}
        for name in there_and_back(names, chosen.repeats):
            cost[name].append(1000 * seconds_once_warm(runs[name][0], count) / count)
        ours = statistics.median(cost["twinbench local"])
        for name, values in cost.items():
            median = statistics.median(values)
            spread = f"{min(values):.2f} to {max(values):.2f}"
            print(
                f"{count:>6} trials  {name:<24} {median:9.2f} ms a trial ({spread})  {median / ours:8.1f} x", flush=True
            )
        found["milliseconds_a_trial"][count] = cost
        write(chosen.out, found)


if __name__ == "__main__":
    main()
