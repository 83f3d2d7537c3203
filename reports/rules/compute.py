"""Rule on compute: both sides were trained for the same budget."""

from collections.abc import Iterator

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.evidence import Side
from twinbench.reports.rules.case import (
    FAILED,
    NOT_APPLICABLE,
    PASSED,
    Case,
    Outcome,
    is_trained,
)
from twinbench.reports.rules.seeds import _trial_text

IMAGES_SEEN_APART = 0.1  # more than this share apart is another budget of compute


def same_compute(case: Case) -> Outcome:
    """As many epochs and images seen, within a tenth, unless the claim itself sets them; and as many as were set."""
    pairs = [(a, b) for a, b, _ in case.evidence.pairs if b is not None and is_trained(a) and is_trained(b)]
    if otherwise := next(_trained_otherwise(case), ""):
        return FAILED, otherwise
    if not pairs:
        return NOT_APPLICABLE, "compute is not compared"
    sides = {side.label: side for pair in pairs for side in pair}
    told = ", ".join(f"{label}: {_compute_text(side)}" for label, side in sides.items())
    if all(_compute_is_equal(a, b) for a, b in pairs):
        return PASSED, told
    if all(_compute_is_equal(a, b) or _sets_compute(case.evidence.claim, a, b) for a, b in pairs):
        return PASSED, f"unequal as the claim says: {told}"
    return FAILED, f"unequal compute: {told}"


def _trained_otherwise(case: Case) -> Iterator[str]:
    for side in case.evidence.measured:
        epochs = _epochs(side)
        for trial in side.trials:
            last = case.evidence.around.last_epoch.get(str(trial["trial_id"]))
            if epochs and last is not None and (last > epochs or (trial["status"] == "done" and last < epochs)):
                yield f"{_trial_text(trial)} was set {epochs:g} epochs, and its curves go to {last:g}"


def _epochs(side: Side) -> float:
    value = side.cell.values.get("epochs") if side.cell else None
    return value.number or 0.0 if value else 0.0


def _images_seen(side: Side) -> float:
    counts = [float(trial["images_seen"]) for trial in side.trials if trial["images_seen"]]
    return sum(counts) / len(counts) if counts else 0.0


def _compute_text(side: Side) -> str:
    return f"{_epochs(side):g} epochs, {_images_seen(side):,.0f} images"


def _compute_is_equal(a: Side, b: Side) -> bool:
    """Epochs are part of what was asked for; the images are counted by who trained, and are no part of the result."""
    return _are_close(_epochs(a), _epochs(b)) and _are_close(_images_seen(a), _images_seen(b))


def _are_close(one: float, other: float) -> bool:
    return not one or not other or max(one, other) <= min(one, other) * (1 + IMAGES_SEEN_APART)


def _sets_compute(claim: Claim, a: Side, b: Side) -> bool:
    """Whether the claim says on both sides what makes them unequal: the epochs, or else the batch."""
    keys = ("batch_size", "epochs") if _are_close(_epochs(a), _epochs(b)) else ("epochs",)
    return claim.axis in keys or any(key in a.selector and key in b.selector for key in keys)
