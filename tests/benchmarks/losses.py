"""The cost of the losses compared with other implementations, on the same inputs in the same run.

    OMP_NUM_THREADS=2 python tests/benchmarks/losses.py --out losses.json
    python tests/benchmarks/losses.py --device cuda --only "barlow_twins 256x8192" "forms" --out losses.json

Measured are the seconds for value and gradient, ours and the peers', which must agree first; for the decorrelation
losses the slower form relative to the faster one, and whether the faster one is chosen for the shape; and peak memory
beyond the inputs. Each round runs all in turn, every other round backwards; medians over rounds. Peers are restatements
of the published code, and lightly if it is installed.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from twinbench.harness.system import provenance
from twinbench.methods.barlow_twins import barlow_twins_loss
from twinbench.methods.ops import correlation
from twinbench.methods.simclr import ntxent_loss
from twinbench.methods.vicreg import vicreg_loss

WEIGHT, TEMPERATURE = 0.0051, 0.1
Loss = Callable[[Tensor, Tensor], Tensor]

SHAPES = {
    "barlow_twins": [(128, 2048), (256, 512), (256, 2048), (256, 8192), (1024, 2048)],
    "covariance": [(256, 512), (256, 2048), (256, 8192), (1024, 2048)],
    "ntxent": [(256, 128), (1024, 128), (4096, 128)],
}
GRID = [2**power for power in range(6, 14)]
RATIOS = (0.6, 0.75, 0.9)  # N/D near the point where both forms cost the same
MOST_OPERATIONS = 1e10  # of a form that takes three times as many as the other; larger ones are not run
MOST_ON_A_CPU = 3.2e11  # of any form, some seconds


# ---- ours and the peers' ----


def ours_barlow_twins(z1: Tensor, z2: Tensor) -> Tensor:
    return barlow_twins_loss(z1, z2, WEIGHT).total


def off_diagonal_copy(matrix: Tensor) -> Tensor:
    """Return a copy of the off-diagonal entries, as facebookresearch's `off_diagonal` does."""
    width = len(matrix)
    return matrix.flatten()[:-1].view(width - 1, width + 1)[:, 1:].flatten()


def official_barlow_twins(z1: Tensor, z2: Tensor) -> Tensor:
    """facebookresearch/barlowtwins, main.py: BatchNorm, product, diagonal and copied off-diagonal squared in place."""
    c = F.batch_norm(z1, None, None, training=True).T @ F.batch_norm(z2, None, None, training=True)
    c.div_(len(z1))
    on = torch.diagonal(c).add_(-1).pow_(2).sum()
    return on + WEIGHT * off_diagonal_copy(c).pow_(2).sum()


def solo_barlow_twins(z1: Tensor, z2: Tensor) -> Tensor:
    """solo-learn, losses/barlow.py, without its scale: the weight is multiplied in through a mask."""
    a, b = (F.batch_norm(z, None, None, training=True) for z in (z1, z2))
    c = torch.einsum("bi,bj->ij", a, b) / len(z1)
    eye = torch.eye(c.shape[0], device=c.device)
    squares = (c - eye).pow(2)
    squares[~eye.bool()] *= WEIGHT
    return squares.sum()


def ours_covariance(z1: Tensor, z2: Tensor) -> Tensor:
    return vicreg_loss(z1, z2, 0, 0, 1).total


def official_covariance(z1: Tensor, z2: Tensor) -> Tensor:
    """facebookresearch/vicreg, main_vicreg.py, the covariance term."""
    total = torch.zeros((), device=z1.device)
    for z in (z1, z2):
        centred = z - z.mean(0)
        covariance = centred.T @ centred / (len(z) - 1)
        total = total + off_diagonal_copy(covariance).pow_(2).sum() / z.shape[1]
    return total


def solo_covariance(z1: Tensor, z2: Tensor) -> Tensor:
    """solo-learn, losses/vicreg.py, the covariance term: the entries are selected through a mask."""
    total = torch.zeros((), device=z1.device)
    for z in (z1, z2):
        centred = z - z.mean(0)
        covariance = centred.T @ centred / (len(z) - 1)
        mask = ~torch.eye(z.shape[1], device=z.device).bool()
        total = total + covariance[mask].pow_(2).sum() / z.shape[1]
    return total


def ours_ntxent(z1: Tensor, z2: Tensor) -> Tensor:
    return ntxent_loss(z1, z2, TEMPERATURE).total


def official_ntxent(z1: Tensor, z2: Tensor) -> Tensor:
    """google-research/simclr, objective.py: four N x N products, 1e9 taken off the diagonals, two cross-entropies."""
    a, b = F.normalize(z1), F.normalize(z2)
    samples = len(a)
    self_mask = 1e9 * torch.eye(samples, device=a.device)
    aa, bb = a @ a.T / TEMPERATURE - self_mask, b @ b.T / TEMPERATURE - self_mask
    ab, ba = a @ b.T / TEMPERATURE, b @ a.T / TEMPERATURE
    labels = torch.arange(samples, device=a.device)
    return F.cross_entropy(torch.cat([ab, aa], 1), labels) + F.cross_entropy(torch.cat([ba, bb], 1), labels)


def solo_ntxent(z1: Tensor, z2: Tensor) -> Tensor:
    """solo-learn, losses/simclr.py, twice its mean: exponentials of all similarities, masked twice."""
    z = F.normalize(torch.cat([z1, z2]))
    similarities = torch.exp(torch.einsum("if,jf->ij", z, z) / TEMPERATURE)
    image = torch.arange(len(z1), device=z.device).repeat(2).unsqueeze(0)
    positive = image.t() == image
    positive.fill_diagonal_(False)
    negative = image.t() != image
    wanted = (similarities * positive).sum(1)
    return -2 * torch.log(wanted / (wanted + (similarities * negative).sum(1))).mean()


def with_lightly() -> dict[str, Loss]:
    """Return lightly's losses by name, scaled to ours; none if it is not installed."""
    try:
        from lightly.loss import BarlowTwinsLoss, NTXentLoss, VICRegLoss
    except ImportError:
        return {}
    barlow, ntxent = BarlowTwinsLoss(lambda_param=WEIGHT), NTXentLoss(temperature=TEMPERATURE)
    covariance = VICRegLoss(lambda_param=0, mu_param=0, nu_param=1)
    return {"barlow_twins": barlow, "covariance": covariance, "ntxent": lambda z1, z2: 2 * ntxent(z1, z2)}


def contenders(kind: str) -> dict[str, Loss]:
    """Return the losses by name, ours first."""
    named: dict[str, dict[str, Loss]] = {
        "barlow_twins": {
            "twinbench": ours_barlow_twins,
            "official form": official_barlow_twins,
            "solo-learn form": solo_barlow_twins,
        },
        "covariance": {
            "twinbench": ours_covariance,
            "official form": official_covariance,
            "solo-learn form": solo_covariance,
        },
        "ntxent": {"twinbench": ours_ntxent, "official form": official_ntxent, "solo-learn form": solo_ntxent},
    }
    lightly = with_lightly()
    return named[kind] | ({"lightly": lightly[kind]} if kind in lightly else {})


# ---- measuring ----


def two_views(samples: int, width: int, device: str) -> list[Tensor]:
    """Return two similar views whose features differ in mean and deviation."""
    generator = torch.Generator().manual_seed(samples + width)
    shared, *noise = torch.randn(3, samples, width, generator=generator)
    scale, shift = 0.5 + torch.rand(2, width, generator=generator)
    return [((shared + 0.5 * part) * scale + shift).to(device).requires_grad_() for part in noise]


def value_and_gradients(loss: Loss, views: list[Tensor]) -> list[Tensor]:
    """Return value and gradients of one forward and one backward pass."""
    total = loss(*views)
    return [total.detach(), *torch.autograd.grad(total, views)]


def check_equal(losses: Mapping[str, Loss], views: list[Tensor]) -> dict[str, float]:
    """Return the largest relative difference to the first loss, of value or gradient vector: at most fp32 rounding."""
    first, *_ = losses.values()
    expected = [tensor.double() for tensor in value_and_gradients(first, views)]
    differences = {}
    for name, loss in losses.items():
        actual = [tensor.double() for tensor in value_and_gradients(loss, views)]
        pairs = zip(actual, expected, strict=True)
        differences[name] = max(float((a - e).norm() / e.norm()) for a, e in pairs)
        assert differences[name] < 1e-4, f"{name} differs by {differences[name]}"
    return differences


def seconds(loss: Loss, views: list[Tensor]) -> float:
    """Return the seconds of one forward and one backward pass; the mean of several if one is very short."""
    synchronise(views[0])
    begun = time.perf_counter()
    passes = 0
    while passes == 0 or (time.perf_counter() - begun < 0.02 and passes < 50):
        value_and_gradients(loss, views)
        synchronise(views[0])
        passes += 1
    return (time.perf_counter() - begun) / passes


def synchronise(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def measure(losses: Mapping[str, Loss], views: list[Tensor], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every loss in every round, alternately forwards and backwards."""
    found: dict[str, list[float]] = {name: [] for name in losses}
    for name in losses:
        seconds(losses[name], views)  # warm
    for number in range(rounds):
        for name in list(losses)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(seconds(losses[name], views))
    return found


def compare(kind: str, shape: tuple[int, int], device: str, rounds: int) -> dict[str, Any]:
    """Compare our loss with the peers' at one shape."""
    views, losses = two_views(*shape, device), contenders(kind)
    differences = check_equal(losses, views)
    found = measure(losses, views, rounds)
    ours = statistics.median(found["twinbench"])
    for name, values in found.items():
        median, least, most = (1000 * f(values) for f in (statistics.median, min, max))
        print(
            f"{kind:<13} {shape[0]:>5} x {shape[1]:<5} {name:<16} {median:10.3f} ms ({least:.3f} to {most:.3f})"
            f"  {median / ours / 1000:7.2f} x  off by {differences[name]:.0e}",
            flush=True,
        )
    return {"kind": kind, "shape": shape, "seconds": found, "relative_differences": differences}


# ---- the two forms ----


def in_form(gram: bool, loss: Loss, z1: Tensor, z2: Tensor) -> Tensor:
    """Return the loss computed in the given form."""
    with mock.patch.object(correlation, "gram_is_cheaper", lambda *_, alone: gram):
        return loss(z1, z2)


def grid() -> list[tuple[int, int]]:
    between = [(round(ratio * width), width) for width in GRID[1:-1] for ratio in RATIOS]
    return [(samples, width) for samples in GRID for width in GRID] + between


def compare_forms(kind: str, shape: tuple[int, int], device: str, rounds: int) -> dict[str, Any] | None:
    """Compare the chosen form with the other: 1 if the chosen one is faster. None if one is far too slow to run."""
    samples, width = shape
    operations = {"gram": 8 * samples**2 * width, "direct": 6 * samples * width**2}
    dearer, cheaper = max(operations.values()), min(operations.values())
    if dearer > MOST_OPERATIONS and dearer >= 3 * cheaper:
        return None
    if device == "cpu" and dearer > MOST_ON_A_CPU:
        return None
    loss = {"barlow_twins": ours_barlow_twins, "covariance": ours_covariance}[kind]
    forms: dict[str, Loss] = {
        "gram": partial(in_form, True, loss),
        "direct": partial(in_form, False, loss),
    }
    views = two_views(*shape, device)
    check_equal(forms, views)
    found = measure(forms, views, rounds)
    medians = {name: statistics.median(values) for name, values in found.items()}
    chosen = "gram" if correlation.gram_is_cheaper(*shape, alone=kind == "covariance") else "direct"
    of_best = min(medians.values()) / medians[chosen]
    print(
        f"forms of {kind:<13} {samples:>5} x {width:<5} gram {1000 * medians['gram']:10.3f} ms  direct"
        f" {1000 * medians['direct']:10.3f} ms  {chosen:<6} is chosen: {of_best:.2f} of the better",
        flush=True,
    )
    return {"kind": kind, "shape": shape, "seconds": found, "chosen": chosen, "of_best": of_best}


# ---- memory ----


def peak_bytes(kind: str, name: str, shape: tuple[int, int], device: str) -> int:
    """Return by how much one pass raises the peak memory. Call it in a new process, which has freed nothing before."""
    views, loss = two_views(*shape, device), contenders(kind)[name]
    small = two_views(64, 64, device)
    value_and_gradients(loss, small)  # what libraries allocate for themselves
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        value_and_gradients(loss, views)
        return torch.cuda.max_memory_allocated() - before
    provenance.reset_peak_memory()
    at_first = provenance.peak_memory_bytes()
    value_and_gradients(loss, views)
    after = provenance.peak_memory_bytes()
    assert at_first and after, "this system does not report a process's peak memory"
    return after - at_first


def compare_memory(kind: str, shape: tuple[int, int], device: str) -> dict[str, Any]:
    """Compare peak memory beyond the inputs, including gradients."""
    found = {}
    for name in contenders(kind):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(peak_bytes, (kind, name, shape, device))
        share = found[name] / found["twinbench"]
        print(f"memory of {kind} {shape[0]} x {shape[1]} {name:<16} {found[name] / 2**20:9.1f} MiB {share:6.1f} x")
    return {"kind": kind, "shape": shape, "peak_bytes": found}


# ---- all of it ----


def surroundings(device: str) -> dict[str, Any]:
    """Return hardware and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    if with_lightly():
        versions["lightly"] = importlib.metadata.version("lightly")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "matmul_precision": torch.get_float32_matmul_precision(),
        "versions": versions,
    }


def main() -> None:
    """Measure the selected parts, print each result, and write the raw numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--only", nargs="*", default=[""], help="what to measure: beginnings of 'forms covariance 64x128'"
    )
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    prefixes = tuple(chosen.only)
    found: dict[str, Any] = {"surroundings": surroundings(chosen.device), "losses": [], "forms": [], "memory": []}
    print(json.dumps(found["surroundings"]), flush=True)
    for kind, shapes in SHAPES.items():
        for shape in shapes:
            if f"{kind} {shape[0]}x{shape[1]}".startswith(prefixes):
                found["losses"].append(compare(kind, shape, chosen.device, chosen.rounds))
    for kind in ("barlow_twins", "covariance"):
        for shape in grid():
            if f"forms {kind} {shape[0]}x{shape[1]}".startswith(prefixes):
                found["forms"].append(compare_forms(kind, shape, chosen.device, chosen.rounds))
        if f"memory {kind}".startswith(prefixes):
            found["memory"].append(compare_memory(kind, (256, 8192), chosen.device))
    found["forms_left_out"] = sum(row is None for row in found["forms"])
    found["forms"] = [row for row in found["forms"] if row is not None]
    if found["forms"]:
        worst = found["worst_of_forms"] = min(found["forms"], key=lambda row: row["of_best"])
        print(
            f"the chosen form at its worst: {worst['of_best']:.3f} of the better, of {worst['kind']} "
            f"{worst['shape'][0]} x {worst['shape'][1]}; {len(found['forms'])} shapes measured, "
            f"{found['forms_left_out']} left out as long, or as clear"
        )
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
