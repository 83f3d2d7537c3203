"""Claims: a complete grid has its chosen cells planned on the confirm seeds, and nothing planned vanishes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from claim_study import leave_record
from confirm_study import CONFIRM_SEEDS, confirm_study, of_simclr

from twinbench.harness.planning import Plan, make_plan
from twinbench.harness.run_folder.confirm_stage import with_confirmations, with_planned_confirmations
from twinbench.harness.run_folder.layout import retry_failed, write_plan
from twinbench.results.record import record_path
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.sweep import read_protocol

Planner = Callable[..., Plan]
SOME = ("methods=['simclr','byol']", "baselines=false", "seeds=[0, 1]", "confirm.seeds=[8, 9]")


def _planned(folder: Path, is_confirmed: bool = False) -> Plan:
    """The plan of the made-up study, as `make_plan` would give it, without its confirm stage."""
    study = confirm_study(folder, is_confirmed)
    grid = tuple(trial for trial in study.trials if trial.seed not in CONFIRM_SEEDS)
    axes = ("temperature",)
    return Plan("s", "q", read_protocol("cifar10-small"), axes, grid, 7200, 32, confirm_seeds=CONFIRM_SEEDS)


def test_the_cells_that_validation_chose_are_added_on_the_confirm_seeds_baselines_and_single_cells_too(
    tmp_path: Path,
) -> None:
    planned = _planned(tmp_path)
    added = with_confirmations(planned, tmp_path).trials[len(planned.trials) :]
    assert {(one.method, one.settings.get("temperature")) for one in added} == {
        ("untrained", None),
        ("byol", None),
        ("simclr", 0.2),  # 0.1 and 0.5 are worse on validation; raw pixels draw nothing at random
    }
    assert [one.seed for one in added] == list(CONFIRM_SEEDS) * 3
    ids = {one.trial_id for one in confirm_study(tmp_path / "again").trials}
    assert {one.trial_id for one in added} <= ids  # a trial like any other with that cell and seed
    assert with_confirmations(replace(planned, confirm_seeds=()), tmp_path).trials == planned.trials


def test_a_part_of_a_sweep_with_one_cell_of_each_method_has_no_stage(tmp_path: Path) -> None:
    planned = _planned(tmp_path)
    part = tuple(one for one in planned.trials if one.settings.get("temperature") in (None, 0.2))
    assert with_confirmations(replace(planned, trials=part), tmp_path).trials == part


def test_nothing_is_chosen_while_a_trial_of_the_grid_has_no_record(tmp_path: Path) -> None:
    planned = _planned(tmp_path)
    record_path(tmp_path, planned.trials[-1].trial_id).unlink()
    assert with_confirmations(planned, tmp_path) is planned


def test_a_second_command_finds_the_stage_planned_and_adds_nothing(tmp_path: Path) -> None:
    planned = _planned(tmp_path, is_confirmed=True)
    again = with_planned_confirmations(planned, tmp_path)
    assert len(again.trials) == len(planned.trials) + 3 * len(CONFIRM_SEEDS)
    assert with_confirmations(again, tmp_path) is again


def test_a_grid_that_grows_chooses_anew_from_its_own_seeds_and_keeps_what_was_planned(tmp_path: Path) -> None:
    planned = _planned(tmp_path, is_confirmed=True)
    study = confirm_study(tmp_path / "ids")
    better = [of_simclr(study, 0.3, seed) for seed in (0, 1, 2)]
    grown = replace(planned, trials=(*planned.trials, *better))
    grown = with_planned_confirmations(grown, tmp_path)
    write_plan(tmp_path, grown)
    assert with_confirmations(grown, tmp_path) is grown  # its new cell is not recorded yet
    for trial in better:
        leave_record(tmp_path, trial, 0.5, validation=0.65)
    added = with_confirmations(grown, tmp_path).trials[len(grown.trials) :]
    assert [(one.settings["temperature"], one.seed) for one in added] == [(0.3, seed) for seed in CONFIRM_SEEDS]


def test_trials_of_the_stage_whose_cells_another_set_left_out_are_not_in_its_plan(tmp_path: Path) -> None:
    planned = _planned(tmp_path, is_confirmed=True)
    other = tuple(one for one in planned.trials if one.settings.get("temperature") != 0.2)
    again = with_planned_confirmations(replace(planned, trials=other), tmp_path)
    added = again.trials[len(other) :]
    assert {one.method for one in added} == {"untrained", "byol"}  # SimCLR's chosen cell had the temperature 0.2


def test_a_failed_trial_of_the_grid_that_runs_again_leaves_the_stage_planned(tmp_path: Path) -> None:
    planned = _planned(tmp_path, is_confirmed=True)
    failed = planned.trials[-1]
    record_path(tmp_path, failed.trial_id).unlink()
    leave_record(tmp_path, failed, None, "failed", "out of memory")
    both = with_planned_confirmations(planned, tmp_path)
    assert retry_failed(tmp_path, both) == 1
    write_plan(tmp_path, both)
    assert with_confirmations(both, tmp_path) is both and len(both.trials) > len(planned.trials)


def test_seeds_that_have_confirmed_cannot_become_seeds_that_select(tmp_path: Path) -> None:
    planned = _planned(tmp_path, is_confirmed=True)
    fewer = replace(planned, confirm_seeds=CONFIRM_SEEDS[1:])
    with pytest.raises(InvalidInput, match=r"confirm\.seeds: results on these seeds confirm a choice.*\[10\]"):
        write_plan(tmp_path, with_planned_confirmations(fewer, tmp_path))
    more = replace(planned, confirm_seeds=(*CONFIRM_SEEDS, 14))
    write_plan(tmp_path, with_planned_confirmations(more, tmp_path))


def test_a_shipped_sweep_plans_its_stage_only_with_records(tmp_path: Path) -> None:
    planned = make_plan("digits", SOME, None)
    write_plan(tmp_path, planned)
    assert with_confirmations(with_planned_confirmations(planned, tmp_path), tmp_path) is planned
