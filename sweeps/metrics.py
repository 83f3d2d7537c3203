"""The registry of metrics: how each is named, defined, scaled and printed. Everything that names a metric reads it.

`Metric.name` is what protocols, records, claims, CSV headers and the database use. `Metric.variant` identifies the
definition that this version computes: a change of the code that changes a metric's values gives it a new variant, so
that numbers of different definitions are never compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from twinbench.sweeps.errors import Mistake, nearest

Kind = Literal["probe", "diagnostic", "online", "trial_cost", "published_cost", "other"]


@dataclass(frozen=True)
class Metric:
    """One metric. A stored value times `scale` is in `unit`; accuracies are stored as fractions."""

    name: str
    title: str  # as a heading, without the unit
    kind: Kind = "other"
    variant: str = ""  # under checkpoint "last"
    maximum_variant: str = ""  # under checkpoint "best_on_test"; empty where it is not measured under that rule
    higher_is_better: bool | None = None  # None: neither direction is better by itself
    scale: float = 1.0
    unit: str = ""
    candidates: tuple[str, ...] = ()  # keys of a protocol's [evaluation] whose values the probe chooses among
    chosen: tuple[str, ...] = ()  # what records call the chosen value of each

    @property
    def is_accuracy(self) -> bool:
        """Whether the values are fractions that are printed as percentages."""
        return self.unit == "%"

    @property
    def heading(self) -> str:
        """Return the title with the unit: "kNN top-1 (%)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def phrase(self) -> str:
        """Return the title as it reads within a sentence: "linear top-1", but "kNN top-1"."""
        return self.title[:1].lower() + self.title[1:]

    @property
    def probe(self) -> str:
        """Return the prefix of the metric's per-example outputs: "knn" for knn_top1 (`knn_prediction`)."""
        return self.name.removesuffix("_top1")


class MetricValue(TypedDict):
    """One measured number as records hold it. The last four keys may be absent in other people's records."""

    name: str
    variant: str
    split: str  # measured on
    value: float
    n_examples: NotRequired[int]
    selected_on: NotRequired[str]  # split that chose the probe's settings
    candidates: NotRequired[int]  # number of settings that it chose from
    selected: NotRequired[dict[str, float]]  # the settings that were chosen


def _probe(name: str, title: str, variant: str, candidates: dict[str, str], maximum_variant: str = "") -> Metric:
    keys, chosen = tuple(candidates.values()), tuple(candidates)
    return Metric(name, title, "probe", variant, maximum_variant, True, 100.0, "%", keys, chosen)


def _diagnostic(name: str, title: str, variant: str) -> Metric:
    return Metric(name, title, "diagnostic", variant, variant)


def _cost(name: str, title: str, kind: Kind, scale: float, unit: str) -> Metric:
    return Metric(name, title, kind, higher_is_better=False, scale=scale, unit=unit)


# Probes of the frozen backbone, in the order of the tables. Under checkpoint "best_on_test" only kNN is measured: a
# linear or ridge probe at every epoch costs too much.
KNN = _probe(
    "knn_top1",
    "kNN top-1",
    "knn/cosine-softmax@1",
    {"k": "knn_neighbours", "temperature": "knn_temperatures"},
    maximum_variant="knn/cosine-softmax-max-over-epochs@1",
)
LINEAR = _probe(
    "linear_top1",
    "Linear top-1",
    "linear/sgd-standardised@1",
    {"learning_rate": "linear_learning_rates", "weight_decay": "linear_weight_decays"},
)
RIDGE = _probe("ridge_top1", "Ridge top-1", "ridge/eigh-standardised@1", {"penalty": "ridge_penalties"})
PROBES = (KNN, LINEAR, RIDGE)

# Collapse diagnostics, measured during training and recorded as curves, in the order of the figures.
FEATURE_STD = _diagnostic("feature_std", "Standard deviation of normalised features", "feature-std/l2-normalised@1")
RANKME_BACKBONE = _diagnostic("rankme_backbone", "Effective rank (RankMe), backbone", "rankme/sv-uncentred@1")
RANKME_PROJECTOR = _diagnostic("rankme_projector", "Effective rank (RankMe), projector", "rankme/sv-uncentred@1")
OFF_DIAGONAL_CORRELATION = _diagnostic(
    "off_diagonal_correlation", "Mean off-diagonal correlation", "correlation/mean-absolute-off-diagonal@1"
)
ALIGNMENT = _diagnostic("alignment", "Alignment", "alignment/squared-distance@1")
UNIFORMITY = _diagnostic("uniformity", "Uniformity", "uniformity/gaussian-t2@1")

# kNN between epochs, on part of the validation images; recorded as the curve VALIDATION_CURVE.
_SUBSET = "knn/cosine-softmax-k20-t0.07-subset@1"
ONLINE_KNN = Metric("online_knn_top1", "kNN top-1 during training", "online", _SUBSET, _SUBSET, True, 100.0, "%")
DIAGNOSTICS = "diagnostics/"  # prefix of the curves of diagnostics
VALIDATION_CURVE = f"validation/{KNN.name}"

# Costs: columns of every recorded trial, and of published tables.
TRAIN_SECONDS = _cost("train_seconds", "Training time", "trial_cost", 1.0, "s")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *PROBES,
        *(FEATURE_STD, RANKME_BACKBONE, RANKME_PROJECTOR, OFF_DIAGONAL_CORRELATION, ALIGNMENT, UNIFORMITY),
        *(ONLINE_KNN, TRAIN_SECONDS),
        _cost("peak_memory_bytes", "Peak memory", "trial_cost", 1e-9, "GB"),
        _cost("minutes", "Training time", "published_cost", 1.0, "min"),
        _cost("peak_memory_gb", "Peak memory", "published_cost", 1.0, "GB"),
    )
}


def metric_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of the metrics of a kind, in the registry's order."""
    return tuple(metric.name for metric in METRICS.values() if metric.kind == kind)


def get_metric(name: str) -> Metric:
    """Return the registered metric; for a name that only records or published tables know, a metric titled by it.

    Of such names those that end in "top1" are accuracies.
    """
    if name in METRICS:
        return METRICS[name]
    if name.endswith("top1"):
        return Metric(name, name, higher_is_better=True, scale=100.0, unit="%")
    return Metric(name, name)


def variants(checkpoint: str) -> dict[str, str]:
    """Return the variant of every metric that a protocol may name under a checkpoint rule, by metric name."""
    found = {m.name: m.maximum_variant if checkpoint == "best_on_test" else m.variant for m in METRICS.values()}
    return {name: variant for name, variant in found.items() if variant}


def metric_mistakes(metrics: Mapping[str, str], checkpoint: str, where: str) -> list[Mistake]:
    """Return a mistake for each metric that `checkpoint` does not allow, or of a variant this version does not have."""
    known = variants(checkpoint)
    mistakes: list[Mistake] = []
    for name, variant in metrics.items():
        key = f"evaluation.metrics.{name}"
        if name not in known:
            problem, close = f"is not a metric under checkpoint {checkpoint!r}", nearest(name, known, mistakes)
            mistakes.append(Mistake(where, key, problem, variant, ", ".join(known), close))
        elif variant != known[name]:
            close = nearest(variant, [known[name]], mistakes)
            mistakes.append(Mistake(where, key, "no such variant here", variant, known[name], close))
    return mistakes
