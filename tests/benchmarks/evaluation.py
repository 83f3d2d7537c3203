"""The cost of evaluation compared with other implementations, on the same features in the same run.

    OMP_NUM_THREADS=2 python tests/benchmarks/evaluation.py --out evaluation.json
    python tests/benchmarks/evaluation.py --examples 5120 --only probes online --rounds 7
    OMP_NUM_THREADS=2 python tests/benchmarks/evaluation.py --only knn --rounds 3

probes   13 and 52 linear probes of 512 features and 10 classes, one epoch of batches of 256, compared with probes one
         after another and with a dict of modules under torch's SGD (as in DINOv2). Weights must agree first.
ridge    the exact path of 13 penalties, compared with scikit-learn's Ridge, one fit per penalty.
knn      a fifth as many queries as examples, k = 200, compared with lightly's `knn_predict` if it is installed. By
         default and in the third line these are 10,000 queries among 50,000 examples.
online   the share of a training that its curves take at its protocol's interval: digits, and images like CIFAR-10's.

`gemm` is the speed of matrix products in the same run: the products alone give a lower bound for probes and kNN.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import in_turn, surroundings, write
from peers import lightly_knn, torch_probes
from PIL import Image
from torch import Tensor

from twinbench.harness.data.random_streams import key, permutation
from twinbench.harness.evaluation.evaluate import Evaluator
from twinbench.harness.evaluation.knn import knn_predictions
from twinbench.harness.evaluation.linear import linear_predictions, linear_probes, standardiser
from twinbench.harness.evaluation.ridge import ridge_probes
from twinbench.harness.planning import make_plan
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.worker import run_pack
from twinbench.methods.method import Method
from twinbench.results.record import read_record, record_path
from twinbench.sweeps.protocol import RIDGE_PENALTIES

WIDTH, CLASSES, BATCH, NEIGHBOURS, TEMPERATURE = 512, 10, 256, 200, 0.1
PARTS = ("gemm", "probes", "ridge", "knn", "online")
Found = dict[str, Any]


class Bench:
    """The device, and features [n, 512] of ten overlapping classes."""

    def __init__(self, device: torch.device, examples: int, rounds: int) -> None:
        self.device, self.rounds = device, rounds
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.randint(0, CLASSES, (examples,), generator=generator).to(device)
        centres = 0.15 * torch.randn(CLASSES, WIDTH, generator=generator).to(device)
        noise = torch.randn(examples + examples // 5, WIDTH, generator=generator).to(device)
        features = noise[:examples] + centres[self.labels]
        mean, std = standardiser(features)
        self.features = (features - mean) / std
        self.queries = noise[examples:] + centres[torch.arange(examples // 5, device=device) % CLASSES]

    def compare(self, title: str, runs: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Return seconds of each run, measured in turn, and print them as multiples of the first."""
        taken = in_turn(runs, self.device, self.rounds)
        ours = statistics.median(next(iter(taken.values())))
        for name, values in taken.items():
            median = statistics.median(values)
            spread = f"{min(values):.3f} to {max(values):.3f}"
            print(f"{title:<22} {name:<34} {median:8.3f} s ({spread})  {median / ours:6.2f} x", flush=True)
        return taken


def gemm(bench: Bench) -> Found:
    """Return seconds of a product of 2048 x 2048 matrices."""
    a = torch.randn(2048, 2048, device=bench.device)
    taken = bench.compare("gemm", {"2048 x 2048": lambda: a @ a})
    rate = 2 * 2048**3 / statistics.median(taken["2048 x 2048"]) / 1e9
    print(f"{'':<22} {rate:.0f} GFLOP/s", flush=True)
    return {"seconds": taken, "gflops": rate}


def probes(bench: Bench, count: int) -> Found:
    """Time our probes and the peers'; their weights must agree first."""
    x, y = bench.features, bench.labels
    decays = (0.0, 1e-4, 1e-3, 1e-2)
    grid = [(0.5 * 0.7 ** (place % 13), decays[place // 13]) for place in range(count)]
    shuffled = permutation(key(0, "probe", 0), len(x), bench.device)
    batches = list(torch.split(shuffled[: len(x) // BATCH * BATCH], BATCH))

    def ours() -> tuple[Tensor, Tensor]:
        return linear_probes(x, y, CLASSES, grid, 1, BATCH, seed=0)

    def one_by_one(fused: bool) -> list[torch.nn.Linear]:
        return [probe for one in grid for probe in torch_probes(x, y, batches, CLASSES, [one], fused)]

    runs: dict[str, Callable[[], Any]] = {
        "twinbench": ours,
        "one after another": lambda: one_by_one(False),
        "one after another, fused SGD": lambda: one_by_one(True),
        "dict of modules": lambda: torch_probes(x, y, batches, CLASSES, grid, False),
        "dict of modules, fused SGD": lambda: torch_probes(x, y, batches, CLASSES, grid, True),
    }
    weights = ours()[0].double()
    differences = {}
    for name in list(runs)[1:]:
        other = torch.stack([probe.weight.detach().double() for probe in runs[name]()], dim=1)
        differences[name] = float(((weights - other).norm(dim=(0, 2)) / other.norm(dim=(0, 2))).max())
        assert differences[name] < 1e-4, f"{name} differs by {differences[name]}"
    taken = bench.compare(f"{count} probes", runs)
    least = 4 * len(batches) * BATCH * WIDTH * count * CLASSES
    return {"seconds": taken, "relative_differences": differences, "operations": least}


def ridge(bench: Bench) -> Found:
    """Time our ridge path with predictions of all queries; scikit-learn fits one penalty at a time, same precision."""
    from sklearn.linear_model import Ridge

    x, y = bench.features, bench.labels
    arrays, targets = x.cpu().double().numpy(), torch.eye(CLASSES, dtype=torch.float64)[y.cpu()].numpy()

    def ours() -> Tensor:
        return linear_predictions(bench.queries, *ridge_probes(x, y, CLASSES, list(RIDGE_PENALTIES)))

    def theirs() -> Any:
        return [Ridge(penalty * len(x), solver="cholesky").fit(arrays, targets) for penalty in RIDGE_PENALTIES]

    queries = bench.queries.cpu().double().numpy()
    expected = torch.stack([torch.from_numpy(one.predict(queries).argmax(axis=1)) for one in theirs()])
    agreement = float((ours().cpu() == expected).double().mean())
    assert agreement > 0.9999, agreement
    taken = bench.compare("13 ridge penalties", {"twinbench": ours, "scikit-learn, fit alone": theirs})
    return {"seconds": taken, "agreement": agreement}


def knn(bench: Bench) -> Found:
    """Time top-1 predictions of all queries. lightly does not normalise, so that normalising is timed with it."""
    try:
        from lightly.utils.benchmarking.knn import knn_predict
    except ImportError:
        print("lightly is not installed: a restatement of its function is used")

        def knn_predict(queries: Tensor, bank: Tensor, labels: Tensor, *rest: Any) -> Tensor:
            return lightly_knn(queries, bank, labels, *rest)[:, None]

    x, y, normal = bench.features, bench.labels, torch.nn.functional.normalize

    def ours() -> Tensor:
        return knn_predictions(x, y, bench.queries, CLASSES, [(NEIGHBOURS, TEMPERATURE)])[0]

    def lightly(batch: int) -> Tensor:
        turned = normal(x, dim=1).T
        parts = normal(bench.queries, dim=1).split(batch)
        return torch.cat([knn_predict(part, turned, y, CLASSES, NEIGHBOURS, TEMPERATURE)[:, 0] for part in parts])

    agreement = float((ours() == lightly(256)).double().mean())
    assert agreement > 0.999, agreement  # ties in the last bits may be broken either way
    runs: dict[str, Callable[[], Tensor]] = {"twinbench": ours}
    runs |= {f"lightly, {n} at once": partial(lightly, n) for n in (256, 1024)}
    taken = bench.compare(f"kNN {len(bench.queries)} x {len(x)}", runs)
    return {"seconds": taken, "agreement": agreement, "operations": 2 * len(x) * len(bench.queries) * WIDTH}


def online(protocol: str, sweep: str, epochs: int, data: Path | None) -> Found:
    """Time `diagnose` in a training of the protocol's length, at its interval and after the last epoch."""
    spent = []
    original = Evaluator.diagnose

    def timed(self: Evaluator, method: Method) -> dict[str, float | None]:
        begun = time.perf_counter()
        measured = original(self, method)
        spent.append(time.perf_counter() - begun)
        return measured

    planned = make_plan(sweep, (f"protocol={protocol}", "methods=simclr", "seeds=[0]", f"epochs={epochs}"), data)
    trial = next(trial for trial in planned.trials if trial.method == "simclr")
    every, whole = planned.protocol.evaluation.diagnostics_every_epochs, planned.protocol.training.epochs
    times = math.ceil(whole / every)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Evaluator, "diagnose", timed):
        assert run_pack([trial], Surroundings(Path(folder), data=data)) == ["done"]
        seconds = read_record(record_path(Path(folder), trial.trial_id))["circumstance"]["train_seconds"]
    assert isinstance(seconds, float)
    once, training = statistics.median(spent), seconds / epochs * whole
    print(
        f"{'online':<22} {protocol}: {times} times {1000 * once:.0f} ms in {training:.2f} s of training"
        f" ({whole} epochs), {100 * times * once / training:.1f} %",
        flush=True,
    )
    found = {"epochs": epochs, "diagnose_seconds": spent, "train_seconds": seconds}
    return {"protocol": protocol, "every_epochs": every, "whole_epochs": whole} | found


def noise_as_cifar10(folder: Path) -> Path:
    """Write images of noise of CIFAR-10's size in folders by class; their content does not affect the time."""
    rng = np.random.default_rng(0)
    for split, images in (("train", 900), ("test", 100)):
        for label in range(CLASSES):
            place = folder / split / str(label)
            place.mkdir(parents=True)
            for number in range(images):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png", compress_level=0)
    return folder


def all_online() -> list[Found]:
    """Measure both protocols that are meant for CPUs."""
    with tempfile.TemporaryDirectory() as folder:
        data = noise_as_cifar10(Path(folder))
        return [online("digits-small", "digits", 20, None), online("cifar10-small", "cifar10_methods", 2, data)]


def main() -> None:
    """Measure the selected parts, print each result, and write the raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    bench = Bench(torch.device(chosen.device), chosen.examples, chosen.rounds)
    found: Found = {"surroundings": surroundings(bench.device), "examples": chosen.examples}
    print(found["surroundings"], flush=True)
    parts: dict[str, Callable[[], Any]] = {
        "gemm": lambda: gemm(bench),
        "probes": lambda: {count: probes(bench, count) for count in (13, 52)},
        "ridge": lambda: ridge(bench),
        "knn": lambda: knn(bench),
        "online": all_online,
    }
    for name in PARTS:
        if name in chosen.only:
            found[name] = parts[name]()
    write(chosen.out, found)


if __name__ == "__main__":
    main()
