"""Images per second of one training of Barlow Twins, compared with published implementations.

    python tests/benchmarks/training.py --device cpu --width 16 --projector 2048 --out training.json
    python tests/benchmarks/training.py --projector 8192 --batch 256 --batches 2 --peers solo --out wide.json

Three peers run on the same images, network, batch size and threads, in float32 on a CPU and bf16 autocast on a GPU:
the official recipe (PIL views in a loader, NCHW, D x D loss, LARS in a loop), solo-learn's form (its loss as restated
in peers.py, channels last) and lightly's (its own loss, if installed; PIL loader, SGD). Losses must agree on equal
projections before anything is timed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import in_turn, rates, surroundings, table, write
from peers import SIMCLR, LoopedLars, Pictures, official_barlow, pil_loader, solo_barlow
from torch import Tensor

from twinbench.harness.data.images import Images
from twinbench.harness.system.memory import keep_freed_memory
from twinbench.harness.training.batches import Batches
from twinbench.harness.training.checkpoint import Progress
from twinbench.harness.training.loss_log import Losses
from twinbench.harness.training.optimisers import build_optimiser, fit_to_device
from twinbench.harness.training.step import Update
from twinbench.harness.training.task import Task
from twinbench.methods.backbones.registry import build_backbone
from twinbench.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig, barlow_twins_loss
from twinbench.methods.method import Method, Step
from twinbench.sweeps.protocol import DatasetRule, Training

RULE = DatasetRule("random", (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), 0.1)
WEIGHT = 0.005
OURS = "twinbench"
Loss = Callable[[Tensor, Tensor], Tensor]


def network(width: int, projector: int, device: torch.device) -> Method:
    """Return a small ResNet of that width, or for 0 the CIFAR ResNet-18."""
    torch.manual_seed(0)
    name, options = ("small_resnet", {"width": width}) if width else ("resnet18", {"stem": "cifar"})
    return BarlowTwins(build_backbone(name, options), BarlowTwinsConfig(projector, 3, WEIGHT)).to(device).train()


def ours(pixels: Any, chosen: Any, device: torch.device) -> Callable[[], None]:
    """Train an epoch with the parts of our training loop."""
    method = network(chosen.width, chosen.projector, device).to(memory_format=torch.channels_last)
    training = Training(10**6, chosen.batch, "lars", 0.1, weight_decay=1e-6)
    optimiser = build_optimiser(method.parameters(), training)
    fit_to_device(optimiser)
    images = Images(pixels, np.arange(len(pixels)), device)
    task = Task(images, RULE, (SIMCLR, SIMCLR), training, 0, Path(), device)
    batches, per_epoch = Batches(task), task.steps_per_epoch
    losses, progress = Losses(chosen.batch, per_epoch, 10**9), Progress()
    update = Update(task, method, method.loss, optimiser, losses, progress, runs_ahead=device.type == "cuda")

    def epoch() -> None:
        for at in range(per_epoch):
            batch = batches.at(progress.epoch, at)
            number = progress.epoch * per_epoch + at
            update(batch, Step(progress.epoch, number, 10**9, batch.ids, lambda _: torch.Generator()))
        losses.look(progress)
        progress.epoch += 1

    return epoch


def theirs(
    pixels: Any, chosen: Any, device: torch.device, loss: Loss, layout: torch.memory_format, lars: bool
) -> Callable[[], None]:
    """Train an epoch in the usual form."""
    method = network(chosen.width, chosen.projector, device).to(memory_format=layout)
    loader = pil_loader(Pictures(pixels, 32, RULE.mean, RULE.std), chosen.batch, chosen.workers)
    parameters = method.parameters()
    optimiser = (
        LoopedLars(parameters, 0.1)
        if lars
        else torch.optim.SGD(parameters, lr=0.06 * chosen.batch / 256, momentum=0.9, weight_decay=5e-4)
    )

    def epoch() -> None:
        for views in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                z1, z2 = (
                    method.project(method.embed(view.to(device, non_blocking=True, memory_format=layout)))
                    for view in views
                )
            total = loss(z1.float(), z2.float())
            optimiser.zero_grad()
            total.backward()
            optimiser.step()

    return epoch


def peers() -> dict[str, Loss]:
    """Return the peers' losses by name, without lightly's if it is not installed."""
    losses: dict[str, Loss] = {
        "official recipe": lambda z1, z2: official_barlow(z1, z2, WEIGHT),
        "solo-learn's form": lambda z1, z2: solo_barlow(z1, z2, WEIGHT),
    }
    try:
        from lightly.loss import BarlowTwinsLoss
    except ImportError:
        print("lightly is not installed: its row is left out", flush=True)
    else:
        losses["lightly's loss, PIL loader"] = BarlowTwinsLoss(lambda_param=WEIGHT)
    return losses


def check(losses: dict[str, Loss]) -> dict[str, float]:
    """Return all losses on equal projections, ours first; solo-learn's and the official code's must equal ours."""
    z1, z2 = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0)).unbind()
    values = {"twinbench": float(barlow_twins_loss(z1, z2, WEIGHT).total)}
    values |= {name: float(loss(z1, z2)) for name, loss in losses.items()}
    assert all(abs(value / values["twinbench"] - 1) < 1e-4 for value in values.values()), values
    return values


def main() -> None:
    """Check the losses, measure in turn, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the peers' loaders")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--batches", type=int, default=6, help="batches per epoch; an epoch is timed")
    parser.add_argument("--width", type=int, default=16, help="width of a small ResNet; 0 is the CIFAR ResNet-18")
    parser.add_argument("--projector", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--peers", nargs="*", default=[""], help="only peers whose names begin with this; by default all"
    )
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    device = torch.device(chosen.device)
    pixels = np.random.default_rng(0).integers(0, 256, (chosen.batch * chosen.batches, 3, 32, 32), dtype=np.uint8)
    losses = {name: loss for name, loss in peers().items() if name.startswith(tuple(chosen.peers))}
    values = check(losses)
    runs: dict[str, Callable[[], object]] = {OURS: ours(pixels, chosen, device)}
    for name, loss in losses.items():
        layout = torch.channels_last if name.startswith("solo") else torch.contiguous_format
        runs[name] = theirs(pixels, chosen, device, loss, layout, lars=not name.startswith("lightly"))
    found = rates(in_turn(runs, device, chosen.repeats), len(pixels))
    where = surroundings(device)
    print(where)
    table(f"images of 32 pixels, batch {chosen.batch}, width {chosen.width}, D {chosen.projector}", found, OURS)
    write(chosen.out, {"surroundings": where, "losses": values, "rates": found, "arguments": str(vars(chosen))})


if __name__ == "__main__":
    main()
