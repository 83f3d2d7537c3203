"""The metrics by name, with the variants that this version has of each. A protocol names both."""

from collections.abc import Mapping

from twinbench.harness.evaluation import diagnostics, knn, linear, ridge
from twinbench.sweeps.errors import Mistake, nearest

DIAGNOSTICS: dict[str, tuple[str, ...]] = {
    "feature_std": (diagnostics.FEATURE_STD,),
    "rankme_backbone": (diagnostics.RANKME,),
    "rankme_projector": (diagnostics.RANKME,),
    "off_diagonal_correlation": (diagnostics.OFF_DIAGONAL_CORRELATION,),
    "alignment": (diagnostics.ALIGNMENT,),
    "uniformity": (diagnostics.UNIFORMITY,),
    "online_knn_top1": (knn.ONLINE_VARIANT,),
}
METRICS: dict[str, dict[str, tuple[str, ...]]] = {
    "last": {
        "knn_top1": (knn.VARIANT,),
        "linear_top1": (linear.VARIANT,),
        "ridge_top1": (ridge.VARIANT,),
        **DIAGNOSTICS,
    },
    "best_on_test": {"knn_top1": (knn.MAXIMUM_VARIANT,), **DIAGNOSTICS},  # a probe trained every epoch costs too much
}
"""By the protocol's checkpoint rule."""


def metric_mistakes(metrics: Mapping[str, str], checkpoint: str, where: str) -> list[Mistake]:
    """Metrics that there are not under that checkpoint rule, and variants that this version does not have."""
    known = METRICS[checkpoint]
    mistakes = []
    for name, variant in metrics.items():
        key, variants = f"evaluation.metrics.{name}", known.get(name, ())
        if not variants:
            problem, close = f"is no metric under checkpoint {checkpoint!r}", nearest(name, known)
            mistakes.append(Mistake(where, key, problem, variant, ", ".join(known), close))
        elif variant not in variants:
            close = nearest(variant, variants)
            mistakes.append(Mistake(where, key, "no such variant here", variant, ", ".join(variants), close))
    return mistakes
