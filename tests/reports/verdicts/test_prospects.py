"""Claims: a plan says beforehand what its seeds can detect, which claims it cannot settle, and how many seeds would."""

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claim_evidence import claim_of, evidence_of, judged
from claim_study import Study, honest_study
from scipy import stats
from statsmodels.stats.power import TTestPower

from twinbench.reports.claims.claim import read_claims
from twinbench.reports.claims.contrasts import asked_of
from twinbench.reports.claims.evidence import Folder
from twinbench.reports.statistics.power import pairs_to_win
from twinbench.reports.verdicts.check import check_claims
from twinbench.reports.verdicts.prospects import prospects, seed_spread
from twinbench.reports.verdicts.remedies import seeds_to_meet

CLAIM = """
[[claims]]
name = "{name}"
sentence = "On CIFAR-10 SimCLR is better than BYOL in linear accuracy."
kind = "better"
protocol = "{protocol}"
a = {{ method = "{method}" }}
b = {{ method = "byol" }}
at_least = {size}
"""


def _claims(study: Study, *values: tuple[str, str, str, float]) -> tuple:  # type: ignore[type-arg]
    text = "".join(CLAIM.format(name=n, protocol=p, method=m, size=s) for n, p, m, s in values)
    study.write_claims(text, declared=None)
    return read_claims(study.claims_file)


def test_the_seeds_needed_are_those_of_the_paired_t_test_at_holms_first_step(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    claims = _claims(study, ("small", "cifar10-small", "simclr", 0.006), ("large", "cifar10-small", "simclr", 0.05))
    small, large = prospects(claims, Folder(tmp_path), None)
    values = {
        method: {t.seed: _linear(tmp_path, t.trial_id) for t in study.of(method)} for method in ("simclr", "byol")
    }
    sd = statistics.stdev(values["simclr"][seed] - values["byol"][seed] for seed in range(6))
    needed = TTestPower().solve_power(0.01 / sd, power=0.8, alpha=0.05 / 2)  # the margin is above the 0.006 asked
    assert small.size == 0.01
    winning = pairs_to_win(float(stats.norm.cdf(0.016 / sd)))  # A is to win most seeds, with the truth a point beyond
    assert winning is not None and small.seeds == max(winning, math.ceil(needed))
    assert small.planned_seeds == 6
    assert large.can_settle and large.seeds == 6  # fewer cannot show that P(A > B) is above one half


def _linear(folder: Path, trial_id: str) -> float:
    from twinbench.results.record import read_record, record_path

    metrics = read_record(record_path(folder, trial_id))["result"]["metrics"]
    return next(m["value"] for m in metrics if (m["name"], m["split"]) == ("linear_top1", "test"))


def test_a_claim_under_another_protocol_cannot_be_settled(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    (prospect,) = prospects(_claims(study, ("other", "cifar10-r18-200ep", "simclr", 0.05)), Folder(tmp_path), None)
    assert not prospect.can_settle
    assert prospect.missing_cells == ("simclr", "byol")


def test_a_method_without_trials_is_named(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    (prospect,) = prospects(_claims(study, ("absent", "cifar10-small", "vicreg", 0.05)), Folder(tmp_path), None)
    assert prospect.missing_cells == ("vicreg",) and not prospect.can_settle


def test_without_results_only_a_guess_says_how_many_seeds(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    for file in (tmp_path / "records").iterdir():
        file.unlink()
    claims, folder = _claims(study, ("blind", "cifar10-small", "simclr", 0.0)), Folder(tmp_path)
    assert [one.seeds for one in prospects(claims, folder, None)] == [None]
    # two independent seeds differ by sqrt(2) of the spread; the protocol's margin is a point
    exact = TTestPower().solve_power(0.01 / (math.sqrt(2) * 0.01), power=0.8, alpha=0.05)
    (prospect,) = prospects(claims, folder, 0.01)
    assert prospect.seeds is not None and prospect.seeds > math.ceil(exact) == 18  # which A would have to win, too


def test_a_guess_is_of_accuracies_and_says_nothing_of_a_cost(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    for file in (tmp_path / "records").iterdir():
        file.unlink()
    text = CLAIM.format(name="m", protocol="cifar10-small", method="simclr", size=0.0)
    study.write_claims(text.replace("at_least", 'metric = "peak_memory_bytes"\nat_least'), declared=None)
    folder = Folder(tmp_path)
    (prospect,) = prospects(read_claims(study.claims_file), folder, 0.01)
    assert prospect.seeds is None and prospect.detectable is None and not prospect.can_settle
    assert seed_spread(folder, "knn_top1", 0.01) and not seed_spread(folder, "feature_std", 0.01)


@pytest.mark.parametrize(
    ("kind", "size", "truth"),
    [
        ("better", {}, 0.01),
        ("better", {"at_least": 0.01}, 0.02),
        ("better", {"by": 0.02, "tolerance": 0.01}, 0.02),
        ("not_worse", {"within": 0.01}, 0.0),
        ("insensitive", {"axis": "batch_size", "values": [64, 128], "within": 0.01}, 0.0),
    ],
)
@pytest.mark.parametrize("sd", [0.006, 0.012])
def test_the_seeds_needed_give_the_verdict_with_the_stated_power(
    kind: str, size: dict[str, Any], truth: float, sd: float
) -> None:
    claim, rng, draws = claim_of(kind, **size), np.random.default_rng(7), 200
    asked = asked_of(claim, margin=0.0)
    n = seeds_to_meet(asked, truth, 0.01, sd, 0.05)
    assert n is not None
    # Nobody knows how the differences correlate: any two seeds of A and B give them their spread.
    supported = sum(
        judged(evidence_of(claim, [rng.normal(0.6 + truth, sd, n).tolist(), [0.6] * n]))[0].word.startswith("SUPPORTED")
        for _ in range(draws)
    )
    assert 0.75 * draws <= supported <= 0.95 * draws


def test_pixels_need_no_seeds_and_families_count_as_in_check(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    text = CLAIM.format(name="pixels", protocol="cifar10-small", method="simclr", size=0.05)
    text = text.replace('"byol"', '"raw_pixels"').replace("BYOL", "raw pixels")
    alone = CLAIM.format(name="spread", protocol="cifar10-small", method="byol", size=0.0).split("b = {")[0]
    study.write_claims(text + alone.replace('"better"', '"does_not_collapse"'), declared=None)
    claims, folder = read_claims(study.claims_file), Folder(tmp_path)
    pixels, collapse = prospects(claims, folder, None)
    assert pixels.planned_seeds == 6 and pixels.can_settle
    trials = {trial.cell_id for trial in study.of("raw_pixels")}
    assert not trials & {*pixels.cell_ids}
    assert collapse.seeds == 42  # two comparisons in the family: 2 * .9^41 = .027 is above .025
    assert (collapse.size, collapse.detectable) == (pytest.approx(0.1), None)


def _wins(study: Study, chance: float) -> tuple:  # type: ignore[type-arg]
    text = CLAIM.format(name="wins", protocol="cifar10-small", method="simclr", size=0.05).replace('"better"', '"wins"')
    study.write_claims(text.replace("at_least = 0.05", f"chance = {chance}"), declared=None)
    return read_claims(study.claims_file)


def test_a_chance_to_win_needs_as_many_seeds_as_must_all_be_won(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    (prospect,) = prospects(_wins(study, 0.75), Folder(tmp_path), None)
    assert prospect.seeds == 13 and not prospect.can_settle  # .75^13 = .0238, .75^12 = .0317
    assert prospect.size == 0.75 and prospect.detectable is None  # not even six wins of six show 0.75
    (most,) = prospects(_wins(study, 0.5), Folder(tmp_path), None)
    assert most.seeds == 6 and most.detectable == pytest.approx(0.8 ** (1 / 6))  # all six are won with power .8


def test_a_chance_to_win_needs_the_seeds_that_show_it_at_the_recorded_share(tmp_path: Path) -> None:
    study = honest_study(tmp_path, levels={"simclr": 0.6, "byol": 0.601})  # SimCLR is above at five of six seeds
    (prospect,) = prospects(_wins(study, 0.5), Folder(tmp_path), None)
    assert prospect.seeds == pairs_to_win(5 / 6)


def test_the_spread_is_pooled_over_cells(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    of = [[_linear(tmp_path, t.trial_id) for t in study.of(method)] for method in ("simclr", "byol")]
    spread = seed_spread(Folder(tmp_path), "linear_top1", guess=0.5)
    assert spread is not None and spread.source == "2 recorded cells"
    assert spread.sd == pytest.approx(math.sqrt(statistics.mean(map(statistics.variance, of))))


def test_a_claim_of_which_no_trial_is_to_come_is_judged_as_check_judges_it_and_any_other_is_not(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    study.add(study.trial("vicreg", 0), 0.5)
    study.trials.append(study.trial("vicreg", 1))  # planned, and to come
    study.write_plan()
    _claims(
        study, *[(f"{m} {s}", "cifar10-small", m, s) for m, s in (("simclr", 0.01), ("simclr", 0.2), ("vicreg", 0.0))]
    )
    study.write_claims(study.claims_file.read_text())
    found = prospects(read_claims(study.claims_file), Folder(tmp_path), None)
    checked = check_claims(study.claims_file, tmp_path).verdicts
    assert [one.verdict for one in found[:2]] == [verdict.label for verdict in checked[:2]]
    assert [one.verdict.split(",")[0] for one in found] == ["SUPPORTED_AS_STATED", "DIRECTION_ONLY", ""]


def test_no_seeds_are_asked_for_where_unequal_tuning_stops_a_claim_before_and_after_its_trials(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    claims = _claims(study, ("tuned", "cifar10-small", "simclr", 0.2))
    (before,) = prospects(claims, Folder(tmp_path), None)
    warmer = [study.trial("simclr", seed, {"temperature": 0.2}) for seed in range(6)]
    study.trials += warmer
    study.write_plan()
    (planned,) = prospects(claims, Folder(tmp_path), None)
    for trial in warmer:
        study.add(trial, 0.6)
    study.write_claims(study.claims_file.read_text())
    (recorded,) = prospects(claims, Folder(tmp_path), None)
    assert not before.is_decided and not before.barred
    assert planned.barred == "unequal tuning budgets: simclr: 2 cells, byol: 1 cell" and not planned.verdict
    assert recorded.verdict.startswith("INADMISSIBLE (A7)") and "simclr: 2 cells tried, byol: 1 cell" in recorded.barred
    assert planned.is_decided and recorded.is_decided


def test_a_claim_under_another_protocol_is_not_judged_by_these_trials(tmp_path: Path) -> None:
    study = honest_study(tmp_path)
    (prospect,) = prospects(_claims(study, ("other", "cifar10-r18-200ep", "simclr", 0.05)), Folder(tmp_path), None)
    assert prospect.verdict == ""
