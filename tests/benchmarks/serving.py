"""The response time of `twinbench serve` while a large sweep fills, and its cost to a sweep that trains.

    python tests/benchmarks/serving.py --seconds 20 --out serving.json

A folder of 1,000 trials gets 50 records per second; ten readers request the state with its ETag, as the page does, but
several times as often. For comparison, in the same run, the standard library's http.server serves the same bytes from a
file. Then a small sweep of the digits trains alone and with the ten readers, in turn.
"""

import argparse
import http.client
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from measuring import surroundings, write

from twinbench.harness.planning import check, plan
from twinbench.harness.run_folder.layout import write_plan
from twinbench.harness.run_folder.leases import Attempt, now
from twinbench.harness.run_folder.live_curves import LiveCurves
from twinbench.results.attempts import trial_folder
from twinbench.results.plan import read_plan
from twinbench.results.record import Result, write_artefact, write_record
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.metrics import MetricValue
from twinbench.sweeps.sweep import read_sweep
from twinbench.sweeps.trial import Trial

READERS = 10
TRIALS, CELLS, BEFORE = 1000, 200, 200
PER_SECOND = 50
SWEEP = ("methods=simclr", "baselines=false", "seeds=[0, 1, 2, 3]", "epochs=8")


def fill(folder: Path) -> list[Trial]:
    """Plan the trials, record the first ones and start two more."""
    widths = list(range(16, 16 + CELLS))
    changes = (
        f"seeds={list(range(TRIALS // CELLS))}",
        "methods=byol",
        "baselines=false",
        f"projector_width={widths}",
    )
    sweep, protocol, path = read_sweep("digits", changes)
    resolved = check(sweep, protocol, str(path))
    planned = plan("serving", sweep, protocol, resolved, "sha256:none", training_images=1150, image_size=8)
    write_plan(folder, planned)
    trials = read_plan(folder).full_trials()
    for trial in trials[:BEFORE]:
        record(folder, trial)
    return trials


def curves(epochs: int) -> dict[str, Any]:
    """Return as many curves as a trial has."""
    names = ("loss", "learning_rate", "validation/knn_top1", *(f"diagnostics/{number}" for number in range(6)))
    return {"epoch": list(range(epochs)), "series": {name: [1 / (e + 1) for e in range(epochs)] for name in names}}


def record(folder: Path, trial: Trial) -> None:
    """Return a record like a trial's, with invented numbers."""
    metrics: list[MetricValue] = [
        {"name": name, "variant": "invented@1", "split": split, "value": 0.5 + trial.seed / 100}
        for name in ("knn_top1", "linear_top1")
        for split in ("validation", "test")
    ]
    result: Result = {
        "trial_id": trial.trial_id,
        "cell_id": trial.cell_id,
        "trial": trial.content(),
        "derived": {},
        "status": "done",
        "reason": "",
        "metrics": metrics,
        "curves": write_artefact(folder, canonical_json(curves(100) | {"of": trial.trial_id}), ".json"),
        "outputs": None,
    }
    write_record(folder, result, {"finished": now(), "train_seconds": 10.0, "evaluation_seconds": 1.0, "traceback": ""})


def arrive(folder: Path, trials: Sequence[Trial], seconds: float) -> None:
    """Within this context, PER_SECOND records are written per second while two trials run."""
    running = [Attempt(folder, trial.trial_id, 1, "here") for trial in trials[-2:]]
    shown = [LiveCurves(trial_folder(folder, trial.trial_id)) for trial in trials[-2:]]
    began = time.monotonic()
    for number, trial in enumerate(trials[BEFORE:-2]):
        if (wait := began + number / PER_SECOND - time.monotonic()) > 0:
            time.sleep(wait)
        if time.monotonic() - began > seconds:
            return
        for attempt, its in zip(running, shown, strict=True):
            attempt.report(step=number, steps=TRIALS, epoch=number, images_per_second=100.0)
            its.write(lambda epochs=number: curves(epochs))  # type: ignore[misc]
        record(folder, trial)


@contextmanager
def server(*command: object) -> Iterator[tuple[int, int]]:
    """Start a server in its own process; yield its port and process."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"(?:port |:)(\d+)", process.stdout.readline())
        assert found
        yield int(found[1]), process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


@contextmanager
def reading(port: int, path: str, every: float) -> Iterator[list[float]]:
    """Return the milliseconds of each answer to READERS readers."""
    over, took = threading.Event(), list[float]()

    def read() -> None:
        etag = ""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not over.wait(every):
            began = time.perf_counter()
            connection.request("GET", path, headers={"If-None-Match": etag})
            answer = connection.getresponse()
            answer.read()
            took.append(1000 * (time.perf_counter() - began))
            assert answer.status in (200, 304), answer.status
            etag = answer.headers.get("ETag", "")

    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        yield took
    finally:
        over.set()
        for reader in readers:
            reader.join()


def answers(seconds: float, every: float) -> dict[str, list[float]]:
    """Return milliseconds of both servers' answers while records arrive, one server after the other."""
    found: dict[str, list[float]] = {}
    for name in ("twinbench serve", "http.server"):
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "run"
            trials = fill(folder)
            if name == "http.server":
                (folder / "state.json").write_bytes(bytes(150_000))
                command: tuple[object, ...] = ("http.server", 0, "--bind", "127.0.0.1", "--directory", folder)
            else:
                command = ("twinbench.harness.cli", "serve", folder, "--port", 0)
            with server(*command) as (port, _):
                writer = multiprocessing.Process(target=arrive, args=(folder, trials, seconds))
                with reading(port, "/state.json", every) as took:
                    writer.start()
                    writer.join()
            found[name] = took
            written = len(list((folder / "records").iterdir())) - BEFORE
            p50, p99 = (statistics.quantiles(took, n=100)[place] for place in (49, 98))
            print(
                f"{name:<16} {len(took):>6} answers while {written} records came: median {p50:.1f} ms, "
                f"99th percentile {p99:.1f} ms, slowest {max(took):.1f} ms",
                flush=True,
            )
    return found


def train(folder: Path) -> float:
    """Return the seconds of a small sweep with as many workers as cores."""
    changes = [part for change in SWEEP for part in ("--set", change)]
    began = time.perf_counter()
    command = [sys.executable, "-m", "twinbench.harness.cli", "run", "digits", "--out", str(folder), *changes]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def slowdown(repeats: int) -> dict[str, list[float]]:
    """Measure what readers that request once per second, as the page does, cost a sweep."""
    alone, watched, busy = [], [], []
    for number in range(2 * repeats):
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "run"
            if number % 2 == 0:
                alone.append(train(folder))
                continue
            with server("twinbench.harness.cli", "serve", folder, "--port", 0) as (port, pid):
                before = processor_seconds(pid)
                with reading(port, "/state.json", 1):
                    watched.append(train(folder))
                busy.append((processor_seconds(pid) - before) / watched[-1])
    ratio = statistics.median(watched) / statistics.median(alone)
    spread = f"{min(alone):.1f} to {max(alone):.1f} s alone, {min(watched):.1f} to {max(watched):.1f} s watched"
    print(f"a sweep watched by {READERS} readers takes {ratio:.3f} times as long ({spread})", flush=True)
    print(f"during this the server took {100 * statistics.median(busy):.1f} % of one core", flush=True)
    return {"alone_seconds": alone, "watched_seconds": watched, "server_share_of_a_core": busy}


def processor_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure both, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--every", type=float, default=0.1, help="seconds between a reader's requests")
    parser.add_argument("--repeats", type=int, default=5, help="of the sweep; 0 skips it")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found: dict[str, Any] = {"surroundings": surroundings(torch.device("cpu"))}
    print(found["surroundings"], flush=True)
    found["answer_milliseconds"] = answers(chosen.seconds, chosen.every)
    write(chosen.out, found)
    if chosen.repeats:
        found["slowdown"] = slowdown(chosen.repeats)
        write(chosen.out, found)


if __name__ == "__main__":
    main()
