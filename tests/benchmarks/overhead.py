"""What the harness itself costs per trial, beside other tools on the same no-op in the same run.

    python tests/benchmarks/overhead.py --trials 100 1000 10000 --repeats 3

Needs `pip install 'ray[tune]' hydra-core`. Prints milliseconds per trial, the time until the first worker is warm aside
for twinbench and Ray Tune alike (it is measured with a run of two trials, and taken off), and the ratio to twinbench
under the local launcher. Peers that take minutes for a thousand trials are given a hundred.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from twinbench.harness.execute import Surroundings
from twinbench.harness.launchers.local import LocalLauncher
from twinbench.harness.planning import Plan, check, plan
from twinbench.harness.run_folder import write_plan
from twinbench.harness.running import count_statuses
from twinbench.harness.watching import Watch
from twinbench.results.store import ResultStore
from twinbench.sweeps.sweep import read_sweep

WORKERS = 2


def no_op(*_: Any) -> tuple[str, str]:
    """A trial that does nothing."""
    return "done", ""


def planned(count: int) -> Plan:
    """A plan of `count` trials of one cell."""
    changes = (f"seeds={list(range(count))}", "methods=byol", "baselines=false")
    sweep, protocol, path = read_sweep("digits", changes)
    return plan("overhead", sweep, protocol, check(sweep, protocol, str(path)), "sha256:none")


def finish(content: Plan, folder: Path) -> None:
    """Ingests the records, and makes sure that there is one of every trial."""
    with ResultStore(folder) as store:
        store.ingest()
    statuses = count_statuses(content, folder)
    assert statuses == {"done": len(content.trials)}, statuses


def local(count: int, folder: Path) -> None:
    """Plan, claim, run, record, ingest under the local launcher."""
    content = planned(count)
    write_plan(folder, content)
    watch = Watch(folder, content.axes, content.trials, Console(quiet=True))
    LocalLauncher(Surroundings(folder, keep_log=True), WORKERS, ["cpu"], execute=no_op).run(watch.look)
    finish(content, folder)


def on_ray(count: int, folder: Path) -> None:
    """The same with Ray's actors, in a Ray that runs already."""
    from twinbench.harness.launchers.ray import Actors
    from twinbench.harness.site import RaySite

    content = planned(count)
    write_plan(folder, content)
    watch = Watch(folder, content.axes, content.trials, Console(quiet=True))
    actors = Actors(Surroundings(folder, keep_log=True), RaySite(), execute=no_op)
    actors.start(WORKERS)
    while not watch.look():
        time.sleep(0.05)
    finish(content, folder)


def tune(reuse_actors: bool) -> Callable[[int, Path], None]:
    """Ray Tune's function trainable on the same Ray."""

    def run(count: int, folder: Path) -> None:
        from ray import tune

        config = tune.TuneConfig(reuse_actors=reuse_actors, max_concurrent_trials=WORKERS)
        tuner = tune.Tuner(
            lambda config: {"value": config["seed"]},
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


def hydra(count: int, folder: Path) -> None:
    """Hydra's multirun with its basic launcher, in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.py").write_text(HYDRA)
    seeds = ",".join(map(str, range(count)))
    command = [sys.executable, "job.py", "-m", f"+seed={seeds}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def submitit_local(count: int, folder: Path) -> None:
    """submitit's local executor: a process per job, two at a time."""
    import submitit

    executor = submitit.LocalExecutor(folder)
    running: list[Any] = []
    for _ in range(count):
        running.append(executor.submit(no_op))
        if len(running) == WORKERS:
            running.pop(0).result()
    for job in running:
        job.result()


def seconds(run: Callable[[int, Path], None], count: int) -> float:
    """How long `count` trials take in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        run(count, Path(folder) / "run")
        return time.perf_counter() - begun


def main() -> None:
    """Measures everything in turn, several times over, and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], help="names of the table to leave out")
    chosen = parser.parse_args()
    import ray

    ray.init(address="local", num_cpus=WORKERS, namespace="twinbench", include_dashboard=False, log_to_driver=False)
    begun = time.perf_counter()
    planned(100_000)
    print(f"planning 100,000 trials: {time.perf_counter() - begun:.2f} s", flush=True)
    runs: dict[str, tuple[Callable[[int, Path], None], int]] = {
        "twinbench local": (local, 10**9),
        "twinbench ray": (on_ray, 10**9),
        "ray tune, reuse_actors": (tune(True), 1000),
        "ray tune": (tune(False), 100),
        "hydra multirun": (hydra, 1000),
        "submitit local": (submitit_local, 100),
    }
    for count in chosen.trials:
        cost: dict[str, list[float]] = {}
        for _ in range(chosen.repeats):
            for name, (run, most) in runs.items():
                if count <= most and name not in chosen.without:
                    per_trial = (seconds(run, count + 2) - seconds(run, 2)) / count
                    cost.setdefault(name, []).append(1000 * per_trial)
        ours = statistics.median(cost["twinbench local"])
        for name, values in cost.items():
            median = statistics.median(values)
            print(f"{count:>6} trials  {name:<24} {median:9.2f} ms a trial  {median / ours:8.1f} x", flush=True)


if __name__ == "__main__":
    main()
