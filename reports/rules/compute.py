"""Rule A12: whether all sides were trained with the same amount of compute."""

from collections.abc import Iterator

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.evidence import Side
from twinbench.reports.rules.case import Case, Outcome, failed, not_applicable, passed, trained_pairs, trial_text

COMPUTE_TOLERANCE = 0.1  # two sides that differ by a larger share of epochs or images had unequal compute


def same_compute(case: Case) -> Outcome:
    """A12: all sides have the same epochs and images seen, within a tenth, unless the claim itself sets them.

    Each trial must also have run as many epochs as it was set.
    """
    if problem := next(_wrong_epochs(case), ""):
        return failed(problem)
    pairs = trained_pairs(case)
    if not pairs:
        return not_applicable("compute is not compared")
    sides = {side.label: side for pair in pairs for side in pair}
    text = ", ".join(f"{label}: {_compute_text(side)}" for label, side in sides.items())
    if all(_compute_is_equal(a, b) for a, b in pairs):
        return passed(text)
    if all(_compute_is_equal(a, b) or _sets_compute(case.evidence.claim, a, b) for a, b in pairs):
        return passed(f"unequal as the claim says: {text}")
    return failed(f"unequal compute: {text}")


def _wrong_epochs(case: Case) -> Iterator[str]:
    for side in case.evidence.measured:
        epochs = _epochs(side)
        for trial in side.trials:
            last = case.evidence.context.last_epoch.get(str(trial["trial_id"]))
            if epochs and last is not None and (last > epochs or (trial["status"] == "done" and last < epochs)):
                yield f"{trial_text(trial)} was set to {epochs:g} epochs, but its curves have {last:g}"


def _epochs(side: Side) -> float:
    value = side.cell.values.get("epochs") if side.cell else None
    return value.number or 0.0 if value else 0.0


def _images_seen(side: Side) -> float:
    counts = [float(trial["images_seen"]) for trial in side.trials if trial["images_seen"]]
    return sum(counts) / len(counts) if counts else 0.0


def _compute_text(side: Side) -> str:
    return f"{_epochs(side):g} epochs, {_images_seen(side):,.0f} images"


def _compute_is_equal(a: Side, b: Side) -> bool:
    """Epochs are part of the trial's identity; images seen are counted while it trains and covered by no digest."""
    return _are_close(_epochs(a), _epochs(b)) and _are_close(_images_seen(a), _images_seen(b))


def _are_close(a: float, b: float) -> bool:
    """Whether the two numbers agree within the tolerance; an unknown number, 0, agrees with any."""
    return not a or not b or max(a, b) <= min(a, b) * (1 + COMPUTE_TOLERANCE)


def _sets_compute(claim: Claim, a: Side, b: Side) -> bool:
    """Whether the claim sets on both sides what makes them unequal: the epochs or, if those agree, the batch size."""
    keys = ("batch_size", "epochs") if _are_close(_epochs(a), _epochs(b)) else ("epochs",)
    return claim.axis in keys or any(key in a.selector and key in b.selector for key in keys)
