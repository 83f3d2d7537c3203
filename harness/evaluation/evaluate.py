"""The protocol's evaluation of a frozen backbone: chosen on validation, reported on test, out of so many candidates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twinbench.harness.data.augmentation import make_view, normalise
from twinbench.harness.data.images import Images
from twinbench.harness.data.streams import key, permutation
from twinbench.harness.evaluation import diagnostics, knn, linear
from twinbench.harness.evaluation.features import extract
from twinbench.methods.method import Method
from twinbench.sweeps.protocol import DatasetRule, Evaluation
from twinbench.sweeps.recipe import ViewRecipe

ONLINE_NEIGHBOURS, ONLINE_TEMPERATURE = 20, 0.07


@dataclass(frozen=True)
class Part:
    """One split's images and labels [n], both on the device."""

    images: Images
    labels: Tensor


@dataclass(frozen=True)
class Evaluator:
    """Evaluates methods on the same images. Test images are touched by `evaluate` alone, once."""

    train: Part
    validation: Part
    test: Part
    classes: int
    dataset: DatasetRule
    rules: Evaluation
    views: tuple[ViewRecipe, ...]
    image_size: int
    seed: int

    def evaluate(self, method: Method) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
        """Metrics of kNN and linear probe as records have them, and per-example outputs of the test split by name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        features = {name: extract(method, part.images, self.dataset) for name, part in splits.items()}
        metrics: list[dict[str, Any]] = []
        outputs = {"labels": self.test.labels}
        for name, measure in (("knn", self._knn), ("linear", self._linear)):
            variant, candidates, predictions = measure(features)
            metrics += self._chosen(f"{name}_top1", variant, candidates, predictions)
            outputs[f"{name}_prediction"] = predictions["test"][self._best(predictions)]
            outputs[f"{name}_correct"] = outputs[f"{name}_prediction"] == self.test.labels
        return metrics, outputs

    def _knn(self, features: dict[str, Tensor]) -> tuple[str, list[dict[str, float]], dict[str, Tensor]]:
        grid = [(k, t) for k in self.rules.knn_neighbours for t in self.rules.knn_temperatures]
        predictions = {
            split: knn.knn_predictions(features["train"], self.train.labels, features[split], self.classes, grid)
            for split in ("validation", "test")
        }
        return knn.VARIANT, [{"k": k, "temperature": t} for k, t in grid], predictions

    def _linear(self, features: dict[str, Tensor]) -> tuple[str, list[dict[str, float]], dict[str, Tensor]]:
        rules = self.rules
        grid = [(rate, decay) for rate in rules.linear_learning_rates for decay in rules.linear_weight_decays]
        mean, std = linear.standardiser(features["train"])
        scaled = {split: (values - mean) / std for split, values in features.items()}
        weights, biases = linear.linear_probes(
            scaled["train"],
            self.train.labels,
            self.classes,
            grid,
            rules.linear_epochs,
            rules.linear_batch_size,
            self.seed,
        )
        predictions = {
            split: linear.linear_predictions(scaled[split], weights, biases) for split in ("validation", "test")
        }
        return linear.VARIANT, [{"learning_rate": rate, "weight_decay": decay} for rate, decay in grid], predictions

    def _best(self, predictions: dict[str, Tensor]) -> int:
        """The candidate with the most correct validation images; the first of equals."""
        correct = (predictions["validation"] == self.validation.labels).sum(dim=1)
        return int(correct.argmax())

    def _chosen(
        self, name: str, variant: str, candidates: list[dict[str, float]], predictions: dict[str, Tensor]
    ) -> list[dict[str, Any]]:
        best = self._best(predictions)
        labels = {"validation": self.validation.labels, "test": self.test.labels}
        return [
            {
                "name": name,
                "variant": variant,
                "split": split,
                "value": int((predictions[split][best] == labels[split]).sum()) / len(labels[split]),
                "n_examples": len(labels[split]),
                "selected_on": "validation",
                "candidates": len(candidates),
                "selected": candidates[best],
            }
            for split in ("validation", "test")
        ]

    @torch.no_grad()
    def diagnose(self, method: Method) -> dict[str, float | None]:
        """Collapse diagnostics and an online kNN on (at most `diagnostics_examples`) validation images, never on test.

        The kNN bank is at most four times as many training images, so this costs little on large splits.
        """
        method.eval()
        count = min(self.rules.diagnostics_examples, len(self.validation.labels))
        bank_size = min(4 * count, len(self.train.labels))
        some = self._drawn(len(self.validation.labels), count)
        bank = self._drawn(len(self.train.labels), bank_size)
        features = extract(method, self.validation.images.subset(some), self.dataset)
        bank_features = extract(method, self.train.images.subset(bank), self.dataset)
        projections = method.project(features).float()
        first, second = (self._distorted(method, some, view) for view in (0, 1))
        measured: dict[str, Callable[[], float | None]] = {
            "feature_std": lambda: diagnostics.feature_std(features),
            "rankme_backbone": lambda: diagnostics.rankme(features),
            "rankme_projector": lambda: diagnostics.rankme(projections),
            "off_diagonal_correlation": lambda: diagnostics.off_diagonal_correlation(features),
            "alignment": lambda: diagnostics.alignment(first, second),
            "uniformity": lambda: diagnostics.uniformity(features),
        }
        finite = all(bool(torch.isfinite(values).all()) for values in (features, projections))
        values = {f"diagnostics/{name}": measure() if finite else None for name, measure in measured.items()}
        grid = [(min(ONLINE_NEIGHBOURS, bank_size), ONLINE_TEMPERATURE)]
        predicted = knn.knn_predictions(bank_features, self.train.labels[bank], features, self.classes, grid)[0]
        top1 = int((predicted == self.validation.labels[some]).sum()) / count
        return {name: _finite(value) for name, value in values.items()} | {"validation/knn_top1": top1}

    def _drawn(self, n: int, count: int) -> Tensor:
        """`count` of n positions, always the same; not the first, since a folder's images stand class by class."""
        return permutation(key(self.dataset.split_seed, "diagnostics"), n)[:count].sort().values

    def _distorted(self, method: Method, positions: Tensor, view: int) -> Tensor:
        """Features of one fixed distortion of the validation images: the same at every epoch and for every method."""
        parts = []
        for block in torch.split(positions, 512):
            images = self.validation.images.batch(block)
            ids = self.validation.images.ids[block.to(images.device)]
            image = make_view(images, ids, self.views[view], self.seed, 0, view, self.image_size)
            parts.append(method.embed(normalise(image, self.dataset.mean, self.dataset.std)).float())
        return torch.cat(parts)


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else value
