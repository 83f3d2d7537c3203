"""What would settle a claim that these seeds do not: how many more of them, and what they cost."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.evidence import Evidence
from twinbench.reports.statistics.intervals import ALPHA, Difference, least_wins
from twinbench.reports.statistics.power import MOST_SEEDS, POWER, power_of
from twinbench.reports.tables.cells import has_own_seconds


def seeds_text(evidence: Evidence, contrasts: Sequence[Contrast]) -> str:
    """ "4 more seeds of simclr, byol, about 3.2 hours of one process"; empty where there are enough."""
    if any(contrast.low is None for contrast in contrasts):
        return "at least two seeds of each side"
    lacking = [more_seeds(contrast, evidence.margin) for contrast in contrasts]
    known = [more for more in lacking if more is not None]
    if len(known) < len(lacking):
        return f"more than {MOST_SEEDS} seeds: the difference lies too close to what is claimed"
    cells = dict.fromkeys(side.label for one in contrasts for side in (one.a, one.b) if side is not None and side.cell)
    more = max(known)
    if more <= 0:
        return ""
    which = f"of {' and '.join(cells)}" if len(cells) < 3 else f"of each of {len(cells)} cells"
    return f"{more} more seed{'s' * (more > 1)} {which}{hours_text(evidence, more * len(cells))}"


def more_seeds(contrast: Contrast, margin: float) -> int | None:
    """How many seeds it lacks to settle, with power .8, a true difference as large as the one observed.

    None for more than MOST_SEEDS. What counts is the distance to the bound, but at least the margin where a difference
    from 0 is asked for: less matters to nobody. Where A must win most seeds too, that takes more than the mean does.
    """
    difference = contrast.difference
    assert difference is not None and difference.sd is not None
    level = 1 - difference.confidence
    if not difference.has_spread:
        return least_wins(level) - difference.n if difference.mean != contrast.bound else None
    if contrast.criterion == "within":
        # Both ends must lie inside, and each may miss in half of the cases that the power allows.
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
    """`power.seeds_needed`, begun next to its answer: by the formula for normal values (Guenther 1981)."""
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
    """The least number of pairs at which P(A > B) is shown to be above 1/2, with `power`, if A wins that share of them.

    A two-sided sign test at .05: of normal differences it wants half as many pairs again as the t test, or more. None
    if that takes more than `most`.
    """
    n, by_chance = _most_wins_by_chance(most)
    enough = n[special.bdtrc(by_chance, n, share) >= power]
    return int(enough[0]) if enough.size else None


@lru_cache(maxsize=8)
def _most_wins_by_chance(most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Numbers of pairs, and for each how many wins are the most that the sign test puts down to chance."""
    n = np.arange(least_wins(ALPHA), most + 1)
    wins = np.ceil(special.bdtrik(1 - ALPHA / 2, n, 0.5))
    return n, wins - (special.bdtrc(wins - 1, n, 0.5) <= ALPHA / 2)  # rounding may leave it one too high


def hours_text(evidence: Evidence, trials: int) -> str:
    """ ", about 3.2 hours of one process", at the mean cost of the trials that are there."""
    costs = [
        float(trial["train_seconds"] or 0) + float(trial["evaluation_seconds"] or 0)
        for trial in evidence.trials
        if trial["status"] == "done" and has_own_seconds(trial)
    ]
    return f", about {sum(costs) / len(costs) * trials / 3600:.2g} hours of one process" if costs else ""
