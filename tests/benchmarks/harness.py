"""The cost of the harness apart from training: logging a step's metrics, ingestion, and starting a command.

    python tests/benchmarks/harness.py --repeats 5 --out harness.json

The first two are compared with MLflow, its SQLite store and its server over REST, if all of mlflow is installed
(mlflow-skinny has neither). Commands are compared with `python -c "import typer, pydantic"` and shown next to
`import torch`. Before anything is timed, the values read back must equal those logged. Everything runs in turn,
alternately forwards and backwards; medians.
"""

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from conftest import CLAIM, SyntheticRun, fill, invented_curves
from measuring import in_turn, surroundings, write

from twinbench.harness.run_folder.leases import LeaseObserver, claim
from twinbench.harness.training.checkpoint import Progress
from twinbench.harness.training.loss_log import Losses
from twinbench.harness.trial.reporter import reporter
from twinbench.results.store import DATABASE, ResultStore

CPU = torch.device("cpu")
OURS, TORCH = "twinbench", 'python -c "import torch"'
BARE = 'python -c "import typer, pydantic"'  # the least that a command line with checked input imports
CALLS = {OURS: 20_000, "mlflow, sqlite": 200, "mlflow, REST": 50}
ASYNCHRONOUS = ", asynchronous"
TRIALS, EPOCHS, BATCH = 200, 1000, 1000  # 1.5 million points; MLflow takes a thousand metrics a call at most
Log = Callable[[int, float], object]


# --- MLflow ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def peers(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield MLflow's clients by name; none if only mlflow-skinny is installed."""
    try:
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
        from mlflow import MlflowClient
    except ImportError as error:
        print(f"without MLflow: {error}")
        yield {}
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where, store = f"http://127.0.0.1:{port}", f"sqlite:///{folder / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([*command, "--workers", "1"], stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for(f"{where}/health")
        yield {
            "mlflow, sqlite": MlflowClient(f"sqlite:///{folder / 'direct.db'}"),
            "mlflow, REST": MlflowClient(where),
        }
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(address: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"{address} does not answer")


def new_run(client: Any, name: str) -> str:
    """Return the id of a new run in an experiment of its own."""
    return str(client.create_run(client.create_experiment(name)).info.run_id)


# --- a step's metrics ------------------------------------------------------------------------------------------------


def our_log(folder: Path) -> tuple[Log, Progress]:
    """Return the function that does all that a CPU step does with its loss: keep, check, add to the epoch, report."""
    attempt = claim(folder, "0" * 16, LeaseObserver())
    assert attempt is not None
    losses, progress = Losses(64, 10**9, 10**9), Progress()
    progress.train_seconds = 1.0
    report = reporter(attempt)
    names = ("loss",)
    terms = [torch.tensor([value], dtype=torch.float64) for value in range(10)]  # a loss is a tensor as it comes

    def log(step: int, value: float) -> None:
        losses.keep(step, names, terms[int(value)])
        losses.look(progress)
        report(progress, step + 1, 10**9)

    return log, progress


def their_log(client: Any, name: str, synchronous: bool) -> tuple[Log, str]:
    """Return MLflow's call for one metric; asynchronous, a thread does the work, as for ours the save does."""
    run = new_run(client, name)
    return lambda step, value: client.log_metric(run, "loss", value, step=step, synchronous=synchronous), run


def p50(log: Log, calls: int) -> float:
    """Return the median microseconds of a call. Asynchronous calls are finished before this returns."""
    taken, futures = [], []
    for step in range(calls):
        begun = time.perf_counter_ns()
        one = log(step, 1.0)
        taken.append(time.perf_counter_ns() - begun)
        futures.append(one)
    wait_for(futures)
    return statistics.median(taken) / 1000


def wait_for(futures: list[Any]) -> None:
    """Wait until MLflow has stored the metrics of asynchronous calls."""
    for one in futures:
        if one is not None:
            one.wait()


def step_metrics(folder: Path, clients: dict[str, Any], repeats: int) -> dict[str, list[float]]:
    """Return the microseconds of a call by name, the median of each repeat."""
    ours, progress = our_log(folder)
    logs = {OURS: ours}
    for step in range(10):
        ours(step, step)
    assert progress.sums == {"loss": 45.0}
    for name, client in clients.items():
        for how, synchronous in (("", True), (ASYNCHRONOUS, False)):
            log, run = their_log(client, f"steps{how}", synchronous)
            wait_for([log(step, step) for step in range(10)])
            assert sum(metric.value for metric in client.get_metric_history(run, "loss")) == 45.0
            logs[name + how] = log
    found: dict[str, list[float]] = {name: [] for name in logs}
    for repeat in range(repeats):
        for name in list(logs) if repeat % 2 == 0 else list(reversed(logs)):
            found[name].append(p50(logs[name], CALLS[name.removesuffix(ASYNCHRONOUS)]))
    return found


# --- many rows at once -----------------------------------------------------------------------------------------------


def our_records(folder: Path) -> int:
    """Write and ingest records with their curves; return the number of points in the database."""
    shutil.rmtree(folder, ignore_errors=True)
    run = SyntheticRun(folder, later=True)
    for seed in range(TRIALS):
        run.record(run.plan(run.trial(seed=seed)), curves=CURVES[seed])
    run.write_plan()
    return our_rows(folder)


def our_rows(folder: Path) -> int:
    """Ingest existing records into a new database; return the number of points."""
    (folder / DATABASE).unlink(missing_ok=True)
    with ResultStore(folder) as store:
        store.ingest()
        return int(store.query("select count(*) as n from curves").n[0])


CURVES = [invented_curves("barlow_twins", seed, EPOCHS) for seed in range(TRIALS)]
POINTS = [
    [(name, value, epoch) for name, values in curves["series"].items() for epoch, value in enumerate(values, 1)]
    for curves in CURVES
]


def their_rows(client: Any) -> Callable[[], int]:
    """Return the function that logs the first trial's points in a new run by log_batch, in the largest calls."""
    from mlflow.entities import Metric

    experiment = client.create_experiment("rows")

    def log() -> int:
        run = client.create_run(experiment).info.run_id
        metrics = [Metric(name, value, 0, epoch) for name, value, epoch in POINTS[0] if value is not None]
        for at in range(0, len(metrics), BATCH):
            client.log_batch(run, metrics[at : at + BATCH])
        return len(client.get_metric_history(run, "loss")) * len(metrics) // EPOCHS

    return log


def bulk_rows(folder: Path, clients: dict[str, Any], repeats: int) -> dict[str, list[float]]:
    """Return rows per second by name, durable at the end."""
    runs: dict[str, Callable[[], int]] = {
        f"{OURS}, with its records": lambda: our_records(folder / "rows"),
        OURS: lambda: our_rows(folder / "rows"),
    }
    runs |= {name: their_rows(client) for name, client in clients.items()}
    of_a_trial = sum(value is not None for _, value, _ in POINTS[0])
    expected = {name: of_a_trial * (TRIALS if name.startswith(OURS) else 1) for name in runs}
    counts = {name: run() for name, run in runs.items()}
    assert counts == expected, (counts, expected)
    taken = in_turn(runs, CPU, repeats)
    return {name: [counts[name] / seconds for seconds in values] for name, values in taken.items()}


# --- the start of a command ------------------------------------------------------------------------------------------


def cold_starts(folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of whole processes, on a run of 58 trials that is ingested already.

    Each command is called once before it is timed, so that the cache holds the dataset and the methods' settings: a
    plan, a list and an error that are timed import no torch.
    """
    run = fill(SyntheticRun(folder / "starts"))
    (folder / "claims.toml").write_text(CLAIM)
    ours = {
        "twinbench --help": ("--help",),
        "twinbench run --help": ("run", "--help"),
        "twinbench list methods": ("list", "methods"),
        "twinbench status": ("status", str(run.folder)),
        "twinbench query": ("query", str(run.folder), "select count(*) from trials"),
        "twinbench check": ("check", str(folder / "claims.toml"), str(run.folder)),
        "twinbench report": ("report", str(run.folder)),
        "twinbench plan digits": ("plan", "digits"),
        "an error of a sweep": ("plan", "digits", "--set", "simclr.tau=1"),
    }
    codes = {"twinbench check": 1, "an error of a sweep": 2}  # the claim is not supported; tau is called temperature
    commands = {name: [sys.executable, "-m", "twinbench.harness.cli", *rest] for name, rest in ours.items()}
    bare = {TORCH: "import torch", BARE: "import typer, pydantic", "python -c pass": "pass"}
    commands |= {name: [sys.executable, "-c", program] for name, program in bare.items()}

    def starter(name: str, command: list[str]) -> Callable[[], object]:
        variables = os.environ | {"TWINBENCH_CACHE": str(folder / "cache")}

        def start() -> None:
            ended = subprocess.run(command, capture_output=True, cwd=folder, env=variables)
            assert ended.returncode == codes.get(name, 0), ended.stderr

        return start

    return in_turn({name: starter(name, command) for name, command in commands.items()}, CPU, repeats)


# --- all -------------------------------------------------------------------------------------------------------------


def show(title: str, unit: str, found: dict[str, list[float]], beside: str) -> None:
    """Print medians with their spread, and as multiples of `beside`."""
    print(title, flush=True)
    base = statistics.median(found[beside])
    for name, values in found.items():
        median = statistics.median(values)
        spread = f"{min(values):,.4g} to {max(values):,.4g}"
        print(f"  {name:<26} {median:12,.4g} {unit} ({spread})  {median / base:10,.3g} x", flush=True)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    where = surroundings(CPU) | {"load": os.getloadavg()}
    print(where)
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        with peers(folder) as clients:
            found["step_microseconds"] = step_metrics(folder, clients, chosen.repeats)
            show("a step's metrics, p50", "us", found["step_microseconds"], OURS)
            found["rows_per_second"] = bulk_rows(folder, clients, chosen.repeats)
            show(f"points of curves of {TRIALS} trials", "rows/s", found["rows_per_second"], OURS)
        found["start_seconds"] = cold_starts(folder, chosen.repeats)
        show("from start to end of a process", "s", found["start_seconds"], BARE)
    write(chosen.out, {"surroundings": where, "load_at_end": os.getloadavg(), **found})


if __name__ == "__main__":
    main()
