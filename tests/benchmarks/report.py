"""What a report over many trials with curves takes: seconds, memory, and the page's size.

    python tests/benchmarks/report.py --trials 500 10000 --out report.json

Each report is made in a process of its own, from a database that has all records, as the morning's look at a run finds
it; the peak is that process's resident memory. Beside it stands what ingesting the records takes, and what a browser's
page of the same trials weighs. The floor for the same machine is reading the curves and writing plotly.js alone.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from conftest import SyntheticRun, invented_curves, wobble
from measuring import surroundings, write

from twinbench.results.store import ResultStore

METHODS = ("barlow_twins", "byol", "simclr", "vicreg")
SEEDS = 5
EPOCHS = 20

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


def build(count: int, folder: Path) -> None:
    """A run of four methods over two crossed axes with five seeds a cell: records, curves, plan."""
    run = SyntheticRun(folder, later=True)
    cells = -(-count // SEEDS)
    for number in range(count):
        cell, seed = divmod(number, SEEDS)
        method, place = METHODS[cell % len(METHODS)], cell // len(METHODS)
        across = max(2, round((cells / len(METHODS)) ** 0.5))
        settings = {"projector_width": 32 * (1 + place % across), "off_diagonal_weight": 0.001 * (1 + place // across)}
        trial = run.plan(run.trial(method, seed, settings, {"batch_size": 128, "epochs": EPOCHS}))
        if number % 97 == 96:
            run.record(
                trial, None, status="diverged", reason="loss was nan", curves=invented_curves(method, seed, stop=6)
            )
            continue
        value = 0.85 + 0.02 * wobble(method, place) + 0.01 * wobble(method, place, seed)
        curves = invented_curves(f"{method}{place}", seed, EPOCHS)
        run.record(trial, round(value, 4), curves=curves, circumstance={"train_seconds": 50 + 5 * wobble(number)})
    run.write_plan()


def measured(program: str, *arguments: str) -> dict[str, float]:
    """What the program prints as JSON at its end, run in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Builds each run once, then measures report and floor in turn, several times over, and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[500, 10_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="where the runs are built, or lie from the last time")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Any] = {"surroundings": surroundings(torch.device("cpu")), "by_trials": {}}
    print(found["surroundings"], flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for count in chosen.trials:
            folder = (chosen.keep or Path(temporary)) / f"run-{count}"
            if not (folder / "plan.json").exists():
                build(count, folder)
            with ResultStore(folder) as store:
                store.ingest()
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
