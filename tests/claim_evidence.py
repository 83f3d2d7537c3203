"""Evidence of claims made by hand, without a run folder: values by seed, and whatever else a test needs."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from twinbench.reports.claims.claim import Claim, all_selectors, points, selector_text
from twinbench.reports.claims.declarations import Declaration, Log
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.tables.cells import Section
from twinbench.reports.tables.published import PublishedTable, published_tables
from twinbench.reports.verdicts.check import in_families
from twinbench.reports.verdicts.judge import judge
from twinbench.reports.verdicts.verdict import Verdict

Values = Sequence[float] | Mapping[int, float]

A, B = {"method": "simclr"}, {"method": "byol"}


def claim_of(kind: str = "better", name: str = "one", a: Any = A, **keys: Any) -> Claim:
    """Return a claim on SimCLR against BYOL, with a sentence that breaks no rule."""
    if kind in ("better", "wins", "not_worse"):
        keys = {"b": B} | keys
    keys = {key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()}
    before = {"at_least": "", "by": "", "tolerance": "within ", "within": ""}
    sizes = {key: 100 * keys[key] for key in before if keys.get(key)}
    named = "".join(
        f", {before[key]}{size:g} points" for key, size in sizes.items() if round(size, 9) == round(size, 1)
    )
    named += f", a share of {keys['share']:g}" if "share" in keys else ""
    named += " at a new seed" if kind == "wins" else ""
    return Claim(name, f"It holds{named}.", kind, a, protocol="invented", **keys)  # type: ignore[arg-type]


def section_of(margin: float = 0.0, **content: Any) -> Section:
    """Return a section of a run under a protocol that holds only these values."""
    return Section("invented", 1, "0" * 64, "sha256:1", {"margin": margin, **content}, (), ())


def evidence_of(
    claim: Claim,
    values: Iterable[Values],
    margin: float = 0.0,
    declared: bool = True,
    feature_std: Mapping[str, float] | None = None,
    **content: Any,
) -> Evidence:
    """Return evidence with `values` for each selector at each point of the scope; lists are for seeds 0, 1, …"""
    left, section = iter(values), section_of(margin, **content)
    sides: list[Side] = []
    pairs: list[tuple[Side, Side | None, str]] = []
    for point in points(claim):
        at = ", ".join(f"{key} {value}" for key, value in point.items())
        here = [_side(selector | point, next(left), section) for selector in all_selectors(claim)]
        sides += here
        pairs += [(*pair, at) for pair in _pairs(claim, here)]
    entry = Declaration(claim.name, claim.hash, "2026-01-01T00:00:00+00:00", 0, "")
    return Evidence(
        claim,
        tuple(sides),
        tuple(pairs),
        Log((entry,) if declared else ()),
        entry if declared else None,
        _tables()[claim.reported] if claim.reported else None,
        versions={},
        feature_std=feature_std or {},
        locked={},
    )


@cache
def _tables() -> dict[str, PublishedTable]:
    return published_tables()


def _side(selector: Mapping[str, Any], values: Values, section: Section) -> Side:
    by_seed = values if isinstance(values, Mapping) else dict(enumerate(values))
    return Side(selector_text(selector), selector, section, values=dict(by_seed))


def _pairs(claim: Claim, sides: list[Side]) -> list[tuple[Side, Side | None]]:
    """Return the compared pairs: along an axis, or A with each other side, or with a fixed number."""
    if claim.kind == "monotone":
        return [*itertools.pairwise(sides if claim.direction == "decreasing" else sides[::-1])]
    if claim.kind == "insensitive":
        return [(one, other) for place, one in enumerate(sides) for other in sides[place + 1 :]]
    return [(sides[0], other) for other in sides[1:]] or [(sides[0], None)]


def judged(*evidence: Evidence) -> list[Verdict]:
    """Return the verdicts, with families judged together."""
    return [judge(case) for case in in_families(evidence)]
