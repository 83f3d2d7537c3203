"""Other implementations, restated or called directly, for the benchmarks to compare with."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from twinbench.sweeps.recipe import ViewRecipe

SIMCLR = ViewRecipe(
    crop_scale=(0.08, 1.0),
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    greyscale_probability=0.2,
)


def pil_chain(
    size: int, mean: Sequence[float], std: Sequence[float], recipe: ViewRecipe = SIMCLR
) -> Callable[[Image.Image], Tensor]:
    """A recipe without blur by torchvision on a PIL image, as in the official code, solo-learn and lightly."""
    bicubic = transforms.InterpolationMode.BICUBIC
    jitter = transforms.ColorJitter(recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    chain: Callable[[Image.Image], Tensor] = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=recipe.crop_scale, interpolation=bicubic),
            transforms.RandomHorizontalFlip(recipe.flip_probability),
            transforms.RandomApply([jitter], recipe.jitter_probability),
            transforms.RandomGrayscale(recipe.greyscale_probability),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    return chain


def tensor_chain(size: int, mean: Sequence[float], std: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """The same by torchvision v2 on one image uint8 [3, H, W], on any device."""
    chain: Callable[[Tensor], Tensor] = v2.Compose(
        [
            v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
    return chain


def kornia_chain(size: int, mean: Sequence[float], std: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """The same by kornia on a batch float32 [N, 3, H, W], one draw per image. ImportError where it is missing.

    Its crop is not antialiased and its jitter takes one order for all images of a batch: less work, not the same views.
    """
    import kornia.augmentation as K

    chain: Callable[[Tensor], Tensor] = nn.Sequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0), resample="bicubic"),
        K.RandomHorizontalFlip(0.5),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.Normalize(torch.tensor(mean), torch.tensor(std)),
    )
    return chain


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Two PIL views of each image uint8 [n, 3, H, W], made in the loader's workers."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        recipe: ViewRecipe = SIMCLR,
    ) -> None:
        self._pictures = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        self._chain = pil_chain(size, mean, std, recipe)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        picture = Image.fromarray(self._pictures[place])
        return self._chain(picture), self._chain(picture)


def pil_loader(pictures: Pictures, batch_size: int, workers: int) -> DataLoader[Any]:
    """As lightly's and solo-learn's examples build it."""
    return DataLoader(
        pictures,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )


def official_barlow(z1: Tensor, z2: Tensor, weight: float) -> Tensor:
    """facebookresearch/barlowtwins, main.py: BatchNorm without scale, D x D, the off-diagonal by a view."""
    norm = nn.BatchNorm1d(z1.shape[1], affine=False).to(z1.device)
    c = norm(z1).T @ norm(z2) / len(z1)
    on_diagonal = torch.diagonal(c).add_(-1).pow_(2).sum()
    n = len(c)
    off_diagonal = c.flatten()[:-1].view(n - 1, n + 1)[:, 1:].flatten().pow_(2).sum()
    return on_diagonal + weight * off_diagonal


def solo_barlow(z1: Tensor, z2: Tensor, weight: float) -> Tensor:
    """vturrisi/solo-learn, losses/barlow.py, without its scale_loss: two identity matrices and a D x D mask."""
    norm = nn.BatchNorm1d(z1.shape[1], affine=False).to(z1.device)
    c = torch.einsum("bi, bj -> ij", norm(z1), norm(z2)) / len(z1)
    diagonal = torch.eye(len(c), device=c.device)
    difference = (c - diagonal).pow(2)
    difference[~diagonal.bool()] *= weight
    return difference.sum()


class LoopedLars(torch.optim.Optimizer):
    """facebookresearch/barlowtwins, main.py: LARS, one tensor after another."""

    def __init__(self, parameters: Any, lr: float, weight_decay: float = 1e-6, momentum: float = 0.9) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": 0.001})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Perform one update."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                update = weight.grad
                if weight.ndim > 1:
                    update = update.add(weight, alpha=group["weight_decay"])
                    norm, update_norm = torch.norm(weight), torch.norm(update)
                    one = torch.ones_like(norm)
                    ratio = torch.where(update_norm > 0, group["eta"] * norm / update_norm, one)
                    update = update.mul(torch.where(norm > 0, ratio, one))
                momentum = self.state[weight].setdefault("mu", torch.zeros_like(weight))
                momentum.mul_(group["momentum"]).add_(update)
                weight.add_(momentum, alpha=-group["lr"])


def torch_probe(width: int, classes: int, device: torch.device) -> nn.Linear:
    """Return a linear probe with zero weights."""
    probe = nn.Linear(width, classes, device=device)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    return probe


def torch_probes(
    x: Tensor, y: Tensor, batches: Sequence[Tensor], classes: int, grid: Sequence[tuple[float, float]], fused: bool
) -> list[nn.Linear]:
    """DINOv2, eval/linear.py: a dict of modules in one pass over the batches, losses summed, one SGD, a cosine.

    `grid`: (learning rate, weight decay), which biases do not take. `fused`: torch's fastest SGD, else its default.
    """
    probes = nn.ModuleDict({str(place): torch_probe(x.shape[1], classes, x.device) for place in range(len(grid))})
    groups: list[dict[str, Any]] = []
    for probe, (rate, decay) in zip(probes.values(), grid, strict=True):
        assert isinstance(probe, nn.Linear)
        groups += [{"params": [probe.weight], "lr": rate, "weight_decay": decay}, {"params": [probe.bias], "lr": rate}]
    optimiser = torch.optim.SGD(groups, momentum=0.9, fused=fused)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(batches))
    for batch in batches:
        samples, labels = x[batch], y[batch]
        losses = {name: nn.functional.cross_entropy(probe(samples), labels) for name, probe in probes.items()}
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        schedule.step()
    return [probe for probe in probes.values() if isinstance(probe, nn.Linear)]


def lightly_knn(queries: Tensor, bank: Tensor, labels: Tensor, classes: int, k: int, t: float) -> Tensor:
    """lightly, utils/benchmarking/knn.py: one-hot votes [queries * k, classes]; `bank` is [D, n], all normalised."""
    similarity = queries @ bank
    weight, nearest = similarity.topk(k=k, dim=-1)
    neighbours = torch.gather(labels.expand(queries.size(0), -1), dim=-1, index=nearest)
    weight = (weight / t).exp()
    votes = torch.zeros(queries.size(0) * k, classes, device=neighbours.device)
    votes = votes.scatter(dim=-1, index=neighbours.view(-1, 1), value=1.0)
    scores = torch.sum(votes.view(queries.size(0), -1, classes) * weight.unsqueeze(dim=-1), dim=1)
    return scores.argmax(dim=-1)
