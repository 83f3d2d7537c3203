"""Claim: whatever an author does to an honest study is named by a rule, and the claim is not simply supported.

Each cheat is one small change by an author who knows the format: digests, ids, plan and attempts are made to fit unless
the cheat is that they do not.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from claim_study import (
    BEGAN,
    CLAIM,
    CLAIMS,
    DECLARED,
    FINGERPRINT,
    LEVELS,
    SEEDS,
    Study,
    honest_study,
    leave_attempt,
    leave_record,
    otherwise,
    read,
    rewrite,
    shift,
    under,
)

from twinbench.reports.claims.claim import read_claims
from twinbench.reports.claims.declarations import declare
from twinbench.reports.tables.published import published_tables
from twinbench.reports.verdicts import check
from twinbench.reports.verdicts.check import check_claims
from twinbench.reports.verdicts.verdict import Verdict
from twinbench.results.log_head import read_log_head
from twinbench.results.record import DECLARATIONS, record_path, write_artefact
from twinbench.results.store import DATABASE, DIGEST, ResultStore, mark
from twinbench.sweeps.deviations import Deviation, deviate
from twinbench.sweeps.sweep import read_protocol
from twinbench.sweeps.trial import Trial

AFTER = BEGAN + timedelta(days=60)


@dataclass(frozen=True)
class Cheat:
    """What is done, the rule that names it, a word of its finding, and how the verdict's label begins or ends."""

    do: Callable[[Study], None]
    rule: str
    word: str
    label: str


CHEATS: list[Cheat] = []


def cheat(
    rule: str, word: str, label: str = "INADMISSIBLE"
) -> Callable[[Callable[[Study], None]], Callable[..., None]]:
    """Puts the function on the list."""

    def listed(do: Callable[[Study], None]) -> Callable[[Study], None]:
        CHEATS.append(Cheat(do, rule, word, label))
        return do

    return listed


@pytest.fixture(scope="module", autouse=True)
def tables_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "published_tables", functools.cache(published_tables))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """An honest study with its database."""
    study = honest_study(tmp_path_factory.mktemp("honest") / "run")
    check_claims(study.claims_file, study.folder)
    return study


@pytest.fixture
def study(whole: Study, tmp_path: Path) -> Study:
    """A copy of it, for one cheat to change."""
    shutil.copytree(whole.folder, tmp_path / "run")
    return replace(whole, folder=tmp_path / "run", trials=list(whole.trials))


def judged(study: Study, name: str = "simclr-beats-byol") -> Verdict:
    checked = check_claims(study.claims_file, study.folder)
    return next(verdict for verdict in checked.verdicts if verdict.claim.name == name)


# --- what the cheats are made of ------------------------------------------------------------------------------------


def drop(study: Study, trial: Trial, plan: bool = True, attempts: bool = True) -> None:
    """Removes a record; from the plan and from the attempts too, or not."""
    record_path(study.folder, trial.trial_id).unlink()
    if attempts:
        shutil.rmtree(study.folder / "trials" / trial.trial_id)
    if plan:
        study.trials.remove(trial)
        study.write_plan()


def add(study: Study, method: str, seed: int, level: float | None = None, **choices: Any) -> Trial:
    """One more trial, as honest ones come out."""
    named = ("settings", "training", "protocol", "fingerprint")
    trial = study.trial(method, seed, **{key: choices.pop(key) for key in named if key in choices})
    accuracy = (LEVELS[method] if level is None else level) + shift(seed) + shift(method, seed) / 2
    study.add(trial, accuracy, **choices)
    study.write_plan()
    return trial


def again(
    study: Study, trial: Trial, accuracy: float | None = None, as_trial: Trial | None = None, **choices: Any
) -> None:
    """The same trial recorded once more, with something different."""
    value = next(m["value"] for m in read(study, trial)["result"]["metrics"] if m["name"] == "linear_top1")
    drop(study, trial, plan=as_trial is not None)
    if as_trial is not None:
        study.trials.append(as_trial)
        study.write_plan()
    leave_record(study.folder, as_trial or trial, value if accuracy is None else accuracy, **choices)


def declare_anew(study: Study, claims: str, protocol: str = "") -> None:
    """Other claims, declared in time as if they had always been there."""
    (study.folder / DECLARATIONS).unlink()
    (study.folder / "records").rename(study.folder / "hidden")
    study.write_claims(claims if not protocol else claims.replace("cifar10-small", protocol), DECLARED)
    (study.folder / "hidden").rename(study.folder / "records")


def move(study: Study, method: str, carried: dict[str, Any]) -> None:
    """The method's trials ran under another protocol."""
    for trial in study.of(method):
        rewrite(study, trial, lambda record: None, under(trial, carried))


def deviate_in(study: Study, key: str, value: object) -> None:
    """A deviation that all trials name and follow."""
    carried = deviate(read_protocol("cifar10-small"), [Deviation(key, value, "cheaper")], "sweep").carried
    table, _, name = key.rpartition(".")
    for trial in list(study.trials):
        settings = {**trial.settings, **({name: value} if table == f"methods.{trial.method}" else {})}
        training = {**trial.training, **({name: value} if table == "training" and trial.training else {})}
        now = replace(trial, protocol=carried, settings=settings, training=training)
        drop(study, trial)
        study.add(now, LEVELS.get(trial.method, 0.4) + shift(trial.seed) + shift(trial.method, trial.seed) / 2)
    study.write_plan()


def of_ones_own(study: Study, **changes: Any) -> dict[str, Any]:
    """A protocol that no lock covers, with these values, for all trials; and the claim under it."""
    carried = otherwise(study.protocol, name="mine", **changes)
    for trial in list(study.trials):
        rewrite(study, trial, lambda record: None, under(trial, carried))
    declare_anew(study, CLAIMS, protocol="mine")
    return carried


def in_circumstance(study: Study, method: str, **values: Any) -> None:
    for trial in study.of(method):
        rewrite(study, trial, lambda record: record["circumstance"].update(values))


def in_metrics(study: Study, trial: Trial, **values: Any) -> None:
    def edit(record: dict[str, Any]) -> None:
        for metric in record["result"]["metrics"]:
            metric.update(values)

    rewrite(study, trial, edit)


def log_lines(study: Study) -> list[str]:
    return (study.folder / DECLARATIONS).read_text().splitlines(keepends=True)


def other_claim(name: str, **changes: str) -> str:
    text = CLAIM.replace("simclr-beats-byol", name)
    for key, value in changes.items():
        text += f"{key} = {value}\n"
    return text


# --- seeds ----------------------------------------------------------------------------------------------------------


@cheat("A8", "without a record")
def a_seed_is_dropped(study: Study) -> None:
    drop(study, study.of("byol", 5)[0], plan=False)


@cheat("A8", "without a record and not in the plan")
def a_seed_and_its_place_on_the_plan_are_dropped(study: Study) -> None:
    drop(study, study.of("byol", 5)[0], attempts=False)


@cheat("A9", "byol without [5]")
def a_seed_is_dropped_with_every_trace_of_it(study: Study) -> None:
    drop(study, study.of("byol", 5)[0])


@cheat("A9", "byol without [5]")
def a_bad_seed_is_replaced_by_another_number(study: Study) -> None:
    drop(study, study.of("byol", 5)[0])
    add(study, "byol", 11)


@cheat("A9", "byol without [6, 7]")
def one_side_alone_gets_more_seeds(study: Study) -> None:
    for seed in (6, 7):
        add(study, "simclr", seed)


@cheat("A9", "requires 2 seeds")
def one_seed_is_all_there_is(study: Study) -> None:
    for trial in [trial for trial in study.trials if trial.seed > 0]:
        drop(study, trial)


@cheat("A9", "one is a copy")
def a_record_is_copied_to_another_seed(study: Study) -> None:
    copied, _ = study.of("simclr", 4)[0], drop(study, study.of("simclr", 5)[0])
    record = read(study, copied)
    study.add(study.trial("simclr", 5), 0.6)
    rewrite(study, study.of("simclr", 5)[0], lambda other: other["result"].update(
        {key: record["result"][key] for key in ("metrics", "outputs", "curves")}
    ))  # fmt: skip
    study.write_plan()


@cheat("A9", "examples, where seeds of this cell")
def a_copied_record_is_touched_up(study: Study) -> None:
    from safetensors.numpy import load, save

    copied = read(study, study.of("simclr", 4)[0])
    outputs = load((study.folder / copied["result"]["outputs"]["file"]).read_bytes())
    for name in ("linear_prediction", "linear_correct"):
        outputs[name][np.flatnonzero(outputs["linear_correct"])[:6]] = 0  # six fewer are right
    outputs["linear_correct"] = (outputs["linear_prediction"] == outputs["labels"]).astype(np.uint8)
    reference = write_artefact(study.folder, save(outputs), ".safetensors")

    def edit(record: dict[str, Any]) -> None:
        record["result"] |= {"outputs": reference, "metrics": copied["result"]["metrics"]}
        for metric in record["result"]["metrics"]:
            if (metric["name"], metric["split"]) == ("linear_top1", "test"):
                metric["value"] = float(outputs["linear_correct"].mean())

    rewrite(study, study.of("simclr", 5)[0], edit)


# --- failures -------------------------------------------------------------------------------------------------------


@cheat("A8", "are not done (diverged)")
def diverged_seeds_are_left_out_of_the_mean(study: Study) -> None:
    for seed in (4, 5):
        trial = study.of("simclr", seed)[0]
        drop(study, trial, plan=False)
        leave_record(study.folder, trial, None, status="diverged", reason="loss was nan at epoch 7")


@cheat("A8", "its record says done")
def a_diverged_trial_is_recorded_as_done(study: Study) -> None:
    trial = study.of("simclr", 5)[0]
    leave_attempt(study.folder, trial.trial_id, "diverged", read(study, trial)["circumstance"]["started"])


@cheat("A8", "ended as diverged")
def a_diverged_trial_is_run_until_it_does_not(study: Study) -> None:
    trial = study.of("simclr", 5)[0]
    leave_attempt(study.folder, trial.trial_id, "diverged", read(study, trial)["circumstance"]["started"])
    leave_attempt(study.folder, trial.trial_id, "done", "2026-01-03T00:00:00+00:00", number=2)


@cheat("A8", "in a plan")
def the_plan_is_deleted(study: Study) -> None:
    drop(study, study.of("untrained", 5)[0])
    for method in LEVELS:
        drop(study, study.of(method, 5)[0])
    (study.folder / "plan.json").unlink()


@cheat("A8", "done without linear_top1")
def the_worst_seed_loses_its_value_on_both_sides(study: Study) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["result"]["metrics"] = [one for one in record["result"]["metrics"] if one["name"] != "linear_top1"]

    for method in LEVELS:
        rewrite(study, study.of(method, 5)[0], edit)


# --- numbers --------------------------------------------------------------------------------------------------------


@cheat("A8", "the digest is")
def a_record_is_edited_by_hand(study: Study) -> None:
    path = record_path(study.folder, study.of("byol", 5)[0].trial_id)
    record = json.loads(path.read_text())
    for metric in record["result"]["metrics"]:
        metric["value"] -= 0.05
    path.write_text(json.dumps(record))


@cheat("A21", "the outputs give", "UNVERIFIABLE")
def a_value_is_edited_and_the_digest_with_it(study: Study) -> None:
    in_metrics(study, study.of("byol", 5)[0], value=0.55)


@cheat("A21", "in the database", "UNVERIFIABLE")
def a_value_is_edited_in_the_database(study: Study) -> None:
    in_database(study, "UPDATE metrics SET value = value + 0.05 WHERE split = 'test'", study.of("simclr", 5)[0])


@cheat("A21", "has linear_top1 on validation", "UNVERIFIABLE")
def a_value_that_chooses_the_cell_is_edited_in_the_database(study: Study) -> None:
    change = "UPDATE metrics SET value = 0.99 WHERE split = 'validation' AND name = 'linear_top1'"
    in_database(study, change, study.of("simclr", 5)[0])


@cheat("A21", "has device cpu in the database but NVIDIA H100 in its record", "UNVERIFIABLE")
def the_device_of_a_trial_is_edited_in_the_database(study: Study) -> None:
    trial = study.of("byol", 5)[0]
    rewrite(study, trial, lambda record: record["circumstance"].update({"device": "NVIDIA H100"}))
    in_database(study, "UPDATE trials SET device = 'cpu' WHERE true", trial)


@cheat("A21", "has target_momentum 0.99 in the database but 0.1 in its record", "UNVERIFIABLE")
def a_setting_is_edited_in_the_database(study: Study) -> None:
    for trial in study.of("byol"):
        drop(study, trial)
        add(study, "byol", trial.seed, settings={"target_momentum": 0.1})
    change = "UPDATE settings SET text = '0.99', number = 0.99 WHERE name = 'target_momentum'"
    in_database(study, change, study.of("byol", 0)[0])  # which gives the settings of its cell


@cheat("A21", "has deviations [] in the database", "INADMISSIBLE (A1")
def the_deviations_are_deleted_in_the_database(study: Study) -> None:
    deviate_in(study, "evaluation.linear_epochs", 1)
    change = "UPDATE protocols SET deviations = '[]' WHERE hash = (SELECT protocol_hash FROM trials WHERE true"
    in_database(study, change, study.of("byol", 5)[0], end=")")


@cheat("A21", "in the database", "INADMISSIBLE (A8")
def a_trial_is_said_to_have_failed_in_the_database(study: Study) -> None:
    in_database(study, "UPDATE trials SET status = 'failed' WHERE true", study.of("byol", 5)[0])


def in_database(study: Study, change: str, trial: Trial, end: str = "") -> None:
    with ResultStore(study.folder) as store:
        store.ingest()
    with duckdb.connect(study.folder / DATABASE) as database:
        database.execute(f"{change} AND trial_id = ?{end}", [trial.trial_id])
    digest = hashlib.sha256((study.folder / DATABASE).read_bytes()).hexdigest()
    (study.folder / DIGEST).write_bytes(mark(study.folder / DATABASE, digest))


@cheat("A21", "its outputs lack labels, knn_prediction", "UNVERIFIABLE")
def the_outputs_say_only_what_was_right(study: Study) -> None:
    from safetensors.numpy import load, save

    for trial in study.trials:
        outputs = load((study.folder / read(study, trial)["result"]["outputs"]["file"]).read_bytes())
        kept = save({name: values for name, values in outputs.items() if name.endswith("_correct")})
        reference = write_artefact(study.folder, kept, ".safetensors")
        rewrite(study, trial, lambda record, new=reference: record["result"].update({"outputs": new}))


@cheat("A21", "no per-example outputs", "UNVERIFIABLE")
def a_number_from_elsewhere_is_typed_in(study: Study) -> None:
    rewrite(study, study.of("byol", 5)[0], lambda record: record["result"].update({"outputs": None}))


@cheat("A21", "were not measured in this run", "INADMISSIBLE (A5")
def reported_numbers_are_compared_as_if_they_were_measured(study: Study) -> None:
    declare_anew(study, CLAIMS.replace('metric = "linear_top1"', "").replace(
        "at_least", 'metric = "knn_top1"\nreported = "lightly-cifar10"\nat_least').replace(
        '" }', '", batch_size = 128, epochs = 200 }'))  # fmt: skip


@cheat("A1", "in several variants")
def one_side_is_measured_by_another_variant_of_the_metric(study: Study) -> None:
    for trial in study.of("simclr"):
        in_metrics(study, trial, variant="linear/sgd-augmented@1")


@cheat("A1", "two values")
def a_record_holds_two_values_of_which_one_may_be_chosen(study: Study) -> None:
    def edit(record: dict[str, Any]) -> None:
        record["result"]["metrics"] += [dict(metric, value=0.7) for metric in record["result"]["metrics"]]

    rewrite(study, study.of("simclr", 5)[0], edit)


# --- selection and tuning -------------------------------------------------------------------------------------------


@cheat("A6", "best on test")
def the_checkpoint_is_the_best_on_test(study: Study) -> None:
    of_ones_own(study, checkpoint="best_on_test", selected_on="test")


@cheat("A6", "test was measured between epochs")
def the_epoch_is_chosen_by_watching_test(study: Study) -> None:
    trial = study.of("simclr", 5)[0]
    curves = json.dumps({"epoch": [1, 2], "series": {"test/linear_top1": [0.6, 0.64]}}).encode()
    reference = write_artefact(study.folder, curves, ".json")
    rewrite(study, trial, lambda record: record["result"].update({"curves": reference}))


@cheat("A5", "selection on the test split")
def the_probe_is_chosen_on_test(study: Study) -> None:
    in_metrics(study, study.of("simclr", 5)[0], selected_on="test")


@cheat("A3", "no validation images")
def no_image_is_held_out_to_select_on(study: Study) -> None:
    of_ones_own(study, dataset__validation_fraction=0.0)


@cheat("A7", "simclr: 3 cells to choose from, byol: 1 cell to choose from")
def the_baseline_is_not_tuned(study: Study) -> None:
    for temperature in (0.1, 1.0):
        for seed in SEEDS:
            add(study, "simclr", seed, 0.62, settings={"temperature": temperature})


@cheat("A7", "simclr: 2 cells to choose from, byol: 1 cell to choose from")
def the_tuning_of_the_baseline_is_planned_and_never_run(study: Study) -> None:
    for seed in SEEDS:
        add(study, "simclr", seed, 0.62, settings={"temperature": 0.1})
        study.trials.append(study.trial("byol", seed, settings={"target_momentum": 0.9}))
    study.write_plan()


@cheat("A7", "simclr: 6 cells, byol: 1 cell")
def five_cells_are_looked_at_and_never_finished(study: Study) -> None:
    for temperature in (0.1, 0.3, 0.4, 0.7, 1.0):
        for seed in (0, 1):
            add(study, "simclr", seed, 0.62, settings={"temperature": temperature})
        study.trials.append(study.trial("simclr", 2, settings={"temperature": temperature}))
    study.write_plan()


@cheat("A20", "the same cell")
def a_cell_is_not_worse_than_itself(study: Study) -> None:
    claims = CLAIMS.replace("at_least = 0.01", "within = 0.01").replace('kind = "better"', 'kind = "not_worse"')
    claims = claims.replace('"byol" }', '"simclr", batch_size = 64 }')
    declare_anew(study, claims.replace("at least one point better than BYOL", "no worse at batch size 64 by a point"))


@cheat("A7", "byol ran only with target_momentum 0.0")
def the_baseline_is_a_strawman(study: Study) -> None:
    for trial in study.of("byol"):
        rewrite(study, trial, lambda record: None, study.trial("byol", trial.seed, settings={"target_momentum": 0.0}))


@cheat("A7", "2 cells tried")
def the_best_cell_is_pinned_in_a_claim_made_afterwards(study: Study) -> None:
    for seed in SEEDS:
        add(study, "simclr", seed, 0.66, training={"batch_size": 128})
    claims = CLAIMS.replace('"simclr" }', '"simclr", batch_size = 128 }').replace(
        '"byol" }', '"byol", batch_size = 64 }'
    )
    study.write_claims(claims, declared=None)


@cheat("A24", "another claim was declared under this name", "EXPLORATORY")
def the_best_cell_of_equally_many_is_pinned_afterwards(study: Study) -> None:
    for seed in SEEDS:
        add(study, "simclr", seed, 0.66, training={"batch_size": 128})
        add(study, "byol", seed, 0.61, training={"batch_size": 128})
    claims = CLAIMS.replace('"simclr" }', '"simclr", batch_size = 128 }').replace(
        '"byol" }', '"byol", batch_size = 64 }'
    )
    study.write_claims(claims, declared=None)


# --- protocol, data, backbone, augmentation -------------------------------------------------------------------------


@cheat("A1", "has the name and version")
def a_shipped_protocol_is_changed_under_its_name_and_version(study: Study) -> None:
    carried = otherwise(study.protocol, evaluation__linear_epochs=100)
    for trial in list(study.trials):
        rewrite(study, trial, lambda record: None, under(trial, carried))


@cheat("A1", "has only its versions 1, 2, 3, 4")
def a_shipped_name_is_given_a_version_of_ones_own(study: Study) -> None:
    carried = otherwise(study.protocol, version=5, margin=0.0001)
    for trial in list(study.trials):
        rewrite(study, trial, lambda record: None, under(trial, carried))


@cheat("A1", "the content of its protocol differs")
def the_content_of_the_protocol_is_edited_and_its_hash_kept(study: Study) -> None:
    carried = otherwise(study.protocol, evaluation__linear_epochs=100, hash=study.protocol["hash"])
    trial = study.of("simclr", 0)[0]
    rewrite(study, trial, lambda record: record["result"]["trial"].update({"protocol": carried}))


@cheat("A1", "evaluation.linear_epochs")
def the_two_sides_ran_under_different_protocols(study: Study) -> None:
    move(study, "simclr", otherwise(study.protocol, evaluation__linear_epochs=100))


@cheat("A1", "in more than the deviations")
def a_deviation_is_not_named(study: Study) -> None:
    deviations = [Deviation("training.warmup_epochs", 4.0, "it diverged otherwise")]
    carried = deviate(read_protocol("cifar10-small"), deviations, "sweep").carried | {"deviations": []}
    for method in LEVELS:
        move(study, method, carried)


@cheat("A1", "but its content has")
def settings_are_edited_and_the_id_kept(study: Study) -> None:
    rewrite(study, study.of("byol", 5)[0], lambda record: record["result"]["trial"]["training"].update({"epochs": 10}))


@cheat("A1", "its cell_id is given as")
def the_best_cell_of_each_seed_is_put_into_one(study: Study) -> None:
    drop(study, study.of("simclr", 5)[0])
    other = add(study, "simclr", 5, 0.70, settings={"temperature": 0.1})
    cell = study.of("simclr", 0)[0].cell_id
    rewrite(study, other, lambda record: record["result"].update({"cell_id": cell}))


@cheat("A1", "simclr has version 7; versions that exist here: 1")
def a_version_of_the_method_that_nobody_has(study: Study) -> None:
    for trial in study.of("simclr"):
        rewrite(study, trial, lambda record: None, replace(trial, method_version=7))


@cheat("A1", "linear_top1 on test was measured with learning_rate 0.37; candidates of the protocol: ")
def the_probe_of_one_side_has_a_learning_rate_of_its_own(study: Study) -> None:
    for trial in study.of("simclr"):
        rewrite(study, trial, lambda record: record["result"]["metrics"][-1]["selected"].update(learning_rate=0.37))


@cheat("A7", "byol ran only with target_momentum 0.0, where the protocol has 0.99")
def the_baseline_is_handicapped_by_a_deviation(study: Study) -> None:
    deviate_in(study, "methods.byol.target_momentum", 0.0)


@cheat("A20", "holds at epochs = 2 (protocol: 20), which the sentence does not say", "NARROWED")
def a_deviation_in_training_is_not_stated(study: Study) -> None:
    deviate_in(study, "training.epochs", 2)


@cheat("A20", "holds at evaluation.linear_epochs = 1 (protocol: 30), which the sentence does not say", "NARROWED")
def a_deviation_in_the_evaluation_is_not_stated(study: Study) -> None:
    deviate_in(study, "evaluation.linear_epochs", 1)


@cheat("A19", "it allows 6 points, more than the margin of 1, but the sentence does not say so", "NARROWED")
def the_margin_is_raised_by_a_deviation(study: Study) -> None:
    deviate_in(study, "margin", 0.06)
    claims = CLAIMS.replace('"better"', '"not_worse"').replace("at_least = 0.01", "within = 0.06")
    claims = claims.replace('"simclr" }', '"-" }').replace('"byol" }', '"simclr" }').replace('"-" }', '"byol" }')
    declare_anew(study, claims.replace("SimCLR is at least one point better than BYOL", "BYOL is on par with SimCLR"))


@cheat("A1", "its method by-ol is not the shipped byol")
def a_handicapped_method_has_a_name_that_reads_as_a_shipped_one(study: Study) -> None:
    for trial in study.of("byol"):
        rewrite(study, trial, lambda record: None, replace(trial, method="by-ol"))
    declare_anew(study, CLAIMS.replace('"byol"', '"by-ol"'))


@cheat("A1", "is not the shipped protocol cifar10-small, whose name it reads as")
def a_protocol_of_ones_own_has_a_name_that_reads_as_a_shipped_one(study: Study) -> None:
    carried = otherwise(study.protocol, name="CIFAR10_small", evaluation__linear_epochs=100)
    for trial in list(study.trials):
        rewrite(study, trial, lambda record: None, under(trial, carried))
    declare_anew(study, CLAIMS, protocol="CIFAR10_small")


@cheat("A1", "simclr has learning_rate 1e-05; allowed: 0.002, by the protocol, or 0.0001 to 10.0")
def a_setting_lies_outside_of_what_a_sweep_may_vary(study: Study) -> None:
    for trial in [*study.of("simclr"), *study.of("byol")]:
        rewrite(study, trial, lambda record: None, replace(trial, training={**trial.training, "learning_rate": 1e-5}))


@cheat("A20", "target_momentum = 0.1 (protocol: 0.99), which the sentence does not say", "NARROWED")
def a_cell_with_the_protocols_value_is_run_where_the_claim_cannot_choose_it(study: Study) -> None:
    for seed in SEEDS:
        for width in (64, 128):
            add(study, "simclr", seed, settings={"projector_width": 256, "projector_output_width": width})
            momentum = {"projector_width": 256, "target_momentum": 0.1, "predictor_width": width}
            add(study, "byol", seed, settings=momentum)
    claims = CLAIMS.replace('{ method = "simclr" }', '{ method = "simclr", projector_width = 256 }')
    claims = claims.replace('{ method = "byol" }', '{ method = "byol", projector_width = 256 }')
    declare_anew(study, claims.replace("SimCLR is", "with a projector width of 256, SimCLR is"))


@cheat("A21", "its loss is 25.5 in the first epoch, in the other seeds of its cell 2.55", "UNVERIFIABLE")
def one_seed_has_the_curves_of_another_method(study: Study) -> None:
    trial = study.of("simclr", 5)[0]
    curves = json.loads((study.folder / read(study, trial)["result"]["curves"]["file"]).read_bytes())
    curves["series"]["loss"] = [25.5 / epoch for epoch in curves["epoch"]]
    reference = write_artefact(study.folder, json.dumps(curves).encode(), ".json")
    rewrite(study, trial, lambda record: record["result"].update({"curves": reference}))


@cheat("A2", "dataset.split_seed")
def one_side_has_another_split(study: Study) -> None:
    move(study, "simclr", otherwise(study.protocol, dataset__split_seed=7))


@cheat("A2", "its dataset CIFAR_10 is not the known cifar10, whose name it reads as")
def the_dataset_of_a_protocol_of_ones_own_has_a_name_that_reads_as_a_known_one(study: Study) -> None:
    of_ones_own(study, dataset__name="CIFAR_10")


@cheat("A2", "datasets differ")
def one_side_has_another_dataset_of_the_same_name(study: Study) -> None:
    for trial in study.of("simclr"):
        rewrite(study, trial, lambda record: None, replace(trial, dataset_fingerprint=FINGERPRINT.replace("1", "2")))


@cheat("A2", "labels of the test images")
def one_side_has_other_labels_under_the_same_fingerprint(study: Study) -> None:
    from safetensors.numpy import load, save

    trial = study.of("simclr", 5)[0]
    outputs = load((study.folder / read(study, trial)["result"]["outputs"]["file"]).read_bytes())
    outputs = {name: np.ascontiguousarray(values[::-1]) for name, values in outputs.items()}
    reference = write_artefact(study.folder, save(outputs), ".safetensors")
    rewrite(study, trial, lambda record: record["result"].update({"outputs": reference}))


@cheat("A2", "it was tested on 48 images; the test split of cifar10 has 10,000")
def twelve_favourable_images_are_counted_four_times_in_all_trials(study: Study) -> None:
    from safetensors.numpy import load, save

    for trial in study.trials:
        outputs = load((study.folder / read(study, trial)["result"]["outputs"]["file"]).read_bytes())
        outputs = {name: np.tile(values[:12], 4) for name, values in outputs.items()}
        reference = write_artefact(study.folder, save(outputs), ".safetensors")

        def edit(record: dict[str, Any], outputs: Any = outputs, reference: Any = reference) -> None:
            record["result"]["outputs"] = reference
            for metric in record["result"]["metrics"]:
                if metric["split"] == "test":
                    right = outputs[metric["name"].replace("top1", "correct")]
                    metric |= {"value": float(right.mean()), "n_examples": len(right)}

        rewrite(study, trial, edit)


@cheat("A11", "recipes differ")
def one_side_has_other_augmentations(study: Study) -> None:
    views = json.loads(json.dumps(study.protocol["content"]["views"]))
    views[1]["blur_probability"] = 0.5
    move(study, "simclr", otherwise(study.protocol, views=views))


@cheat("A13", "width 64")
def one_side_has_a_wider_backbone(study: Study) -> None:
    move(study, "simclr", otherwise(study.protocol, backbone__options__width=64))


# --- compute and surroundings ---------------------------------------------------------------------------------------


@cheat("A12", "simclr: 40 epochs")
def one_side_trains_twice_as_long(study: Study) -> None:
    for trial in study.of("simclr"):
        again(study, trial, as_trial=study.trial("simclr", trial.seed, training={"epochs": 40}))


@cheat("A12", "its curves have 40")
def one_side_trains_twice_as_long_and_does_not_say_so(study: Study) -> None:
    for trial in study.of("simclr"):
        longer = study.trial("simclr", trial.seed, training={"epochs": 40})
        again(study, trial, as_trial=longer)
        rewrite(study, longer, lambda record: record["circumstance"].update({"images_seen": 143_360}), trial)


@cheat("A22", "code hash")
def one_side_ran_with_other_code(study: Study) -> None:
    in_circumstance(study, "simclr", code_hash="e" * 64, commit="f" * 40)


@cheat("A22", "threads: 1, 8")
def the_other_side_is_timed_on_one_thread(study: Study) -> None:
    for number, method in enumerate(LEVELS):
        for trial in study.of(method):
            seconds = 50 + 30 * number + shift(method, trial.seed)
            values = {"train_seconds": seconds, "threads": 8 - 7 * number}
            rewrite(study, trial, lambda record, values=values: record["circumstance"].update(values))
    claims = CLAIMS.replace("at_least = 0.01", 'metric = "train_seconds"').replace("one point better", "faster")
    declare_anew(study, claims)


@cheat("A22", "ran in packs")
def the_faster_side_is_timed_in_a_pack(study: Study) -> None:
    for number, method in enumerate(LEVELS):
        for trial in study.of(method):
            values = {"train_seconds": 80 - 30 * number + shift(method, trial.seed), "pack": 4}
            rewrite(study, trial, lambda record, values=values: record["circumstance"].update(values))
    claims = CLAIMS.replace("at_least = 0.01", 'metric = "train_seconds"').replace("one point better", "faster")
    declare_anew(study, claims)


# --- words ----------------------------------------------------------------------------------------------------------


@cheat("A20", "does not name cifar10", "NARROWED")
def the_sentence_has_no_scope(study: Study) -> None:
    declare_anew(study, CLAIMS.replace("On CIFAR-10, under cifar10-small, ", ""))


@cheat("A20", "cifar100")
def the_sentence_names_the_harder_dataset(study: Study) -> None:
    declare_anew(study, CLAIMS.replace("On CIFAR-10, under cifar10-small, ", "On CIFAR-100 "))


@cheat("A20", "vicreg was also run")
def the_best_is_the_best_of_those_that_are_weaker(study: Study) -> None:
    for seed in SEEDS:
        add(study, "vicreg", seed, 0.66)
    claims = (
        CLAIMS.replace('kind = "better"', 'kind = "best_of"')
        .replace("b = {", "among = [{")
        .replace("at_least = 0.01", "")
    )
    declare_anew(
        study, claims.replace('"byol" }', '"byol" }]').replace("is at least one point better than BYOL", "is best")
    )


@cheat("A20", "batch_size was also run at 128")
def values_between_those_that_are_compared_are_left_out(study: Study) -> None:
    for batch_size in (128, 256):
        for seed in SEEDS:
            add(study, "simclr", seed, 0.64 - 0.05 * (batch_size == 128), training={"batch_size": batch_size})
    claims = CLAIMS.replace('kind = "better"', 'kind = "insensitive"').replace(
        'b = { method = "byol" }', 'axis = "batch_size"'
    )
    claims = claims.replace("at_least = 0.01", "values = [64, 256]\nwithin = 0.02")
    declare_anew(study, claims.replace("is at least one point better than BYOL", "is robust to the batch size"))


# --- families and declarations --------------------------------------------------------------------------------------


@cheat("A17", "it does not hold over")
def every_claim_has_a_family_to_itself(study: Study) -> None:
    nearly_equal(study)
    more = [other_claim(f"also-{number}", family=f'"family {number}"') for number in range(20)]
    declare_anew(study, CLAIMS + "".join(more))


@cheat("A17", "declared and left out")
def twenty_claims_are_declared_and_one_is_shown(study: Study) -> None:
    nearly_equal(study)
    declare_anew(study, CLAIMS + "".join(other_claim(f"also-{number}") for number in range(20)))
    study.claims_file.write_text(CLAIMS)


@cheat("A17", "not judged with it")
def the_other_claims_of_the_family_are_kept_in_another_file(study: Study) -> None:
    nearly_equal(study)
    every = CLAIMS + "".join(other_claim(f"also-{number}") for number in range(20))
    declare_anew(study, every)
    (study.folder / "claims-all.toml").write_text(every)
    study.claims_file.write_text(CLAIMS)


def nearly_equal(study: Study) -> None:
    """A difference that stands at 95 % and not at 99.7 %."""
    for number, trial in enumerate(study.of("simclr")):
        other = next(
            m for m in read(study, study.of("byol", trial.seed)[0])["result"]["metrics"] if m["name"] == "linear_top1"
        )
        again(study, trial, other["value"] + 0.02 + 0.007 * (-1) ** number)


@cheat("A24", "it was changed since", "EXPLORATORY")
def the_claim_is_changed_after_it_was_declared(study: Study) -> None:
    study.claims_file.write_text(CLAIMS.replace("0.01", "0.02").replace("one point", "two points"))


@cheat("A24", "to be judged at 4 seeds", "EXPLORATORY")
def more_seeds_are_run_until_the_claim_holds(study: Study) -> None:
    declare_anew(study, CLAIMS.replace("at_least", "seeds = 4\nat_least"))


@cheat("A24", "after the first result", "EXPLORATORY")
def the_claim_is_declared_after_its_results(study: Study) -> None:
    (study.folder / DECLARATIONS).unlink()
    study.write_claims(CLAIMS, AFTER)


@cheat("A24", "which was changed since: cifar10-small v4 (1550f6f3e742)", "EXPLORATORY")
def the_protocol_is_changed_after_the_claim_was_declared(study: Study) -> None:
    (study.folder / DECLARATIONS).unlink()
    earlier = otherwise(study.protocol, evaluation__linear_epochs=100)
    declare(read_claims(study.claims_file), study.folder, BEGAN - timedelta(days=2), {"cifar10-small": earlier["hash"]})


@cheat("A24", "a line before it was removed", "EXPLORATORY")
def a_line_of_the_log_is_removed(study: Study) -> None:
    study.write_claims(CLAIMS + other_claim("second") + other_claim("third"), DECLARED)
    (study.folder / DECLARATIONS).write_text("".join(log_lines(study)[:1] + log_lines(study)[2:]))


@cheat("A24", "a clock is wrong", "EXPLORATORY")
def the_clock_is_set_back_to_declare(study: Study) -> None:
    (study.folder / DECLARATIONS).unlink()
    study.write_claims(CLAIMS, DECLARED)


@cheat("A24", "ran again", "EXPLORATORY")
def the_results_are_looked_at_and_then_run_again(study: Study) -> None:
    trial = study.of("simclr", 5)[0]
    leave_attempt(study.folder, trial.trial_id, "done", "2025-12-30T00:00:00+00:00")
    leave_attempt(study.folder, trial.trial_id, "done", "2026-01-03T00:00:00+00:00", number=2)


@cheat("A8", "simclr: 2 seeds were started, never ended and left out of the plan: 6, 7")
def the_worst_seeds_are_called_interrupted_and_left_out(study: Study) -> None:
    for method in LEVELS:
        for seed in (6, 7):
            trial = add(study, method, seed)
            drop(study, trial, attempts=False)
            leave_attempt(study.folder, trial.trial_id, "interrupted", BEGAN.isoformat())


def test_sides_on_unlike_devices_are_settled_by_running_the_fewest_trials_again(study: Study) -> None:
    """Seed 1 of both sides ran on another device, which is alike; seed 3 of one side did, too, which is not."""
    odd = study.of("byol", 3)[0]
    for trial in (*study.of("simclr", 1), *study.of("byol", 1), odd):
        rewrite(study, trial, lambda record: record["circumstance"].update({"device": "NVIDIA H100"}))
    verdict = judged(study)
    assert verdict.label == "INADMISSIBLE (A22)"
    assert f"unlike most trials: byol seed 3 ({odd.trial_id})" in verdict.reason
    (remedy,) = verdict.settled_by
    assert remedy.startswith(f"1 trial run again as the others ran, once moved out of records/ ({odd.trial_id}), about")
    for trial in (*study.of("simclr"), *study.of("byol")):
        device = "cpu" if trial.method == "simclr" else "NVIDIA H100"
        rewrite(study, trial, lambda record, device=device: record["circumstance"].update({"device": device}))
    (remedy,) = judged(study).settled_by
    assert remedy.startswith("6 trials run again") and all(trial.trial_id in remedy for trial in study.of("simclr"))


@cheat("A22", "; device: NVIDIA H100, cpu; precision: bf16, fp32")
def an_untrained_backbone_is_evaluated_by_other_code_in_another_precision(study: Study) -> None:
    study.write_claims(
        CLAIMS.replace('method = "byol"', 'method = "untrained"').replace("BYOL", "the untrained backbone")
    )
    other = {"code_hash": "e" * 64, "device": "NVIDIA H100", "precision": "bf16"}
    for trial in study.of("untrained"):
        rewrite(study, trial, lambda record: record["circumstance"].update(other))


def edit_attempt(study: Study, trial: Trial, **values: object) -> None:
    file = study.folder / "trials" / trial.trial_id / "attempt-0001.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def keep_log_heads(study: Study) -> None:
    """All records keep the head that the log has now."""
    head = read_log_head(study.folder)
    assert head is not None
    values = {"declarations": {"count": head.lines, "head": head.digest}}
    for trial in study.trials:
        rewrite(study, trial, lambda record: record["circumstance"].update(values))


@cheat("A24", "its last lines were removed", "EXPLORATORY")
def the_last_lines_of_the_log_are_removed(study: Study) -> None:
    study.write_claims(CLAIMS + other_claim("second") + other_claim("third"), DECLARED)
    keep_log_heads(study)
    (study.folder / DECLARATIONS).write_text("".join(log_lines(study)[:1]))
    study.claims_file.write_text(CLAIMS)


@cheat("A24", "began when the log of declarations had 0 lines, but its record says 1 line (", "EXPLORATORY")
def the_records_are_edited_to_fit_a_late_declaration_and_the_attempts_are_not(study: Study) -> None:
    keep_log_heads(study)
    for trial in study.trials:
        edit_attempt(study, trial, declared=0, declared_head="")


@cheat("A24", "had 0 lines, but its record says nothing of it", "EXPLORATORY")
def the_log_s_head_is_removed_from_the_records_so_that_times_decide(study: Study) -> None:
    for trial in study.trials:
        edit_attempt(study, trial, declared=0, declared_head="")


def test_a_cut_log_that_only_trials_of_other_cells_contradict_is_told(study: Study) -> None:
    keep_log_heads(study)
    assert "A24" not in {finding.rule for finding in judged(study).findings if finding.outcome == "failed"}
    for trial in study.of("untrained"):
        cut = {"declarations": {"count": 5, "head": "f" * 64}}
        rewrite(study, trial, lambda record, cut=cut: record["circumstance"].update(cut))
    verdict = judged(study)
    finding = next(finding for finding in verdict.findings if finding.rule == "A24")
    assert (finding.outcome, finding.weight, verdict.label) == ("failed", "told", "SUPPORTED_AS_STATED")
    assert "of another cell began, the log of declarations had 5 lines, but now has 1" in finding.text


@cheat("A24", "12 trials began when the log had at most 0 lines", "EXPLORATORY")
def the_clock_is_set_back_to_declare_and_the_records_are_hidden(study: Study) -> None:
    (study.folder / DECLARATIONS).unlink()
    keep_log_heads(study)
    (study.folder / "records").rename(study.folder / "aside")  # so that the log says nothing of recorded trials
    study.write_claims(CLAIMS, DECLARED)
    (study.folder / "aside").rename(study.folder / "records")


# --- the test -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.do.__name__)
def test_a_cheat_is_named_by_its_rule_and_is_not_supported(cheat: Cheat, study: Study) -> None:
    cheat.do(study)
    verdict = judged(study)
    finding = next(finding for finding in verdict.findings if finding.rule == cheat.rule)
    assert finding.outcome == "failed", finding
    assert cheat.word in finding.text
    assert not verdict.is_supported or verdict.exploratory
    assert verdict.label.startswith(cheat.label) or verdict.label.endswith(cheat.label)


def test_the_honest_study_fails_no_rule_and_is_supported(study: Study) -> None:
    verdict = judged(study)
    assert [finding for finding in verdict.findings if finding.outcome == "failed"] == []
    assert verdict.label == "SUPPORTED_AS_STATED"


def test_records_that_keep_the_log_show_a_declaration_before_them_whatever_the_clocks_say(study: Study) -> None:
    keep_log_heads(study)
    times = {"started": "2025-01-01T00:00:00+00:00", "finished": "2024-01-01T00:00:00+00:00"}
    for trial in study.of("simclr"):
        rewrite(study, trial, lambda record: record["circumstance"].update(times))
        leave_attempt(study.folder, trial.trial_id, "done", times["started"])
    verdict = judged(study)
    finding = next(finding for finding in verdict.findings if finding.rule == "A24")
    assert (finding.outcome, verdict.label) == ("passed", "SUPPORTED_AS_STATED")
    assert finding.text == "declared 2026-01-01T00:00:00+00:00, before its first trial began, as the records show"


DECLARED_CLAIMS = {
    "point": ("93321fe6aadcbe4131217bcf8a1add43ee04f09724d5b8bd96fdeb03f4359a3f", "SUPPORTED_AS_STATED"),
    "worse": ("537ec02f7d80a919e9a7cdce2d55043ea0492739dc41994f17a469b10afff45a", "SUPPORTED_AS_STATED"),
    "five": ("7a9a3d25ec98c0791dd7acda18d5ace497a62cd408072a38e81b3b8ec35550fc", "DIRECTION_ONLY"),
    "knn": ("6f542821f490572253d23d56ed69e7a065b7ae25d93bb3eb3b72711f59300f3a", "SUPPORTED"),
    "collapse": ("dac22373f23ff709df65fe6654d102a741ad1ce1f4845b3b06863f18d189e23a", "CONTRADICTED"),
    "untrained": ("70d3ef7e265c60afd3e3ef59fca43cbfe4183557fb08ebcf2a64a5ea2db85288", "SUPPORTED"),
    "imagenet": ("31c1f1ff4873b19532f41494c68fec5e48a504d40e7e04797b3bbd77731f2dc2", "INADMISSIBLE"),
}


def test_claims_that_were_declared_keep_their_hash_and_their_verdict(whole: Study) -> None:
    verdicts = check_claims(Path(__file__).with_name("declared_claims.toml"), whole.folder).verdicts
    assert {one.claim.name: (one.claim.hash, one.word) for one in verdicts} == DECLARED_CLAIMS
