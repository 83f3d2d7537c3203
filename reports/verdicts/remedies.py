"""What would settle an open claim: missing trials, or more seeds, and what they cost."""

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from twinbench.reports.claims.contrasts import COLLAPSE_KINDS, Contrast
from twinbench.reports.claims.evidence import Evidence
from twinbench.reports.rules.case import Case
from twinbench.reports.rules.seeds import minimum_seeds
from twinbench.reports.statistics.intervals import ALPHA, Difference, least_wins
from twinbench.reports.statistics.power import MOST_SEEDS, POWER, power_of
from twinbench.reports.tables.cells import Record, has_own_seconds
from twinbench.reports.verdicts.verdict import INADMISSIBLE, NARROWED, OPEN, UNVERIFIABLE, Judgement, Part


def remedies(case: Case, judgement: Judgement, parts: Sequence[Part], stopping: Collection[str]) -> list[str]:
    """Return what would settle an open claim; `stopping` are the ids of the rules that stop it."""
    evidence = case.evidence
    needed = evidence.trials if judgement.word != INADMISSIBLE else _trials_of_methods(evidence)
    if missing := sorted({str(trial["trial_id"]) for trial in needed if trial["status"] == "missing"}):
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        return [f"{len(missing)} missing trials ({shown}){hours_text(evidence, len(missing))}"]
    if "A9" in stopping:
        few = {side.label: minimum_seeds(evidence) - len(side.trials) for side in evidence.measured}
        return [f"{more} more {'seed' if more == 1 else 'seeds'} of {label}" for label, more in few.items() if more > 0]
    if judgement.word == UNVERIFIABLE:
        absent = dict.fromkeys(side.label for side in evidence.sides if not side.has_values)
        return [f"trials of {label}" for label in absent] or ["trials of your own under one protocol"]
    open_parts = [part for part in parts if part.judgement.word in OPEN]
    if judgement.word not in (*OPEN, NARROWED) or not open_parts:
        return []
    if evidence.claim.kind in COLLAPSE_KINDS:
        return [f"at least {least_wins(ALPHA / case.family_size)} trials that all end alike"]
    text = seeds_text(evidence, [part.contrast for part in open_parts if part.contrast])
    return [text] if text else []


def _trials_of_methods(evidence: Evidence) -> list[Record]:
    """All trials of the compared methods: any that is missing leaves budgets unequal or choices open."""
    sides = [(side.section, side.cell.method) for side in evidence.measured if side.section and side.cell]
    return [t for section, method in sides for cell in section.cells if cell.method == method for t in cell.trials]


def seeds_text(evidence: Evidence, contrasts: Sequence[Contrast]) -> str:
    """Return "4 more seeds of simclr and byol, about 3.2 hours of one process"; empty where there are enough."""
    if any(contrast.low is None for contrast in contrasts):
        return "at least two seeds of each side"
    lacking = [more_seeds(contrast, evidence.margin) for contrast in contrasts]
    known = [more for more in lacking if more is not None]
    if len(known) < len(lacking):
        return f"more than {MOST_SEEDS} seeds: the difference is too close to what is claimed"
    cells = dict.fromkeys(side.label for one in contrasts for side in (one.a, one.b) if side is not None and side.cell)
    more = max(known)
    if more <= 0:
        return ""
    which = f"of {' and '.join(cells)}" if len(cells) < 3 else f"of each of {len(cells)} cells"
    return f"{more} more seed{'s' * (more > 1)} {which}{hours_text(evidence, more * len(cells))}"


def more_seeds(contrast: Contrast, margin: float) -> int | None:
    """Return how many more seeds would settle, with power 0.8, a true difference as large as the observed one.

    None for more than MOST_SEEDS. The distance to the bound counts, but at least the margin where the bound is 0, since
    smaller differences do not matter. Where A must also win most seeds, that takes more seeds than the mean does.
    """
    difference = contrast.difference
    assert difference is not None and difference.sd is not None
    level = 1 - difference.confidence
    if not difference.has_spread:
        return least_wins(level) - difference.n if difference.mean != contrast.bound else None
    if contrast.criterion == "within":
        # Both ends must lie inside; each may miss in half of the cases that the power allows.
        room, power = abs(contrast.bound - abs(difference.mean)), (1 + POWER) / 2
    else:
        room, power = abs(difference.mean - contrast.bound), POWER
        room = max(room, margin) if contrast.bound == 0 else room
    needed = _seeds_needed(difference, room, level, power)
    if needed is not None and contrast.criterion == "above" and contrast.bound >= 0 and difference.paired:
        winning = pairs_to_win(float(special.ndtr(max(difference.mean, room) / difference.sd)))
        needed = None if winning is None else max(needed, winning)
    return None if needed is None else needed - difference.n


def _seeds_needed(difference: Difference, room: float, level: float, power: float) -> int | None:
    """Compute `power.seeds_needed` faster: start from the formula for normal values (Guenther 1981)."""
    if not room or not difference.sd:
        return None
    effect, groups = room / difference.sd, 1 if difference.paired else 2
    z, beyond = -float(special.ndtri(level / 2)), float(special.ndtri(power))
    guess = groups * ((z + beyond) / effect) ** 2 + z**2 / (2 * groups)
    if guess > 2 * MOST_SEEDS:
        return None

    def is_enough(n: int) -> bool:
        return power_of(1.0, n, effect, level, difference.paired) >= power

    n = max(2, round(guess))
    while not is_enough(n) and n <= MOST_SEEDS:
        n += 1
    while n > 2 and is_enough(n - 1):
        n -= 1
    return n if n <= MOST_SEEDS else None


def pairs_to_win(share: float, power: float = POWER, most: int = MOST_SEEDS) -> int | None:
    """Return the least number of pairs that shows P(A > B) above 1/2, with `power`, if A wins that share of seeds.

    A two-sided sign test at 0.05: for normal differences it needs at least half as many pairs again as the t test. None
    if it needs more than `most`.
    """
    n, by_chance = _most_wins_by_chance(most)
    enough = n[special.bdtrc(by_chance, n, share) >= power]
    return int(enough[0]) if enough.size else None


@lru_cache(maxsize=8)
def _most_wins_by_chance(most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return numbers of pairs, and for each the largest number of wins that the sign test attributes to chance."""
    n = np.arange(least_wins(ALPHA), most + 1)
    wins = np.ceil(special.bdtrik(1 - ALPHA / 2, n, 0.5))
    return n, wins - (special.bdtrc(wins - 1, n, 0.5) <= ALPHA / 2)  # rounding may leave it one too high


def hours_text(evidence: Evidence, trials: int) -> str:
    """Return ", about 3.2 hours of one process" from the mean cost of done trials; empty where none is known."""
    costs = [
        float(trial["train_seconds"] or 0) + float(trial["evaluation_seconds"] or 0)
        for trial in evidence.trials
        if trial["status"] == "done" and has_own_seconds(trial)
    ]
    return f", about {sum(costs) / len(costs) * trials / 3600:.2g} hours of one process" if costs else ""
