"""What would settle an open claim: missing trials, or more seeds, and what they cost."""

from collections.abc import Collection, Sequence

from scipy import special

from twinbench.reports.claims.contrasts import COLLAPSE_KINDS, Asked, Contrast
from twinbench.reports.claims.evidence import Evidence
from twinbench.reports.rules.case import Case
from twinbench.reports.rules.provenance import drifted_trials
from twinbench.reports.rules.seeds import minimum_seeds
from twinbench.reports.statistics.intervals import ALPHA, least_wins
from twinbench.reports.statistics.power import MOST_SEEDS, POWER, pairs_to_win, seeds_needed
from twinbench.reports.tables.run import TrialRow, has_own_seconds
from twinbench.reports.verdicts.parts import least_share
from twinbench.reports.verdicts.verdict import OPEN, Judgement, Part
from twinbench.sweeps.errors import counted


def remedies(case: Case, judgement: Judgement, parts: Sequence[Part], stopping: Collection[str]) -> list[str]:
    """Return what would settle an open claim; `stopping` are the ids of the rules that stop it."""
    evidence = case.evidence
    needed = evidence.trials if judgement.word != "INADMISSIBLE" else _trials_of_methods(evidence)
    if missing := sorted({str(trial["trial_id"]) for trial in needed if trial["status"] == "missing"}):
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        return [f"{counted(len(missing), 'missing trial')} ({shown}){hours_text(evidence, len(missing))}"]
    if "A9" in stopping:
        few = {side.label: minimum_seeds(evidence) - len(side.trials) for side in evidence.measured}
        return [f"{counted(more, 'more seed')} of {label}" for label, more in few.items() if more > 0]
    if "A22" in stopping and (drifted := drifted_trials(case)):
        ids = ", ".join(str(trial["trial_id"]) for trial in drifted)  # all: each record is to be moved
        again = f"{counted(len(drifted), 'trial')} run again as the others ran, once moved out of records/"
        return [f"{again} ({ids}){hours_text(evidence, len(drifted))}"]
    if judgement.word == "UNVERIFIABLE":
        absent = dict.fromkeys(side.label for side in evidence.sides if not side.has_values)
        return [f"trials of {label}" for label in absent] or ["trials of your own under one protocol"]
    open_parts = [part for part in parts if part.judgement.word in OPEN]
    if judgement.word not in (*OPEN, "NARROWED") or not open_parts:
        return []
    if evidence.claim.kind in COLLAPSE_KINDS:
        return [
            f"at least {least_wins(ALPHA / case.family_size, least_share(evidence.claim))} trials that all end alike"
        ]
    text = seeds_text(evidence, [part.contrast for part in open_parts if part.contrast])
    return [text] if text else []


def _trials_of_methods(evidence: Evidence) -> list[TrialRow]:
    """All trials of the compared methods: any that is missing leaves budgets unequal or choices open."""
    sides = [(side.section, side.cell.method) for side in evidence.measured if side.section and side.cell]
    cells = [cell for section, method in sides for cell in section.cells if cell.method == method]
    return [trial for cell in cells for trial in cell.all_trials]


def seeds_text(evidence: Evidence, contrasts: Sequence[Contrast]) -> str:
    """Return "4 more seeds of simclr and byol, about 3.2 hours of one process"; empty where there are enough."""
    if any(contrast.low is None for contrast in contrasts):
        return "at least two seeds of each side"
    if any(contrast.criterion == "within" and not contrast.bound for contrast in contrasts):
        return "a tolerance in the claim: the metric has no margin"
    lacking = [more_seeds(contrast, evidence.margin) for contrast in contrasts]
    known = [more for more in lacking if more is not None]
    if len(known) < len(lacking):
        return f"more than {MOST_SEEDS} seeds: the difference is too close to what is claimed"
    cells = dict.fromkeys(side.label for one in contrasts for side in (one.a, one.b) if side is not None and side.cell)
    more = max(known)
    if more <= 0:
        return ""
    which = f"of {' and '.join(cells)}" if len(cells) < 3 else f"of each of {len(cells)} cells"
    which += " under [confirm]" if any(one.a.cell and one.a.cell.confirms for one in contrasts) else ""
    return f"{counted(more, 'more seed')} {which}{hours_text(evidence, more * len(cells))}"


def more_seeds(contrast: Contrast, margin: float) -> int | None:
    """Return how many more seeds would settle, with power 0.8, a true difference, or chance, equal to the observed one.

    None for more than MOST_SEEDS. The distance to the bound counts, but at least the margin where the bound is 0, since
    smaller differences do not matter.
    """
    difference = contrast.difference
    assert difference is not None and difference.sd is not None
    level = 1 - difference.confidence
    if contrast.criterion == "wins":
        assert contrast.wins is not None
        needed = pairs_to_win(contrast.wins.estimate, contrast.bound, level)
        return None if needed is None else needed - difference.n
    if not difference.has_spread:
        return least_wins(level) - difference.n if difference.mean != contrast.bound else None
    if contrast.criterion == "within":
        room = abs(contrast.bound - abs(difference.mean - contrast.target))
    else:
        room = abs(difference.mean - contrast.bound)
        room = max(room, margin) if contrast.bound == 0 else room
    mean = max(difference.mean, room)
    needed = seeds_to_meet(contrast.asked, mean, room, difference.sd, level, difference.paired)
    return None if needed is None else needed - difference.n


def seeds_to_meet(asked: Asked, mean: float, room: float, sd: float, level: float, paired: bool = True) -> int | None:
    """Return the seeds at which a true `mean`, `room` inside its bound, is shown to meet what is asked with power 0.8.

    None for more than MOST_SEEDS. Both ends of an interval must lie within a bound; each may miss in half of the cases
    that the power allows. What is to be better must also win most pairs of seeds.
    """
    if sd == 0:
        return least_wins(level)
    needed = seeds_needed(sd, room, level, (1 + POWER) / 2 if asked.criterion == "within" else POWER, paired)
    if needed is None or not asked.says_better or not paired:
        return needed
    winning = pairs_to_win(float(special.ndtr(mean / sd)))
    return None if winning is None else max(needed, winning)


def hours_text(evidence: Evidence, trials: int) -> str:
    """Return ", about 3.2 hours of one process" from the mean cost of done trials; empty where none is known."""
    costs = [
        float(trial["train_seconds"] or 0) + float(trial["evaluation_seconds"] or 0)
        for trial in evidence.trials
        if trial["status"] == "done" and has_own_seconds(trial)
    ]
    return f", about {sum(costs) / len(costs) * trials / 3600:.2g} hours of one process" if costs else ""
