"""`twinbench plan`: list a sweep's trials, what they cost, and which differences their seeds can detect."""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinbench.harness.commands.bench import THREADS
from twinbench.harness.commands.claim_outlook import print_prospects
from twinbench.harness.commands.options import (
    MOST_GIB,
    MOST_SECONDS,
    Data,
    MemoryLimit,
    Out,
    Set,
    SweepName,
    TimeLimit,
    print_left_out,
    print_other_trials,
    read_bounded,
)
from twinbench.harness.commands.protocol import columns
from twinbench.sweeps.errors import InvalidInput, counted, printable
from twinbench.sweeps.metrics import metric_names

if TYPE_CHECKING:
    from twinbench.harness.performance.cost_estimate import Rate
    from twinbench.harness.planning import Plan
    from twinbench.reports.claims.claim import Claim
    from twinbench.reports.claims.evidence import Folder
    from twinbench.reports.tables.run import TrialRow
    from twinbench.reports.verdicts.prospects import Prospect, Spread
    from twinbench.sweeps.trial import Trial


def plan(
    sweep: SweepName,
    out_folder: Out = None,
    changes: Set = None,
    data: Data = None,
    claims: Annotated[
        Path | None, typer.Option("--claims", help="A file of claims: show which of them this plan can settle.")
    ] = None,
    seed_spread: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="A guess of the standard deviation of an accuracy between seeds (a fraction), used where no records "
            "give one.",
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Train each method for some seconds where no records or `bench` give its speed."
        ),
    ] = False,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """List a sweep's trials, their cost on this machine and what their seeds can detect. Records nothing."""
    from twinbench.harness.planning import make_plan
    from twinbench.harness.run_folder.confirm_stage import with_planned_confirmations
    from twinbench.harness.run_folder.layout import check_plan_before
    from twinbench.results.places import check_places
    from twinbench.results.record import record_files

    read: Sequence[Claim] = ()
    if claims:
        from twinbench.reports.claims.claim import read_claims

        read = read_claims(claims)
    planned = make_plan(sweep, tuple(changes or ()), data)
    print_left_out(planned)
    run_folder = out_folder or Path("runs") / planned.name
    check_places(run_folder)
    check_plan_before(run_folder, with_planned_confirmations(planned, run_folder))
    found = Found(
        planned
    )  # reading a run folder imports pandas, DuckDB and SciPy: 1 s that a fresh plan can do without
    if read or seed_spread is not None or record_files(run_folder):
        paths = [run_folder, *([claims] if claims else [])]
        found = read_bounded(
            lambda _: read_folder(planned, run_folder, read, str(claims), seed_spread), paths, memory_limit, time_limit
        )
    planned, known = found.planned, found.trials
    _print_trials(planned, known, run_folder)
    missing = [one for one in planned.trials if not known or known[one.trial_id]["status"] == "missing"]
    rates = _rates(planned, known, missing, data, measure)
    _print_hours(planned, missing, rates)
    _print_confirm_stage(planned, missing, rates)
    _print_detectable(planned, found.spreads)
    if read:
        print_prospects(planned, found.prospects, len(read), rates)


@dataclass(frozen=True)
class Found:
    """What a run folder holds for a plan: trials by id, the spread of seeds by metric, and what the claims need.

    `planned` has the trials of the confirm stage, as far as its cells are chosen.
    """

    planned: "Plan"
    trials: "Mapping[str, TrialRow]" = field(default_factory=dict)
    spreads: "Mapping[str, Spread | None]" = field(default_factory=dict)
    prospects: "Sequence[Prospect]" = ()


def read_folder(planned: "Plan", run_folder: Path, claims: "Sequence[Claim]", file: str, guess: float | None) -> Found:
    """Read the run folder as it would be with this plan in it. InvalidInput about a claim names its `file`."""
    from twinbench.reports.verdicts.prospects import prospects, seed_spread

    with planned_folder(planned, run_folder) as (planned, folder):
        trials = {str(trial["trial_id"]): trial for section in folder.sections for trial in section.trials}
        spreads = {metric: seed_spread(folder, metric, guess) for metric in _probe_metrics(planned)}
        try:
            return Found(planned, trials, spreads, prospects(claims, folder, guess))
        except InvalidInput as error:
            raise InvalidInput(replace(one, where=f"{file}: {one.where}") for one in error.mistakes) from None


@contextlib.contextmanager
def planned_folder(planned: "Plan", run_folder: Path) -> Iterator[tuple["Plan", "Folder"]]:
    """Yield the plan with its confirm stage, as far as its cells are chosen, and the run folder as it would be with it.

    Nothing is written to the run folder.
    """
    from twinbench.harness.run_folder.confirm_stage import with_confirmations, with_planned_confirmations
    from twinbench.harness.run_folder.layout import write_plan
    from twinbench.reports.claims.evidence import Folder
    from twinbench.results.plain_files import claims_files
    from twinbench.results.record import ARTEFACTS, DECLARATIONS, RECORDS
    from twinbench.results.store import copy_database

    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "run"
        planned = with_planned_confirmations(planned, run_folder)
        write_plan(copy, planned)
        declared = [run_folder / DECLARATIONS, *claims_files(run_folder)]  # what `check` reads too
        for path in (*(run_folder / name for name in (RECORDS, ARTEFACTS, "trials")), *declared):
            if path.exists():
                (copy / path.name).symlink_to(path.resolve())
        copy_database(run_folder, copy)  # so that only new records are read
        both = with_confirmations(planned, copy)
        if both is not planned:
            write_plan(copy, both)
        yield both, Folder(copy)


# --- trials and hours -------------------------------------------------------------------------------------------------


def _print_trials(planned: "Plan", known: "Mapping[str, TrialRow]", run_folder: Path) -> None:
    from twinbench.harness.monitor.labels import trial_label
    from twinbench.sweeps.deviations import deviations_text

    status = {t.trial_id: str(known[t.trial_id]["status"]) if known else "missing" for t in planned.trials}
    rows = [(trial.trial_id, trial_label(trial, planned.axes), status[trial.trial_id]) for trial in planned.trials]
    typer.echo("\n".join(columns(("id", "trial", "state"), rows)))
    cells = len({trial.cell_id for trial in planned.trials})
    protocol = f"{planned.protocol.name} v{planned.protocol.version} ({planned.protocol.hash[:12]})"
    if deviations := deviations_text(planned.protocol.carried.get("deviations", [])):
        protocol += f", deviating in {deviations}"
    counts = Counter(status.values())
    states = ", ".join(f"{counts[state]} {state}" for state in sorted({*counts, "missing"}))
    count = f"{counted(len(status), 'trial')} in {counted(cells, 'cell')}"
    typer.echo(printable(f"{count}, {states}; protocol {protocol}; run folder {run_folder}"))
    _print_changed(planned)
    _print_stale([known[trial_id] for trial_id, state in status.items() if state != "missing"])
    if known:
        print_other_trials(len(known) - len(status))


def _print_changed(planned: "Plan") -> None:
    """Say which settings are not the protocol's own, whether the sweep fixes or varies them."""
    from twinbench.sweeps.own_values import changed_by_cell, fixed_text, in_every_cell, varied_text

    cells = changed_by_cell(planned.trials, planned.protocol.carried)
    if fixed := fixed_text(in_every_cell(cells)):
        typer.echo(f"differs from the protocol in every cell: {fixed}")
    if varied := varied_text(cells):
        typer.echo(f"differs from the protocol in some cells: {varied}")


def _print_stale(recorded: "Sequence[TrialRow]") -> None:
    """Say how many records other code has made, as far as their code hashes show it."""
    same = [_is_same_code(trial) for trial in recorded]
    if stale := same.count(False):
        typer.echo(f"{stale} of them were recorded by other code; a trial's id does not cover the code")
    if unknown := same.count(None):
        typer.echo(
            f"{unknown} of them have no code hash, or one of an earlier kind: whether their code differs is unknown"
        )


def _is_same_code(trial: "TrialRow") -> bool | None:
    """Return whether a trial was recorded by the code that is installed now; None if its record does not show it."""
    from twinbench.harness.system.provenance import code_hash, commit
    from twinbench.results.code_hash import is_same_code

    return is_same_code([(trial["code_hash"], trial["commit"]), (code_hash(), commit())])


def _rates(
    planned: "Plan", known: "Mapping[str, TrialRow]", missing: "Sequence[Trial]", data: Path | None, measure: bool
) -> "dict[str, Rate]":
    """Return rates by trial id: from records, else from `bench`, else with `measure` from some seconds of training.

    Records give one rate for all trials of a method, whatever their settings.
    """
    from twinbench.harness.performance.cost_estimate import benched_rates, measured_rates, recorded_rates
    from twinbench.harness.performance.measurements import any_stored, stored, this_machine
    from twinbench.harness.system.devices import choose_devices

    recorded = recorded_rates(known.values()) if known else {}  # imports pandas
    rates = {trial.trial_id: recorded[trial.method] for trial in planned.trials if trial.method in recorded}
    unknown = [trial for trial in missing if trial.training and trial.trial_id not in rates]
    if not unknown or not (measure or any_stored()):
        return rates
    device = choose_devices("auto")[0]  # imports torch where there may be a GPU
    if measurement := stored(this_machine(device, THREADS)):
        rates |= benched_rates(unknown, planned.image_size, measurement)
    unknown = [trial for trial in unknown if trial.trial_id not in rates]
    if measure and unknown:
        from twinbench.harness.trial.execute import Surroundings

        measured = measured_rates(
            unknown, Surroundings(Path(), device=device, threads=THREADS, data=data, keep_log=True)
        )
        rates |= {trial.trial_id: measured[trial.method] for trial in unknown if trial.method in measured}
    return rates


def _print_hours(planned: "Plan", missing: "Sequence[Trial]", rates: "Mapping[str, Rate]") -> None:
    from twinbench.harness.performance.cost_estimate import hours
    from twinbench.harness.system.devices import cores

    cost = hours(missing, planned.training_images, rates)
    if cost.trials:
        machine = f"this machine has {counted(cores(), 'core')}"
        typer.echo(f"{counted(cost.trials, 'missing trial')}: {cost} of one process; {machine}")
        sources = "; ".join(f"{count} of them by {source}" for source, count in cost.sources.items())
        typer.echo(f"{sources}; evaluation time is included only where it comes from records")
    if cost.without_rate:
        typer.echo(
            f"not included, because their speed is unknown: trials of {', '.join(cost.without_rate)}; run `twinbench "
            "bench` once to measure the shipped methods, or pass --measure to train each method for some seconds"
        )


def _print_confirm_stage(planned: "Plan", missing: "Sequence[Trial]", rates: "Mapping[str, Rate]") -> None:
    """Print the trials of the confirm stage and what they cost, which before the choice is known as a bound."""
    from twinbench.harness.performance.cost_estimate import costliest_of_each_method, price_text
    from twinbench.harness.run_folder.confirm_stage import has_confirm_stage

    if not has_confirm_stage(planned.trials, planned.confirm_seeds):
        return
    seeds, count = ", ".join(map(str, planned.confirm_seeds)), len(planned.trials) - len(planned.grid)
    is_open = any(trial.seed not in planned.confirm_seeds for trial in missing)
    if count:
        more = ", chosen before; once the rest is recorded, cells are chosen anew" if is_open else ""
        typer.echo(f"{count} of these trials are the confirm stage: chosen cells on seeds {seeds}{more}")
    else:
        later, each = costliest_of_each_method(planned.grid, planned.training_images, rates), len(planned.confirm_seeds)
        typer.echo(
            f"once these are recorded, the confirm stage follows: {len(later) * each} more trials, each method's "
            f"chosen cell on seeds {seeds}{price_text(later, each, planned.training_images, rates)}"
        )


# --- power ------------------------------------------------------------------------------------------------------------


def _probe_metrics(planned: "Plan") -> list[str]:
    return [name for name in metric_names("probe") if name in planned.protocol.evaluation.metrics]


def _print_detectable(planned: "Plan", spreads: "Mapping[str, Spread | None]") -> None:
    """Print which difference of each metric the planned seeds detect."""
    from twinbench.harness.run_folder.confirm_stage import has_confirm_stage

    seeds = max(Counter(trial.cell_id for trial in planned.grid).values())
    if has_confirm_stage(planned.trials, planned.confirm_seeds):
        seeds = len(planned.confirm_seeds)  # on which methods are compared
    for metric in _probe_metrics(planned):
        typer.echo(f"{metric}: {_detectable(spreads.get(metric), seeds)}")


def _detectable(spread: "Spread | None", seeds: int) -> str:
    """Return in words which difference so many seeds detect."""
    if spread is None:
        return "no records give the spread between seeds; pass a guess with --seed-spread"
    from twinbench.reports.statistics.power import smallest_detectable_difference

    least = smallest_detectable_difference(spread.sd * 2**0.5, seeds)
    found = "one seed detects nothing" if least is None else f"{seeds} seeds detect {100 * least:.2g} points"
    source = f"seed spread {100 * spread.sd:.2g} points, from {spread.source}; power .8"
    return f"{found} between two methods, or less if their results correlate over seeds ({source})"
