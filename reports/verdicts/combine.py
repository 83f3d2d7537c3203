"""From the judgements on a claim's comparisons to one judgement, and the part of the claim that holds."""

import itertools
from collections.abc import Sequence

from twinbench.reports.claims.claim import Claim
from twinbench.reports.verdicts.verdict import SUPPORTING, Judgement, Part, Word

WORST_FIRST: tuple[Word, ...] = ("UNVERIFIABLE", "CONTRADICTED", "EQUIVALENT", "UNDERPOWERED", "DIRECTION_ONLY")


def combine(claim: Claim, parts: Sequence[Part]) -> Judgement:
    """Return the judgement on the claim, which needs all its parts; where some points or values hold, NARROWED."""
    words = {part.judgement.word for part in parts}
    if words <= {*SUPPORTING}:
        return Judgement("SUPPORTED" if "SUPPORTED" in words else "SUPPORTED_AS_STATED", _reasons(parts, parts))
    against = _reasons([part for part in parts if not part.judgement.is_supporting], parts)
    if held := holding(claim, parts)[0]:
        return Judgement("NARROWED", against, held)
    return Judgement(next(word for word in WORST_FIRST if word in words), against)


def holding(claim: Claim, parts: Sequence[Part]) -> tuple[str, list[Part]]:
    """Return the part of the claim that holds, in words, and the comparisons within it.

    The part is the longest range of the axis, or the points of the scope, where every comparison holds; empty if there
    is none, or only one point.
    """
    if claim.axis and not claim.scope:
        first, last = _longest_run(claim, parts)
        text = f"{claim.axis} from {claim.values[first]} to {claim.values[last]}" if last > first else ""
        return text, [part for part in parts if all(first <= place <= last for place in _places(part, claim))]
    points = dict.fromkeys(part.point for part in parts)
    failing = {part.point for part in parts if not part.judgement.is_supporting}
    text = " and ".join(point for point in points if point not in failing) if len(points) > 1 else ""
    return text, [part for part in parts if part.point not in failing]


def _reasons(chosen: Sequence[Part], parts: Sequence[Part]) -> str:
    """Return the reasons of the chosen parts, each once with its comparisons; one that all share stands alone."""
    by_reason: dict[str, list[str]] = {}
    for part in chosen:
        by_reason.setdefault(part.judgement.reason, []).append(part.label)
    if len(parts) == 1 or (len(by_reason) == 1 and len(chosen) == len(parts) and not parts[0].contrast):
        return chosen[0].judgement.reason
    return "; ".join(
        f"{f'all {len(parts)} comparisons' if len(labels) == len(parts) else ', '.join(labels)}: {reason}"
        for reason, labels in by_reason.items()
    )


def _longest_run(claim: Claim, parts: Sequence[Part]) -> tuple[int, int]:
    """Return the first and last place in `values` of the longest run in which every comparison holds.

    Of equally long runs the first; two equal places where no comparison holds.
    """
    found = {_places(part, claim): part.judgement.is_supporting for part in parts}
    runs = itertools.combinations(range(len(claim.values)), 2)
    for first, last in sorted(runs, key=lambda run: run[0] - run[1]):
        if all(holds for (low, high), holds in found.items() if first <= low and high <= last):
            return first, last
    return 0, 0


def _places(part: Part, claim: Claim) -> tuple[int, int]:
    """Return the places in the claim's values of the two that are compared, in ascending order."""
    assert part.contrast is not None and part.contrast.b is not None
    a, b = (claim.values.index(side.selector[claim.axis]) for side in (part.contrast.a, part.contrast.b))
    return min(a, b), max(a, b)
