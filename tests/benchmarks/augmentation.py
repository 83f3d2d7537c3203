"""Views per second of one process: twinbench, torchvision on PIL images, torchvision v2 per image, and kornia.

    python tests/benchmarks/augmentation.py --device cpu --threads 1 --out augmentation.json

The two-view SimCLR chain of CIFAR (crop, flip, jitter, greyscale, normalised float32). Images are decoded before the
clock starts. tests/harness/data/test_augmentation.py tests that twinbench's views equal torchvision's for the same
parameters. Here the peers draw their own, so that only the mean and the deviation of many views are compared.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import in_turn, rates, surroundings, table, write
from peers import SIMCLR, kornia_chain, pil_chain, tensor_chain
from PIL import Image
from torch import Tensor

from twinbench.harness.data.augmentation import draw_parameters, training_view
from twinbench.harness.system.memory import keep_freed_memory
from twinbench.sweeps.protocol import DatasetRule

RULE = DatasetRule("random", (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), 0.1)
OURS = "twinbench"


def smooth_images(n: int, size: int) -> Tensor:
    """uint8 [n, 3, size, size]."""
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") * 255).round().to(torch.uint8)


def makers(images: Tensor, size: int, device: torch.device) -> dict[str, Callable[[], list[Tensor]]]:
    """Return, by name, functions that make two views float32 [N, 3, size, size] of the images."""
    there, ids = images.to(device), torch.arange(len(images), device=device)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    pil, single = pil_chain(size, RULE.mean, RULE.std), tensor_chain(size, RULE.mean, RULE.std)

    def ours() -> list[Tensor]:
        height, width = there.shape[-2:]
        drawn = [draw_parameters(ids, SIMCLR, 0, 0, view, height, width) for view in range(2)]
        return [training_view(there, p, SIMCLR, size, RULE, torch.float32) for p in drawn]

    found = {
        OURS: ours,
        "torchvision on PIL": lambda: [torch.stack([pil(p) for p in pictures]).to(device) for _ in range(2)],
        "torchvision v2, image by image": lambda: [torch.stack([single(i) for i in there]) for _ in range(2)],
    }
    try:
        kornia = kornia_chain(size, RULE.mean, RULE.std)
        found["kornia"] = lambda: [kornia(there.float() / 255) for _ in range(2)]
        found["kornia"]()
    except Exception as error:
        found.pop("kornia", None)
        print(f"without kornia: {type(error).__name__}: {error}")
    return found


def check(runs: dict[str, Callable[[], list[Tensor]]]) -> dict[str, list[float]]:
    """Return mean and deviation of the views by name; ours must equal torchvision's within chance."""
    moments = {}
    for name, run in runs.items():
        views = torch.cat([view.float().cpu() for _ in range(3) for view in run()])
        moments[name] = [float(views.mean()), float(views.std())]
    for ours, theirs in zip(moments[OURS], moments["torchvision on PIL"], strict=True):
        assert abs(ours - theirs) < 0.06, moments
    return moments


def main() -> None:
    """Check the views, measure in turn, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()  # as workers do; the peers run in the same process and have it too
    device = torch.device(chosen.device)
    runs = makers(smooth_images(chosen.images, chosen.size), chosen.size, device)
    moments = check(runs)
    found = rates(in_turn(dict(runs), device, chosen.repeats), 2 * chosen.images)
    where = surroundings(device)
    print(where)
    table(f"views of {chosen.size} pixels, {chosen.images} images, {chosen.threads} thread(s)", found, OURS)
    write(chosen.out, {"surroundings": where, "moments": moments, "rates": found, "arguments": str(vars(chosen))})


if __name__ == "__main__":
    main()
