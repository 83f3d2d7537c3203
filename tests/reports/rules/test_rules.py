"""Each rule passes on an honest study and says what it found; what is unusual but honest is noted, not refused."""

import re
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claim_study import BEGAN, CLAIMS, DECLARED, Study, honest_study, leave_attempt, rewrite, shift

from twinbench.reports.claims.claim import Claim, read_claims
from twinbench.reports.claims.declarations import declare, read_log
from twinbench.reports.claims.evidence import Folder, Side
from twinbench.reports.rules.accounted import Compared
from twinbench.reports.rules.case import Case
from twinbench.reports.rules.registry import RULES, Finding, Rule
from twinbench.reports.rules.sentence import contradictions, generalises, names_dataset, names_value, names_value_of
from twinbench.reports.statistics.intervals import welch_difference
from twinbench.reports.tables.cells import Value
from twinbench.reports.verdicts.check import check_claims, in_families, locked_hashes
from twinbench.results.attempts import Attempt
from twinbench.results.log_head import LogHead
from twinbench.results.record import DECLARATIONS
from twinbench.results.store import ResultStore

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"

# The outcome of each rule on the honest study, and a part of its text.
SEEN = {
    "A1": ("passed", "cifar10-small v4 (1550f6f3e742)"),
    "A2": ("passed", "dataset sha256:1111"),
    "A3": ("passed", "without the validation images"),
    "A4": ("passed", "3.3% of the test images of cifar10"),
    "A5": ("passed", "selected on validation out of 8, reported on test"),
    "A6": ("passed", "checkpoint: last"),
    "A7": ("passed", "simclr: 1 cell to choose from, byol: 1 cell to choose from"),
    "A8": ("passed", "12 trials, all ended"),
    "A9": ("passed", "seeds [0, 1, 2, 3, 4, 5]"),
    "A10": ("passed", "6 pairs, correlation of the sides"),
    "A11": ("passed", "recipe "),
    "A12": ("passed", "simclr: 20 epochs, 143,360 images, byol: 20 epochs, 143,360 images"),
    "A13": ("passed", "small_resnet, blocks per stage 1, width 16"),
    "A14": ("passed", "over seeds and over test examples"),
    "A15": ("passed", "t intervals over seeds"),
    "A16": ("passed", "interval, effect size"),
    "A17": ("passed", "Holm over the 1 comparison of family 'claims'"),
    "A18": ("passed", "detectable with power 0.8, in points: 0.2969; required: 1"),
    "A19": ("passed", "margin 0.01"),
    "A20": ("passed", "names cifar10-small, which fixes dataset, backbone and epochs"),
    "A21": ("passed", "curves and per-example outputs"),
    "A22": ("passed", "one code, device, precision, kernel mode and set of versions"),
    "A23": ("not applicable", "one dataset"),
    "A24": ("passed", "declared 2026-01-01T00:00:00+00:00, first result 2026-01-02T07:01:00"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The honest study, for tests that do not change it."""
    return honest_study(tmp_path_factory.mktemp("honest") / "run")


@pytest.fixture(scope="module")
def case(whole: Study) -> Case:
    """The case of its one claim."""
    (claim,) = read_claims(whole.claims_file)
    return in_families([Folder(whole.folder).evidence(claim, None, locked_hashes())])[0]


def found(rule: str, case: Case) -> Finding:
    return next(one for one in RULES if one.id == rule).find(case)


def with_evidence(case: Case, **changes: Any) -> Case:
    return replace(case, evidence=replace(case.evidence, **changes))


def with_claim(case: Case, **changes: Any) -> Case:
    return with_evidence(case, claim=replace(case.evidence.claim, **changes))


def with_side(case: Case, method: str, change: Callable[[Side], Side]) -> Case:
    """The case with one side changed, wherever it stands."""
    old = next(side for side in case.evidence.sides if side.selector["method"] == method)
    new = change(old)

    def swapped(side: Any) -> Any:
        return new if side is old else side

    sides = tuple(swapped(side) for side in case.evidence.sides)
    pairs = tuple((swapped(a), swapped(b), point) for a, b, point in case.evidence.pairs)
    return with_evidence(case, sides=sides, pairs=pairs)


def with_trials(case: Case, method: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Case:
    def changed(side: Side) -> Side:
        assert side.cell is not None
        return replace(side, cell=replace(side.cell, trials=tuple(change(trial) for trial in side.cell.trials)))

    return with_side(case, method, changed)


def with_selector(case: Case, method: str, **settings: Any) -> Case:
    return with_side(case, method, lambda side: replace(side, selector={**side.selector, **settings}))


def with_rows(case: Case, method: str, **values: Any) -> Case:
    def changed(side: Side) -> Side:
        return replace(side, measurements=tuple(row | values for row in side.measurements))

    return with_side(case, method, changed)


# --- the honest study -------------------------------------------------------------------------------------------------


def test_the_rules_are_a1_to_a24_each_with_its_source() -> None:
    assert [rule.id for rule in RULES] == [f"A{number}" for number in range(1, 25)]
    assert all(rule.source and rule.title for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_found_by_its_id_in_the_file_of_its_subject(rule: Rule) -> None:
    """The function's docstring begins with the id, and the first line of its file names it, alone or in a range."""
    module = sys.modules[rule.check.__module__]
    assert (rule.check.__doc__ or "").startswith(f"{rule.id}: ")
    first_line = (module.__doc__ or "").split("\n")[0]
    ranges = re.findall(r"A(\d+)(?: to A(\d+))?", first_line)
    assert any(int(first) <= int(rule.id[1:]) <= int(last or first) for first, last in ranges), first_line


@pytest.mark.parametrize("rule", SEEN)
def test_on_an_honest_study_a_rule_passes_and_says_what_it_found(rule: str, case: Case) -> None:
    outcome, text = SEEN[rule]
    assert found(rule, case).outcome == outcome
    assert text in found(rule, case).text


@pytest.mark.parametrize("rule", SEEN)
def test_the_evidence_query_of_a_rule_shows_the_trials_of_the_claim(rule: str, case: Case, whole: Study) -> None:
    with ResultStore(whole.folder) as store:
        rows = store.query(found(rule, case).query)
    assert set(rows["trial_id"]) == {trial.trial_id for trial in [*whole.of("simclr"), *whole.of("byol")]}
    assert len(rows.columns) > 3


# --- what each rule finds ---------------------------------------------------------------------------------------------

NEW_KIND = {"code_hash": "2:" + "e" * 64}
CHANGED = {"commit": "c" * 40 + "+changes"}

SEES: dict[str, tuple[str, str, str, Callable[[Case], Case]]] = {
    "more candidates than the protocol has": (
        "A5", "stops", "selected out of 52, but the protocol has 8",
        lambda case: with_rows(case, "simclr", candidates=52)),
    "candidates that were not counted": (
        "A5", "stops", "6 values recorded without the split",
        lambda case: with_rows(case, "simclr", candidates=None)),
    "a selection that the protocol does not ask for": (
        "A5", "stops", "selected on train", lambda case: with_rows(case, "simclr", selected_on="train")),
    "a test set of another size": (
        "A2", "stops", "unequal numbers of test images: 10000, 1500",
        lambda case: with_rows(case, "simclr", n_examples=1500)),
    "a favourable part of the validation images": (
        "A2", "stops", "was selected on 60 validation images; allowed: 5,000, by the other trials",
        lambda case: with_few_validated(case)),
    "more images on one side": (
        "A12", "stops", "saw 143,360 images in 20 epochs with batches of 64; allowed: 286,720, by the other trials",
        lambda case: with_trials(case, "simclr", lambda trial: trial | {"images_seen": 286_720})),
    "images that are no whole number of batches": (
        "A12", "stops", "simclr seed 3 (", lambda case: with_trials(
            case, "simclr", lambda trial: trial | ({"images_seen": 143_361} if trial["seed"] == 3 else {}))),
    "seconds that the attempts did not have": (
        "A21", "told", "trained and was evaluated for 99.0 seconds, but its attempts took 60.0",
        lambda case: with_seconds(case, "trained and was evaluated for 99.0 seconds, but its attempts took 60.0")),
    "seconds that the attempts did not have, where the claim is about seconds": (
        "A21", "unverified", "but its attempts took 60.0",
        lambda case: with_claim(with_seconds(case, "but its attempts took 60.0"), metric="train_seconds")),
    "another precision on one side": (
        "A22", "stops", "the sides differ in precision: bf16, fp32",
        lambda case: with_trials(case, "simclr", lambda trial: trial | {"precision": "bf16"})),
    "another device on one side": (
        "A22", "stops", "device: NVIDIA H100, cpu",
        lambda case: with_trials(case, "simclr", lambda trial: trial | {"device": "NVIDIA H100"})),
    "another precision at half of one side's seeds": (
        "A22", "stops", "the sides differ in precision: bf16, fp32",
        lambda case: mixed(case, "simclr", precision="bf16")),
    "other code at one seed of one side": (
        "A22", "stops", "dddddddddddddddd, eeeeeeeeeeeeeeee; unlike most trials: byol seed 3 (",
        lambda case: with_trials(case, "byol",
                                 lambda trial: trial | ({"code_hash": "e" * 64} if trial["seed"] == 3 else {}))),
    "devices in the same shares on both sides, at other seeds": (
        "A22", "stops", "the sides differ in device",
        lambda case: with_trials(mixed(case, "simclr", device="NVIDIA H100"), "byol",
                                 lambda trial: trial | ({} if trial["seed"] % 2 else {"device": "NVIDIA H100"}))),
    "devices that both sides share": (
        "A22", "told", "trials differ in device: NVIDIA H100, cpu",
        lambda case: mixed(mixed(case, "simclr", device="NVIDIA H100"), "byol", device="NVIDIA H100")),
    "a patch release of Python on one side": (
        "A22", "told", "trials differ in python: 3.11.7, 3.11.8", lambda case: with_python(case, "3.11.8")),
    "a release of Python on one side": (
        "A22", "stops", "the sides differ in python: 3.11.7, 3.12.7", lambda case: with_python(case, "3.12.7")),
    "another commit with the same code": (
        "A22", "told", "commit: ",
        lambda case: with_trials(case, "simclr", lambda trial: trial | {"commit": "f" * 40})),
    "code hashes of two kinds, one on each side": (
        "A22", "unverified", "their code hashes are of two kinds, or missing",
        lambda case: with_trials(case, "simclr", lambda trial: trial | NEW_KIND | {"commit": "f" * 40})),
    "code hashes of two kinds on both sides": (
        "A22", "told", "it is unknown whether they ran the same code",
        lambda case: mixed(mixed(case, "simclr", **NEW_KIND), "byol", **NEW_KIND, commit="f" * 40)),
    "code hashes of two kinds with the same commit, which had changes": (
        "A22", "unverified", "it is unknown whether they ran the same code",
        lambda case: with_trials(with_trials(case, "simclr", lambda trial: trial | NEW_KIND | CHANGED), "byol",
                                 lambda trial: trial | CHANGED)),
    "different code among hashes of one of two kinds": (
        "A22", "stops", "the sides differ in code hash: dddddddddddddddd, eeeeeeeeeeeeeeee",
        lambda case: with_trials(mixed(case, "byol", **NEW_KIND), "simclr",
                                 lambda trial: trial | {"code_hash": "e" * 64})),
    "a log that was rewritten since the trials began": (
        "A24", "late", "began, the log of declarations had eeeeeeeeeeee as the digest of line 1, but now has",
        lambda case: with_heads(case, LogHead(1, "e" * 64))),
    "a log whose last lines were removed since the trials began": (
        "A24", "late", "the log of declarations had 2 lines, but now has 1: its last lines were removed",
        lambda case: with_heads(case, head_of(case), LogHead(2, "e" * 64))),
    "trials that began before the claim was declared, whatever their times": (
        "A24", "late", "in line 1, but 6 trials began when the log had at most 0 lines",
        lambda case: with_heads(case, head_of(case), LogHead(0, ""))),
    "results without a time": (
        "A24", "late", "12 results have no time",
        lambda case: with_trials(with_trials(case, "simclr", timeless), "byol", timeless)),
    "results that ended before they began": (
        "A24", "late", "6 results ended before they began, so a clock is wrong",
        lambda case: with_trials(case, "simclr", lambda trial: trial | {"started": datetime(2026, 1, 3)})),
    "a sentence about all datasets": (
        "A23", "narrows", "'in general'",
        lambda case: with_claim(case, sentence="In general SimCLR beats BYOL, as on CIFAR-10.")),
    "a larger tolerance than the margin, not named": (
        "A19", "narrows", "allows 5 points, more than the margin of 1",
        lambda case: with_claim(case, kind="not_worse", within=0.05, sentence="BYOL is as good on CIFAR-10.")),
    "a batch size that the sentence leaves out": (
        "A20", "narrows", "holds at batch_size = 128, which the sentence does not say",
        lambda case: with_selector(case, "simclr", batch_size=128)),
    "a backbone and epochs that the sentence leaves out": (
        "A20", "told", "names cifar10, but neither cifar10-small nor the backbone small_resnet and 20 epochs",
        lambda case: with_claim(case, sentence="On CIFAR-10 SimCLR is better than BYOL by one point.")),
    "a backbone that the sentence leaves out": (
        "A20", "told", "nor the backbone small_resnet",
        lambda case: with_claim(case, sentence="On CIFAR-10, after twenty epochs, SimCLR is a point above BYOL.")),
    "trials that were begun and given up": (
        "A8", "told", "1 trial started, of other cells or distant seeds",
        lambda case: with_begun(case, "f" * 16)),
    "seeds of a side that were begun and left out": (
        "A8", "stops", "simclr: 2 seeds were started, never ended and left out of the plan: 6, 11; plan and run them",
        lambda case: with_begun(case, seed_of(case, "simclr", 11), "f" * 16, seed_of(case, "simclr", 6))),
    "seeds that were begun and left out far from zero": (
        "A8", "stops", "simclr: 2 seeds were started, never ended and left out of the plan: 1006, 1261",
        lambda case: with_seeds_of_run(
            with_begun(case, seed_of(case, "simclr", 1006), seed_of(case, "simclr", 1261)), range(1000, 1006))),
    "trials that ran several times": (
        "A8", "told", "6 trials with 5 attempts that left a result, of which one is recorded (",
        lambda case: with_attempts(case, "simclr", "done", "failed", "done", "interrupted", "done", "done", "done")),
    "trials whose attempts were removed": (
        "A8", "told", "6 trials with a record but no attempt (", lambda case: with_attempts(case, "simclr")),
    "attempts that cannot be read": (
        "A8", "stops", ": its attempts cannot be read",
        lambda case: with_evidence(case, files={
            name: replace(one, unread="its attempts cannot be read") for name, one in case.evidence.files.items()})),
    "a trial that ended and is nowhere": (
        "A8", "stops", "without a record and not in the plan",
        lambda case: with_evidence(case, context=replace(case.evidence.context, vanished=("f" * 16,)))),
}  # fmt: skip


def with_few_validated(case: Case) -> Case:
    """The case whose first trial was selected on 60 validation images and the others on 5,000."""
    files = {name: replace(one, validation=frozenset([5000])) for name, one in case.evidence.files.items()}
    return with_evidence(case, files=files | {min(files): replace(files[min(files)], validation=frozenset([60]))})


def with_heads(case: Case, *heads: LogHead | None) -> Case:
    """The case whose records keep these heads of the log, in turn."""
    files = dict(case.evidence.files)
    for place, name in enumerate(sorted(files)):
        files[name] = replace(files[name], log_head=heads[place % len(heads)])
    return with_evidence(case, files=files)


def head_of(case: Case) -> LogHead:
    return LogHead(1, case.evidence.log.entries[0].digest)


def with_seconds(case: Case, problem: str) -> Case:
    """The case with this problem in the seconds of one trial."""
    name, *_ = case.evidence.files
    files = {**case.evidence.files, name: replace(case.evidence.files[name], seconds=problem)}
    return with_evidence(case, files=files)


def with_begun(case: Case, *trial_ids: str) -> Case:
    """The case with attempts at trials that without a record and not in the plan."""
    return with_evidence(case, context=replace(case.evidence.context, begun=trial_ids, _begun_seeds={}))


def with_attempts(case: Case, method: str, *statuses: str) -> Case:
    """The case with attempts that ended so at each of the method's trials; the last one wrote the record."""
    files = dict(case.evidence.files)
    for name, one in files.items():
        if one.trial and one.trial.method == method:
            of_trial = {"trial_id": name, "reason": "", "started": ""}
            attempts = [Attempt(number=number, status=status, **of_trial) for number, status in enumerate(statuses, 1)]
            files[name] = replace(one, attempts=attempts, attempt=len(statuses))
    return with_evidence(case, files=files)


def with_seeds_of_run(case: Case, seeds: Iterable[int]) -> Case:
    """The case in a run whose cells have these seeds."""
    context = replace(case.evidence.context)
    context.__dict__["seeds"] = {("protocol", "fingerprint", False): frozenset(seeds)}
    return with_evidence(case, context=context)


def seed_of(case: Case, method: str, seed: int) -> str:
    """The id of a trial of the method's cell with another seed."""
    trials = [files.trial for files in case.evidence.files.values() if files.trial and files.trial.method == method]
    return replace(trials[0], seed=seed).trial_id


def with_python(case: Case, version: str) -> Case:
    """The case with another version of Python in the trials of the first side."""
    trials = [str(trial["trial_id"]) for trial in case.evidence.sides[0].trials]
    versions = case.evidence.versions
    return with_evidence(case, versions={**versions, **{one: versions[one] | {"python": version} for one in trials}})


def mixed(case: Case, method: str, **values: str) -> Case:
    """Half of the method's trials with other values."""
    return with_trials(case, method, lambda trial: trial | (values if trial["seed"] % 2 else {}))


def timeless(trial: dict[str, Any]) -> dict[str, Any]:
    return trial | {"finished": None}


@pytest.mark.parametrize("what", SEES)
def test_a_rule_finds(what: str, case: Case) -> None:
    rule, weight, text, change = SEES[what]
    finding = found(rule, change(case))
    assert (finding.outcome, finding.weight) == ("failed", weight), finding.text
    assert text in finding.text


def test_times_do_not_count_where_the_records_keep_the_log_of_declarations(case: Case) -> None:
    wrong = with_trials(with_trials(case, "simclr", timeless), "byol", timeless)
    assert found("A24", wrong).outcome == "failed"
    kept = with_heads(wrong, head_of(case))
    early = {"status": "done", "started": "2020-01-01T00:00:00+00:00"}
    files = {name: replace(one, attempts=(early, early)) for name, one in kept.evidence.files.items()}
    finding = found("A24", with_evidence(kept, files=files))
    assert finding.outcome == "passed"
    assert "before its first trial began, as the records show" in finding.text


def test_where_some_records_keep_the_log_and_others_do_not_the_times_of_the_others_count(case: Case) -> None:
    finding = found("A24", with_heads(case, head_of(case), None))
    assert finding.outcome == "passed"
    assert "first result 2026-01-02T" in finding.text and "by times alone, since 6 records" in finding.text
    early = {"started": datetime(2025, 1, 1), "finished": datetime(2025, 1, 1)}
    late = with_trials(case, "byol", lambda trial: trial | early)
    assert "after the first result of 2025" in found("A24", with_heads(late, None)).text


def test_code_hashes_of_two_kinds_with_one_commit_are_the_same_code(case: Case) -> None:
    finding = found("A22", with_trials(case, "simclr", lambda trial: trial | NEW_KIND))
    assert (finding.outcome, finding.text) == SEEN["A22"]


def test_a_sentence_without_the_protocol_passes_where_it_names_all_that_was_fixed(case: Case) -> None:
    named = "On CIFAR-10, with a small ResNet trained for 20 epochs, SimCLR is a point above BYOL."
    finding = found("A20", with_claim(case, sentence=named))
    assert (finding.outcome, finding.text) == ("passed", "names cifar10, backbone and epochs")


def test_intervals_of_few_unpaired_seeds_against_more_are_noted_to_cover_less(case: Case) -> None:
    (contrast,) = case.contrasts
    assert contrast.b is not None
    few = dict(list(contrast.a.values.items())[:3])
    others = {seed + 100: value for seed, value in contrast.b.values.items()}
    for of_a, covers in ((few, False), (dict(contrast.a.values), True)):
        difference = welch_difference([*of_a.values()], [*others.values()])
        sides = {"a": replace(contrast.a, values=of_a), "b": replace(contrast.b, values=others)}
        finding = found("A15", replace(case, contrasts=(replace(contrast, difference=difference, **sides),)))
        assert (finding.outcome, finding.weight) == ("passed" if covers else "failed", "told"), finding.text
    assert "t intervals over seeds" in finding.text


def test_what_holds_on_these_test_images_alone_is_told(case: Case) -> None:
    (contrast,) = case.contrasts
    assert contrast.examples is not None
    wide = replace(contrast.examples, low=contrast.examples.estimate - 0.05, high=contrast.examples.estimate + 0.05)
    finding = found("A14", replace(case, contrasts=(replace(contrast, examples=wide),)))
    assert (finding.outcome, finding.weight) == ("failed", "told")
    assert "on these test images" in finding.text and "simclr against byol (-" in finding.text
    won = replace(contrast, examples=wide, criterion="wins", bound=0.5)
    assert (
        found("A14", replace(case, contrasts=(won,))).outcome == "passed"
    )  # an interval of the mean is not its ground


def test_seeds_that_do_not_spread_as_a_normal_sample_are_told_whatever_the_verdict(case: Case) -> None:
    (contrast,) = case.contrasts
    usual = (0.031, 0.028, 0.034, 0.030, 0.029, 0.033, 0.031, 0.032)
    one_fails = replace(case, contrasts=(replace(contrast, samples=((*usual, -0.07),)),))
    assert found("A15", one_fails).outcome == "failed" and found("A15", one_fails).weight == "told"
    assert "do not spread as a normal sample" in found("A15", one_fails).text
    either_side = replace(case, contrasts=(replace(contrast, samples=(usual, (*usual, -0.07))),))
    assert found("A15", either_side).outcome == "failed"
    assert found("A15", replace(case, contrasts=(replace(contrast, samples=(usual,)),))).outcome == "passed"


def test_unequal_compute_that_the_claim_itself_sets_is_no_fault(case: Case) -> None:
    """Of 7,200 training images an epoch sees 4,096 in batches of 4,096, and 7,168 in batches of 64."""
    larger = with_trials(case, "simclr", lambda trial: trial | {"images_seen": 20 * 4096})
    batch = {"batch_size": Value("4096", 4096.0)}
    longer = with_side(
        larger, "simclr", lambda side: replace(side, cell=replace(side.cell, values={**side.cell.values, **batch}))
    )
    for method, size in (("simclr", 4096), ("byol", 64)):
        longer = with_selector(longer, method, batch_size=size)
    assert found("A12", longer).outcome == "passed"
    assert "as the claim says" in found("A12", longer).text


@pytest.mark.parametrize("copied", [True, False])
def test_a_seed_that_disagrees_with_another_in_few_examples_is_a_copy_unless_they_were_tested_on_others(
    copied: bool, case: Case
) -> None:
    """Seeds 0 and 1 differ in 5 examples, all other pairs in hundreds; then seed 2 has one example more."""
    files = dict(case.evidence.files)
    one, other, third = (str(trial["trial_id"]) for trial in case.evidence.measured[0].trials[:3])
    edited = files[one].correct["linear"].copy()
    edited[:5] = ~edited[:5]
    files[other] = replace(files[other], correct={"linear": edited})
    if not copied:
        files[third] = replace(files[third], correct={"linear": np.append(files[third].correct["linear"], True)})
    finding = found("A9", with_evidence(case, files=files))
    assert finding.outcome == ("failed" if copied else "passed"), finding.text
    assert not copied or "disagree in 5 examples, where seeds of this cell usually do in" in finding.text


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda lines: [lines[0].replace("2026-01-01", "2025-01-01"), *lines[1:]], "line 1 was changed"),
        (lambda lines: [lines[0], lines[2]], "line 2 was changed, or a line before it was removed"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1 was changed, or a line before it was removed"),
        (lambda lines: [*lines, '{"name": "torn'], "line 4 is not a declaration"),
    ],
    ids=["edited", "removed", "reordered", "torn"],
)
def test_a_log_that_was_changed_makes_every_claim_exploratory(
    change: Callable[[list[str]], list[str]], text: str, case: Case, tmp_path: Path
) -> None:
    first = case.evidence.claim
    declare([first, replace(first, name="second"), replace(first, name="third")], tmp_path, DECLARED)
    (tmp_path / DECLARATIONS).write_text("\n".join(change((tmp_path / DECLARATIONS).read_text().splitlines())))
    log = read_log(tmp_path)
    finding = found("A24", with_evidence(case, log=log, declared=log.of(first)))
    assert (finding.outcome, finding.weight) == ("failed", "late")
    assert text in finding.text


# --- families ---------------------------------------------------------------------------------------------------------


def test_families_of_one_question_are_judged_as_one_family(case: Case) -> None:
    """Bonferroni over all 41: a paired t of 6 seeds must reach t(0.9994, 5) = 6.6 or so; the honest study's is 50."""
    claim = case.evidence.claim
    others = [replace(case.evidence, claim=replace(claim, name=f"{n}", family=f"{n}")) for n in range(40)]
    split = with_evidence(case, judged_together=[case.evidence, *others])
    assert "40 more of the same question" in found("A17", split).text
    assert found("A17", split).outcome == "passed"
    (contrast,) = case.contrasts
    assert contrast.difference is not None and contrast.difference.standard_error is not None
    error = (contrast.difference.mean - contrast.bound) / 4  # t = 4: stands at 95 %, t(0.975, 5) = 2.57
    weak = replace(contrast.difference, standard_error=error).at(0.95)
    nearly = replace(split, contrasts=(replace(contrast, difference=weak),))
    assert found("A17", nearly).outcome == "failed"
    assert found("A17", replace(nearly, evidence=case.evidence)).outcome == "passed"


def nearly(case: Case, t: float, **changes: Any) -> Case:
    """The case with its contrast so many standard errors above 0, over 40 more claims of the same question."""
    (contrast,) = case.contrasts
    assert contrast.difference is not None
    weak = replace(contrast.difference, standard_error=contrast.difference.mean / t).at(0.95)
    others = [replace(case.evidence, claim=replace(case.evidence.claim, family=f"{n}")) for n in range(40)]
    whole = replace(case, contrasts=(replace(contrast, difference=weak, **changes),))
    return with_evidence(whole, judged_together=[case.evidence, *others])


def test_further_looks_may_not_gain_a_direction_or_a_part_either(case: Case) -> None:
    """The claimed size is never shown: its direction is at t = 4 of one look, and at t = 8 of 41."""
    too_large = {"bound": 0.5}
    assert found("A17", nearly(case, 4, **too_large)).outcome == "failed"
    assert found("A17", nearly(case, 8, **too_large)).outcome == "passed"
    assert found("A17", nearly(case, 2, **too_large)).outcome == "passed"  # of one look it is not shown either
    lost = replace(nearly(case, 4).contrasts[0], point="batch_size 256", bound=0.5)
    parts = (replace(nearly(case, 4, bound=0.0).contrasts[0], point="batch_size 64"), lost)
    assert found("A17", replace(nearly(case, 4), contrasts=parts)).outcome == "failed"
    clear = (replace(nearly(case, 8, bound=0.0).contrasts[0], point="batch_size 64"), lost)
    assert found("A17", replace(nearly(case, 4), contrasts=clear)).outcome == "passed"


def test_further_claims_in_another_metric_count_and_costs_are_another_question(case: Case) -> None:
    claim = case.evidence.claim
    for metric, more in (("knn_top1", "1 more of the same question"), ("train_seconds", "")):
        other = replace(case.evidence, claim=replace(claim, name=metric, family="other", metric=metric))
        text = found("A17", with_evidence(case, judged_together=[case.evidence, other])).text
        assert more in text if more else text == found("A17", case).text


def test_claims_of_other_questions_do_not_count(case: Case) -> None:
    claim = case.evidence.claim
    others = [
        replace(claim, name="time", family="other", metric="train_seconds"),
        replace(claim, name="within", family="other", b={"method": "simclr", "batch_size": 128}),
        replace(claim, name="axis", family="other", kind="monotone", axis="batch_size", values=(64, 128)),
        replace(claim, name="protocol", family="other", protocol="cifar10-r18-200ep"),
    ]
    judged_together = [case.evidence, *(replace(case.evidence, claim=other) for other in others)]
    assert found("A17", with_evidence(case, judged_together=judged_together)).text == found("A17", case).text


# --- sentences --------------------------------------------------------------------------------------------------------

COMPARED = Compared(
    "cifar10",
    frozenset({"cifar10-small", "cifar10-r18-200ep", "digits-small"}),
    frozenset({"simclr", "byol", "barlow_twins"}),
    frozenset({20}),
    "small_resnet",
)


def _claim(sentence: str, **changes: Any) -> Claim:
    plain = Claim(
        "it", sentence, "better", {"method": "simclr"}, protocol="cifar10-small", b={"method": "byol"}, at_least=0.01
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("On CIFAR-10 BYOL clearly wins over SimCLR by one point.", "byol is better"),
        ("On CIFAR-10 SimCLR is 10% better than BYOL.", "it says 10 points, but the claim has 1"),
        ("On CIFAR-10 SimCLR exceeds BYOL by at least 3 percent.", "it says 3 points, but the claim has 1"),
        ("On CIFAR-10 SimCLR is 2 pp above BYOL.", "it says 2 points, but the claim has 1"),
        ("On CIFAR-10 SimCLR is the best method, above BYOL.", "one other is compared"),
        ("On CIFAR-10 SimCLR outperforms every other method.", "one other is compared"),
        ("On CIFAR-100 SimCLR beats BYOL.", "names cifar100"),
        ("On CIFAR-10 and ImageNet-1k SimCLR beats BYOL.", "names imagenet1k"),
        ("Under cifar10-r18-200ep SimCLR beats BYOL.", "names protocol cifar10-r18-200ep"),
        ("SimCLR beats Barlow Twins on CIFAR-10.", "names barlow_twins, but byol is compared"),
        ("On CIFAR-10 SimCLR is three points better than BYOL.", "says 3 points, but the claim has 1"),
        ("On CIFAR-10 SimCLR is 1.5 percentage points better than BYOL.", "says 1.5 points"),
        ("On CIFAR-10 SimCLR is better than BYOL by half a point.", "says 0.5 points"),
        ("After 200 epochs on CIFAR-10 SimCLR beats BYOL.", "names 200 epochs, but the trials had 20"),
        ("With a ResNet-50 on CIFAR-10 SimCLR beats BYOL.", "names resnet50"),
        ("On CIFAR-10 SimCLR beats BYOL in kNN accuracy.", "names kNN accuracy"),
        ("On CIFAR-10 BYOL outperforms SimCLR.", "says that byol is better"),
        ("On CIFAR-10 SimCLR falls behind BYOL.", "says that byol is better"),
    ],
)  # fmt: skip
def test_a_sentence_about_something_else_is_found(sentence: str, text: str) -> None:
    assert text in "; ".join(contradictions(_claim(sentence), COMPARED))


@pytest.mark.parametrize(
    "sentence",
    [
        "On CIFAR-10 with 10% of the labels SimCLR is one percent better than BYOL, at 95 % confidence.",
        "On CIFAR-10, at the best batch size of each, SimCLR is above BYOL in accuracy.",
        "On CIFAR-10, under cifar10-small, SimCLR is at least one point better than BYOL in linear accuracy.",
        "After twenty epochs on CIFAR 10 SimCLR, unlike Barlow Twins, beats BYOL.",
        "BYOL is not better than SimCLR on CIFAR-10.",
        "Compared with BYOL, SimCLR is a point ahead on cifar10.",
        "With 10,000 images of CIFAR-10 SimCLR is 1 point better than BYOL, linear probes on a ResNet.",
    ],
)
def test_a_sentence_about_what_is_compared_contradicts_nothing(sentence: str) -> None:
    assert list(contradictions(_claim(sentence), COMPARED)) == []
    assert names_dataset(_claim(sentence), "cifar10")


def test_a_longer_name_is_not_taken_for_a_shorter_one() -> None:
    assert not names_dataset(_claim("On CIFAR-100 SimCLR wins."), "cifar10")
    assert not names_dataset(_claim("On Imagenette SimCLR wins."), "imagenet")
    assert not names_dataset(_claim("On ImageNet-100 SimCLR wins."), "imagenet")
    assert names_dataset(_claim("On ImageNet-1k SimCLR wins."), "imagenet")


def test_settings_are_found_in_words_and_figures() -> None:
    assert names_value(_claim("after four epochs"), "epochs", 4)
    assert names_value(_claim("at 1,024 images"), "batch_size", 1024)
    assert names_value(_claim("at a rate of 0.5."), "temperature", 0.5)
    assert names_value(_claim("at a rate of 2e-3"), "learning_rate", 0.002)
    assert not names_value(_claim("after 40 epochs, at 0.45"), "epochs", 4)
    assert not names_value(_claim("at 1e-2"), "learning_rate", 0.0125)
    assert not names_value(_claim("is at least 2 points better over 2 seeds"), "epochs", 2)


def test_a_value_is_of_a_setting_only_beside_its_name() -> None:
    for words in ("after 2 epochs", "after two epochs", "with epochs = 2", "at epochs of 2"):
        assert names_value_of(_claim(words), "epochs", "2"), words
    assert names_value_of(_claim("in batches of 64"), "batch_size", "64")
    assert names_value_of(_claim("at a temperature of 0.1"), "temperature", "0.1")
    assert names_value_of(_claim("at invariance weight 50"), "invariance_weight", "50.0")
    assert names_value_of(_claim("trained by LARS"), "optimizer", "lars")
    assert names_value_of(_claim("without decay bias and norm"), "decay_bias_and_norm", "false")
    for words in ("at least 2 points", "over 2 seeds", "after 12 epochs", "after epochs, at a batch size of 2"):
        assert not names_value_of(_claim(words), "epochs", "2"), words


def test_words_that_generalise_are_found_and_others_are_not() -> None:
    assert generalises(_claim("SimCLR is better on all image datasets.")) == "on all image datasets"
    assert generalises(_claim("On CIFAR-10 SimCLR is better than BYOL.")) == ""


@pytest.mark.parametrize("file", ["cifar10_claims.toml", "lightly_claims.toml"])
def test_the_sentences_of_the_examples_contradict_only_what_they_were_made_to(file: str) -> None:
    wrong_by_claim = {}
    for claim in read_claims(EXAMPLES / file):
        epochs = frozenset(int(side["epochs"]) for side in (claim.a, claim.b) if "epochs" in side)
        epochs |= frozenset(int(value) for value in claim.values if claim.axis == "epochs")
        compared = replace(COMPARED, epochs=epochs, backbone="" if claim.reported else "small_resnet")
        if wrong := list(contradictions(claim, compared)):
            wrong_by_claim[claim.name] = wrong
    expected = {"under-the-large-protocol": ["it names resnet18, but the backbone is small_resnet"]}
    assert wrong_by_claim == (expected if file.startswith("cifar10") else {})


# --- unusual but honest -----------------------------------------------------------------------------------------------


def test_what_is_unusual_but_honest_is_noted_and_refuses_nothing(whole: Study, tmp_path: Path) -> None:
    """All at once: seeds of another method, a failure that was run again, machines that both sides share, an earlier
    study in the folder, a first wording of the claim, a summary that was reworded, attempts of a plan given up."""
    shutil.copytree(whole.folder, tmp_path / "run", ignore=shutil.ignore_patterns("results.duckdb*"))
    study = replace(whole, folder=tmp_path / "run", trials=list(whole.trials))
    for seed in range(8):
        study.add(study.trial("vicreg", seed), 0.58 + shift(seed))
    study.write_plan()
    retried, noted = study.of("byol", 3)[0], study.of("byol", 4)[0]
    leave_attempt(study.folder, retried.trial_id, "failed", "2026-01-01T23:00:00+00:00", "out of memory")
    leave_attempt(study.folder, retried.trial_id, "done", "2026-01-02T20:00:00+00:00", number=2)
    rewrite(study, retried, lambda record: record["circumstance"].update({"attempts": 2}))
    leave_attempt(study.folder, "f" * 16, "interrupted", "2026-01-01T22:00:00+00:00")
    rewrite(
        study,
        noted,
        lambda record: record["result"]["trial"]["protocol"]["content"].update({"summary": "Better said."}),
    )
    for method in ("simclr", "byol"):
        for seed in (0, 2):
            rewrite(
                study,
                study.of(method, seed)[0],
                lambda record: record["circumstance"].update({"device": "NVIDIA H100"}),
            )
    before = BEGAN - timedelta(days=30)
    for seed in range(2):
        old = study.add(study.trial("barlow_twins", seed), 0.6)
        times = {key: before.isoformat(timespec="seconds") for key in ("started", "finished")}
        rewrite(study, old, lambda record, times=times: record["circumstance"].update(times))
    study.write_plan()
    (study.folder / DECLARATIONS).unlink()
    kept = [
        path
        for path in (study.folder / "records").iterdir()
        if path.stem not in {t.trial_id for t in study.of("barlow_twins")}
    ]
    for path in kept:
        path.rename(study.folder / path.name)
    study.write_claims(CLAIMS.replace("at least one point", "one point"), DECLARED)
    study.write_claims(CLAIMS, DECLARED)
    for path in kept:
        (study.folder / path.name).rename(path)
    (verdict,) = check_claims(study.claims_file, study.folder).verdicts
    failed = {
        finding.rule: (finding.weight, finding.text) for finding in verdict.findings if finding.outcome == "failed"
    }
    assert verdict.label == "SUPPORTED_AS_STATED", verdict.reason
    assert {rule: weight for rule, (weight, _) in failed.items()} == {"A8": "told", "A9": "told", "A22": "told"}
    assert "seeds [6, 7] were run for other cells" in failed["A9"][1]
    assert "declared and left out (simclr-beats-byol) change nothing" in found_in(verdict.findings, "A17")


def found_in(findings: tuple[Finding, ...], rule: str) -> str:
    return next(finding.text for finding in findings if finding.rule == rule)


def test_a_deviation_that_all_trials_name_is_shown_with_the_protocol(case: Case) -> None:
    from twinbench.sweeps.deviations import Deviation, deviate
    from twinbench.sweeps.sweep import read_protocol

    changes = [Deviation("training.warmup_epochs", 4.0, "why"), Deviation("methods.simclr.temperature", 0.2, "why")]
    changes += [
        Deviation("collapsed_below", 0.01, "why"),
        Deviation("methods.vicreg.projector_output_width", 64, "why"),
    ]
    changes += [Deviation("evaluation.metrics.ridge_top1", "ridge/eigh-standardised@1", "why")]
    changes += [Deviation("evaluation.ridge_penalties", [1.0], "why")]
    carried = deviate(read_protocol("cifar10-small"), changes, "sweep").carried
    changed = case
    for method in ("simclr", "byol"):
        section = replace(
            case.evidence.measured[0].section,  # type: ignore[type-var]
            protocol_hash=carried["hash"],
            content=carried["content"],
            deviations=tuple(carried["deviations"]),
            base_hash=carried["base_hash"],
        )
        changed = with_side(changed, method, lambda side, section=section: replace(side, section=section))
    finding = found("A1", with_evidence(changed, files={}))
    assert finding.outcome == "passed", finding.text
    assert "training.warmup_epochs = 4.0 (protocol: 1.0)" in finding.text
