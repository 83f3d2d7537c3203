"""The cost of a report over many trials with curves: seconds, memory, and the page's size.

    python tests/benchmarks/report.py --trials 500 10000 --out report.json
    python tests/benchmarks/report.py --trials 500 --epochs 270 --mlflow --out mlflow.json

Each report is made in its own process, from a database that already has all records; the peak is that process's
resident memory. Also shown are the time to ingest the records and the size of the page. The lower bound on the same
machine is reading the curves and writing plotly.js only.

With `--mlflow` (the full package, not mlflow-skinny) the run is exported into an MLflow store in SQLite, untimed. Then
the command `twinbench report` is compared with a script that makes a page of a table and curves from that store, each
timed from the start of its process to its end: with every run's history, and with only those that our page draws (of
each method's best cell on validation). Points and means by cell must be equal first. The second line above has a
million points.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from conftest import SyntheticRun, invented_curves, wobble
from measuring import surroundings, there_and_back, write

from twinbench.results.store import ResultStore

METHODS = ("barlow_twins", "byol", "simclr", "vicreg")
SEEDS = 5

REPORT = """
import json, resource, sys, time
begun = time.perf_counter()
from twinbench.reports.page import write_report
imported = time.perf_counter()
path = write_report(sys.argv[1])
whole = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_SELF)
sizes = {"gib": used.ru_maxrss / 2**20, "mb": path.stat().st_size / 1e6}
print(json.dumps(sizes | {"seconds": whole, "imports": imported - begun, "cpu": used.ru_utime + used.ru_stime}))
"""

FLOOR = """
import json, sys, time
begun = time.perf_counter()
import plotly.offline
from twinbench.results.store import ResultStore
frame = ResultStore(sys.argv[1]).query("SELECT * FROM curves")
rows = len(list(frame.itertuples(index=False, name=None)))
open(sys.argv[2], "w").write(plotly.offline.get_plotlyjs())
print(json.dumps({"seconds": time.perf_counter() - begun, "points": rows}))
"""

MLFLOW = """
import json, sys
import mlflow, pandas as pd, plotly.graph_objects as go
from pathlib import Path
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
runs = mlflow.search_runs(search_all_experiments=True)
by = runs.rename(columns=lambda name: name.removeprefix("tags.twinbench.")).groupby(["method", "cell_id"])
cells = by[["metrics.result.validation.linear_top1", "metrics.result.test.linear_top1"]].agg(["mean", "std", "count"])
cells.columns = ["validation", "validation std", "validation n", "test", "test std", "test n"]
best = cells.groupby("method")["validation"].idxmax().dropna()
drawn = [pair for pair in by.groups if sys.argv[3] == "all" or pair in set(best)]
names = [name.removeprefix("metrics.") for name in runs.columns if name.startswith("metrics.")]
figures = {name: go.Figure(layout_title_text=name) for name in names if not name.startswith("result.")}
points = 0
for method, cell in drawn:
    ids = runs["run_id"][by.groups[method, cell]]
    for name, figure in figures.items():
        rows = [(one.step, one.value) for run in ids for one in client.get_metric_history(run, name)]
        points += len(rows)
        mean = pd.DataFrame(rows, columns=["epoch", "value"]).groupby("epoch")["value"].mean()
        figure.add_scatter(x=mean.index, y=mean.round(6), name=f"{method} {cell}")
parts = [figure.to_html(full_html=False, include_plotlyjs=not at) for at, figure in enumerate(figures.values())]
Path(sys.argv[2]).write_text("".join(["<!doctype html>", cells.to_html(), *parts]))
print(json.dumps({"points": points, "means": cells["test"].droplevel("method").dropna().to_dict()}))
"""


def build(count: int, folder: Path, epochs: int) -> None:
    """Build a run of four methods over two crossed axes with five seeds per cell: records, curves, plan."""
    run = SyntheticRun(folder, later=True)
    cells = -(-count // SEEDS)
    for number in range(count):
        cell, seed = divmod(number, SEEDS)
        method, place = METHODS[cell % len(METHODS)], cell // len(METHODS)
        across = max(2, round((cells / len(METHODS)) ** 0.5))
        settings = {"projector_width": 32 * (1 + place % across), "off_diagonal_weight": 0.001 * (1 + place // across)}
        trial = run.plan(run.trial(method, seed, settings, {"batch_size": 128, "epochs": epochs}))
        if number % 97 == 96:
            run.record(
                trial, None, status="diverged", reason="loss was nan", curves=invented_curves(method, seed, stop=6)
            )
            continue
        value = 0.85 + 0.02 * wobble(method, place) + 0.01 * wobble(method, place, seed)
        curves = invented_curves(f"{method}{place}", seed, epochs)
        run.record(trial, round(value, 4), curves=curves, circumstance={"train_seconds": 50 + 5 * wobble(number)})
    run.write_plan()


def measured(program: str, *arguments: str) -> dict[str, Any]:
    """Run the program in its own process and return the JSON that it prints at its end."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def beside_mlflow(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Return seconds of whole processes from a filled store to a page, ours and MLflow's."""
    store, page = f"sqlite:///{folder / 'mlflow.db'}", str(folder / "mlflow.html")
    if not (folder / "mlflow.db").exists():
        fill_mlflow = [sys.executable, "-m", "twinbench.harness.cli", "export", str(folder), "--to", "mlflow"]
        variables = os.environ | {"MLFLOW_TRACKING_URI": store}
        subprocess.run(fill_mlflow, check=True, capture_output=True, cwd=folder, env=variables)
    with ResultStore(folder) as ours:
        points = int(ours.query("SELECT count(value) AS n FROM curves").n[0])
        means = ours.query(
            "SELECT cell_id, avg(value) AS mean FROM metrics JOIN trials USING (trial_id) "
            "WHERE name = 'linear_top1' AND split = 'test' GROUP BY cell_id"
        )
    theirs = measured(MLFLOW, store, page, "all")
    assert theirs["points"] == points, (theirs["points"], points)
    assert theirs["means"].keys() == set(means.cell_id)
    assert all(
        abs(theirs["means"][cell] - mean) < 1e-9 for cell, mean in zip(means.cell_id, means["mean"], strict=True)
    )
    commands = {
        "twinbench report": ["-m", "twinbench.harness.cli", "report", str(folder)],
        "mlflow, all curves": ["-c", MLFLOW, store, page, "all"],
        "mlflow, curves that ours draws": ["-c", MLFLOW, store, page, "best"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for name in there_and_back(commands, repeats):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *commands[name]], check=True, capture_output=True, cwd=folder)
        taken[name].append(time.perf_counter() - begun)
    base = statistics.median(taken["twinbench report"])
    for name, values in taken.items():
        median, spread = statistics.median(values), f"{min(values):.2f} to {max(values):.2f}"
        print(f"  {points:,} points, {name:<32} {median:8.2f} s ({spread})  {median / base:7.2f} x", flush=True)
    return taken


def main() -> None:
    """Build each run once, measure report and lower bound in turn, several times, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[500, 10_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20, help="per trial, with seven and a half points each")
    parser.add_argument(
        "--mlflow", action="store_true", help="compare with a script on MLflow instead of the lower bound"
    )
    parser.add_argument("--keep", type=Path, help="folder in which the runs are built and kept")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Any] = {"surroundings": surroundings(torch.device("cpu")), "by_trials": {}}
    print(found["surroundings"], flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for count in chosen.trials:
            folder = (chosen.keep or Path(temporary)).resolve() / f"run-{count}-{chosen.epochs}"
            if not (folder / "plan.json").exists():
                build(count, folder, chosen.epochs)
            with ResultStore(folder) as store:
                store.ingest()
            if chosen.mlflow:
                found["by_trials"][count] = {"epochs": chosen.epochs, "seconds": beside_mlflow(folder, chosen.repeats)}
                write(chosen.out, found)
                continue
            reports, floors = [], []
            for _ in range(chosen.repeats):
                reports.append(measured(REPORT, str(folder)))
                floors.append(measured(FLOOR, str(folder), str(folder / "plotly.js")))
            seconds = [report["seconds"] for report in reports]
            floor = statistics.median(one["seconds"] for one in floors)
            print(
                f"{count:>6} trials, {floors[0]['points']:,.0f} points  report {statistics.median(seconds):6.2f} s "
                f"({min(seconds):.2f} to {max(seconds):.2f}; {statistics.median(r['cpu'] for r in reports):.2f} s of "
                f"processor, {reports[0]['imports']:.2f} s of imports), {max(one['gib'] for one in reports):.2f} GiB, "
                f"page {reports[0]['mb']:.2f} MB; reading the curves and writing plotly.js {floor:.2f} s",
                flush=True,
            )
            found["by_trials"][count] = {"report": reports, "floor": floors}
            write(chosen.out, found)


if __name__ == "__main__":
    main()
