"""A whole ablation: eight lambdas of Barlow Twins, three seeds, trained, probed and reported by one command.

    OMP_NUM_THREADS=1 python tests/benchmarks/sweep.py --data CIFAR --out sweep.json

It is compared with the same ablation as it is usually done: a process per trial under Ray Tune, views by PIL in the
trial's process, solo-learn's loss as restated in peers.py, one probe after the other. Images, network, optimiser and
schedule, batch size, epochs and probes are equal; one thread per trial, one trial per core. Ours runs twice, packed and
not, and their records must be equal. The peer draws its own random numbers, so its mean accuracies of every lambda are
printed next to ours to show that both did the same work. Without `--data` (CIFAR-10) the images are enlarged digits.
Needs the [bench] extra; takes ten minutes for each of `--repeats`, which run alternately forwards and backwards. Packs
are measured again in each.

    python tests/benchmarks/sweep.py --device cuda --width 0 --batch 256 --images 8000 --pack 8 --data CIFAR

On a GPU, with the CIFAR ResNet-18 here, the peer has eight processes at once, a new one for each trial, as Ray Tune
does with `num_gpus=1/8`, but without Ray's own cost; bf16 autocast, and loaders that share the cores.

The last line shows the gain from equal images, order and weights for all lambdas of a seed: the width of the interval
on the difference to the default, paired by seed and as if the trials were independent, and how many times larger the
variance of a difference is without pairing. Three seeds estimate it poorly; pairing costs two of four degrees of
freedom.
"""

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fusion import LAMBDAS
from measuring import surroundings, there_and_back, write
from peers import Pictures, pil_loader, solo_barlow
from scipy import stats
from training import network

from twinbench.harness.planning import make_plan
from twinbench.harness.system.user_cache import cache_folder
from twinbench.harness.training.schedule import learning_rate_at
from twinbench.results.record import read_record, record_files
from twinbench.results.store import ResultStore
from twinbench.sweeps.protocol import Training
from twinbench.sweeps.sweep import protocol_path

By = dict[float, Any]  # by lambda
DEFAULT = 0.0051
SOLO, USUAL = "twinbench, not packed", "a process per trial"
PROCESSES = 8  # of the peer at once on a GPU
PROBES = tuple(itertools.product((0.01, 0.1, 1.0), (0.0, 1e-4)))
VIEW = """[[views]]
crop_scale = [0.08, 1.0]
flip_probability = 0.5
jitter_probability = 0.8
brightness = 0.4
contrast = 0.4
saturation = 0.4
hue = 0.1
greyscale_probability = 0.2
"""


def sweep_file(folder: Path, chosen: argparse.Namespace) -> Path:
    """Write a protocol based on the one for digits, and the sweep."""
    before, _, after = protocol_path("digits-small").read_text(encoding="utf-8").partition("[[views]]")
    after = after[after.index("[training]") :]
    if chosen.data:
        before = before.replace('name = "digits"', 'name = "cifar10"\ntest_examples = 1000')
    before = before.replace("split_seed = 0", f"split_seed = 0\nimage_size = 32\ntrain_examples = {chosen.images}")
    before = before.replace("width = 16", f"width = {chosen.width}")
    if not chosen.width:
        name, _, rest = before.partition('name = "small_resnet"')
        before = name + 'name = "resnet18"\noptions = { stem = "cifar" }\n' + rest.partition("}")[2]
    (folder / "protocol.toml").write_text(before.replace("digits-small", "ablation") + VIEW + VIEW + after)
    file = folder / "ablation.toml"
    file.write_text(
        f"""question = "How sensitive is Barlow Twins to lambda?"
protocol = "protocol.toml"
seeds = {list(range(chosen.seeds))}
baselines = false
[[grids]]
methods = ["barlow_twins"]
[grids.axes]
off_diagonal_weight = {list(LAMBDAS)}
projector_width = {chosen.projector}
projector_depth = 3
batch_size = {chosen.batch}
epochs = {chosen.epochs}
"""
    )
    return file


def ours(file: Path, out: Path, pack: str, chosen: argparse.Namespace) -> tuple[float, By]:
    """Return seconds of the command and accuracies by seed. Stored measurements of packs are deleted first."""
    shutil.rmtree(cache_folder() / "bench", ignore_errors=True)
    command = [sys.executable, "-m", "twinbench.harness.cli", "run", str(file), "--out", str(out), "--pack", pack]
    command += ["--device", chosen.device, *(["--data", str(chosen.data)] if chosen.data else [])]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun, accuracies(out)


def accuracies(out: Path) -> By:
    """Return accuracies of the linear probe on test, in the order of the seeds."""
    with ResultStore(out) as store:
        rows = store.query(
            "SELECT number, seed, value FROM metrics JOIN trials USING (trial_id) JOIN settings USING (trial_id) "
            "WHERE settings.name = 'off_diagonal_weight' AND metrics.name = 'linear_top1' AND split = 'test'"
        )
    by_weight = {weight: part.sort_values("seed") for weight, part in rows.groupby("number")}
    return {weight: by_weight[weight]["value"].to_numpy() for weight in LAMBDAS}


def digests(out: Path) -> dict[str, str]:
    """By trial."""
    records = [read_record(file) for file in record_files(out)]
    return {record["result"]["trial_id"]: record["result_digest"] for record in records}


def spent(out: Path) -> dict[str, float]:
    """Return the seconds of all trials by purpose; the rest of the command's time is its start and report."""
    circumstances: list[dict[str, Any]] = [read_record(file)["circumstance"] for file in record_files(out)]
    return {name: round(sum(one[name] for one in circumstances), 1) for name in ("train_seconds", "evaluation_seconds")}


def arrays(file: Path, data: Path | None) -> dict[str, Any]:
    """Return the pixels, labels and training settings of our trials, for the peer."""
    from twinbench.harness.trial.execute import Surroundings, _evaluator

    trial = make_plan(str(file), (), data).trials[0]
    evaluator = _evaluator(trial, Surroundings(Path(), data=data), torch.device("cpu"))
    found: dict[str, Any] = {"mean": evaluator.dataset.mean, "std": evaluator.dataset.std}
    found["training"] = Training(**trial.training)
    for name in ("train", "validation", "test"):
        part = getattr(evaluator, name)
        found[name] = part.images.batch(torch.arange(len(part.images))).numpy()
        found[f"{name}_labels"] = part.labels.numpy()
    return found


def one_trial(given: dict[str, Any], chosen: argparse.Namespace, weight: float, seed: int) -> float:
    """Pretrain and probe in the usual form; return the accuracy on test of the best probe on validation."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    device, layout = torch.device(chosen.device), torch.channels_last
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    method = network(chosen.width, chosen.projector, device).to(memory_format=layout)
    workers = (os.cpu_count() or 1) // PROCESSES if device.type == "cuda" else 0
    loader = pil_loader(Pictures(given["train"], 32, given["mean"], given["std"]), chosen.batch, workers)
    optimiser = torch.optim.SGD(method.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4)
    for epoch in range(chosen.epochs):
        for at, views in enumerate(loader):
            step, steps = epoch * len(loader) + at, chosen.epochs * len(loader)
            optimiser.param_groups[0]["lr"] = learning_rate_at(step, steps, len(loader), given["training"])
            with autocast:
                there = [view.to(device, memory_format=layout, non_blocking=True) for view in views]
                projected = [method.project(method.embed(view)) for view in there]
            z1, z2 = (part.float() for part in projected)
            loss = solo_barlow(z1, z2, weight)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    method.eval()
    mean, std = (torch.tensor(given[name]).view(3, 1, 1) for name in ("mean", "std"))
    features = {}
    with torch.no_grad(), autocast:
        for name in ("train", "validation", "test"):
            blocks = torch.from_numpy(given[name]).split(500)
            features[name] = torch.cat([method.embed(((block / 255 - mean) / std).to(device)) for block in blocks])
    features = {name: values.float() for name, values in features.items()}
    return max(probe(features, given, rate, decay) for rate, decay in PROBES)[1]


def probe(features: dict[str, Any], given: dict[str, Any], rate: float, decay: float) -> tuple[float, float]:
    """Train one linear probe; return its accuracy on validation and on test."""
    spread, mean = torch.std_mean(features["train"], dim=0)
    scaled = {name: (values - mean) / (spread + 1e-6) for name, values in features.items()}
    device = spread.device
    labels = {name: torch.from_numpy(given[f"{name}_labels"]).to(device) for name in features}
    head = torch.nn.Linear(scaled["train"].shape[1], 10, device=device)
    optimiser = torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    for _ in range(50):
        for picked in torch.randperm(len(labels["train"]), device=device).split(128):
            loss = torch.nn.functional.cross_entropy(head(scaled["train"][picked]), labels["train"][picked])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    right = {n: float((head(scaled[n]).argmax(1) == labels[n]).float().mean()) for n in ("validation", "test")}
    return right["validation"], right["test"]


def usual_on_ray(given: dict[str, Any], chosen: argparse.Namespace, folder: Path) -> tuple[float, By]:
    """Return seconds of the ablation under Ray Tune, without Ray's own start, and accuracies."""
    import ray
    from ray import tune

    here = str(Path(__file__).parent)
    ray.init(
        address="local",
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": here}},
    )
    begun = time.perf_counter()
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_tuned, given=given, chosen=chosen), {"cpu": 1}),
        param_space={"weight": tune.grid_search(list(LAMBDAS)), "seed": tune.grid_search(list(range(chosen.seeds)))},
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    results = tuner.fit()
    taken = time.perf_counter() - begun
    assert len(results) == len(LAMBDAS) * chosen.seeds and not results.errors, results.errors
    ray.shutdown()
    found: By = {weight: [] for weight in LAMBDAS}
    for result in results:
        found[result.config["weight"]].append(result.metrics["accuracy"])
    return taken, found


def usual_on_a_gpu(given: dict[str, Any], chosen: argparse.Namespace, folder: Path) -> tuple[float, By]:
    """Return seconds of the ablation by a process per trial, PROCESSES at once, and accuracies."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), max_tasks_per_child=1) as pool:
        trials = {w: [pool.submit(one_trial, given, chosen, w, seed) for seed in range(chosen.seeds)] for w in LAMBDAS}
        found = {weight: [trial.result() for trial in of_it] for weight, of_it in trials.items()}
    return time.perf_counter() - begun, found


def _tuned(config: dict[str, Any], given: dict[str, Any], chosen: argparse.Namespace) -> dict[str, float]:
    return {"accuracy": one_trial(given, chosen, config["weight"], config["seed"])}


def widths(out: Path) -> dict[str, float]:
    """Return medians over lambdas: half widths of the 95% interval on the difference to the default, and ratios."""
    by_weight = accuracies(out)
    default = by_weight.pop(DEFAULT)
    n, paired, apart, factors = len(default), [], [], []
    for values in by_weight.values():
        paired.append(stats.t.ppf(0.975, n - 1) * np.std(values - default, ddof=1) / n**0.5)
        pooled = (np.var(values, ddof=1) + np.var(default, ddof=1)) / n
        apart.append(stats.t.ppf(0.975, 2 * n - 2) * pooled**0.5)
        factors.append(n * pooled / np.var(values - default, ddof=1))
    found = {"paired": paired, "as if independent": apart, "variance unpaired / paired": factors}
    return {name: round(float(statistics.median(values)), 4) for name, values in found.items()}


def main() -> None:
    """Run the ablation in three ways, compare, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of CIFAR-10")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=8, help="width of a small ResNet; 0 is the CIFAR ResNet-18")
    parser.add_argument("--projector", type=int, default=2048)
    parser.add_argument("--pack", default="auto")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    usual_way = usual_on_a_gpu if chosen.device == "cuda" else usual_on_ray
    found: dict[str, Any] = {"surroundings": surroundings(torch.device(chosen.device)), "arguments": str(vars(chosen))}
    print(found["surroundings"], flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TWINBENCH_CACHE"] = str(folder / "cache")
        file = sweep_file(folder, chosen)
        given = arrays(file, chosen.data)
        packs = f"twinbench, packs of {chosen.pack}"
        ways = {  # the peer first: it takes longest, and a time limit would cut off the last
            USUAL: lambda out: usual_way(given, chosen, out),
            packs: lambda out: ours(file, out, chosen.pack, chosen),
            SOLO: lambda out: ours(file, out, "1", chosen),
        }
        found |= {"seconds": {way: [] for way in ways}, "accuracies": {}, "spent": {}}
        for number, way in enumerate(there_and_back(ways, chosen.repeats)):
            out = folder / way / str(number)
            seconds, reached = ways[way](out)
            found["seconds"][way].append(seconds)
            found["accuracies"][way] = {weight: [float(one) for one in reached[weight]] for weight in LAMBDAS}
            found["spent"][way] = spent(out) if way != USUAL else {}
            print(f"  {way:<34} {seconds:8.1f} s  {found['spent'][way] or ''}", flush=True)
            write(chosen.out, found)  # after each, so that an interrupted run keeps its results
        outs = [out for way in (packs, SOLO) for out in (folder / way).iterdir()]
        packed, *others = [digests(out) for out in outs]
        assert all(packed == one for one in others), "packed and solo records differ"
        assert len(packed) == len(LAMBDAS) * chosen.seeds
        found["widths"] = widths(outs[0]) if chosen.seeds > 1 else {}
    medians = {way: statistics.median(values) for way, values in found["seconds"].items()}
    print(f"medians of n = {chosen.repeats}")
    for way, median in medians.items():
        print(f"  {way:<34} {median:8.1f} s  {median / medians[packs]:6.2f} x")
    print(f"mean accuracy over {chosen.seeds} seeds, by lambda")
    print(f"  {'':<34}" + "".join(f"{weight:>8g}" for weight in LAMBDAS))
    for way in (packs, USUAL):
        values = (statistics.mean(found["accuracies"][way][weight]) for weight in LAMBDAS)
        print(f"  {way:<34}" + "".join(f"{value:8.3f}" for value in values))
    print(f"{len(packed)} trials of {chosen.epochs} epochs of {len(given['train'])} images, all records equal")
    print(f"half width of the 95% interval on a difference, and the variances' ratio, medians: {found['widths']}")
    write(chosen.out, found)


if __name__ == "__main__":
    main()
