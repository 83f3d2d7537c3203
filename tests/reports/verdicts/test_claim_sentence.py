"""The sentence that a claim's fields mean: each field is in it, and each format shows it with the authors' words."""

from dataclasses import replace
from pathlib import Path

import pytest
from claim_evidence import A, B, claim_of, evidence_of, judged
from claim_study import CLAIMS, SEEDS, Study, honest_study, shift

from twinbench.reports.verdicts.check import check_claims
from twinbench.reports.verdicts.formats import FORMATS
from twinbench.reports.verdicts.verdict import Checked
from twinbench.sweeps.sweep import read_protocol

SIX = [0.62, 0.63, 0.62, 0.64, 0.61, 0.63]
LOWER = [0.60, 0.61, 0.60, 0.61, 0.59, 0.61]
AXIS = {"axis": "batch_size", "values": (64, 128)}
LINEAR = "the linear top-1 of simclr on test"


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        (claim_of(), f"{LINEAR} is above that of byol, over 6 seeds at 95 % confidence."),
        (claim_of(at_least=0.01), f"{LINEAR} is at least 1 point above that of byol"),
        (claim_of(by=0.02, tolerance=0.005), f"{LINEAR} is 2 points, give or take 0.5 points, above that of byol"),
        (claim_of("not_worse", within=0.02), f"{LINEAR} is no more than 2 points below that of byol"),
        (claim_of("best_of", among=(B, {"method": "vicreg"})), f"{LINEAR} is above that of each of byol and vicreg"),
        (
            claim_of("insensitive", within=0.02, **AXIS),
            f"{LINEAR} changes by less than 2 points between any two of batch_size = 64 and 128",
        ),
        (
            claim_of("monotone", direction="decreasing", **AXIS),
            f"{LINEAR} falls from each of batch_size = 64 and 128 to the next",
        ),
        (claim_of("does_not_collapse", share=0.2), "simclr collapses in less than 20 % of all seeds"),
        (claim_of("collapses"), "simclr collapses in more than 50 % of all seeds"),
        (
            claim_of("wins", chance=0.75),
            f"at a new seed, {LINEAR} is above that of byol with a probability above 0.75, over 6 seeds",
        ),
        (claim_of("wins", metric="train_seconds"), "is below that of byol with a probability above 0.5"),
        (claim_of(metric="knn_top1"), "the kNN top-1 of simclr on test is above that of byol"),
        (
            claim_of(metric="train_seconds", at_least=5.0),
            "the training time of simclr is at least 5 s below that of byol",
        ),
        (claim_of(a=A | {"epochs": 4}, b=B | {"epochs": 4}), f"{LINEAR} is above that of byol, at epochs = 4, over"),
        (
            claim_of(a=A | {"batch_size": 64}, b=B | {"batch_size": 128}),
            "of simclr at batch_size = 64 on test is above that of byol at batch_size = 128, over",
        ),
        (
            claim_of(scope={"batch_size": [64, 128]}),
            "above that of byol, at each of batch_size = 64 and 128, over 6 seeds",
        ),
    ],
)
def test_the_sentence_has_every_field_of_the_claim(claim, text):
    values = [SIX, LOWER, LOWER] if claim.kind == "best_of" else [SIX, LOWER] * 2
    (verdict,) = judged(evidence_of(claim, values, 0.01))
    assert verdict.judged.startswith("Under protocol invented v1 (000000000000), ")
    assert text in verdict.judged and verdict.judged.endswith(".")


def test_no_seeds_are_named_where_no_statistics_are_shown(tmp_path: Path) -> None:
    (verdict,) = judged(evidence_of(claim_of(), [SIX, []]))
    assert verdict.judged == f"Under protocol invented v1 (000000000000), {LINEAR} is above that of byol."


SHORT = {"epochs": 2}
AT_TWO = CLAIMS.replace("SimCLR is", "after 2 epochs SimCLR is")
PROTOCOL_ID = "cifar10-small v4 (1550f6f3e742)"
UNSAID = "holds at epochs = 2 (protocol: 20), which the sentence does not say"


@pytest.mark.parametrize(
    ("claims", "simclr", "byol", "label", "judged", "found"),
    [
        (CLAIMS, SHORT, SHORT, "NARROWED (A20)", ", with epochs = 2 (protocol: 20), over 6", ("A20", UNSAID)),
        (
            AT_TWO,
            SHORT,
            SHORT,
            "SUPPORTED_AS_STATED",
            ", with epochs = 2 (protocol: 20), over 6",
            ("A20", "names cifar"),
        ),
        (
            CLAIMS,
            *(SHORT, {}, "INADMISSIBLE (A12)", "with epochs = 2 (protocol: 20) for simclr"),
            ("A12", "unequal compute: simclr: 2 epochs, 14,336 images, byol: 20 epochs"),
        ),
        (
            CLAIMS,
            *(
                {"learning_rate": 0.004},
                {},
                "NARROWED (A20)",
                ", with learning_rate = 0.004 (protocol: 0.002) for simclr, over 6",
            ),
            ("A20", "holds at learning_rate = 0.004 (protocol: 0.002), which"),
        ),
    ],
)
def test_settings_that_a_sweep_fixes_against_the_protocol_are_judged_and_must_be_said(
    claims: str,
    simclr: dict[str, float],
    byol: dict[str, float],
    label: str,
    judged: str,
    found: tuple[str, str],
    tmp_path: Path,
) -> None:
    study = study_of(tmp_path / "run", claims, [("simclr", 0.65, simclr), ("byol", 0.60, byol)])
    (verdict,) = check_claims(study.claims_file, study.folder).verdicts
    assert verdict.label == label and judged in verdict.judged
    assert verdict.sentence.startswith(f"Under protocol {PROTOCOL_ID}, with ") or label.startswith("INADMISSIBLE")
    assert found[1] in next(finding.text for finding in verdict.findings if finding.rule == found[0])


@pytest.mark.parametrize(("own", "label"), [(0.60, "SUPPORTED_AS_STATED"), (None, "NARROWED (A20)")])
def test_a_value_that_validation_chose_before_the_protocols_own_need_not_be_said(
    own: float | None, label: str, tmp_path: Path
) -> None:
    cells = [("simclr", 0.65, {"learning_rate": 0.004}), ("simclr", own, {}), ("byol", 0.60, {}), ("byol", 0.55, SHORT)]
    study = study_of(tmp_path / "run", CLAIMS, cells)
    (verdict,) = check_claims(study.claims_file, study.folder).verdicts
    assert "with learning_rate = 0.004 (protocol: 0.002) for simclr, over" in verdict.judged and verdict.label == label


ROBUST = """protocol = "cifar10-small"
[[claims]]
name = "robust"
sentence = "On CIFAR-10, under cifar10-small, SimCLR does not depend on the batch size."
kind = "insensitive"
a = { method = "simclr" }
axis = "batch_size"
values = [64, 128]
within = 0.01
"""


@pytest.mark.parametrize(("range_", "label"), [("", "NARROWED (A20)"), (" from 64 to 128", "SUPPORTED_AS_STATED")])
def test_a_claim_along_an_axis_names_its_range_where_the_axis_was_run_beyond_it(
    range_: str, label: str, tmp_path: Path
) -> None:
    cells = [("simclr", accuracy, {"batch_size": size}) for size, accuracy in ((64, 0.64), (128, 0.64), (1024, 0.4))]
    study = study_of(tmp_path / "run", ROBUST.replace("size.", f"size{range_}."), cells)
    (verdict,) = check_claims(study.claims_file, study.folder).verdicts
    assert verdict.label == label
    assert ("batch_size was also run at 1024" in verdict.findings[19].text) == (not range_)


def study_of(folder: Path, claims: str, cells: list[tuple[str, float | None, dict[str, float]]]) -> Study:
    """Return a study with six seeds of each cell: method, mean accuracy (None: diverged), training."""
    folder.mkdir()
    study = Study(folder, read_protocol("cifar10-small").carried)
    study.write_claims(claims)
    for method, level, training in cells:
        for seed in SEEDS:
            accuracy = None if level is None else level + shift(seed) + shift(method, seed) / 2
            study.add(
                study.trial(method, seed, training=training), accuracy, **({} if level else {"status": "diverged"})
            )
    study.write_plan()
    return study


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_shows_the_sentence_that_is_judged_beside_the_authors(form: str, tmp_path: Path) -> None:
    study = honest_study(tmp_path / "run", CLAIMS.replace("SimCLR is at", "our SimCLR is at"))
    checked: Checked = check_claims(study.claims_file, study.folder)
    text = " ".join(FORMATS[form](checked).replace("\\", "").replace("{-}", "-").replace("&#39;", "'").split())
    for part in ("is at least 1 point above that of byol", "our SimCLR is at least one point better than BYOL"):
        assert part in text


def test_the_authors_words_do_not_change_the_sentence_that_is_judged() -> None:
    claims = [claim_of(), replace(claim_of(name="two", family="two"), sentence="SimCLR is by far the best.")]
    first, second = judged(*(evidence_of(claim, [SIX, LOWER], 0.01) for claim in claims))
    assert first.judged == second.judged
