"""The time of `twinbench check` for 200 claims over 10,000 recorded trials; the goal is at most 5 s on two cores.

    taskset -c 0,1 python tests/benchmarks/claims.py --out claims.json

Four methods at five budgets, five batch sizes and ten learning rates, ten seeds each: complete records with curves,
per-example outputs and attempts, written as trials write them; the numbers are invented. Half of the claims leave the
learning rate open, so that it is selected on validation. "First" is a check that has to ingest the records, "further"
one that finds them in the database. Each runs in its own process, timed without imports and, as the command, with them.
The files are in the page cache. `--profile` prints where a further check spends its time.
"""

import argparse
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import surroundings, write
from safetensors.numpy import save

from twinbench.harness.planning import check, plan
from twinbench.harness.run_folder.layout import write_plan
from twinbench.reports.claims.claim import read_claims
from twinbench.reports.claims.declarations import declare
from twinbench.results.atomic_files import write_json_atomically
from twinbench.results.attempts import attempt_file
from twinbench.results.record import Result, write_artefact, write_record
from twinbench.results.store import DATABASE
from twinbench.sweeps.metrics import MetricValue
from twinbench.sweeps.sweep import read_sweep
from twinbench.sweeps.trial import Trial

GOAL_SECONDS = 5.0
METHODS = {"simclr": 0.64, "byol": 0.60, "vicreg": 0.62, "barlow_twins": 0.615}
NAMES = {"simclr": "SimCLR", "byol": "BYOL", "vicreg": "VICReg", "barlow_twins": "Barlow Twins"}
EPOCHS, BATCHES = (4, 8, 12, 16, 20), (32, 64, 128, 256, 512)
RATES = tuple(round(0.0005 * (step + 1), 4) for step in range(10))
SWEEP = f"""
question = "What does a check cost?"
protocol = "cifar10-small"
seeds = SEEDS
baselines = false
[[grids]]
methods = {list(METHODS)}
[grids.axes]
epochs = {list(EPOCHS)}
batch_size = {list(BATCHES)}
learning_rate = {list(RATES)}
[[deviations]]
key = "dataset.test_examples"
value = EXAMPLES
reason = "The outputs of all test images would take gigabytes."
"""
BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
CHILD = """
import sys, time
from pathlib import Path
from twinbench.reports.verdicts.check import check_claims
from twinbench.reports.verdicts.formats import FORMATS
begun = time.perf_counter(), time.process_time()
text = FORMATS[sys.argv[3]](check_claims(Path(sys.argv[1]), Path(sys.argv[2])))
print(time.perf_counter() - begun[0], time.process_time() - begun[1])
"""


# --- the run folder ---------------------------------------------------------------------------------------------------


def build(folder: Path, trials: int, claims: int, examples: int) -> Path:
    """Fill the folder and return the file of its declared claims."""
    sweep_file = folder.with_name("sweep.toml")
    seeds = list(range(max(1, trials // (len(METHODS) * len(EPOCHS) * len(BATCHES) * len(RATES)))))
    sweep_file.write_text(SWEEP.replace("SEEDS", str(seeds)).replace("EXAMPLES", str(examples)))
    sweep, protocol, path = read_sweep(str(sweep_file), ())
    resolved = check(sweep, protocol, str(path))
    planned = plan("check", sweep, protocol, resolved, "sha256:" + "1" * 64, training_images=8000, image_size=32)
    claims_file = folder.with_name("claims.toml")
    claims_file.write_text("\n".join(['protocol = "cifar10-small"', *claim_tables(claims)]))
    with mock.patch("os.fsync"):  # a temporary folder need not survive a power cut
        write_plan(folder, planned)
        declare(read_claims(claims_file), folder, BEGAN - timedelta(days=1))
        for number, trial in enumerate(planned.trials):
            leave(folder, trial, BEGAN + timedelta(minutes=number), examples)
    return claims_file


def leave(folder: Path, trial: Trial, started: datetime, examples: int) -> None:
    """Write attempt, curves, outputs and record of one trial."""
    rng = np.random.default_rng(int(trial.trial_id, 16))
    of_seed = np.random.default_rng(trial.seed).normal(0, 0.005)  # the same for all methods
    rate = RATES.index(trial.training["learning_rate"]) / len(RATES)
    level = METHODS[trial.method] + 0.004 * EPOCHS.index(trial.training["epochs"]) - 0.02 * (rate - 0.5) ** 2
    accuracy = level + of_seed + rng.normal(0, 0.004)
    metrics, outputs = measured(trial, accuracy, examples, rng)
    result: Result = {
        "trial_id": trial.trial_id,
        "cell_id": trial.cell_id,
        "trial": trial.content(),
        "derived": {"learning_rate_scaled": trial.training["learning_rate"], "steps": 1000},
        "status": "done",
        "reason": "",
        "metrics": metrics,
        "curves": write_artefact(folder, curves(trial, rng), ".json"),
        "outputs": write_artefact(folder, save(outputs), ".safetensors"),
    }
    batch = trial.training["batch_size"]
    circumstance = {
        "started": started.isoformat(timespec="seconds"),
        "finished": (started + timedelta(minutes=5)).isoformat(timespec="seconds"),
        "attempts": 1,
        "train_seconds": 250.0,
        "evaluation_seconds": 40.0,
        "images_seen": trial.training["epochs"] * (7200 // batch * batch),
        "peak_memory_bytes": 2**29,
        "commit": "c" * 40,
        "code_hash": "d" * 64,
        "versions": {"python": "3.11.7", "torch": "2.14.1", "numpy": "2.4.0", "scikit-learn": "1.8.0"},
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "ranks": 1,
        "host": "invented",
        "where": "",
        "traceback": "",
    }
    sentence_text = {"number": 1, "status": "done", "started": circumstance["started"], "beat": 3}
    write_json_atomically(attempt_file(folder, trial.trial_id, 1), sentence_text, durable=False)
    write_record(folder, result, circumstance)


def measured(
    trial: Trial, accuracy: float, examples: int, rng: np.random.Generator
) -> tuple[list[MetricValue], dict[str, Any]]:
    """Return metrics of both probes on both splits, and outputs that agree with those on test."""
    labels = np.arange(examples, dtype=np.int32) % 10
    difficulty = np.arange(examples) * 997 % examples + rng.normal(0, examples / 3, examples)
    metrics: list[MetricValue] = []
    outputs: dict[str, np.ndarray[Any, Any]] = {"labels": labels}
    for probe, lower, candidates in (("knn", 0.02, 6), ("linear", 0.0, 8)):
        right = round((accuracy - lower) * examples)
        correct = np.zeros(examples, dtype=np.uint8)
        correct[np.argsort(difficulty)[:right]] = 1
        outputs[f"{probe}_correct"] = correct
        outputs[f"{probe}_prediction"] = np.where(correct, labels, (labels + 1) % 10).astype(np.int32)
        variant = trial.protocol["content"]["evaluation"]["metrics"][f"{probe}_top1"]
        for split, value, n in (("validation", accuracy - lower, 800), ("test", right / examples, examples)):
            metrics.append(
                {
                    "name": f"{probe}_top1",
                    "variant": variant,
                    "split": split,
                    "value": value,
                    "n_examples": n,
                    "selected_on": "validation",
                    "candidates": candidates,
                    "selected": {},
                }
            )
    return metrics, outputs


def curves(trial: Trial, rng: np.random.Generator) -> bytes:
    """Return eight series over all epochs, as a trial with diagnostics records them."""
    epochs = list(range(1, trial.training["epochs"] + 1))
    names = ("rankme_backbone", "rankme_projector", "off_diagonal_correlation", "alignment", "uniformity")
    series = {f"diagnostics/{name}": [float(value) for value in rng.normal(1, 0.1, len(epochs))] for name in names}
    series["diagnostics/feature_std"] = [0.08 + 0.001 * float(value) for value in rng.normal(0, 1, len(epochs))]
    for name, level in (("loss", 3.0), ("validation/knn_top1", 0.5)):
        series[name] = [level + float(value) for value in rng.normal(0, 0.01, len(epochs))]
    return json.dumps({"epoch": epochs, "series": series}, sort_keys=True).encode()


# --- the claims -------------------------------------------------------------------------------------------------------


def claim_tables(count: int) -> Iterator[str]:
    """Yield claims of all kinds in families of ten, at budgets, batch sizes and learning rates in turn."""
    for number in range(count):
        a, b = (list(METHODS)[(number + step) % len(METHODS)] for step in (0, 1 + number // 4 % 3))
        at: dict[str, float] = {"epochs": EPOCHS[number // 2 % 5], "batch_size": BATCHES[number // 10 % 5]}
        if number % 2:
            at["learning_rate"] = RATES[number // 20 % 10]
        sentence_text, keys = kind_of(number % 5, a, b, at)
        scope = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in at.items())
        yield f'[[claims]]\nname = "claim-{number}"\nfamily = "family {number // 10}"\n{keys}'
        yield f'sentence = "On CIFAR-10, at {scope}, {sentence_text}."'


def kind_of(turn: int, a: str, b: str, at: dict[str, float]) -> tuple[str, str]:
    """Return such a claim's sentence and keys; a varied axis replaces the fixed setting of the same name."""
    if turn == 0:
        sentence_text = f"{NAMES[a]} is at least one point better than {NAMES[b]} in linear accuracy"
        return sentence_text, f'kind = "better"\na = {table(a, at)}\nb = {table(b, at)}\nat_least = 0.01'
    if turn == 1:
        sentence_text = f"{NAMES[a]} is no more than two points below {NAMES[b]} in kNN accuracy"
        return (
            sentence_text,
            f'kind = "not_worse"\nmetric = "knn_top1"\na = {table(a, at)}\nb = {table(b, at)}\nwithin = 0.02',
        )
    if turn == 2:
        others = ", ".join(table(name, at) for name in METHODS if name != a)
        return f"{NAMES[a]} is the best of all", f'kind = "best_of"\na = {table(a, at)}\namong = [{others}]'
    if turn == 3:
        at.pop("batch_size")
        sentence_text = f"{NAMES[a]} changes by less than one point between batches of 32 and 512"
        keys = f'axis = "batch_size"\nvalues = {list(BATCHES)}\nwithin = 0.01'
        return sentence_text, f'kind = "insensitive"\na = {table(a, at)}\n{keys}'
    at.pop("epochs")
    keys = f'axis = "epochs"\nvalues = {list(EPOCHS)}'
    return f"{NAMES[a]} grows with the epochs", f'kind = "monotone"\na = {table(a, at)}\n{keys}'


def table(method: str, at: dict[str, float]) -> str:
    """Return a selector as a TOML inline table."""
    return "{ " + ", ".join([f'method = "{method}"', *(f"{key} = {value}" for key, value in at.items())]) + " }"


# --- measuring --------------------------------------------------------------------------------------------------------


def seconds(folder: Path, claims_file: Path, first: bool, command: bool, form: str) -> tuple[float, float]:
    """Return wall and CPU seconds of one check in a new process: of the whole command, or without its imports."""
    if first:
        (folder / DATABASE).unlink(missing_ok=True)
    # Byte code is kept by the run that warms up; the check's own exit code says whether all claims are supported.
    program = ["-m", "twinbench.harness.cli", "check", "--format", form] if command else ["-c", CHILD]
    arguments = [str(claims_file), str(folder), *([] if command else [form])]
    begun, before = time.perf_counter(), os.times()
    done = subprocess.run([sys.executable, *program, *arguments], capture_output=True, text=True)
    whole, after = time.perf_counter() - begun, os.times()
    assert done.returncode in ((0, 1) if command else (0,)), done.stderr
    if command:
        of_children = after.children_user + after.children_system - before.children_user - before.children_system
        return whole, of_children
    # DuckDB takes `python -c` for an interactive session, and may print its progress first.
    within, of_processor = map(float, done.stdout.split()[-2:])
    return within, of_processor


def profiled(folder: Path, claims_file: Path) -> None:
    """Print the functions in which a further check spends its time."""
    from twinbench.reports.verdicts.check import check_claims

    check_claims(claims_file, folder)
    profile = cProfile.Profile()
    profile.runcall(check_claims, claims_file, folder)
    for order in ("tottime", "cumulative"):
        pstats.Stats(profile).sort_stats(order).print_stats(45)


def main() -> None:
    """Build the folder unless it exists, measure each kind of check several times, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help="a multiple of 1,000")
    parser.add_argument("--claims", type=int, default=200)
    parser.add_argument("--examples", type=int, default=2_000, help="test examples with outputs, per trial")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--format", default="terminal")
    parser.add_argument(
        "--folder", type=Path, help="build the run folder here and keep it, or use the one that is there"
    )
    parser.add_argument("--profile", action="store_true", help="profile a further check and measure nothing else")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    where = surroundings(torch.device("cpu"))
    print(where, flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = (chosen.folder or Path(temporary)) / "run"
        claims_file = folder.with_name("claims.toml")
        if not folder.exists():
            folder.mkdir(parents=True)
            begun = time.perf_counter()
            build(folder, chosen.trials, chosen.claims, chosen.examples)
            print(f"building the folder: {time.perf_counter() - begun:.0f} s", flush=True)
        if chosen.profile:
            profiled(folder, claims_file)
            return
        found: dict[str, Any] = {}
        for first in (True, False):
            for command in (False, True):
                seconds(folder, claims_file, first, command, chosen.format)  # warms up
                times = [seconds(folder, claims_file, first, command, chosen.format) for _ in range(chosen.repeats)]
                name = f"{'first' if first else 'further'} check, {'the command' if command else 'imports excluded'}"
                whole, processor = ([one[place] for one in times] for place in (0, 1))
                median, of_it = statistics.median(whole), statistics.median(processor)
                found[name] = {"seconds": whole, "processor_seconds": processor}
                met = "" if median <= GOAL_SECONDS else f", above the goal of {GOAL_SECONDS:g} s"
                spread = f"({min(whole):.2f} to {max(whole):.2f}; {of_it:.2f} s of processor)"
                print(f"{name:<38} {median:6.2f} s {spread}{met}", flush=True)
        about = {"trials": chosen.trials, "claims": chosen.claims, "examples": chosen.examples}
        about |= {"cores": len(os.sched_getaffinity(0))}
        write(chosen.out, {"surroundings": where, **about, "checks": found})


if __name__ == "__main__":
    main()
