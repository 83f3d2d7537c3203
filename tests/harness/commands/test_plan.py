"""Claims: `twinbench plan` prints states, hours and prospects, and leaves the run folder as it was."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from claim_study import CLAIM, honest_study, rewrite
from trial_runs import run_trial

from twinbench.harness.commands.claim_outlook import print_prospects
from twinbench.harness.commands.plan import _print_trials, planned_folder
from twinbench.harness.commands.plan import plan as plan_command
from twinbench.harness.performance.cost_estimate import Rate, hours, measured_rates, recorded_rates
from twinbench.harness.planning import Plan, make_plan
from twinbench.harness.run_folder.layout import write_plan
from twinbench.harness.system import provenance
from twinbench.harness.trial.execute import Surroundings
from twinbench.reports.claims.claim import read_claims
from twinbench.reports.verdicts.check import check_claims
from twinbench.reports.verdicts.prospects import prospects
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.sweep import read_protocol

Planner = Callable[..., Plan]
CLAIMS = """
protocol = "digits-small"
[[claims]]
name = "one"
sentence = "On scanned digits SimCLR is better than BYOL."
kind = "better"
a = { method = "simclr" }
b = { method = "byol" }
"""


def test_hours_are_images_over_the_recorded_rate_and_evaluations_on_top(tiny_plan: Planner) -> None:
    trials = [
        {"method": "simclr", "status": "done", "train_seconds": s, "images_seen": 1000, "evaluation_seconds": e}
        for s, e in ((10.0, 2.0), (20.0, 4.0))
    ]
    packed = trials[0] | {"pack": 4, "device": "a GPU", "train_seconds": 1e9}  # it waited for others
    rates = recorded_rates([*trials, trials[0] | {"status": "failed", "train_seconds": 1e9}, packed])
    assert recorded_rates([trials[0] | {"pack": 4, "device": "cpu"}])["simclr"].images_per_second == 100
    assert rates["simclr"] == Rate(pytest.approx(2000 / 30), 50.0, 100.0, 3.0, 2)
    planned = tiny_plan("methods=simclr", "epochs=3", "batch_size=256")
    trials_of_simclr = [trial for trial in planned.trials if trial.method == "simclr"]
    cost = hours(
        trials_of_simclr, 1150, {trial.trial_id: rates["simclr"] for trial in trials_of_simclr}
    )  # four whole batches of 256
    per_trial = 3 * 1024 / (2000 / 30) + 3.0
    assert cost.expected == pytest.approx(len(trials_of_simclr) * per_trial / 3600)
    assert cost.low < cost.expected < cost.high
    assert hours(planned.trials, 1150, {}).without_rate == ("simclr",)


def test_a_measured_rate_leaves_nothing_behind(tiny_plan: Planner, tmp_path: Path) -> None:
    planned = tiny_plan("methods=simclr", "epochs=3")
    rates = measured_rates(planned.trials, Surroundings(tmp_path / "run", keep_log=False))
    assert set(rates) == {"simclr"} and rates["simclr"].images_per_second > 1
    assert not (tmp_path / "run").exists()


def test_a_plan_shows_states_and_prospects_and_touches_no_folder(
    tiny_plan: Planner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [
        "methods=['simclr','byol']",
        "seeds=[0,1]",
        "epochs=2",
        "batch_size=256",
        "projector_width=64",
        "baselines=false",
    ]
    planned = make_plan("digits", tuple(changes), None)
    done = planned.trials[0]
    run_trial(done, Surroundings(tmp_path / "run"))
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "claims.toml").write_text(CLAIMS)
    with planned_folder(planned, tmp_path / "run") as (_, planned_results):
        states = [trial["status"] for section in planned_results.sections for trial in section.trials]
    assert sorted(states) == ["done"] + ["missing"] * (len(planned.trials) - 1)
    plan_command("digits", tmp_path / "run", changes, None, tmp_path / "claims.toml", 0.005, False)
    shown = capsys.readouterr().out
    assert re.search(rf"{done.trial_id} .* done", shown)
    assert "of one process; this machine has" in shown and "2 seeds detect" in shown
    fixed = "batch_size = 256 (protocol: 128), epochs = 2 (protocol: 12), simclr.projector_width = 64 (protocol: 128)"
    assert f"differs from the protocol in every cell: {fixed}, byol.projector_width = 64 (protocol: 256)\n" in shown
    assert "in some cells" not in shown
    unstated = "batch_size = 256 (protocol: 128), epochs = 2"
    assert f"one will be narrowed by A20, unless its sentence states {unstated}" in shown
    assert re.search(r"one +2 +\d+ .* too few seeds", shown) and "judged" not in shown
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "claims.toml") == before


def test_a_plan_that_has_run_shows_the_verdicts_of_check_and_the_seeds_that_open_claims_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settled = CLAIM.replace("simclr-beats-byol", "settled")
    pinned = CLAIM.replace("simclr-beats-byol", "open").replace("at_least", "by").replace("0.01", "0.02")
    pinned = pinned.replace("at least one point", "two points")
    study = honest_study(tmp_path / "run", f'protocol = "cifar10-small"\n{settled}{pinned}')
    checked = {one.claim.name: one.label for one in check_claims(study.claims_file, study.folder).verdicts}
    planned = Plan("honest", "?", read_protocol("cifar10-small"), (), tuple(study.trials), 8000, 32)
    claims = read_claims(study.claims_file)
    with planned_folder(planned, study.folder) as (_, planned_results):
        print_prospects(planned, prospects(claims, planned_results, None), len(claims), {})
    shown = capsys.readouterr().out
    assert set(checked.values()) == {"SUPPORTED_AS_STATED", "DIRECTION_ONLY"}
    for name, label in checked.items():
        assert re.search(rf"^{name} .* judged already: {label}$", shown, re.MULTILINE)
    assert "2 of 2 claims are judged already" in shown and "can be settled by this plan" not in shown


@pytest.mark.parametrize(("text", "problem"), [("{", "plan.json"), (None, "holds runs of another protocol")])
def test_plan_refuses_a_folder_as_run_does(tiny_plan: Planner, tmp_path: Path, text: str | None, problem: str) -> None:
    planned = tiny_plan("methods=simclr")
    write_plan(tmp_path, replace(planned, protocol=read_protocol("cifar10-small")))
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InvalidInput, match=problem):
        plan_command("digits", tmp_path, ["methods=simclr"])


def test_a_plan_counts_the_claims_about_published_tables_which_it_cannot_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = honest_study(tmp_path / "run", f'protocol = "cifar10-small"\n{CLAIM}')
    published = read_claims(Path(__file__).parents[3] / "docs" / "examples" / "lightly_claims.toml")
    planned = Plan("honest", "?", read_protocol("cifar10-small"), (), tuple(study.trials), 8000, 32)
    claims = [*read_claims(study.claims_file), *published]
    with planned_folder(planned, study.folder) as (_, planned_results):
        print_prospects(planned, prospects(claims, planned_results, None), len(claims), {})
    about_tables = sum(claim.is_about_a_table for claim in published)
    assert f"{about_tables} more are about published tables, which no plan changes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code_hash", "says"),
    [
        ("d" * 64, " of them have no code hash, or one of an earlier kind"),
        ("2:" + "e" * 64, " of them were recorded by other code"),
        (provenance.code_hash(), ""),
    ],
)
def test_a_plan_says_which_trials_other_code_made_and_of_which_that_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code_hash: str, says: str
) -> None:
    study = honest_study(tmp_path / "run", f'protocol = "cifar10-small"\n{CLAIM}')
    for trial in study.trials:
        rewrite(study, trial, lambda record: record["circumstance"].update({"code_hash": code_hash}))
    planned = Plan("honest", "?", read_protocol("cifar10-small"), (), tuple(study.trials), 8000, 32)
    with planned_folder(planned, study.folder) as (_, folder):
        known = {str(trial["trial_id"]): trial for section in folder.sections for trial in section.trials}
    _print_trials(planned, known, study.folder)
    printed = capsys.readouterr().out
    assert f"{len(study.trials)} trials in 4 cells" in printed
    assert f"{len(study.trials)}{says}" in printed if says else "of them" not in printed
