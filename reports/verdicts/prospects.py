"""What the seeds of a planned sweep can detect, and which claims it cannot settle.

The spread between seeds comes from existing records, or from a guess that is shown as one. Both are uncertain, so this
helps to choose a plan and is never a result.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.contrasts import COLLAPSE_KINDS, asked_of, required_size
from twinbench.reports.claims.evidence import Evidence, Folder, Side
from twinbench.reports.rules.case import Case
from twinbench.reports.rules.scope import unstated_settings
from twinbench.reports.rules.selection import planned_disparity
from twinbench.reports.statistics.intervals import ALPHA, seed_differences
from twinbench.reports.statistics.power import pairs_to_win, smallest_detectable_difference, smallest_detectable_share
from twinbench.reports.tables.cells import WITHOUT_SEEDS
from twinbench.reports.verdicts.check import cases_of
from twinbench.reports.verdicts.judge import judge
from twinbench.reports.verdicts.parts import least_share
from twinbench.reports.verdicts.remedies import seeds_to_meet
from twinbench.reports.verdicts.verdict import OPEN, Verdict
from twinbench.sweeps.metrics import get_metric

PAIRS_TO_TRUST = 3  # with so many pairs, their own spread is used instead of that of all cells


@dataclass(frozen=True)
class Spread:
    """The standard deviation between seeds, in the unit of the metric, and where it comes from."""

    sd: float
    source: str


@dataclass(frozen=True)
class Prospect:
    """What a plan can do for one claim. `seeds` is what each of its cells needs; None where no number is enough.

    `verdict` is what `check` says once all its planned trials are recorded; empty before. `chosen_among` says of each
    side that is chosen among several cells by the seeds that it reports, among how many. `unstated` are the settings
    for which rule A20 narrows the claim, since they differ from the protocol and its sentence does not state them.
    `barred` says why the claim is INADMISSIBLE, or will be, whatever the number of seeds.

    `size` is what is claimed and `detectable` what the planned seeds detect with power 0.8: differences in the metric's
    unit, or shares of all seeds.
    """

    claim: Claim
    planned_seeds: int
    size: float
    missing_cells: tuple[str, ...]
    cell_ids: tuple[str, ...]
    verdict: str
    detectable: float | None = None
    seeds: int | None = None
    chosen_among: tuple[str, ...] = ()
    unstated: tuple[str, ...] = ()
    barred: str = ""

    @property
    def is_of_a_share(self) -> bool:
        """Whether the claim is about a share of all seeds: of those that A wins, or that collapse."""
        return self.claim.kind == "wins" or self.claim.kind in COLLAPSE_KINDS

    @property
    def can_settle(self) -> bool:
        """Whether every cell is planned, with enough seeds, and no rule stops the claim."""
        is_enough = self.seeds is not None and self.planned_seeds >= self.seeds
        return is_enough and not self.missing_cells and not self.barred

    @property
    def is_decided(self) -> bool:
        """Whether more seeds cannot change what is said of it. INADMISSIBLE for want of seeds (A9) is not final."""
        return bool(self.barred or (self.verdict and not self.verdict.startswith((*OPEN, "INADMISSIBLE"))))


def seed_spread(folder: Folder, metric: str, guess: float | None) -> Spread | None:
    """Return the spread pooled over all cells with two seeds or more; None if there are none.

    The guess, a fraction, stands in for the spread of an accuracy only.
    """
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
    return Spread(guess, "a guess") if guess is not None and get_metric(metric).is_accuracy else None


def prospects(claims: Sequence[Claim], folder: Folder, guess: float | None) -> list[Prospect]:
    """Return one prospect per claim about measured numbers. InvalidInput where a claim uses an unknown name."""
    return [
        _prospect(case, seed_spread(folder, case.evidence.claim.metric, guess))
        for case in cases_of(claims, folder)
        if not case.evidence.claim.is_about_a_table
    ]


def _prospect(case: Case, spread: Spread | None) -> Prospect:
    evidence, claim = case.evidence, case.evidence.claim
    seeded = [side for side in evidence.sides if side.trials and side.selector["method"] != WITHOUT_SEEDS]
    absent = tuple(dict.fromkeys(side.label for side in evidence.sides if not _is_planned(side, claim)))
    confirm_seeds = _confirm_seeds(seeded)
    is_reported = not confirm_seeds or all(side.cell and side.cell.confirms for side in seeded)
    is_complete = not absent and is_reported and not _lacks_trials(evidence)
    asked = asked_of(claim, evidence.margin)
    size = required_size(claim, evidence.margin)
    verdict = judge(case) if is_complete else None
    bare = Prospect(
        claim,
        planned_seeds=confirm_seeds or min((len(side.trials) for side in seeded), default=0),
        size=size,
        missing_cells=absent,
        cell_ids=tuple(dict.fromkeys(side.cell.cell_id for side in seeded if side.cell)),
        verdict=verdict.label if verdict else "",
        chosen_among=() if confirm_seeds else _chosen_among(seeded),
        unstated=tuple(dict.fromkeys(unstated_settings(case))),
        barred=_stopped(verdict) if verdict else planned_disparity(case),
    )
    alpha = ALPHA / case.family_size  # Holm's first step: the level of the hardest comparison of the family
    least = int(evidence.content.get("minimum_seeds", 1))
    if bare.is_of_a_share:
        return _of_a_share(bare, case, alpha, least)
    spreads = [_spread_of_differences(a, b, spread) for a, b, _ in evidence.pairs]
    known = [one for one in spreads if one is not None]
    if len(known) < len(spreads):
        return bare
    # For power 0.8 of a supporting verdict where the true difference exceeds the bound by the size.
    truth = asked.target if asked.criterion == "within" else asked.bound + size
    needed = seeds_to_meet(asked, truth, size, max(known), alpha) if size else None
    return replace(
        bare,
        detectable=smallest_detectable_difference(max(known), bare.planned_seeds, alpha),
        seeds=None if needed is None else max(needed, least),
    )


def _lacks_trials(evidence: Evidence) -> bool:
    """Return whether a trial of a compared cell is missing, or of one that may still be chosen instead of it."""
    chosen_from = [cell for side in evidence.measured if side.section for cell in side.section.having(side.selector)]
    trials = [*evidence.trials, *(trial for cell in chosen_from for trial in cell.trials)]
    return any(trial["status"] == "missing" for trial in trials)


def _stopped(verdict: Verdict) -> str:
    """Return why a rule stops the claim, unless it is A9, which asks for more seeds."""
    return verdict.reason if verdict.word == "INADMISSIBLE" and verdict.detail != "A9" else ""


def _confirm_seeds(sides: Sequence[Side]) -> int:
    """Return on how many seeds the confirm stage will report all of these sides, or does; 0 if it will not.

    It trains the cell that is chosen among all cells of a method.
    """
    planned = [
        len(side.section.confirm_seeds)
        for side in sides
        if side.section and side.section.has_confirm_stage and side.is_method_choice
    ]
    confirmed = [len(side.trials) for side in sides if side.cell and side.cell.confirms]
    found = confirmed if len(confirmed) == len(sides) else planned
    return min(found) if found and len(found) == len(sides) else 0


def _chosen_among(sides: Sequence[Side]) -> tuple[str, ...]:
    counts = {side.label: len(side.section.having(side.selector)) for side in sides if side.section}
    return tuple(f"{label} among {count} cells" for label, count in counts.items() if count > 1)


def _of_a_share(bare: Prospect, case: Case, alpha: float, least: int) -> Prospect:
    """Add what is known of a chance to win, or of a share of collapses: exact, and without a spread."""
    claim, known = bare.claim, [one.wins for one in case.contrasts if one.wins is not None]
    bound = least_share(claim) if claim.kind in COLLAPSE_KINDS else claim.chance or 0.5
    won = [wins.estimate for wins in known if wins.paired and wins.n >= PAIRS_TO_TRUST and claim.kind == "wins"]
    share = min(won, default=1.0)  # all pairs, or trials, end as claimed where records do not say otherwise
    needed, detectable = pairs_to_win(share, bound, alpha), smallest_detectable_share(bare.planned_seeds, bound, alpha)
    is_below = claim.kind == "does_not_collapse"  # of which the claimed share is an upper bound
    return replace(
        bare,
        size=1 - bound if is_below else bound,
        detectable=1 - detectable if is_below and detectable is not None else detectable,
        seeds=None if needed is None else max(needed, least),
    )


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
