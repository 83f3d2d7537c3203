"""Claims: trials of a real run are reproduced, made-up results are not, and the commands say so."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from bundling import as_json, changed_record, contents_of, members_of, packed
from launching import FEW_TRIALS
from safetensors.numpy import load, save
from typer.testing import CliRunner, Result

from twinbench.harness.commands import bundle as bundle_commands
from twinbench.harness.launchers.worker_loop import drain
from twinbench.harness.planning import make_plan
from twinbench.harness.run_folder.layout import write_plan
from twinbench.harness.trial import rerun as harness_rerun
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.rerun import compared, rerun
from twinbench.reports.verification.integrity import integrity
from twinbench.reports.verification.level import Level
from twinbench.reports.verification.levels import aggregate, rendered
from twinbench.reports.verification.reruns import by_method, drawn
from twinbench.results.bundles.contents import Contents
from twinbench.results.bundles.write import write_bundle
from twinbench.results.record import COMPUTED_WITH, read_record, record_files
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.protocol import PROSE
from twinbench.sweeps.trial import Trial

Record = dict[str, Any]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run on digits: two cells of SimCLR and two baselines."""
    folder = tmp_path_factory.mktemp("few")
    write_plan(folder, make_plan("digits", FEW_TRIALS, None))
    drain(Surroundings(folder), lambda: False, stay=True)
    return folder


@pytest.fixture(scope="module")
def bundle(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(few, tmp_path_factory.mktemp("bundle") / "few.tar.gz", rendered).path


@pytest.fixture
def contents(bundle: Path, tmp_path: Path) -> Contents:
    return contents_of(bundle, tmp_path)


def run_again(contents: Contents, tmp_path: Path, count: int = 1) -> Level:
    return rerun(contents, by_method(contents.records), tmp_path / "again", count, 0, None, lambda _: None)


def only(contents: Contents, method: str, change: Callable[[Record], None] = lambda _: None) -> Contents:
    """Return the bundle with one trial of the method, its record changed; the level rerun does not check integrity."""
    record = next(one for one in contents.records.values() if one["result"]["trial"]["method"] == method)
    copy = json.loads(json.dumps(record))
    change(copy["result"])
    copy["result_digest"] = digest(copy["result"])
    return dataclasses.replace(contents, records={copy["result"]["trial_id"]: copy})


# --- run again ------------------------------------------------------------------------------------------------------


def test_trials_of_a_real_run_are_reproduced_bit_for_bit(contents, tmp_path):
    text: list[str] = []
    compared = by_method(contents.records)
    level = rerun(contents, compared, tmp_path / "again", 4, 0, None, text.append)
    assert level.outcome == "passed", level.faults
    assert sum(note.endswith("bit-identical result") for note in level.notes) == 4
    chosen = ", ".join(drawn(contents.records, compared, 4, 0))
    assert level.notes[0] == f"drawn with seed 0, 2 of 2 trials of comparisons and 2 of 2 others: {chosen}"
    assert not any("drawn with" in line for line in text)  # it is printed with the other notes
    own = {record["result_digest"] for path in record_files(tmp_path / "again") if (record := read_record(path))}
    assert own == {record["result_digest"] for record in contents.records.values()}


def forged(bundle: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None], **circumstance: Any) -> Contents:
    """Return the trial of SimCLR whose predictions were edited, in a bundle that passes every other level."""
    members = members_of(bundle)
    name = next(n for n in members if n.startswith("records/") and b'"method": "simclr"' in members[n])

    def change(result: Record) -> None:
        arrays = load(members.pop(result["outputs"]["file"]))
        edit(arrays)
        for probe in ("knn", "linear"):
            arrays[f"{probe}_correct"] = (arrays[f"{probe}_prediction"] == arrays["labels"]).astype("u1")
        data = save(arrays)
        sha256 = hashlib.sha256(data).hexdigest()
        result["outputs"] = {"sha256": sha256, "file": f"artefacts/{sha256}.safetensors"}
        members[result["outputs"]["file"]] = data
        for metric in result["metrics"]:
            if metric["split"] == "test":
                metric["value"] = float(arrays[metric["name"].replace("top1", "correct")].mean())

    record = json.loads(changed_record(members[name], change))
    record["circumstance"] |= circumstance
    members[name] = as_json(record)
    contents = contents_of(packed(members, tmp_path / "forged.tar.gz"), tmp_path)
    assert integrity(contents).outcome == "passed", integrity(contents).faults
    assert aggregate(contents).outcome == "passed"
    return dataclasses.replace(contents, records={Path(name).stem: contents.records[Path(name).stem]})


def three_better(arrays: dict[str, Any]) -> None:
    wrong = np.flatnonzero(arrays["linear_correct"] == 0)[:3]
    arrays["linear_prediction"][wrong] = arrays["labels"][wrong]


def all_right(arrays: dict[str, Any]) -> None:
    arrays |= {f"{probe}_prediction": arrays["labels"] for probe in ("knn", "linear")}


def test_three_answers_edited_in_a_methods_favour_are_found_on_the_same_machine(bundle, tmp_path):
    (fault,) = run_again(forged(bundle, tmp_path, three_better), tmp_path).faults
    assert "(simclr seed 0): not bit-identical, though code, versions and machine are those of the record" in fault
    assert fault.endswith("; 3 of 359 linear predictions differ")


def test_made_up_results_are_found_by_a_rerun_on_another_machine(bundle, tmp_path):
    level = run_again(forged(bundle, tmp_path, all_right, processor="another"), tmp_path)
    assert level.outcome == "failed"
    assert any("linear_top1 on test differs from the rerun by" in fault for fault in level.faults)
    assert any(fault.startswith("simclr: linear_top1 is shifted by +") for fault in level.faults)
    assert any("not bit-identical, with other processor;" in note for note in level.notes)


@pytest.mark.slow  # trains four trials again
def test_an_honest_run_with_another_number_of_threads_passes(contents, tmp_path, monkeypatch):
    def with_two_threads(*given: Any, **named: Any) -> Surroundings:
        return Surroundings(*given, **named | {"threads": 2})

    monkeypatch.setattr(harness_rerun, "Surroundings", with_two_threads)
    level = run_again(contents, tmp_path)
    assert level.outcome == "passed", level.faults
    assert sum("not bit-identical, with other threads;" in note for note in level.notes) == 1
    assert sum("linear_top1 is shifted by" in note for note in level.notes) == 1


def test_other_test_labels_than_those_of_the_dataset_here_are_a_fault(contents, tmp_path, monkeypatch):
    """Those of a dataset that is not locked: level integrity names the others."""
    read = harness_rerun._outputs

    def relabelled(folder: Path, record: Any) -> Any:
        outputs = read(folder, record)
        return {name: values[::-1] for name, values in outputs.items()} if folder.name == "again" else outputs

    monkeypatch.setattr(harness_rerun, "_outputs", relabelled)
    changed = only(contents, "simclr", lambda result: result["metrics"][0].update(value=0.5))
    (fault,) = run_again(changed, tmp_path).faults
    assert "the record's test labels are not those of the dataset here" in fault


def test_a_bundle_without_a_result_is_not_run(contents, tmp_path):
    level = run_again(dataclasses.replace(contents, records={}), tmp_path)
    assert (level.outcome, level.faults) == ("not run", ())


def test_training_that_takes_too_long_is_stopped_and_a_fault(contents, tmp_path, monkeypatch):
    monkeypatch.setattr(harness_rerun, "LEAST_SECONDS", 0.5)
    monkeypatch.setattr(harness_rerun, "TIMES_AS_LONG", 0.0)

    def endless(result: Record) -> None:
        protocol = result["trial"]["protocol"]
        protocol["content"]["movable"]["epochs"] = True
        result["trial"]["training"]["epochs"] = 10**6
        result["trial_id"] = Trial(**result["trial"]).trial_id

    (fault,) = run_again(only(contents, "simclr", endless), tmp_path).faults
    assert "stopped after 0 s of training, recorded in" in fault


# --- how results are compared ---------------------------------------------------------------------------------------


SAME = dict.fromkeys(COMPUTED_WITH, 1) | {"processor": "mine", "versions": {}, "code_hash": "2:a", "commit": "c"}


def result(status: str = "done", value: float = 0.9, reason: str = "", name: str = "knn_top1") -> Record:
    metrics = [{"name": name, "variant": "v", "split": "test", "value": value}]
    own = {"status": status, "reason": reason, "metrics": metrics if status == "done" else []}
    return {"result": own, "result_digest": digest(own), "circumstance": SAME}


@pytest.mark.parametrize(
    ("here", "fault"),
    [
        (result(), ""),
        (result(value=0.9000001), "not bit-identical, though code, versions and machine are those of the record"),
        (result("failed", reason="no memory"), "ended as failed (no memory), the record says done"),
        (result(name="linear_top1"), "measured other metrics: knn_top1 v test, linear_top1 v test"),
        (result(reason="other words"), "are those of the record; equal metrics"),
    ],
)
@pytest.mark.parametrize("processor", ["mine", "another"])
def test_on_the_same_machine_any_difference_is_a_fault(here, fault, processor):
    found, agreement = compared(result(), here | {"circumstance": SAME | {"processor": processor}}, {}, {})
    if "bit-identical" in fault or "equal metrics" in fault:
        assert (fault in found) == (processor == "mine")
        assert agreement.startswith("not bit-identical, with other processor") == (processor == "another")
    else:
        assert found == fault and agreement == ("" if fault else "bit-identical result")


def test_a_record_of_this_code_without_a_processor_is_a_fault_unless_its_bits_agree():
    bare = {"circumstance": {key: value for key, value in SAME.items() if key != "processor"}}
    found, _ = compared(result() | bare, result(value=0.91), {}, {})
    assert found.startswith("lacks processor, which this code always records; not bit-identical, knn_top1 on test is")
    assert compared(result() | bare, result(), {}, {}) == ("", "bit-identical result")


# --- which trials are run -------------------------------------------------------------------------------------------


def recompute_ids(result: Record) -> None:
    """Recompute the ids and the hash of changed content."""
    protocol = result["trial"]["protocol"]
    protocol["hash"] = digest({key: value for key, value in protocol["content"].items() if key not in PROSE})
    trial = Trial(**result["trial"])
    result |= {"trial_id": trial.trial_id, "cell_id": trial.cell_id}


REFUSED: dict[str, tuple[Callable[[Record], Any], str]] = {
    "too wide": (lambda t: t["settings"].update(projector_width=10**9), "projector_width: is out of range"),
    "too long": (lambda t: t["training"].update(epochs=10**9), "epochs: is out of range"),
    "fixed by the protocol": (lambda t: t["training"].update(momentum=0.5), "momentum: may not be varied"),
    "an unknown setting": (lambda t: t["settings"].update(run="rm"), "run: is not a field"),
    "a setting of the wrong kind": (lambda t: t["settings"].update(temperature="hot"), "temperature"),
    "a setting that is lacking": (
        lambda t: t["settings"].pop("temperature"),
        "has settings that no sweep under its protocol can have",
    ),
    "an unknown method": (lambda t: t.update(method="\x1b[2J"), "method"),
    "another version": (lambda t: t.update(method_version=99), "version of simclr that is not installed (seen: 99)"),
    "other data": (lambda t: t.update(dataset_fingerprint="sha256:0"), "not the data that the trials ran on"),
    "unknown data": (lambda t: t["protocol"]["content"]["dataset"].update(name="../etc"), "unknown dataset"),
    "data from a folder": (lambda t: t["protocol"]["content"]["dataset"].update(name="cifar10"), "--data: is missing"),
    "huge images": (lambda t: t["protocol"]["content"]["dataset"].update(image_size=10**6), "image_size: is too large"),
    "an unknown backbone": (lambda t: t["protocol"]["content"]["backbone"].update(name="os"), "unknown backbone"),
    "a protocol of the wrong kind": (lambda t: t["protocol"]["content"].update(views=7), "views"),
    "an unknown variant": (
        lambda t: t["protocol"]["content"]["evaluation"]["metrics"].update(knn_top1="knn/mine@1"),
        "no such variant here",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_trial_that_no_sweep_here_could_contain_is_not_run(contents, tmp_path, name):
    change, text = REFUSED[name]

    def changed(result: Record) -> None:
        change(result["trial"])
        recompute_ids(result)

    level = run_again(only(contents, "simclr", changed), tmp_path)
    assert level.outcome == "not run"
    assert text in level.notes[0] and "\x1b" not in level.notes[0]
    assert not (tmp_path / "again").exists()


# --- the commands ---------------------------------------------------------------------------------------------------

app = typer.Typer()
app.command()(bundle_commands.bundle)
app.command()(bundle_commands.verify)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_bundle_prints_the_digest_that_verify_expects_and_all_three_levels_pass(few, tmp_path):
    made = command("bundle", few, "--out", tmp_path / "b.tar.gz")
    assert made.exit_code == 0, made.output
    digest_ = next(line for line in made.output.splitlines() if line.startswith("digest ")).removeprefix("digest ")
    verified = command("verify", tmp_path / "b.tar.gz", "--level", "rerun", "--trials", 1, "--expect", digest_)
    assert verified.exit_code == 0, verified.output
    ended = [line for line in verified.output.splitlines() if line.endswith((": passed", ": failed", ": not run"))]
    assert ended == ["integrity: passed", "render: passed", "aggregate: passed", "rerun: passed"]
    wrong = command("verify", tmp_path / "b.tar.gz", "--expect", "0" * 64)
    assert wrong.exit_code == 1
    assert "integrity: failed" in wrong.output and "render: not run" in wrong.output


def test_verify_of_a_faulty_bundle_prints_the_fault_and_exits_with_1(bundle, tmp_path):
    members = members_of(bundle)
    members["plan.json"] = as_json(json.loads(members["plan.json"]) | {"question": "Another?"})
    ended = command("verify", packed(members, tmp_path / "b.tar.gz", mend=False), "--level", "render")
    assert ended.exit_code == 1
    assert "fault: plan.json: was changed" in ended.output and "aggregate" not in ended.output


def test_files_that_are_not_bundles_and_wrong_options_are_invalid_input(bundle, tmp_path):
    (tmp_path / "no").write_text("bundle")
    for arguments, text in (
        ((tmp_path / "no",), "not a bundle"),
        ((bundle, "--level", "agregate"), "did you mean 'aggregate'"),
        ((bundle, "--expect", "abc"), "is not a digest"),
        ((bundle, "--claim", "mine"), "--claim: chooses trials to run again"),
    ):
        ended = command("verify", *arguments)
        assert isinstance(ended.exception, InvalidInput) and text in str(ended.exception)
    assert isinstance(command("bundle", tmp_path).exception, InvalidInput)
