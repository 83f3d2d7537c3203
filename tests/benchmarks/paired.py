"""The gain from shared seeds: how much more precise a difference between two lambdas is, on a toy problem.

    OMP_NUM_THREADS=1 python tests/benchmarks/paired.py --out paired.json

Barlow Twins on the digits, through the harness's own training: trials of one seed have the same first weights, order
and views, whatever their lambda. Printed is a ratio: the variance that the difference in accuracy between two lambdas
would have with independent seeds (the sum of their variances), over its variance between trials of equal seeds; with
the correlation of the two, and a bootstrap interval over the seeds. The ratio shrinks during training, so it is printed
for every epoch. The network is a perceptron. Takes two minutes on two cores.
"""

import argparse
import itertools
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import surroundings, write
from numpy.typing import NDArray
from torch import nn

from twinbench.harness.data.random_streams import torch_seed
from twinbench.harness.evaluation.features import extract
from twinbench.harness.evaluation.linear import linear_predictions, standardiser
from twinbench.harness.evaluation.ridge import ridge_probes
from twinbench.harness.planning import make_plan
from twinbench.harness.training.loop import train
from twinbench.harness.trial.execute import Surroundings, _evaluator, _task
from twinbench.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from twinbench.methods.method import Method
from twinbench.results.attempts import trial_folder

LAMBDAS = (0.002, 0.0051, 0.02)
SPLITS = ("train", "test")
PROJECTOR, PENALTY, RESAMPLES = 64, 1e-2, 2000
CPU = torch.device("cpu")
Values = NDArray[np.float64]


class Perceptron(nn.Sequential):
    """Maps digits [N, 3, 8, 8] to 64 features."""

    feature_dim = 64

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(192, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))


def accuracies(seed: int, epochs: int) -> Values:
    """Return accuracies on test, [lambda, epoch], of one seed's trainings, which take turns on the same views."""
    torch.set_num_threads(1)
    changes = ("methods=barlow_twins", "baselines=false", "seeds=[0]", "batch_size=64", f"epochs={epochs}")
    trial = make_plan("digits", changes, None).trials[0]
    with tempfile.TemporaryDirectory() as folder:
        around = Surroundings(Path(folder), pack=len(LAMBDAS))
        evaluator = _evaluator(trial, around, CPU)
        task = replace(_task(trial, around, trial_folder(around.run_folder, trial.trial_id), evaluator, CPU), seed=seed)

        def accuracy(method: Method) -> dict[str, float | None]:
            features = {name: extract(method, getattr(evaluator, name).images, evaluator.dataset) for name in SPLITS}
            mean, std = standardiser(features["train"])
            x, queries = ((features[name] - mean) / std for name in SPLITS)
            probes = ridge_probes(x, evaluator.train.labels, evaluator.classes, [PENALTY])
            right = linear_predictions(queries, *probes)[0] == evaluator.test.labels
            return {"accuracy": float(right.double().mean())}

        trainings = []
        for weight in LAMBDAS:
            torch.manual_seed(torch_seed(seed, "initialisation of the toy"))
            method = BarlowTwins(Perceptron(), BarlowTwinsConfig(PROJECTOR, 2, weight))
            own = replace(task, folder=Path(folder) / str(weight))
            own.folder.mkdir()
            trainings.append(train(method, own, accuracy, 1, lambda *_: None, lambda: False))
        return np.array(exhausted(trainings))


def exhausted(trainings: list[Any]) -> list[list[float]]:
    """Return the accuracy curves of trainings that take turns until all end."""
    curves: dict[int, list[float]] = {}
    while len(curves) < len(trainings):
        for number, training in enumerate(trainings):
            try:
                next(training)
            except StopIteration as end:
                curves[number] = end.value.curves["accuracy"]
    return [curves[number] for number in range(len(trainings))]


def factor(a: Values, b: Values) -> float:
    """Return the variance of a difference with independent seeds over that with equal seeds."""
    paired = (a - b).var(ddof=1)
    return float((a.var(ddof=1) + b.var(ddof=1)) / paired) if paired else float("inf")


def interval(a: Values, b: Values) -> tuple[float, float]:
    """Return the 95 % interval by the bootstrap over seeds."""
    drawn = np.random.default_rng(0).integers(len(a), size=(RESAMPLES, len(a)))
    low, high = np.quantile([factor(a[seeds], b[seeds]) for seeds in drawn], (0.025, 0.975), method="nearest")
    return float(low), float(high)


def main() -> None:
    """Train, compare, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"surroundings": surroundings(CPU), "arguments": str(vars(chosen)), "pairs": []}
    print(found["surroundings"], flush=True)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        each = pool.map(accuracies, range(chosen.seeds), itertools.repeat(chosen.epochs))
        all_of_them = np.stack(list(each))  # [seed, lambda, epoch]
    found["accuracies"] = all_of_them.tolist()
    for epoch in sorted({0, chosen.epochs // 2 - 1, chosen.epochs - 1}):
        by_lambda = dict(zip(LAMBDAS, all_of_them[:, :, epoch].T, strict=True))
        means = ", ".join(f"{values.mean():.3f} at {weight:g}" for weight, values in by_lambda.items())
        print(f"epoch {epoch + 1} of {chosen.epochs}, {chosen.seeds} seeds, mean accuracies {means}")
        for (first, a), (second, b) in itertools.combinations(by_lambda.items(), 2):
            ratio, (low, high), correlation = factor(a, b), interval(a, b), float(np.corrcoef(a, b)[0, 1])
            row = {"epoch": epoch + 1, "lambdas": (first, second), "factor": ratio, "interval": (low, high)}
            found["pairs"].append(row | {"correlation": correlation})
            of = f"lambda {first:<6g} and {second:<6g} variance unpaired / paired"
            print(f"  {of} {ratio:6.2f} ({low:.2f} to {high:.2f}), correlation {correlation:.2f}", flush=True)
    write(chosen.out, found)


if __name__ == "__main__":
    main()
