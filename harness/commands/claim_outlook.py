"""What `twinbench plan --claims` prints of each claim: whether the planned seeds can settle it, and what more cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from twinbench.harness.commands.protocol import columns
from twinbench.sweeps.errors import counted
from twinbench.sweeps.metrics import get_metric

if TYPE_CHECKING:
    from twinbench.harness.performance.cost_estimate import Rate
    from twinbench.harness.planning import Plan
    from twinbench.reports.verdicts.prospects import Prospect


def print_prospects(planned: "Plan", found: "Sequence[Prospect]", claims: int, rates: "Mapping[str, Rate]") -> None:
    """Print what the plan can do for each of so many claims, of which those about published tables are not `found`."""
    heads = ("claim", "seeds planned", "seeds needed", "detects", "claimed", "")
    typer.echo("\n".join(columns(heads, [_row(one) for one in found])))
    typer.echo(
        "seeds needed: for power .8 if the true difference exceeds the claimed bound by the size under `claimed` or, "
        "for equality, is the claimed one; `check` counts with the observed difference instead"
    )
    if any(one.is_of_a_share for one in found):
        typer.echo(
            "for shares of seeds: if A wins as often as in the recorded pairs (three or more), or else every pair, and"
            " if all trials end as claimed (exact)"
        )
    open_ones = [one for one in found if not one.verdict]
    if judged := len(found) - len(open_ones):
        typer.echo(f"{judged} of {len(found)} claims are judged already: all their trials are recorded, see `check`")
    if open_ones:
        can = sum(one.can_settle for one in open_ones)
        rest = "other claims" if judged else "claims"
        typer.echo(f"{can} of {len(open_ones)} {rest} can be settled by this plan")
    for one in [one for one in open_ones if one.unstated and not one.barred]:
        settings = ", ".join(one.unstated)
        typer.echo(f"{one.claim.name} will be narrowed by A20, unless its sentence states {settings}")
    if left := claims - len(found):
        typer.echo(f"{left} more are about published tables, which no plan changes")
    _print_cheapest(planned, [one for one in found if not one.is_decided and not one.can_settle], rates)
    _recommend_confirm_stage(planned, found, rates)


def _recommend_confirm_stage(planned: "Plan", found: "Sequence[Prospect]", rates: "Mapping[str, Rate]") -> None:
    """Say which claims choose a cell by the seeds that they report, and what fresh seeds cost."""
    from twinbench.harness.performance.cost_estimate import costliest_of_each_method, price_text

    choosing = {one.claim.name: one for one in found if one.chosen_among and not one.barred}
    if not choosing or planned.confirm_seeds:
        return
    seeds = max(one.seeds or one.planned_seeds for one in choosing.values())
    later = costliest_of_each_method(planned.grid, planned.training_images, rates)
    first = max(trial.seed for trial in planned.trials) + 1
    among = dict.fromkeys(text for one in choosing.values() for text in one.chosen_among)
    typer.echo(
        f"claims that choose a cell by the seeds that they report: {', '.join(choosing)} ({'; '.join(among)}). Their "
        f"intervals do not cover the bias of that choice. On fresh seeds they do: add [confirm] with seeds "
        f"= {list(range(first, first + seeds))} to the sweep, {len(later) * seeds} trials"
        f"{price_text(later, seeds, planned.training_images, rates)}"
    )


def _row(prospect: "Prospect") -> tuple[str, ...]:
    needed = "?" if prospect.seeds is None else str(prospect.seeds)
    return (
        prospect.claim.name,
        str(prospect.planned_seeds),
        "" if prospect.is_decided else needed,
        "" if prospect.detectable is None else _size_text(prospect, prospect.detectable),
        _size_text(prospect, prospect.size) if prospect.size else "",
        _outlook(prospect),
    )


def _size_text(prospect: "Prospect", size: float) -> str:
    """Return "75 %" of a share of seeds, "1.5 points" of an accuracy, else the number with the metric's unit."""
    if prospect.is_of_a_share:
        return f"{100 * size:.3g} %"
    metric = get_metric(prospect.claim.metric)
    return f"{100 * size:.3g} points" if metric.is_accuracy else f"{metric.scale * size:.3g} {metric.unit}".rstrip()


def _outlook(prospect: "Prospect") -> str:
    if prospect.verdict:
        return f"judged already: {prospect.verdict}"
    if prospect.barred:
        return f"will be INADMISSIBLE (A7): {prospect.barred}"
    if prospect.missing_cells:
        return f"no trial of {'; '.join(prospect.missing_cells)} is planned"
    if prospect.seeds is None:
        return "the spread between seeds is unknown, or no number of seeds is enough"
    return "can be settled" if prospect.can_settle else "too few seeds"


def _print_cheapest(planned: "Plan", left: "Sequence[Prospect]", rates: "Mapping[str, Rate]") -> None:
    """Print the fewest additional trials with which all claims that are left and that seeds can settle would be."""
    from twinbench.harness.performance.cost_estimate import hours

    wanted: dict[str, int] = {}
    lacking: dict[str, int] = {}
    for one in left:
        if one.seeds is not None and not one.missing_cells:
            for cell in one.cell_ids:
                wanted[cell] = max(wanted.get(cell, 0), one.seeds)
                lacking[cell] = max(lacking.get(cell, 0), one.seeds - one.planned_seeds)
    by_cell = {trial.cell_id: trial for trial in planned.trials}
    additional = [by_cell[cell] for cell, count in lacking.items() if cell in by_cell for _ in range(count)]
    if additional:
        cost = hours(additional, planned.training_images, rates)
        price = f", {cost} of one process" if cost.trials == len(additional) else ""
        trials = f"{counted(len(additional), 'more trial')} of {counted(len(wanted), 'cell')}"
        seeds = counted(max(wanted.values()), "seed")
        claims = counted(sum(one.seeds is not None and not one.missing_cells for one in left), "claim")
        typer.echo(f"the smallest plan for the {claims} that more seeds can decide: {seeds}, {trials}{price}")
