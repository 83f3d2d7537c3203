"""Claims: `plan` shows the confirm stage with its cost, and recommends one where a claim chooses among cells."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from claim_study import PROTOCOL, Study
from confirm_study import CONFIRM_SEEDS, confirm_study

from twinbench.harness.commands import options
from twinbench.harness.commands.claim_outlook import print_prospects
from twinbench.harness.commands.plan import _print_confirm_stage, _print_detectable, planned_folder
from twinbench.harness.commands.run import _prepare
from twinbench.harness.performance.cost_estimate import Rate
from twinbench.harness.planning import Plan
from twinbench.reports.claims.claim import read_claims
from twinbench.reports.claims.evidence import Folder
from twinbench.reports.verdicts.prospects import prospects, seed_spread
from twinbench.sweeps.sweep import read_protocol

Planner = Callable[..., Plan]
CLAIMS = f"""
protocol = "{PROTOCOL}"
[[claims]]
name = "one"
sentence = "On CIFAR-10, under cifar10-small, SimCLR is better than BYOL in linear accuracy."
kind = "better"
a = {{ method = "simclr" }}
b = {{ method = "byol" }}
"""


def _planned(study: Study) -> Plan:
    grid = tuple(trial for trial in study.trials if trial.seed not in CONFIRM_SEEDS)
    axes = ("temperature",)
    return Plan("s", "q", read_protocol(PROTOCOL), axes, grid, 7200, 32, confirm_seeds=study.confirm_seeds)


def test_the_stage_is_shown_with_its_trials_and_the_cost_of_the_longest_cells(
    tiny_plan: Planner, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = tiny_plan("methods=['simclr','byol']", "confirm.seeds=[8, 9]", "simclr.epochs=[2, 4]")
    rates = {trial.trial_id: Rate(256.0, 256.0, 256.0, 0.0, 1) for trial in planned.trials}
    _print_confirm_stage(planned, planned.trials, rates)
    # Four epochs of SimCLR and two of BYOL, each twice, of four batches of 256 in a second each.
    hours = 2 * (4 + 2) * 4 / 3600
    expected = f"6 more trials, each method's chosen cell on seeds 8, 9, at most {hours:.2g} hours"
    assert expected in capsys.readouterr().out
    _print_confirm_stage(replace(planned, confirm_seeds=()), (), rates)
    _print_confirm_stage(tiny_plan("methods=byol", "confirm.seeds=[8, 9]"), (), rates)  # a part with nothing to choose
    assert not capsys.readouterr().out


def test_once_the_grid_is_recorded_its_chosen_cells_are_in_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = confirm_study(tmp_path / "run", is_confirmed=False)
    with planned_folder(_planned(study), study.folder) as (planned, folder):
        _print_confirm_stage(planned, (), {})
        _print_detectable(
            planned, {metric: seed_spread(folder, metric, None) for metric in planned.protocol.evaluation.metrics}
        )
    printed = capsys.readouterr().out
    assert f"{3 * len(CONFIRM_SEEDS)} of these trials are the confirm stage" in printed
    assert f"{len(CONFIRM_SEEDS)} seeds detect" in printed  # not those of the grid as well


def test_run_says_how_many_trials_of_other_sweeps_its_folder_and_report_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = confirm_study(tmp_path, is_confirmed=True)
    monkeypatch.setattr("twinbench.harness.commands.command_text.as_given", lambda context: "twinbench run s")
    options.out.cache_clear()  # to print where this test reads
    planned = _planned(study)
    part = replace(planned, trials=tuple(one for one in planned.trials if one.method != "byol"))
    _prepare(tmp_path, part, typer.Context(typer.main.get_command(typer.Typer(callback=print))), 1, None)
    others = [one for one in study.trials if one.method == "byol"]
    assert f"{len(others)} more trials in the folder, not part of this plan" in capsys.readouterr().out


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_the_seeds_of_a_claim_are_those_of_the_confirm_stage(tmp_path: Path, is_confirmed: bool) -> None:
    study = confirm_study(tmp_path, is_confirmed)
    study.write_claims(CLAIMS, declared=None)
    (one,) = prospects(read_claims(study.claims_file), Folder(tmp_path), None)
    assert (one.planned_seeds, one.chosen_among) == (len(CONFIRM_SEEDS), ())
    assert bool(one.verdict) is is_confirmed  # the stage is still to come


def test_fresh_seeds_are_recommended_where_a_claim_chooses_by_the_seeds_that_it_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = confirm_study(tmp_path / "run", is_confirmed=False)
    study.confirm_seeds = ()
    study.write_plan()
    study.write_claims(CLAIMS.replace('"byol"', '"untrained"').replace("BYOL", "the untrained one"), declared=None)
    with planned_folder(_planned(study), study.folder) as (planned, folder):
        print_prospects(planned, prospects(read_claims(study.claims_file), folder, None), 1, {})
    printed = capsys.readouterr().out
    assert "claims that choose a cell by the seeds that they report: one (simclr among 3 cells)." in printed
    assert "add [confirm] with seeds = [3, 4" in printed
