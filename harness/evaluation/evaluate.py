"""Evaluate a frozen backbone as the protocol says: select on one split, report on test, count all candidates."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor

from twinbench.harness.data.augmentation import make_view
from twinbench.harness.data.images import Images
from twinbench.harness.data.random_streams import key, permutation
from twinbench.harness.evaluation import diagnostics, knn, linear, ridge
from twinbench.harness.evaluation.features import embed, extract, in_batches
from twinbench.methods.method import Method
from twinbench.sweeps import metrics as registry
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.protocol import RIDGE_PENALTIES, DatasetRule, Evaluation
from twinbench.sweeps.recipe import ViewRecipe

Curves: TypeAlias = Mapping[str, Sequence[float | None]]
Fitted: TypeAlias = tuple[list[dict[str, float]], Callable[[Tensor], Tensor]]
"""A probe's candidates, and the function from features [n, D] to every candidate's classes, int64 [candidates, n]."""


@dataclass(frozen=True)
class Part:
    """One split's images and labels [n], both on the device."""

    images: Images
    labels: Tensor


@dataclass(frozen=True)
class Evaluator:
    """Evaluates methods on the same images. Validation may be empty if `selected_on` is "test".

    Only `evaluate` uses test images, once; under checkpoint "best_on_test" `diagnose` does too.
    """

    train: Part
    validation: Part
    test: Part
    classes: int
    dataset: DatasetRule
    rules: Evaluation
    views: tuple[ViewRecipe, ...]
    seed: int
    selected_on: str = "validation"
    checkpoint: str = "last"

    def __post_init__(self) -> None:
        if mistakes := registry.metric_mistakes(self.rules.metrics, self.checkpoint, "protocol"):
            raise InvalidInput(mistakes)

    def evaluate(
        self, method: Method, curves: Curves = MappingProxyType({}), check_stop: Callable[[], None] = lambda: None
    ) -> tuple[list[registry.MetricValue], dict[str, Tensor]]:
        """Return the probes' metrics in the form of a record, and per-example outputs of the test split by name.

        `curves` holds what `diagnose` measured during training. A maximum over epochs has no per-example outputs, since
        those of its epoch were not kept. `check_stop` is called often, and may raise to end the evaluation.
        """
        outputs = {"labels": self.test.labels}
        if self.checkpoint == "best_on_test":
            return self._maximum(method, curves), outputs
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        features = {
            name: extract(method, part.images, self.dataset, check_stop)
            for name, part in splits.items()
            if len(part.labels)
        }
        bank = features.pop("train")
        metrics: list[registry.MetricValue] = []
        for metric, fit in ((registry.KNN, self._knn), (registry.LINEAR, self._linear), (registry.RIDGE, self._ridge)):
            if metric.name not in self.rules.metrics:
                continue
            check_stop()
            candidates, predict = fit(bank, check_stop)
            predictions = {split: predict(values) for split, values in features.items()}
            correct = {split: classes == splits[split].labels for split, classes in predictions.items()}
            best = int(correct[self.selected_on].sum(dim=1).argmax())  # the first of equals
            metrics += [
                {
                    "name": metric.name,
                    "variant": metric.variant,
                    "split": split,
                    "value": int(right[best].sum()) / right.shape[1],
                    "n_examples": right.shape[1],
                    "selected_on": self.selected_on,
                    "candidates": len(candidates),
                    "selected": candidates[best],
                }
                for split, right in correct.items()
            ]
            outputs[f"{metric.probe}_prediction"] = predictions["test"][best]
            outputs[f"{metric.probe}_correct"] = correct["test"][best]
        return metrics, outputs

    def _knn_grid(self) -> list[tuple[int, float]]:
        return [(k, t) for k in self.rules.knn_neighbours for t in self.rules.knn_temperatures]

    def _knn(self, bank: Tensor, check_stop: Callable[[], None]) -> Fitted:
        grid = self._knn_grid()
        candidates = [{"k": k, "temperature": t} for k, t in grid]
        return candidates, lambda values: knn.knn_predictions(bank, self.train.labels, values, self.classes, grid)

    def _linear(self, bank: Tensor, check_stop: Callable[[], None]) -> Fitted:
        rules = self.rules
        grid = [(rate, decay) for rate in rules.linear_learning_rates for decay in rules.linear_weight_decays]
        mean, std = linear.standardiser(bank)
        probes = linear.linear_probes(
            (bank - mean) / std,
            self.train.labels,
            self.classes,
            grid,
            rules.linear_epochs,
            rules.linear_batch_size,
            self.seed,
            check_stop,
        )
        candidates = [{"learning_rate": rate, "weight_decay": decay} for rate, decay in grid]
        return candidates, lambda values: linear.linear_predictions((values - mean) / std, *probes)

    def _ridge(self, bank: Tensor, check_stop: Callable[[], None]) -> Fitted:
        penalties = list(self.rules.ridge_penalties or RIDGE_PENALTIES)
        mean, std = linear.standardiser(bank)
        probes = ridge.ridge_probes((bank - mean) / std, self.train.labels, self.classes, penalties)
        candidates = [{"penalty": penalty} for penalty in penalties]
        return candidates, lambda values: linear.linear_predictions((values - mean) / std, *probes)

    # --- between epochs ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def diagnose(self, method: Method) -> dict[str, float | None]:
        """Return what the protocol measures between epochs, for the curves.

        These are collapse diagnostics and an online kNN on at most `diagnostics_examples` validation images; without
        validation images, diagnostics on training images. The kNN bank has at most four times as many training images,
        so this costs little on large splits. Under checkpoint "best_on_test" it adds the protocol's kNN on all of test.
        """
        method.eval()
        part = self.validation if len(self.validation.labels) else self.train
        some = self._drawn(len(part.labels), self.rules.diagnostics_examples)
        features = extract(method, part.images, self.dataset, places=some)
        measured = self._diagnostics(method, part, some, features)
        if registry.ONLINE_KNN.name in self.rules.metrics:
            measured[registry.VALIDATION_CURVE] = self._online_knn(method, some, features)
        if self.checkpoint == "best_on_test" and registry.KNN.name in self.rules.metrics:
            measured |= self._test_knn(method)
        return measured

    def _diagnostics(self, method: Method, part: Part, some: Tensor, features: Tensor) -> dict[str, float | None]:
        projections = method.project(features).float()
        finite = all(bool(torch.isfinite(values).all()) for values in (features, projections))
        measured: dict[str, Callable[[], float | None]] = {
            registry.FEATURE_STD.name: lambda: diagnostics.feature_std(features),
            registry.RANKME_BACKBONE.name: lambda: diagnostics.rankme(features),
            registry.RANKME_PROJECTOR.name: lambda: diagnostics.rankme(projections),
            registry.OFF_DIAGONAL_CORRELATION.name: lambda: diagnostics.off_diagonal_correlation(features),
            registry.ALIGNMENT.name: lambda: diagnostics.alignment(*self._distorted(method, part, some)),
            registry.UNIFORMITY.name: lambda: diagnostics.uniformity(features),
        }
        return {
            f"{registry.DIAGNOSTICS}{name}": _finite(measure()) if finite else None
            for name, measure in measured.items()
            if name in self.rules.metrics
        }

    def _online_knn(self, method: Method, some: Tensor, features: Tensor) -> float:
        """Return top-1 accuracy on `some` validation images, given their features."""
        bank = self._drawn(len(self.train.labels), 4 * len(some))
        bank_features = extract(method, self.train.images, self.dataset, places=bank)
        grid = [(min(knn.ONLINE_NEIGHBOURS, len(bank)), knn.ONLINE_TEMPERATURE)]
        predicted = knn.knn_predictions(bank_features, self.train.labels[bank], features, self.classes, grid)[0]
        return int((predicted == self.validation.labels[some]).sum()) / len(some)

    def _test_knn(self, method: Method) -> dict[str, float | None]:
        """Return top-1 accuracy on all of test by curve, with a curve per candidate."""
        bank, queries = (extract(method, part.images, self.dataset) for part in (self.train, self.test))
        grid = self._knn_grid()
        predicted = knn.knn_predictions(bank, self.train.labels, queries, self.classes, grid)
        correct = (predicted == self.test.labels).sum(dim=1).tolist()
        return {name: right / len(self.test.labels) for name, right in zip(self._test_curves(), correct, strict=True)}

    def _test_curves(self) -> dict[str, dict[str, float]]:
        """Return the names of the curves that `_test_knn` measures, and the candidate of each."""
        grid = self._knn_grid()
        suffix = " k={} T={:g}" if len(grid) > 1 else ""
        return {f"test/{registry.KNN.name}" + suffix.format(k, t): {"k": k, "temperature": t} for k, t in grid}

    def _maximum(self, method: Method, curves: Curves) -> list[registry.MetricValue]:
        """Return the largest test accuracy over epochs and candidates, the earliest of equals.

        A baseline, which is not trained, is measured here, as epoch 0.
        """
        if registry.KNN.name not in self.rules.metrics:
            return []
        series = {name: list(enumerate(curves.get(name, ()), 1)) for name in self._test_curves()}
        if not any(series.values()):
            series = {name: [(0, value)] for name, value in self._test_knn(method).items()}
        measured = [(v, epoch, name) for name, points in series.items() for epoch, v in points if v is not None]
        value, epoch, name = max(measured, key=lambda point: (point[0], -point[1]))
        return [
            {
                "name": registry.KNN.name,
                "variant": registry.KNN.maximum_variant,
                "split": "test",
                "value": value,
                "n_examples": len(self.test.labels),
                "selected_on": "test",
                "candidates": len(measured),
                "selected": self._test_curves()[name] | {"epoch": epoch},
            }
        ]

    def _drawn(self, n: int, most: int) -> Tensor:
        """Return at most `most` of n positions, always the same; not the first, since folders are sorted by class."""
        return permutation(key(self.dataset.split_seed, "diagnostics"), n)[:most].sort().values

    def _distorted(self, method: Method, part: Part, positions: Tensor) -> tuple[Tensor, ...]:
        """Return features of two fixed distortions of these images, equal at every epoch and for every method."""
        found: tuple[list[Tensor], list[Tensor]] = [], []
        for block in in_batches(positions, part.images):
            images = part.images.batch(block)
            ids = part.images.ids[block.to(images.device)]
            for view, features in enumerate(found):
                image = make_view(images, ids, self.views[view], self.seed, 0, view, images.shape[-1])
                features.append(embed(method, image, self.dataset))
        return tuple(map(torch.cat, found))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
