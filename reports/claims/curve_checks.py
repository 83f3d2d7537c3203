"""Whether the curves of a record are of the same trial as its metrics and outputs.

Seeds of one cell measure the same curves, have the same learning rates, and about the same loss in the first epoch. kNN
accuracy on validation is measured during training, on part of the images, and at the end, on all of them; the first is
somewhat lower, by about as much as in the other seeds. Measured on 54 trials of 16 cells of digits and CIFAR-10: the
first loss differs within a cell by at most 11 %, that difference by at most 2.1 standard errors.

Not found: curves that were exchanged between two seeds of a cell which differ by no more than chance, or in all seeds.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from twinbench.results.record import Result
from twinbench.results.rows import Series
from twinbench.sweeps.metrics import KNN, VALIDATION_CURVE

STANDARD_ERRORS = 4.0
LOSS_FACTOR = 3.0
HIGHER = 0.05  # by which kNN with other neighbours may be better during training than at the end
FEWEST = 3  # seeds of a cell that show what is usual in it: their median, which one of them does not change much


class Curves(NamedTuple):
    """What is compared of a trial's curves. `online` is the last kNN accuracy on validation, None if not measured."""

    series: int = 0  # number of curves
    learning_rates: float | None = None  # their sum
    loss: float | None = None  # in the first epoch
    online: float | None = None


class Final(NamedTuple):
    """kNN accuracy on validation by the record, and how many images of it are used during training."""

    value: float
    images: int


def final_of(result: Result) -> Final | None:
    """Return what a record of a finished trial says; None if it has no such number."""
    some = result["trial"]["protocol"]["content"].get("evaluation", {}).get("diagnostics_examples")
    for metric in result["metrics"] if result["status"] == "done" else ():
        n = metric.get("n_examples")
        if (metric["name"], metric["split"]) == (KNN.name, "validation") and type(n) is int and type(some) is int:
            return Final(metric["value"], min(n, some)) if min(n, some) > 0 else None
    return None


def curves_of(series: Sequence[Series]) -> Curves:
    """Return what is compared of the curves of one trial, which has measured something."""
    found = {name: values for _, name, _, values in series if name and len(values)}
    rates, loss, online = (found.get(name) for name in ("learning_rate", "loss", VALIDATION_CURVE))
    return Curves(
        len(found),
        None if rates is None else float(rates.sum()),
        None if loss is None else float(loss[0]),
        None if online is None else float(online[-1]),
    )


def foreign_curves(curves: Mapping[str, Curves], finals: Mapping[str, Final]) -> dict[str, str]:
    """Return, by trial, why its curves are of another one. All are done trials of one cell, with the same code."""
    checks = (*_other_kind(curves), *_other_loss(curves), *_other_end(curves, finals))
    return dict(reversed(checks))  # the first reason of each


def _other_kind(curves: Mapping[str, Curves]) -> Iterator[tuple[str, str]]:
    kinds = {trial_id: (one.series, f"{one.learning_rates or 0:.9g}") for trial_id, one in curves.items()}
    usual, count = Counter(kinds.values()).most_common(1)[0] if kinds else ((0, ""), 0)
    for trial_id, kind in kinds.items() if count >= FEWEST - 1 else ():
        if kind != usual:
            other = "number of curves" if kind[0] != usual[0] else "sum of learning rates"
            seen, allowed = (kind[0], usual[0]) if kind[0] != usual[0] else (kind[1], usual[1])
            yield trial_id, f"the {other} is {seen}, in the other seeds of its cell {allowed}"


def _other_loss(curves: Mapping[str, Curves]) -> Iterator[tuple[str, str]]:
    losses = {trial_id: one.loss for trial_id, one in curves.items() if one.loss is not None and one.loss > 0}
    usual = statistics.median(losses.values()) if losses else 0.0
    for trial_id, loss in losses.items() if len(losses) >= FEWEST else ():
        if not usual / LOSS_FACTOR <= loss <= usual * LOSS_FACTOR:
            yield trial_id, f"its loss is {loss:.4g} in the first epoch, in the other seeds of its cell {usual:.4g}"


def _other_end(curves: Mapping[str, Curves], finals: Mapping[str, Final]) -> Iterator[tuple[str, str]]:
    measured = {name: one.online for name, one in curves.items() if one.online is not None and name in finals}
    gaps = {name: online - finals[name].value for name, online in measured.items()}
    usual = statistics.median(gaps.values()) if len(gaps) >= FEWEST else None
    for trial_id, online in measured.items():
        low, high = _allowed(finals[trial_id], usual)
        if not low <= online <= high:
            ends = f"its curves end at a kNN accuracy of {online:.3f} on validation"
            yield trial_id, f"{ends}, its metrics have {finals[trial_id].value:.3f}; allowed: {low:.3f} to {high:.3f}"


def _allowed(final: Final, usual: float | None) -> tuple[float, float]:
    """Return the lowest and the highest last value of the curve; `usual` is the median difference in the cell."""
    p = (final.value * final.images + 2) / (final.images + 4)
    room = STANDARD_ERRORS * math.sqrt(2 * p * (1 - p) / final.images)  # two samples of images, at most
    highest = min(1.0, final.value + room + HIGHER)
    if usual is None:
        return 0.0, highest
    middle, room = final.value + usual, room + abs(usual)
    return max(0.0, middle - room), min(highest, middle + room)
