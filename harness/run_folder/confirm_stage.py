"""The confirm stage of a run: each method's chosen cell, trained again on new seeds.

A cell that is chosen by the very seeds on which it is reported looks better than it is. The stage begins once every
trial of the grid has a record. Its trials are ordinary trials of plan.json, with seeds of the plan's `confirm` table.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from twinbench.results.plan import read_plan
from twinbench.results.record import PLAN, recorded_ids
from twinbench.sweeps.trial import WITHOUT_SEEDS, Trial

if TYPE_CHECKING:
    from twinbench.harness.planning import Plan


def has_confirm_stage(trials: Iterable[Trial], confirm_seeds: Collection[int]) -> bool:
    """Return whether a plan with these trials has the stage: it has seeds for it, and a method with several cells.

    A part of a sweep, by `--set`, may have one cell of each method: then nothing is chosen.
    """
    cells: dict[str, set[str]] = {}
    for trial in trials:
        if trial.seed not in confirm_seeds:
            cells.setdefault(trial.method, set()).add(trial.cell_id)
    return bool(confirm_seeds) and any(len(of_method) > 1 for of_method in cells.values())


def with_planned_confirmations(planned: "Plan", run_folder: Path) -> "Plan":
    """Return the plan with those trials of the confirm stage that the folder's plan has already for cells of this grid.

    A grid that has grown since then may choose other cells, but no planned trial may vanish. Cells that this grid
    lacks, as after another `--set`, are of another sweep.
    """
    if not planned.confirm_seeds or not (run_folder / PLAN).exists():
        return planned
    cells = {trial.cell_id for trial in planned.grid}
    before = [trial for trial in read_plan(run_folder).full_trials() if trial.seed in planned.confirm_seeds]
    return _with_trials(planned, [trial for trial in before if trial.cell_id in cells])


def with_confirmations(planned: "Plan", run_folder: Path) -> "Plan":
    """Return the plan with the chosen cells' trials on the confirm seeds; unchanged while the grid lacks records.

    Cells are chosen as in the report, from all records of the folder, whose plan must be `planned`. A method whose
    chosen cell is not in the plan is left out.
    """
    has_stage = has_confirm_stage(planned.trials, planned.confirm_seeds)
    if not has_stage or not recorded_ids(run_folder).keys() >= {one.trial_id for one in planned.grid}:
        return planned
    cells = {trial.cell_id: trial for trial in planned.grid}
    chosen = [cells[cell_id] for cell_id in _chosen(run_folder) if cell_id in cells]
    return _with_trials(planned, [replace(trial, seed=seed) for trial in chosen for seed in planned.confirm_seeds])


def _with_trials(planned: "Plan", more: list[Trial]) -> "Plan":
    trials = {trial.trial_id: trial for trial in (*planned.trials, *more)}
    return planned if len(trials) == len(planned.trials) else replace(planned, trials=tuple(trials.values()))


def _chosen(run_folder: Path) -> list[str]:
    """Return the ids of the chosen cells, without raw pixels: in them nothing is random."""
    from twinbench.reports.tables.run import read_run
    from twinbench.reports.tables.sections import sections  # imports pandas and DuckDB

    parts = sections(read_run(run_folder, curves="SELECT * FROM curves WHERE false"))
    return [cell.cell_id for part in parts for cell in part.chosen.values() if cell.method != WITHOUT_SEEDS]
