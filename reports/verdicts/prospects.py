"""What the seeds of a planned sweep can detect, and which claims it cannot settle.

The spread between seeds comes from existing records, or from a guess that is shown as one. Both are uncertain, so this
helps to choose a plan and is never a result.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import special

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.contrasts import COLLAPSE_KINDS, bound_of
from twinbench.reports.claims.evidence import Evidence, Folder, Side
from twinbench.reports.statistics.intervals import ALPHA, least_wins, seed_differences
from twinbench.reports.statistics.power import POWER, seeds_needed, smallest_detectable_difference
from twinbench.reports.tables.cells import WITHOUT_SEEDS
from twinbench.reports.tables.published import published_tables
from twinbench.reports.verdicts.check import in_families, locked_hashes
from twinbench.reports.verdicts.judge import judge
from twinbench.reports.verdicts.remedies import pairs_to_win
from twinbench.sweeps.errors import InvalidInput, Mistake

PAIRS_TO_TRUST = 3  # with so many pairs, their own spread is used instead of that of all cells


@dataclass(frozen=True)
class Spread:
    """The standard deviation between seeds, in the unit of the metric, and where it comes from."""

    sd: float
    source: str


@dataclass(frozen=True)
class Prospect:
    """What a plan can do for one claim. `seeds` is what each of its cells needs; None where no number is enough.

    `verdict` is what `check` says once all its planned trials are recorded; empty before.
    """

    claim: Claim
    planned_seeds: int
    detectable: float | None
    size: float
    seeds: int | None
    missing_cells: tuple[str, ...]
    cell_ids: tuple[str, ...]
    verdict: str = ""

    @property
    def can_settle(self) -> bool:
        """Whether every cell is planned, with enough seeds."""
        return not self.missing_cells and self.seeds is not None and self.planned_seeds >= self.seeds


def seed_spread(folder: Folder, metric: str, guess: float | None) -> Spread | None:
    """Return the spread pooled over all cells with two seeds or more, else the guess; None without either."""
    values = [
        [one.value for one in cell.measured.get((metric, "test"), ())]
        for section in folder.sections
        for cell in section.cells
        if not cell.is_baseline
    ]
    repeated = [of_cell for of_cell in values if len(of_cell) > 1]
    freedom = sum(len(of_cell) - 1 for of_cell in repeated)
    if freedom:
        pooled = math.sqrt(sum((len(of_cell) - 1) * statistics.variance(of_cell) for of_cell in repeated) / freedom)
        return Spread(pooled, f"{len(repeated)} recorded cells")
    return None if guess is None else Spread(guess, "a guess")


def prospects(claims: Sequence[Claim], folder: Folder, guess: float | None) -> list[Prospect]:
    """Return one prospect per claim about measured numbers. InvalidInput where a claim uses an unknown name."""
    tables, locked = published_tables(), locked_hashes()
    evidence: list[Evidence] = []
    mistakes: list[Mistake] = []
    for claim in claims:
        try:
            evidence.append(folder.evidence(claim, tables.get(claim.reported), locked))
        except InvalidInput as error:
            mistakes += error.mistakes
    if mistakes:
        raise InvalidInput(mistakes)
    verdicts = [judge(case).label if _is_complete(case.evidence) else "" for case in in_families(evidence)]
    sizes: dict[str, int] = {}
    for one in evidence:  # all tests that `check` will count
        sizes[one.claim.family] = sizes.get(one.claim.family, 0) + len(one.pairs)
    return [
        replace(_prospect(one, seed_spread(folder, one.claim.metric, guess), sizes[one.claim.family]), verdict=verdict)
        for one, verdict in zip(evidence, verdicts, strict=True)
        if not one.claim.is_about_a_table
    ]


def _is_complete(evidence: Evidence) -> bool:
    """Whether every side has trials under the claim's protocol and all of them are recorded."""
    planned = all(_is_planned(side, evidence.claim) for side in evidence.sides)
    return planned and all(trial["status"] != "missing" for trial in evidence.trials)


def _prospect(evidence: Evidence, spread: Spread | None, family_size: int) -> Prospect:
    claim = evidence.claim
    absent = tuple(dict.fromkeys(side.label for side in evidence.sides if not _is_planned(side, claim)))
    seeded = [side for side in evidence.sides if side.trials and side.selector["method"] != WITHOUT_SEEDS]
    planned = min((len(side.trials) for side in seeded), default=0)
    cells = tuple(dict.fromkeys(side.cell.cell_id for side in seeded if side.cell))
    size = claim.within or max(claim.claimed_size, evidence.margin)
    alpha = ALPHA / family_size  # Holm's first step: the level of the hardest comparison of the family
    least = int(evidence.content.get("minimum_seeds", 1))
    if claim.kind in COLLAPSE_KINDS:
        return Prospect(claim, planned, None, 0.0, max(least, least_wins(alpha)), absent, cells)
    spreads = [_spread_of_differences(a, b, spread) for a, b, _ in evidence.pairs]
    known = [one for one in spreads if one is not None]
    if len(known) < len(spreads):
        return Prospect(claim, planned, None, size, None, absent, cells)
    widest = max(known)
    needed = _seeds_needed(claim, widest, size, alpha) if size else None
    seeds = None if needed is None else max(needed, least)
    detectable = smallest_detectable_difference(widest, planned, alpha)
    return Prospect(claim, planned, detectable, size, seeds, absent, cells)


def _seeds_needed(claim: Claim, sd: float, size: float, alpha: float) -> int | None:
    """Return the seeds for power 0.8 of a supporting verdict where the true difference is `size` beyond the bound.

    For claims within a bound, where the true difference is 0: each end may then miss in half of the cases.
    """
    if sd == 0:
        return least_wins(alpha)
    criterion, bound = bound_of(claim)
    needed = seeds_needed(sd, size, alpha, (1 + POWER) / 2 if criterion == "within" else POWER)
    if criterion == "within" or bound < 0:
        return needed
    winning = pairs_to_win(float(special.ndtr((bound + size) / sd)))  # A must win most seeds too
    return None if needed is None or winning is None else max(needed, winning)


def _is_planned(side: Side, claim: Claim) -> bool:
    """Whether the side has trials under the protocol that the claim names."""
    return bool(side.trials) and side.section is not None and side.section.protocol_name == claim.protocol


def _spread_of_differences(a: Side, b: Side | None, spread: Spread | None) -> float | None:
    """Return the spread of the pairs themselves where there are enough, else that of independent seeds (larger)."""
    b = None if b is not None and b.selector["method"] == WITHOUT_SEEDS else b
    if b is not None and len(a.values.keys() & b.values.keys()) >= PAIRS_TO_TRUST:
        own = statistics.stdev(seed_differences(a.values, b.values))
        if own > 0:
            return own
    if b is None and len(a.values) >= PAIRS_TO_TRUST:
        return statistics.stdev(a.values.values())
    return None if spread is None else spread.sd * (math.sqrt(2) if b is not None else 1)
