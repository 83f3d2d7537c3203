"""`twinbench plan`: which trials a sweep asks for, what they will cost, and what they will be able to tell."""

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinbench.harness.commands.bench import THREADS
from twinbench.harness.commands.protocol import columns
from twinbench.sweeps.metrics import metric_names

if TYPE_CHECKING:
    from twinbench.harness.performance.cost_estimate import Rate
    from twinbench.harness.planning import Plan
    from twinbench.reports.claims.evidence import Folder
    from twinbench.reports.verdicts.prospects import Prospect
    from twinbench.sweeps.trial import Trial


def plan(
    sweep: Annotated[str, typer.Argument(help="A shipped sweep (`twinbench list sweeps`) or a path to a TOML file.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="The run folder; by default runs/NAME.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE changes the sweep, as in `run`.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The folder with the dataset's files.")] = None,
    claims: Annotated[
        Path | None, typer.Option("--claims", help="A file of claims: which of them can this plan settle?")
    ] = None,
    seed_spread: Annotated[
        float | None,
        typer.Option(
            min=0, help="A guess at the standard deviation between seeds, a fraction, where none is on record."
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train for some seconds what neither records nor `bench` tell.")
    ] = False,
) -> None:
    """List a sweep's trials, what they cost on this machine and what their seeds can detect. Records nothing."""
    from twinbench.harness.planning import make_plan
    from twinbench.reports.claims.claim import read_claims

    read = read_claims(claims) if claims else ()
    planned = make_plan(sweep, tuple(changes or ()), data)
    folder = out_folder or Path("runs") / planned.name
    with planned_folder(planned, folder) as asked:
        _print_trials(planned, asked, folder)
        rates = _rates(planned, asked, data, measure)
        _print_hours(planned, asked, rates)
        _print_detectable(planned, asked, seed_spread)
        if read:
            _print_prospects(planned, asked, read, seed_spread, rates)


@contextlib.contextmanager
def planned_folder(planned: "Plan", run_folder: Path) -> Iterator["Folder"]:
    """The run folder as it would be with this plan in it; nothing is written there."""
    from twinbench.harness.run_folder.layout import write_plan
    from twinbench.reports.claims.evidence import Folder
    from twinbench.results.record import ARTEFACTS, DECLARATIONS, RECORDS
    from twinbench.results.store import DATABASE

    with tempfile.TemporaryDirectory() as temporary:
        beside = Path(temporary) / "run"
        write_plan(beside, planned)
        told = [run_folder / DECLARATIONS, *run_folder.glob("claims*.toml")]  # what `check` looks at too
        for path in (*(run_folder / name for name in (RECORDS, ARTEFACTS, "trials")), *told):
            if path.exists():
                (beside / path.name).symlink_to(path.resolve())
        if (run_folder / DATABASE).exists():  # so that only what is new is read
            shutil.copy(run_folder / DATABASE, beside)
        yield Folder(beside)


# --- trials and hours -------------------------------------------------------------------------------------------------


def _trials(folder: "Folder") -> list[Mapping[str, Any]]:
    return [trial for section in folder.sections for trial in section.trials]


def _print_trials(planned: "Plan", folder: "Folder", run_folder: Path) -> None:
    from twinbench.harness.monitor.progress_bars import label

    there = {str(trial["trial_id"]): trial for trial in _trials(folder)}
    status = {trial.trial_id: str(there[trial.trial_id]["status"]) for trial in planned.trials}
    rows = [(trial.trial_id, label(trial, planned.axes), status[trial.trial_id]) for trial in planned.trials]
    typer.echo("\n".join(columns(("id", "trial", "state"), rows)))
    cells = len({trial.cell_id for trial in planned.trials})
    protocol = f"{planned.protocol.name} version {planned.protocol.version} ({planned.protocol.hash[:12]})"
    counts = Counter(status.values())
    told = ", ".join(f"{counts[state]} {state}" for state in sorted({*counts, "missing"}))
    typer.echo(f"{len(status)} trials in {cells} cells, {told}; protocol {protocol}; run folder {run_folder}")
    same = [_is_same_code(there[trial_id]) for trial_id, state in status.items() if state != "missing"]
    if stale := same.count(False):
        typer.echo(f"{stale} of them were made by other code than this, which their ids do not cover: stale, perhaps")
    if unknown := same.count(None):
        typer.echo(f"{unknown} of them have a code hash of an earlier kind: whether their code differs is not known")
    if other := len(there) - len(status):
        typer.echo(f"{other} more trials of the folder are not of this plan")


def _is_same_code(trial: Mapping[str, Any]) -> bool | None:
    """Whether a recorded trial was run by the code that is installed now; None if its record does not show it."""
    from twinbench.harness.system.provenance import code_hash, commit
    from twinbench.results.code_hash import is_same_code

    return is_same_code([(trial["code_hash"], trial["commit"]), (code_hash(), commit())])


def _rates(planned: "Plan", folder: "Folder", data: Path | None, measure: bool) -> dict[str, "Rate"]:
    """By trial id: from the records, else from what `bench` stored, else with `measure` from some seconds of training.

    Records give a method's rate for all its trials, whatever their shapes.
    """
    from twinbench.harness.performance.cost_estimate import benched_rates, measured_rates, recorded_rates
    from twinbench.harness.performance.measurements import stored, this_machine
    from twinbench.harness.system.devices import choose_devices

    recorded = recorded_rates(_trials(folder))
    rates = {trial.trial_id: recorded[trial.method] for trial in planned.trials if trial.method in recorded}
    unknown = [trial for trial in _missing(planned, folder) if trial.training and trial.trial_id not in rates]
    if not unknown:
        return rates
    device = choose_devices("auto")[0]
    if found := stored(this_machine(device, THREADS)):
        rates |= benched_rates(unknown, planned.image_size, found)
    unknown = [trial for trial in unknown if trial.trial_id not in rates]
    if measure and unknown:
        from twinbench.harness.trial.execute import Surroundings

        fresh = measured_rates(unknown, Surroundings(Path(), device=device, threads=THREADS, data=data, keep_log=True))
        rates |= {trial.trial_id: fresh[trial.method] for trial in unknown if trial.method in fresh}
    return rates


def _missing(planned: "Plan", folder: "Folder") -> list["Trial"]:
    missing = {str(trial["trial_id"]) for trial in _trials(folder) if trial["status"] == "missing"}
    return [trial for trial in planned.trials if trial.trial_id in missing]


def _print_hours(planned: "Plan", folder: "Folder", rates: Mapping[str, "Rate"]) -> None:
    from twinbench.harness.performance.cost_estimate import hours
    from twinbench.harness.system.devices import cores

    cost = hours(_missing(planned, folder), planned.training_images, rates)
    if cost.trials:
        typer.echo(f"{cost.trials} missing trials take {cost} of one process; this machine has cores for {cores()}")
        told = "; ".join(f"{count} of them by {source}" for source, count in cost.sources.items())
        typer.echo(f"{told}; evaluations count where trials on record took them")
    if cost.without_rate:
        typer.echo(
            f"not counted, since no throughput is known: trials of {', '.join(cost.without_rate)}; `twinbench bench` "
            "measures what is shipped, once for all plans; --measure trains each method for some seconds"
        )


# --- what can be told -------------------------------------------------------------------------------------------------


def _print_detectable(planned: "Plan", folder: "Folder", guess: float | None) -> None:
    from twinbench.reports.statistics.power import smallest_detectable_difference
    from twinbench.reports.verdicts.prospects import seed_spread

    seeds = max(Counter(trial.cell_id for trial in planned.trials).values())
    for metric in [name for name in metric_names("probe") if name in planned.protocol.evaluation.metrics]:
        spread = seed_spread(folder, metric, guess)
        if spread is None:
            typer.echo(f"{metric}: no spread between seeds is on record; --seed-spread takes a guess")
            continue
        least = smallest_detectable_difference(spread.sd * 2**0.5, seeds)
        told = "one seed detects nothing" if least is None else f"{seeds} seeds detect {100 * least:.2g} points"
        source = f"seed spread {100 * spread.sd:.2g} points, from {spread.source}"
        typer.echo(f"{metric}: {told} between two methods, and less where their seeds go together ({source}; power .8)")


def _print_prospects(
    planned: "Plan",
    folder: "Folder",
    claims: Sequence[Any],
    guess: float | None,
    rates: Mapping[str, "Rate"],
) -> None:
    from twinbench.reports.verdicts.prospects import prospects

    found = prospects(claims, folder, guess)
    heads = ("claim", "seeds planned", "seeds needed", "detects", "asked", "")
    typer.echo("\n".join(columns(heads, [_row(one) for one in found])))
    typer.echo("needed: for power .8, where the truth lies as far as asked beyond the bound that is claimed")
    to_come = [one for one in found if not one.verdict]
    if judged := len(found) - len(to_come):
        typer.echo(f"{judged} of {len(found)} claims are judged already: no trial of theirs is to come, see `check`")
    if to_come:
        can = sum(one.can_settle for one in to_come)
        others = " others" if judged else " claims"
        typer.echo(f"{can} of {len(to_come)}{others} can be settled by this plan")
    _print_cheapest(planned, [one for one in found if not one.can_settle and not _is_settled(one)], rates)


def _is_settled(prospect: "Prospect") -> bool:
    """Whether it is judged, and no more seeds could change that."""
    from twinbench.reports.verdicts.verdict import INADMISSIBLE, OPEN

    return bool(prospect.verdict) and not prospect.verdict.startswith((*OPEN, INADMISSIBLE))


def _row(prospect: "Prospect") -> tuple[str, ...]:
    detects = "" if prospect.detectable is None else f"{prospect.detectable:.4f}"
    needed = "" if _is_settled(prospect) else "?" if prospect.seeds is None else str(prospect.seeds)
    asked = f"{prospect.size:.4f}" if prospect.size else ""
    return prospect.claim.name, str(prospect.planned_seeds), needed, detects, asked, _outlook(prospect)


def _outlook(prospect: "Prospect") -> str:
    if prospect.verdict:
        return f"judged already: {prospect.verdict}"
    if prospect.missing_cells:
        return f"no trial of {'; '.join(prospect.missing_cells)} is planned"
    if prospect.seeds is None:
        return "no spread between seeds is known, or no number of seeds would do"
    return "can be settled" if prospect.can_settle else "too few seeds"


def _print_cheapest(planned: "Plan", left: Sequence["Prospect"], rates: Mapping[str, "Rate"]) -> None:
    """The fewest further trials with which every claim that seeds can settle would be settled."""
    from twinbench.harness.performance.cost_estimate import hours

    wanted: dict[str, int] = {}
    for one in left:
        if one.seeds is not None and not one.missing_cells:
            for cell in one.cell_ids:
                wanted[cell] = max(wanted.get(cell, 0), one.seeds)
    of_cell = {cell: [trial for trial in planned.trials if trial.cell_id == cell] for cell in wanted}
    further = [
        trials[0] for cell, trials in of_cell.items() if trials for _ in range(max(0, wanted[cell] - len(trials)))
    ]
    if further:
        cost = hours(further, planned.training_images, rates)
        told = f", {cost} of one process" if cost.trials == len(further) else ""
        seeds = max(wanted.values())
        typer.echo(
            f"the cheapest plan that could: {seeds} seeds, {len(further)} more trials of {len(wanted)} cells{told}"
        )
