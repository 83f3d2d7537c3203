"""Views, training, packs and kNN on a GPU, in one command of less than ten minutes.

    python tests/benchmarks/gpu.py --out gpu.json

`--device cpu --small` runs every part in miniature, to test the script. Parts are independent: one that fails prints
the reason and the next begins. No part begins once `--seconds` have passed. A short table comes last. twinbench runs
with the deterministic kernels of `--mode repro` unless a row says fast; peers run with the fastest kernels.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import in_turn, rates, seconds, surroundings, synchronise, write
from peers import (
    SIMCLR,
    Pictures,
    kornia_chain,
    lightly_knn,
    official_barlow,
    pil_loader,
    tensor_chain,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from training import check, peers

from twinbench.harness.data.augmentation import draw_parameters, training_view
from twinbench.harness.data.images import Images
from twinbench.harness.evaluation.knn import knn_predictions
from twinbench.harness.training.batches import Batches
from twinbench.harness.training.checkpoint import Progress
from twinbench.harness.training.kernels import FAST, REPRO, choose_kernels
from twinbench.harness.training.loss_log import Losses
from twinbench.harness.training.optimisers import build_optimiser, fit_to_device
from twinbench.harness.training.step import Update
from twinbench.harness.training.task import Task
from twinbench.methods.backbones.registry import build_backbone
from twinbench.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from twinbench.methods.method import Method, Step
from twinbench.sweeps.protocol import DatasetRule, Training

RULE = DatasetRule("random", (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), 0.1)
Found = dict[str, Any]
Backbone = tuple[str, dict[str, Any]]


class Bench:
    """The device, the sizes, and the results so far."""

    def __init__(self, device: torch.device, small: bool) -> None:
        self.device, self.small = device, small
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.backbone: Backbone = ("small_resnet", {"width": 4}) if small else ("resnet18", {"stem": "cifar"})
        self.width = 32 if small else 2048
        self.rows: list[tuple[str, str]] = []

    def say(self, name: str, value: str) -> None:
        """Add a line to the table and print it."""
        self.rows.append((name, value))
        print(f"{name}: {value}", flush=True)

    def images(self, n: int, size: int) -> Tensor:
        """Return coarse noise, uint8 [n, 3, size, size], on the device."""
        coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(n))
        fine = torch.nn.functional.interpolate(coarse.to(self.device), size=size, mode="bilinear")
        return (fine * 255).round().to(torch.uint8)


def copy_bandwidth(bench: Bench) -> Found:
    """Return bytes read and written per second by a large copy: the limit of all that only moves bytes."""
    words = 2**22 if bench.small else 2**30
    source = torch.empty(words, dtype=torch.int32, device=bench.device).random_()
    target = torch.empty_like(source)
    taken = [seconds(lambda: target.copy_(source), bench.device) for _ in range(12)][2:]
    bandwidth = 8 * words / statistics.median(taken)
    bench.say("copy bandwidth", f"{bandwidth / 1e12:.3f} TB/s")
    return {"bytes_per_second": bandwidth, "seconds": taken}


def products(bench: Bench) -> Found:
    """Return floating-point operations per second of one large product: the limit for the arithmetic of a step."""
    n = 512 if bench.small else 8192
    left, right = (torch.randn(n, n, device=bench.device, dtype=bench.dtype) for _ in range(2))
    taken = in_turn({"product": lambda: left @ right}, bench.device, repeats=5, calls=2 if bench.small else 20)
    reached = 2 * n**3 / statistics.median(taken["product"])
    bench.say(f"product of {n}, {bench.dtype}", f"{reached / 1e12:.2f} TFLOP/s")
    return {"operations_per_second": reached, "seconds": taken["product"]}


def operations(trainer: "Trainer") -> int:
    """Return the floating-point operations of products and convolutions in one eager update."""
    with FlopCounterMode(display=False) as counter:
        trainer.run(1)
    return int(counter.get_total_flops())


def recorded(make: Callable[[], object]) -> Callable[[], None]:
    """Return the function that replays `make` as a CUDA graph."""
    make()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        make()
    return graph.replay


def views(bench: Bench, size: int, bandwidth: float) -> Found:
    """Time 512 views, uint8 in, bf16 channels last out: ours eager, compiled and as one kernel, and peers'."""
    n = 8 if bench.small else 512
    images, ids, device = bench.images(n, size), torch.arange(n, device=bench.device), bench.device
    p = draw_parameters(ids, SIMCLR, 0, 0, 0, size, size)
    floats = images.float() / 255

    def ours() -> Tensor:
        return training_view(images, p, SIMCLR, size, RULE, bench.dtype)

    compiled = torch.compile(training_view, dynamic=False)

    def ours_compiled() -> Tensor:
        return compiled(images, p, SIMCLR, size, RULE, bench.dtype)

    one_by_one = tensor_chain(size, RULE.mean, RULE.std)
    runs: dict[str, Callable[[], object]] = {"ours, eager": ours}
    if device.type == "cuda":
        runs["ours, compiled"] = ours_compiled
        runs["ours, compiled, in a graph"] = recorded(ours_compiled)
        from twinbench.harness.data.augmentation_triton import view_by_kernel

        def ours_by_kernel() -> Tensor:
            return view_by_kernel(images, p, SIMCLR, size, RULE, bench.dtype)

        runs["ours, one kernel"] = ours_by_kernel
        runs["ours, one kernel, in a graph"] = recorded(ours_by_kernel)
    runs["draw the parameters"] = lambda: draw_parameters(ids, SIMCLR, 0, 0, 0, size, size)
    found: Found = {}
    try:
        kornia = kornia_chain(size, RULE.mean, RULE.std).to(device)  # type: ignore[attr-defined]
        runs["kornia"] = lambda: kornia(floats).to(bench.dtype)
        runs["kornia"]()
    except Exception as error:  # a peer that is missing or fails does not stop the rest
        runs.pop("kornia", None)
        found["kornia"] = f"{type(error).__name__}: {error}"
    taken = in_turn(runs, device, repeats=7, calls=1 if bench.small else 10)
    few = min(n, 64)
    slow = in_turn(
        {"torchvision v2, image by image": lambda: torch.stack([one_by_one(image) for image in images[:few]])},
        device,
        repeats=5,
    )
    found |= {"rates": rates(taken, n) | rates(slow, few)}
    moved = n * 3 * size * size * (1 + torch.finfo(bench.dtype).bits // 8)
    found["bytes"] = moved
    for name, row in found["rates"].items():
        share = row["per_second"] / n * moved / bandwidth
        bench.say(
            f"512 views at {size}, {name}", f"{1e3 * n / row['per_second']:.3f} ms, {share:.1%} of copy bandwidth"
        )
    return found


def views_are_right(bench: Bench, size: int) -> Found:
    """Return how far the device's views are from a CPU's, and whether a view depends on its batch."""
    n = 8 if bench.small else 64
    images = bench.images(n, size)
    p = draw_parameters(torch.arange(n, device=bench.device), SIMCLR, 0, 0, 0, size, size)
    there = draw_parameters(torch.arange(n), SIMCLR, 0, 0, 0, size, size)
    expected = training_view(images.cpu(), there, SIMCLR, size, RULE, torch.float32)
    found: Found = {}
    makers: dict[str, Callable[..., Tensor]] = {"eager": training_view}
    if bench.device.type == "cuda":
        from twinbench.harness.data.augmentation_triton import view_by_kernel

        makers["one kernel"] = view_by_kernel
    for name, make in makers.items():
        whole = make(images, p, SIMCLR, size, RULE, torch.float32)
        part = make(images[3:6], p.rows(slice(3, 6)), SIMCLR, size, RULE, torch.float32)
        found[name] = {
            "largest_difference": float((whole.cpu() - expected).abs().max()),
            "same_in_another_batch": bool(torch.equal(whole[3:6], part)),
            "difference_in_another_batch": float((whole[3:6] - part).abs().max()),
        }
        bench.say(f"views at {size}, {name}, against a CPU's", str(found[name]))
    return found


def network(bench: Bench, backbone: Backbone | None) -> BarlowTwins:
    """Return Barlow Twins on the device, with the bench's backbone or another."""
    torch.manual_seed(0)
    built = build_backbone(*(backbone or bench.backbone))
    return BarlowTwins(built, BarlowTwinsConfig(bench.width, 3, 0.005)).to(bench.device).train()


class Trainer:
    """A training of Barlow Twins, update by update."""

    def __init__(
        self,
        bench: Bench,
        batch_size: int,
        records: bool,
        autocast: bool = True,
        compiles: bool = False,
        backbone: Backbone | None = None,
        size: int = 32,
    ):
        device = bench.device
        examples = batch_size * (4 if bench.small else 40 * 32 // size)
        pixels = bench.images(examples, size).cpu().numpy()
        self.method: Method = network(bench, backbone).to(memory_format=torch.channels_last)
        training = Training(1000, batch_size, "sgd", 0.01, weight_decay=5e-4, decay_bias_and_norm=True)
        training = replace(training, precision="auto" if autocast else "fp32")
        self.optimiser = build_optimiser(self.method.parameters(), training)
        fit_to_device(self.optimiser)
        images = Images(pixels, np.arange(examples), device)
        task = Task(images, RULE, (SIMCLR, SIMCLR), training, 0, Path(), device)
        self.batches = Batches(task)
        self.steps, self.at = task.steps_per_epoch, 0
        self.losses = Losses(batch_size, self.steps, 10**6)
        if compiles:
            self.method.backbone.compile(dynamic=False)  # in place: the module's names stay
            self.method.projector.compile(dynamic=False)
        self.update = Update(
            task, self.method, self.method.loss, self.optimiser, self.losses, Progress(), runs_ahead=True
        )
        if not records or device.type == "cpu":
            self.update._eager_left = -1

    def run(self, updates: int) -> None:
        """Run that many updates without waiting for the device."""
        for _ in range(updates):
            epoch, step = divmod(self.at, self.steps)
            batch = self.batches.at(epoch, step)
            self.update(batch, Step(epoch, self.at, 10**6, batch.ids, _no_generator))
            self.at += 1


def _no_generator(purpose: str) -> torch.Generator:
    raise AssertionError(purpose)


def steps(bench: Bench, batch_size: int, compiles: bool, peak: float) -> Found:
    """Time the whole update (draws, views, forward, backward, optimiser), in images/s and its share of `peak`."""
    updates = 2 if bench.small else 25
    makers = {"eager": (False, False), "graph": (True, False)}
    if compiles:
        choose_kernels(FAST)
        makers = {"fast": (True, True)}
    found: Found = {"operations": operations(Trainer(bench, batch_size, False))}
    trainers = {}
    for name, (records, compiled) in makers.items():
        trainers[name] = Trainer(bench, batch_size, records, compiles=compiled)
        trainers[name].run(6)
        synchronise(bench.device)
        found[f"{name}, is recorded"] = trainers[name].update.is_captured
    runs = {name: (lambda trainer=trainer: trainer.run(updates)) for name, trainer in trainers.items()}
    found["rates"] = rates(in_turn(runs, bench.device), updates * batch_size)
    tell_shares(bench, f"CIFAR ResNet-18, {bench.width} wide", found, batch_size, peak)
    if bench.device.type == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
    return found


def tell_shares(bench: Bench, what: str, found: Found, batch_size: int, peak: float) -> None:
    """Print images per second of every way in `found`, and the share of `peak` that its `operations` reach."""
    for name, row in found["rates"].items():
        row["share_of_products"] = found["operations"] / batch_size * row["per_second"] / peak
        logged = f"{row['per_second']:.0f} images/s, {row['share_of_products']:.1%} of what products reach"
        bench.say(f"{what}, batch {batch_size}, {name}", logged)


def where_the_time_goes(bench: Bench) -> Found:
    """Return the kernels of three recorded updates at batch 256, by their time."""
    trainer = Trainer(bench, 32 if bench.small else 256, True)
    trainer.run(6)
    synchronise(bench.device)
    with torch.profiler.profile() as profile:
        trainer.run(3)
        synchronise(bench.device)
    on_gpu = bench.device.type == "cuda"
    rows = sorted(
        (
            (e.self_device_time_total if on_gpu else e.self_cpu_time_total, e.count, e.key)
            for e in profile.key_averages()
        ),
        reverse=True,
    )
    for spent, count, key in rows[:25]:
        print(f"  {spent / 3000:9.3f} ms  {count:>6}  {key[:110]}", flush=True)
    return {"kernels": [[spent, count, key] for spent, count, key in rows[:60]]}


def same_as_eager(bench: Bench, autocast: bool, backbone: Backbone | None = None, size: int = 32) -> Found:
    """Compare the weights after twelve updates, twice eager and once recorded: bit-identical, or how different."""
    results = []
    for records in (False, False, True):
        trainer = Trainer(bench, 32 if bench.small else 128, records, autocast, backbone=backbone, size=size)
        trainer.run(12)
        losses = torch.stack([terms[0] for *_, terms in trainer.losses._kept]).cpu()
        weights = {name: value.detach().clone() for name, value in trainer.method.state_dict().items()}
        results.append((losses, weights, trainer.update.is_captured))
    (losses, weights, _), (again, weights_again, _), (recorded, recorded_weights, is_captured) = results
    found = {
        "is_recorded": is_captured,
        "losses_are_finite": bool(losses.isfinite().all()),
        "eager_repeats_to_the_bit": all(torch.equal(weights[k], weights_again[k]) for k in weights),
        "recorded_is_eager_to_the_bit": all(torch.equal(weights[k], recorded_weights[k]) for k in weights),
        "largest_relative_difference_of_losses": float(((recorded - losses) / losses).abs().max()),
        "the_same_of_eager_twice": float(((again - losses) / losses).abs().max()),
    }
    of = f"{'bf16' if autocast else 'fp32'}, {(backbone or bench.backbone)[0]}"
    bench.say(f"recorded against eager, {of}", str(found))
    return found


def peer_steps(bench: Bench) -> Found:
    """Time the usual form at batch 256, by loss: PIL views in workers, NCHW, a loop of SGD; also bf16 autocast."""
    batch_size, workers = (32, 0) if bench.small else (256, 14)
    pixels = bench.images(batch_size * (2 if bench.small else 40), 32).cpu().numpy()
    loader = pil_loader(Pictures(pixels, 32, RULE.mean, RULE.std), batch_size, workers)
    on_gpu = bench.device.type == "cuda"
    choose_kernels(FAST)

    def epoch_of(loss_of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        method = network(bench, None)
        optimiser = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

        def epoch() -> None:
            for pair in loader:
                with torch.autocast(bench.device.type, torch.bfloat16, enabled=on_gpu):
                    views = (view.to(bench.device, non_blocking=True) for view in pair)
                    z1, z2 = (method.project(method.embed(view)) for view in views)
                    loss = loss_of(z1.float(), z2.float())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                float(loss)

        return epoch

    losses = peers()
    check(losses)
    runs = {f"PIL loader of {workers} workers, {name}": epoch_of(loss) for name, loss in losses.items()}
    found: Found = {"rates": rates(in_turn(runs, bench.device, repeats=3), len(loader) * batch_size)}
    for name, row in found["rates"].items():
        bench.say(f"the usual form, batch {batch_size}, {name}", f"{row['per_second']:.0f} images/s")
    return found


def packs(bench: Bench) -> Found:
    """Time eight trainings with packing.py: in one pack, and in a process each with eager updates."""
    shape, ways = ("0", "x pack of 4,x pack of 1") if bench.small else ("2", "1 x pack of 8,as it is")
    script = Path(__file__).with_name("packing.py")
    options = ["--device", bench.device.type, "--shapes", shape, "--seconds", "1", "--repeats", "1", "--ways", ways]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "packs.json"
        command = [sys.executable, str(script), *options, "--out", str(out)]
        subprocess.run(command, check=True, timeout=180, stdout=subprocess.DEVNULL)
        found: Found = json.loads(out.read_text())
    for name, measured in found.items():
        if name != "surroundings":
            logged = ", ".join(f"{way} {statistics.median(values):.0f} steps/s" for way, values in measured.items())
            bench.say(f"eight trainings, {name}", logged)
    return found


def vision_transformer(bench: Bench, peak: float) -> Found:
    """Time ViT-S/16 at 224 pixels, batch 256: ours, and stable-pretraining's form with kornia's views on the GPU.

    The latter has the official loss and reads the loss at every step; network, autocast and optimiser are equal. The
    last way of ours is `--mode fast`, whose network is compiled.
    """
    size, batch_size, updates = (16, 4, 2) if bench.small else (224, 256, 5)
    backbone = vision_transformer_of(bench)
    on_gpu = bench.device.type == "cuda"
    found: Found = {"operations": operations(Trainer(bench, batch_size, False, backbone=backbone, size=size))}
    runs: dict[str, Callable[[], object]] = {}
    for name, records, mode in (("eager", False, REPRO), ("graph", True, REPRO), ("fast", True, FAST)):
        choose_kernels(mode)
        trainer = Trainer(bench, batch_size, records, compiles=mode == FAST, backbone=backbone, size=size)
        trainer.run(6)
        runs[name] = _by(mode, functools.partial(trainer.run, updates))
        found[f"{name}, is recorded"] = trainer.update.is_captured
    chain = kornia_chain(size, RULE.mean, RULE.std).to(bench.device)  # type: ignore[attr-defined]
    method, images = network(bench, backbone), bench.images(batch_size, size)
    optimiser = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)

    def usual() -> None:
        for _ in range(updates):
            views = [chain(images.float() / 255) for _ in range(2)]
            with torch.autocast(bench.device.type, torch.bfloat16, enabled=on_gpu):
                z1, z2 = (method.project(method.embed(view)) for view in views)
                loss = official_barlow(z1.float(), z2.float(), 0.005)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            float(loss)

    runs["kornia's views"] = _by(FAST, usual)
    found["rates"] = rates(in_turn(runs, bench.device), updates * batch_size)
    tell_shares(bench, f"ViT-S/16 at {size}", found, batch_size, peak)
    return found


def vision_transformer_of(bench: Bench) -> Backbone:
    """Return ViT-S/16, or a smaller one in miniature."""
    return ("vit_tiny", {"patch_size": 8}) if bench.small else ("vit_small", {})


def _by(mode: str, run: Callable[[], object]) -> Callable[[], None]:
    """Return `run` with the kernels of that mode."""

    def by_them() -> None:
        choose_kernels(mode)
        run()

    return by_them


def neighbours(bench: Bench) -> Found:
    """Time kNN of 10,000 queries among 50,000 features of 512, k = 200: ours, and lightly's in batches of 256."""
    n, m, k = (500, 100, 20) if bench.small else (50_000, 10_000, 200)
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(rows, 512, generator=generator).to(bench.device) for rows in (n, m))
    labels = torch.randint(0, 10, (n,), generator=generator).to(bench.device)
    normal = torch.nn.functional.normalize
    turned = normal(bank, dim=1).T.contiguous()

    def ours() -> Tensor:
        return knn_predictions(bank, labels, queries, 10, [(k, 0.1)])[0]

    def lightly() -> Tensor:
        return torch.cat([lightly_knn(q, turned, labels, 10, k, 0.1) for q in normal(queries, dim=1).split(256)])

    agreement = float((ours() == lightly()).double().mean())
    cosines = bank.new_empty(min(1024, m), n)

    def products() -> None:
        for block in queries.split(1024):
            torch.mm(block, bank.T, out=cosines[: len(block)])

    def best() -> None:
        for block in queries.split(1024):
            cosines[: len(block)].topk(k, dim=1)

    runs = {"ours": ours, "lightly": lightly, "products alone": products, "top-k alone": best}
    found: Found = {"agreement": agreement, "rates": rates(in_turn(runs, bench.device), m)}
    for name, row in found["rates"].items():
        bench.say(f"kNN {m} x {n} x 512, {name}", f"{1e3 * m / row['per_second']:.1f} ms (agreement {agreement:.4f})")
    return found


def main() -> None:
    """Measure part after part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="run every part in miniature")
    parser.add_argument("--seconds", type=float, default=480.0, help="no part begins after this time")
    parser.add_argument("--only", default="", help="run only parts whose names begin with this")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    begun = time.monotonic()
    device = torch.device(chosen.device)
    bench = Bench(device, chosen.small)
    found: Found = {"surroundings": surroundings(device)}
    print(found["surroundings"], flush=True)
    first, second = (32, 64) if chosen.small else (256, 512)
    large = 64 if chosen.small else 224

    def bandwidth() -> float:
        return float(found.get("copy bandwidth", {}).get("bytes_per_second", 3e12))

    def peak() -> float:
        return float(found.get("products", {}).get("operations_per_second", float("nan")))

    parts: dict[str, Callable[[], Found]] = {
        "copy bandwidth": lambda: copy_bandwidth(bench),
        "products": lambda: products(bench),
        "steps, batch 256": lambda: steps(bench, first, False, peak()),
        "recorded against eager, bf16": lambda: same_as_eager(bench, True),
        "recorded against eager, fp32": lambda: same_as_eager(bench, False),
        "steps, batch 512": lambda: steps(bench, second, False, peak()),
        "views are right, 32": lambda: views_are_right(bench, 32),
        "views, 32": lambda: views(bench, 32, bandwidth()),
        "views, 224": lambda: views(bench, large, bandwidth()),
        "where the time goes": lambda: where_the_time_goes(bench),
        "kNN": lambda: neighbours(bench),
        "the usual form": lambda: peer_steps(bench),
        "packs": lambda: packs(bench),
        "vision transformer": lambda: vision_transformer(bench, peak()),
        "vision transformer, recorded against eager": lambda: same_as_eager(
            bench, True, vision_transformer_of(bench), large
        ),
        "steps, fast, batch 512": lambda: steps(bench, second, True, peak()),
        "steps, fast, batch 256": lambda: steps(bench, first, True, peak()),
        "views are right, 224": lambda: views_are_right(bench, large),
    }
    parts = {name: part for name, part in parts.items() if name.startswith(chosen.only)}
    for name, part in parts.items():
        if time.monotonic() - begun > chosen.seconds:
            bench.say(name, "not begun: no time left")
            continue
        started = time.monotonic()
        choose_kernels(REPRO)  # an earlier part may have chosen others
        try:
            found[name] = part()
        except Exception as error:
            traceback.print_exc()
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
            bench.say(name, f"FAILED, {type(error).__name__}: {str(error)[:200]}")
        print(f"-- {name}: {time.monotonic() - started:.1f} s", flush=True)
        write(chosen.out, found)  # after every part, so that an interrupted run keeps its results
    print(f"\n{'':-<100}")
    for left, right in bench.rows:
        print(f"{left:<62} {right}")
    failed = [name for name in parts if "failed" in found.get(name, {})]
    raise SystemExit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
