"""Claims: rule A5 says on which seeds a cell was chosen and is reported, and what an interval does not cover."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from claim_study import BEGAN, PROTOCOL, Study, leave_record, shift
from confirm_study import CELLS, CONFIRM_SEEDS, GRID_SEEDS, confirm_study, of_simclr, record_confirm_stage

from twinbench.reports.claims.claim import read_claims
from twinbench.reports.claims.evidence import Evidence, Folder
from twinbench.reports.rules.registry import Finding
from twinbench.reports.verdicts.check import check_claims
from twinbench.results.record import record_path
from twinbench.sweeps.sweep import read_protocol

HEAD = f'protocol = "{PROTOCOL}"\n[[claims]]\nname = "one"\nkind = "better"\nb = {{ method = "byol" }}\n'
SENTENCE = 'sentence = "On CIFAR-10, under cifar10-small, SimCLR is better than BYOL in linear accuracy."\n'
OPEN = HEAD + SENTENCE + 'a = { method = "simclr" }\n'
NOT_CHOSEN = HEAD + SENTENCE + 'a = { method = "simclr", temperature = 0.5 }\n'


def _evidence(study: Study, claims: str) -> Evidence:
    study.write_claims(claims, declared=None)
    (claim,) = read_claims(study.claims_file)
    return Folder(study.folder).evidence(claim, None, {})


def _rules(study: Study, claims: str) -> dict[str, Finding]:
    study.write_claims(claims, declared=None)
    (verdict,) = check_claims(study.claims_file, study.folder).verdicts
    return {one.rule: one for one in verdict.findings}


def test_a_claim_about_chosen_cells_is_judged_by_the_confirm_seeds_on_both_sides(tmp_path: Path) -> None:
    study = confirm_study(tmp_path)
    a, b = _evidence(study, OPEN).sides
    assert tuple(a.values) == tuple(b.values) == CONFIRM_SEEDS
    assert (a.candidates, b.candidates) == (3, 1)
    found = _rules(study, OPEN)
    assert found["A5"].outcome == "passed"
    assert "cells chosen on seeds [0, 1, 2], reported on seeds [10, 11, 12, 13]" in found["A5"].text
    assert found["A9"].text == "seeds [10, 11, 12, 13]"  # those of the grid are not left out


def test_a_claim_about_a_cell_that_was_not_chosen_is_judged_by_the_grids_seeds_on_both_sides(tmp_path: Path) -> None:
    study = confirm_study(tmp_path)
    a, b = _evidence(study, NOT_CHOSEN).sides
    assert tuple(a.values) == tuple(b.values) == GRID_SEEDS
    found = _rules(study, NOT_CHOSEN)
    assert found["A5"].outcome == "passed"  # the claim names its cells, and chooses none
    assert found["A9"].text == "seeds [0, 1, 2]"


def test_a_cell_that_is_reported_on_the_seeds_that_chose_it_is_noted(tmp_path: Path) -> None:
    found = _rules(confirm_study(tmp_path, is_confirmed=False), OPEN)["A5"]
    assert (found.outcome, found.weight) == ("failed", "told")  # the verdict stays
    assert "simclr was chosen among 3 cells by the seeds that are reported" in found.text
    assert "byol" not in found.text


def test_a_confirm_stage_that_does_not_train_one_side_is_not_advised_again(tmp_path: Path) -> None:
    claim = (
        HEAD.replace("byol", "simclr").replace(" }", ", temperature = 0.5 }") + SENTENCE + 'a = { method = "simclr" }\n'
    )
    found = _rules(confirm_study(tmp_path), claim)["A5"]
    assert found.outcome == "failed" and "by a table [confirm]" not in found.text
    assert "fresh seeds do, if the cells of both sides are those that their methods chose" in found.text


def test_a_missing_trial_of_the_confirm_stage_is_no_reason_to_take_the_grids_seeds(tmp_path: Path) -> None:
    study = confirm_study(tmp_path)
    record_path(tmp_path, of_simclr(study, 0.2, 13).trial_id).unlink()
    found = _rules(study, OPEN)["A8"]
    assert found.outcome == "failed"
    assert tuple(_evidence(study, OPEN).sides[0].values) == CONFIRM_SEEDS[:-1]


def test_a_choice_that_was_changed_with_the_confirm_seeds_in_view_leaves_the_claim_exploratory(tmp_path: Path) -> None:
    study = confirm_study(tmp_path)
    study.add(of_simclr(study, 0.3, 0), 0.5, validation=0.5)  # the grid grew later
    study.write_plan()
    grown = _rules(study, OPEN)["A5"]
    assert (grown.outcome, grown.weight) == ("failed", "told")
    assert "the grid grew after its reported seeds were trained, and chooses the same cell" in grown.text
    for seed in GRID_SEEDS:  # and chooses another cell, which is confirmed too
        leave_record(tmp_path, of_simclr(study, 0.3, seed), 0.5, validation=0.65)
        study.trials += [of_simclr(study, 0.3, seed)] if seed else []
    for seed in CONFIRM_SEEDS:
        study.add(of_simclr(study, 0.3, seed), CELLS[0.2][1])
    study.write_plan()
    found = _rules(study, OPEN)["A5"]
    assert found.weight == "late" and "1 of its cells that are not chosen now have results" in found.text


def test_seeds_that_are_named_confirm_seeds_after_they_ran_stop_a_claim(tmp_path: Path) -> None:
    study = confirm_study(tmp_path, is_confirmed=False)
    study.confirm_seeds = (1,)  # of the grid, where seed 2 ended later
    study.write_plan()
    found = _rules(study, OPEN)["A5"]
    assert (found.outcome, found.weight) == ("failed", "stops")
    for method in ("simclr", "byol"):  # also of a method with one cell
        assert f"{method}: its confirm seeds were trained before its own trials of the grid had ended" in found.text


def test_confirm_seeds_where_nothing_was_chosen_stop_a_claim(tmp_path: Path) -> None:
    study = Study(tmp_path, read_protocol(PROTOCOL).carried, confirm_seeds=CONFIRM_SEEDS)
    for seed in (*GRID_SEEDS, *CONFIRM_SEEDS):
        for method in ("simclr", "byol"):
            study.add(study.trial(method, seed), 0.60 + shift(method, seed))
    study.write_plan()
    found = _rules(study, OPEN)["A5"]
    assert (found.weight, "no method has several cells" in found.text) == ("stops", True)


@pytest.mark.parametrize("removed", [["simclr", "byol"], ["byol"]])
def test_the_grids_seeds_do_not_stand_in_for_a_confirm_stage_that_did_not_run(
    tmp_path: Path, removed: list[str]
) -> None:
    study = confirm_study(tmp_path)
    for trial in [one for one in study.trials if one.seed in CONFIRM_SEEDS and one.method in removed]:
        record_path(tmp_path, trial.trial_id).unlink()
        shutil.rmtree(tmp_path / "trials" / trial.trial_id)
        study.trials.remove(trial)
    study.write_plan()
    found = _rules(study, OPEN)["A8"]
    assert (found.outcome, found.weight) == ("failed", "stops")
    assert f"{removed[0]}: its choice is to be confirmed on seeds that have no record: 10, 11, 12, 13" in found.text


def test_a_claim_that_is_declared_between_grid_and_confirm_stage_is_declared_before_its_results(tmp_path: Path) -> None:
    study = confirm_study(tmp_path, is_confirmed=False)
    study.write_claims(OPEN, BEGAN + timedelta(hours=len(study.trials) - 0.5))  # a trial begins each hour
    assert _declared(study).outcome == "failed"  # judged by the grid, whose results were there
    record_confirm_stage(study)
    assert _declared(study).outcome == "passed"


def _declared(study: Study) -> Finding:
    (verdict,) = check_claims(study.claims_file, study.folder).verdicts
    return {one.rule: one for one in verdict.findings}["A24"]


def test_an_open_claim_asks_for_more_seeds_under_confirm(tmp_path: Path) -> None:
    study = confirm_study(tmp_path)
    better_than_untrained = OPEN.replace('"byol"', '"untrained"').replace("BYOL", "the untrained backbone")
    study.write_claims(better_than_untrained, declared=None)
    (verdict,) = check_claims(study.claims_file, tmp_path).verdicts
    assert verdict.word == "UNDERPOWERED"  # four pairs cannot show a chance to win above one half
    (remedy,) = verdict.settled_by
    assert "more seeds of simclr and untrained under [confirm]" in remedy
