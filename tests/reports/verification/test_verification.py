"""Claims: an honest bundle passes; each way to tamper with one is reported by the level that can find it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundling import (
    EXAMPLES,
    GenuineRun,
    as_json,
    changed_record,
    contents_of,
    drawn_outputs,
    genuine_run,
    members_of,
    packed,
    verified,
    with_outputs,
)
from safetensors.numpy import save

from twinbench.reports.claims.claim import read_claims
from twinbench.reports.claims.declarations import declare
from twinbench.reports.verification.integrity import integrity
from twinbench.reports.verification.levels import aggregate, render
from twinbench.results.bundles.write import RENDERED_WITH, rendered_with
from twinbench.sweeps.deviations import Deviation, deviate
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.sweep import read_protocol
from twinbench.sweeps.trial import Trial

VERSION = read_protocol("digits-small").version

CLAIMS = """
protocol = "digits-small"

[[claims]]
name = "simclr-beats-vicreg"
sentence = "SimCLR is better than VICReg."
kind = "better"
a = { method = "simclr" }
b = { method = "vicreg" }

[[claims]]
name = "vicreg-beats-simclr"
sentence = "VICReg is better than SimCLR."
kind = "better"
a = { method = "vicreg" }
b = { method = "simclr" }
"""

Members = dict[str, bytes]
Tamper = Callable[[Members], None]


@pytest.fixture(scope="module")
def honest_run(tmp_path_factory: pytest.TempPathFactory) -> GenuineRun:
    """Six trials done, two claims declared before them."""
    run = genuine_run(tmp_path_factory.mktemp("honest") / "run")
    (run.folder / "claims.toml").write_text(CLAIMS)
    records = run.folder / "records"
    records.rename(run.folder / "aside")
    declare(read_claims(run.folder / "claims.toml"), run.folder, datetime(2026, 1, 1, tzinfo=UTC))
    (run.folder / "aside").rename(records)
    return run


@pytest.fixture(scope="module")
def honest(honest_run: GenuineRun) -> Path:
    return honest_run.bundle(report=True).path


@pytest.fixture
def tampered(honest: Path, tmp_path: Path) -> Callable[..., Path]:
    """A bundle made of the honest one's members, changed; the manifest follows unless `mend` is False."""

    def make(change: Tamper, mend: bool = True) -> Path:
        members = members_of(honest)
        change(members)
        return packed(members, tmp_path / "tampered.tar.gz", mend)

    return make


def record_of(members: Members, number: int = 0) -> str:
    return [name for name in members if name.startswith("records/")][number]


def referred(members: Members, record: str, key: str) -> str:
    file: str = json.loads(members[record])["result"][key]["file"]
    return file


def faults_of(bundle: Path, folder: Path, level: str = "integrity") -> str:
    """The faults of the level, which must be the first that does not pass."""
    found = verified(bundle, folder, level)
    assert found.outcome == "failed"
    return "\n".join(found.faults)


# --- honest ---------------------------------------------------------------------------------------------------------


def test_an_honest_bundle_passes_and_says_what_was_compared(honest, tmp_path):
    found = {name: verified(honest, tmp_path, name) for name in ("integrity", "render", "aggregate")}
    assert {name: (level.outcome, level.faults) for name, level in found.items()} == {
        name: ("passed", ()) for name in ("integrity", "render", "aggregate")
    }
    assert found["integrity"].notes[0].startswith("6 trials planned; records: 6 done; digest ")
    assert len(found["integrity"].notes) == 1
    assert "report/verdicts/claims.json" in members_of(honest)
    tables = [name for name in members_of(honest) if name.startswith("report/")]
    assert found["render"].notes == (f"{len(tables)} files made again and compared",)
    assert "12 numbers on test computed again from per-example outputs" in found["aggregate"].notes


def test_a_bundle_with_another_digest_than_the_published_one_fails(honest, tampered, tmp_path):
    digest = hashlib.sha256(members_of(honest)["MANIFEST.json"]).hexdigest()
    assert verified(honest, tmp_path, expect=digest).outcome == "passed"

    def forge(members: Members) -> None:
        """The careful cheat: every record of a trial gone, its place on the plan and its attempts too."""
        name = record_of(members)
        trial_id = json.loads(members[name])["result"]["trial_id"]
        for key in ("curves", "outputs"):
            del members[referred(members, name, key)]
        del members[name]
        plan = json.loads(members["plan.json"])
        plan["trials"] = [trial for trial in plan["trials"] if trial["trial_id"] != trial_id]
        attempts = [one for one in json.loads(members["attempts.json"]) if one["trial_id"] != trial_id]
        environment = json.loads(members["environment.json"])
        environment[0]["trials"].remove(trial_id)
        members |= {
            "plan.json": as_json(plan),
            "attempts.json": as_json(attempts),
            "environment.json": as_json(environment),
        }

    forged = tampered(forge)
    assert verified(forged, tmp_path).outcome == "passed"  # the docstring says so: it leaves no trace
    (fault,) = verified(forged, tmp_path, expect=digest).faults
    assert digest in fault and "is not the author's" in fault


def test_missing_failed_and_retried_trials_are_named_and_no_fault(tmp_path):
    run = genuine_run(tmp_path / "run")
    missing, failed, retried = run.trials[0], run.trials[1], run.trials[2]
    (run.folder / "records" / f"{missing.trial_id}.json").unlink()
    run.attempt(missing, "interrupted")
    run.record(failed, "failed", "RuntimeError: invented")
    run.attempt(retried, "failed", 1)
    run.record(retried, attempts=2)
    repeated = run.trials[3]
    run.record(repeated, attempts=2)
    bundle = run.bundle().path
    assert verified(bundle, tmp_path, "aggregate").outcome == "passed"
    notes = verified(bundle, tmp_path).notes
    assert "records: 4 done, 1 failed" in notes[0]
    assert f"planned but not recorded: {missing.trial_id}" in notes
    assert f"attempted but not recorded: {missing.trial_id}" in notes
    assert f"failed once and were run again: {retried.trial_id}" in notes
    assert f"1 trial with 2 attempts that left a result, of which one is recorded: {repeated.trial_id}" in notes


def test_records_without_any_attempts_pass_with_a_note_on_what_that_hides(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=1)
    (run.folder / "trials").rename(tmp_path / "gone")
    level = verified(run.bundle().path, tmp_path)
    assert level.outcome == "passed"
    assert any("a removed trial would not show" in note for note in level.notes)


def test_a_recorded_trial_that_is_not_planned_is_noted(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=2)
    extra = run.trials[-1].trial_id
    run.trials = run.trials[:-1]
    run.plan()
    assert f"recorded but not planned: {extra}" in verified(run.bundle().path, tmp_path).notes


# --- tampered without care: the manifest differs ----------------------------------------------------------------------


def test_a_changed_record_is_named_by_the_manifest_and_by_its_own_digest(tampered, tmp_path):
    def change(members: Members) -> None:
        name = record_of(members)
        members[name] = changed_record(members[name], lambda r: r["metrics"][0].update(value=0.99), mend=False)

    bundle = tampered(change, mend=False)
    name = record_of(members_of(bundle))
    found = faults_of(bundle, tmp_path)
    assert f"{name}: was changed: its sha256 is" in found
    assert f"{name}: its result was changed: the digest is" in found


@pytest.mark.parametrize("prefix", ["artefacts/", "records/", "report/tables/", "claims", "declarations", "protocols/"])
def test_a_member_that_is_gone_or_changed_or_added_is_named(tampered, tmp_path, prefix):
    members = members_of(tampered(lambda _: None))
    name = next(name for name in members if name.startswith(prefix))
    gone = tampered(lambda members: members.pop(name), mend=False)
    assert f"{name}: is in the manifest but missing" in faults_of(gone, tmp_path)
    changed = tampered(lambda members: members.update({name: members[name] + b" "}), mend=False)
    assert f"{name}: was changed: its sha256 is" in faults_of(changed, tmp_path)

    def unlist(members: Members) -> None:
        manifest = json.loads(members["MANIFEST.json"])
        del manifest["members"][name]
        members["MANIFEST.json"] = as_json(manifest)

    assert f"{name}: is not in the manifest" in faults_of(tampered(unlist, mend=False), tmp_path)


# --- tampered with care: every digest made anew ---------------------------------------------------------------------


def test_a_deleted_artefact_is_named_with_its_trial(tampered, tmp_path):
    members = members_of(tampered(lambda _: None))
    name = record_of(members)
    file = referred(members, name, "outputs")
    found = faults_of(tampered(lambda members: members.pop(file)), tmp_path)
    assert f"{file}: is missing; the record of trial {Path(name).stem} refers to it" in found


def test_a_removed_record_is_named_by_its_attempt_and_by_the_artefacts_that_it_left(tampered, tmp_path):
    members = members_of(tampered(lambda _: None))
    name = record_of(members)
    found = faults_of(tampered(lambda members: members.pop(name)), tmp_path)
    assert f"trial {Path(name).stem}: attempt 1 ended as done; its record is missing" in found
    for key in ("curves", "outputs"):
        assert f"{referred(members, name, key)}: no record refers to it" in found


def test_a_changed_artefact_is_named(tampered, tmp_path):
    file = next(name for name in members_of(tampered(lambda _: None)) if name.endswith(".safetensors"))
    found = faults_of(tampered(lambda members: members.update({file: members[file][:-1] + b"\7"})), tmp_path)
    assert f"{file}: was changed: its sha256 is" in found


def test_a_dropped_failure_is_named_by_the_attempt_that_it_left(tmp_path):
    run = genuine_run(tmp_path / "run")
    diverged, failed = run.trials[:2]
    run.record(diverged, "diverged", "loss was nan at epoch 3")
    run.record(failed, "failed", "RuntimeError: \x1b[2J")
    for trial in (diverged, failed):
        (run.folder / "records" / f"{trial.trial_id}.json").unlink()
    run.trials = run.trials[2:]  # and off the plan too
    run.plan()
    found = faults_of(run.bundle().path, tmp_path)
    fault = f"trial {diverged.trial_id}: attempt 1 ended as diverged (loss was nan at epoch 3); its record is missing"
    assert fault in found
    assert f"trial {failed.trial_id}: attempt 1 ended as failed" in found and "\x1b" not in found


def test_a_removed_attempt_is_named(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=2)
    first, second = run.trials[:2]
    run.record(first, attempts=2)
    (run.folder / "trials" / first.trial_id / "attempt-0001.json").unlink()
    (run.folder / "trials" / second.trial_id / "attempt-0001.json").unlink()
    found = faults_of(run.bundle().path, tmp_path)
    assert f"trial {first.trial_id}: attempts 2: some are missing" in found
    assert f"trial {second.trial_id}: a record but no attempt" in found


def test_a_result_that_was_run_again_is_named(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=1)
    run.attempt(run.trials[0], "diverged", 1)
    run.record(run.trials[0], attempts=2)
    found = faults_of(run.bundle().path, tmp_path)
    assert f"trial {run.ids[0]}: attempt 1 ended as diverged, but its record says done" in found


def test_a_record_of_no_attempt_or_of_another_time_is_named(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=1)
    run.record(run.trials[0], attempts=3)
    (run.folder / "trials" / run.ids[0] / "attempt-0003.json").unlink()
    run.record(run.trials[1], started="2026-02-02T00:00:00+00:00")
    found = faults_of(run.bundle().path, tmp_path)
    assert f"trial {run.ids[0]}: its record names attempt 3, which does not exist" in found
    assert f"trial {run.ids[1]}: began at 2026-01-02T03:04:05+00:00, but its record says 2026-02-02" in found


def test_a_result_that_ends_in_the_future_is_noted_by_this_machines_clock(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=1)
    run.record(run.trials[0], finished="2999-01-01T00:00:00+00:00")
    level = verified(run.bundle().path, tmp_path)
    assert level.outcome == "passed"
    assert f"end in the future by this machine's clock, so a clock is wrong: {run.ids[0]}" in level.notes


def test_a_record_copied_under_another_seed_is_named_though_its_id_and_digest_are_right(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=2)
    original, copied = run.trials[:2]
    assert (original.seed, copied.seed) == (0, 1)
    source = json.loads((run.folder / "records" / f"{original.trial_id}.json").read_text())["result"]

    def pretend(result: dict[str, Any]) -> None:
        result.update({key: source[key] for key in ("metrics", "curves", "outputs")})

    path = run.folder / "records" / f"{copied.trial_id}.json"
    path.write_bytes(changed_record(path.read_bytes(), pretend))
    found = faults_of(run.bundle().path, tmp_path)
    assert f"simclr seed 0 ({original.trial_id})" in found and f"simclr seed 1 ({copied.trial_id})" in found
    assert "have identical curves: one is a copy of another" in found

    def pretend_less(result: dict[str, Any]) -> None:
        pretend(result)
        result["curves"] = None

    path.write_bytes(changed_record(path.read_bytes(), pretend_less))
    assert "have identical outputs: one is a copy of another" in faults_of(run.bundle().path, tmp_path)


@pytest.mark.parametrize("trivial", ["all right", "one class"])
def test_two_seeds_that_both_predict_trivially_are_no_copies(tmp_path, trivial):
    run = genuine_run(tmp_path / "run", seeds=2)
    labels = drawn_outputs(run.trials[0])["labels"]
    predicted = labels if trivial == "all right" else np.zeros_like(labels)
    correct = (predicted == labels).astype(np.uint8)
    data = save({"labels": labels, "knn_prediction": predicted, "knn_correct": correct})
    sha256 = hashlib.sha256(data).hexdigest()
    (run.folder / "artefacts" / f"{sha256}.safetensors").write_bytes(data)

    def equal(result: dict[str, Any]) -> None:
        result["outputs"] = {"sha256": sha256, "file": f"artefacts/{sha256}.safetensors"}

    for trial in run.trials[:2]:
        path = run.folder / "records" / f"{trial.trial_id}.json"
        path.write_bytes(changed_record(path.read_bytes(), equal))
    assert verified(run.bundle().path, tmp_path).outcome == "passed"


def test_equal_curves_of_one_seed_in_two_cells_are_named_and_no_fault(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=1)
    one, other = (run.folder / "records" / f"{trial.trial_id}.json" for trial in run.trials)
    curves = json.loads(one.read_text())["result"]["curves"]
    other.write_bytes(changed_record(other.read_bytes(), lambda result: result.update(curves=curves)))
    level = verified(run.bundle().path, tmp_path)
    assert level.outcome == "passed"
    assert any(note.startswith("identical curves in different cells: ") for note in level.notes)


def test_a_record_under_another_id_is_named(tampered, tmp_path):
    def change(members: Members) -> None:
        name = record_of(members)
        members[name] = changed_record(members[name], lambda result: result["trial"].update(seed=7))

    found = faults_of(tampered(change), tmp_path)
    assert "its trial_id is given as" in found and "but its content has" in found


def swapped(members: Members, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the protocol wherever the bundle holds it."""
    for name in members:
        if name.startswith("records/"):
            members[name] = changed_record(members[name], lambda result: change(result["trial"]["protocol"]))
        elif name == "plan.json" or name.startswith("protocols/"):
            content = json.loads(members[name])
            change(content["protocol"] if name == "plan.json" else content)
            members[name] = as_json(content)


def test_a_swapped_protocol_is_named_by_its_hash(tampered, tmp_path):
    def shorter(protocol: dict[str, Any]) -> None:
        protocol["content"]["training"]["epochs"] = 3

    found = faults_of(tampered(lambda members: swapped(members, shorter)), tmp_path)
    assert f"protocol digits-small v{VERSION} in plan.json, " in found
    assert "its hash is given as" in found


def test_a_protocol_changed_under_its_name_is_named_with_what_changed(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=1)
    other = deviate(run.protocol, [Deviation("evaluation.linear_epochs", 500, "secretly")], "")
    carried = {key: other.carried[key] for key in ("name", "version", "hash", "content")}  # and not a word of it
    protocol = type("Swapped", (), {"carried": carried})
    trials = [Trial(**(trial.content() | {"protocol": carried})) for trial in run.trials]
    swapped_run = GenuineRun(tmp_path / "swapped", protocol, tuple(trials))  # type: ignore[arg-type]
    swapped_run.plan()
    for trial in trials:
        swapped_run.record(trial)
    found = faults_of(swapped_run.bundle().path, tmp_path)
    assert f"protocol digits-small v{VERSION} in plan.json, " in found
    assert f"the shipped one has the hash {run.protocol.hash}" in found
    assert "evaluation.linear_epochs is 500 for 50" in found


def test_named_deviations_pass_and_incomplete_ones_are_faults(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=1)
    named = deviate(run.protocol, [Deviation("evaluation.linear_epochs", 500, "to be sure")], "")
    more = deviate(
        run.protocol,
        [Deviation("evaluation.linear_epochs", 500, "to be sure"), Deviation("margin", 0.5, "secretly")],
        "",
    )
    half = {**more.carried, "deviations": more.carried["deviations"][:1]}
    metric = Deviation("evaluation.metrics.ridge_top1", "ridge/eigh-standardised@1", "another probe")
    ridge = deviate(run.protocol, [metric, Deviation("evaluation.ridge_penalties", [1.0], "one is enough")], "")
    cases = (("named", named.carried, ""), ("half", half, "its deviations give the hash"), ("ridge", ridge.carried, ""))
    for name, carried, faults in cases:
        trials = [Trial(**(trial.content() | {"protocol": carried})) for trial in run.trials]
        protocol = type("Deviating", (), {"carried": carried})
        deviating = GenuineRun(tmp_path / name / "run", protocol, tuple(trials))  # type: ignore[arg-type]
        deviating.plan()
        for trial in trials:
            deviating.record(trial)
        level = verified(deviating.bundle().path, tmp_path)
        assert (faults in " ".join(level.faults)) if faults else not level.faults, level.faults


def test_records_of_another_protocol_than_the_plans_are_named(tmp_path):
    run = genuine_run(tmp_path / "run", seeds=1)
    other = deviate(run.protocol, [Deviation("margin", 0.5, "another")], "").carried
    trial = Trial(**(run.trials[0].content() | {"protocol": other}))
    run.record(trial)
    found = faults_of(run.bundle().path, tmp_path)
    assert f"{trial.trial_id}: ran under another protocol than the plan's {run.protocol.hash[:12]}" in found


def test_an_edited_declaration_is_named_by_its_line(tampered, tmp_path):
    def earlier(members: Members) -> None:
        log = members["declarations.jsonl"]
        members["declarations.jsonl"] = log.replace(b"2026-01-01", b"2025-01-01", 1)

    assert "declarations.jsonl: line 1 was changed" in faults_of(tampered(earlier), tmp_path)
    first = tampered(
        lambda members: members.update({"declarations.jsonl": members["declarations.jsonl"].split(b"\n")[1]})
    )
    assert "declarations.jsonl: line 1 was changed, or a line before it was removed" in faults_of(first, tmp_path)


def _chosen(record: dict[str, Any]) -> None:
    record["result"]["metrics"][0]["selected"] = {"k": 7}


def _more_images(record: dict[str, Any]) -> None:
    record["circumstance"]["images_seen"] *= 2


def _more_seconds(record: dict[str, Any]) -> None:
    record["circumstance"]["train_seconds"] = 500.0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_chosen, "knn_top1 on test was measured with k 7; candidates of the protocol: 5, 10, 20"),
        (_more_images, "saw 24,576 images in 12 epochs with batches of 128; allowed: 12,288, by the other trials"),
        (_more_seconds, "trained and was evaluated for 505.0 seconds, but finished 60 seconds after it started"),
    ],
)
def test_a_record_that_cannot_be_true_is_named_with_what_is_allowed(change, fault, tampered, tmp_path):
    def edit(members: Members) -> None:
        name = record_of(members)
        record = json.loads(members[name])
        change(record)
        record["result_digest"] = digest(record["result"])
        members[name] = as_json(record)

    assert fault in faults_of(tampered(edit), tmp_path)


def test_curves_of_another_cell_are_named(tampered, tmp_path):
    def other(members: Members) -> None:
        name = record_of(members)
        curves = json.loads(members[referred(members, name, "curves")])
        curves["series"]["loss"] = [50.0, 40.0]
        data = as_json(curves)
        file = f"artefacts/{hashlib.sha256(data).hexdigest()}.json"
        del members[referred(members, name, "curves")]
        reference = {"file": file, "sha256": hashlib.sha256(data).hexdigest()}
        record = changed_record(members[name], lambda result: result.update({"curves": reference}))
        members |= {file: data, name: record}

    assert "its loss is 50 in the first epoch, in the other seeds" in faults_of(tampered(other), tmp_path)


def test_a_log_that_was_cut_is_named_by_the_records_that_began_before(tampered, tmp_path):
    def cut(members: Members) -> None:
        lines = members["declarations.jsonl"].splitlines(keepends=True)
        name = record_of(members)
        record = json.loads(members[name])
        record["circumstance"]["declarations"] = {"count": 2, "head": json.loads(lines[1])["digest"]}
        members |= {name: as_json(record), "declarations.jsonl": lines[0]}

    assert "when it began, declarations.jsonl had 2 lines, but now has 1" in faults_of(tampered(cut), tmp_path)


def test_a_head_of_the_log_that_is_not_that_of_the_first_attempt_is_named(tampered, tmp_path):
    def edited(members: Members) -> None:
        attempts = json.loads(members["attempts.json"])
        attempts[0] |= {"declared": 0, "declared_head": ""}
        name = f"records/{attempts[0]['trial_id']}.json"
        record = json.loads(members[name])
        last = json.loads(members["declarations.jsonl"].splitlines()[-1])
        record["circumstance"]["declarations"] = {"count": 2, "head": last["digest"]}
        members |= {name: as_json(record), "attempts.json": as_json(attempts)}

    assert "had 0 lines, but its record says 2 lines (" in faults_of(tampered(edited), tmp_path)


def test_a_protocol_that_was_changed_after_the_declaration_is_named(tampered, honest_run, tmp_path):
    now = honest_run.protocol.hash

    def declared_under(*hashes: str) -> Tamper:
        def change(members: Members) -> None:
            other = tmp_path / "".join(one[:4] for one in hashes)
            for one in hashes:
                declare(
                    read_claims(honest_run.folder / "claims.toml"),
                    other,
                    datetime(2026, 1, 1, tzinfo=UTC),
                    {"digits-small": one},
                )
            members["declarations.jsonl"] = (other / "declarations.jsonl").read_bytes()

        return change

    declared = f"as vicreg-beats-simclr under protocol digits-small with the hash {'5' * 12}"
    assert f"{declared}, but the records have {now[:12]}" in faults_of(tampered(declared_under("5" * 64)), tmp_path)
    # who changes a protocol and declares anew has a line that stands for it
    assert verified(tampered(declared_under("5" * 64, now)), tmp_path).outcome == "passed"


def test_a_declared_claim_that_no_file_holds_is_named(tampered, tmp_path):
    def withdraw(members: Members) -> None:
        members["claims.toml"] = CLAIMS.rpartition("[[claims]]")[0].encode()

    notes = verified(tampered(withdraw), tmp_path).notes
    assert (
        "declared on 2026-01-01T00:00:00+00:00 as vicreg-beats-simclr, but in no claims file of the bundle in that form"
        in notes
    )


def test_a_changed_environment_is_named(tampered, tmp_path):
    def change(members: Members) -> None:
        members["environment.json"] = members["environment.json"].replace(b'"cpu"', b'"tpu"')

    assert "environment.json: differs from the code" in faults_of(tampered(change), tmp_path)


def test_changed_tables_and_verdicts_are_named_by_file_and_row(tampered, tmp_path):
    def better(members: Members) -> None:
        lines = members["report/tables/methods.csv"].split(b"\n")
        lines[2] = lines[2].replace(b"vicreg", b"vicreg\x1b[2J")
        members["report/tables/methods.csv"] = b"\n".join(lines)
        verdicts = members["report/verdicts/claims.json"]
        members["report/verdicts/claims.json"] = verdicts.replace(b'"all_supported": false', b'"all_supported": true')
        del members["report/tables/failures.csv"]
        members["report/tables/best.csv"] = b"x"

    best, failures, methods, verdicts = faults_of(tampered(better), tmp_path, "render").splitlines()
    assert best == "report/tables/best.csv: is shipped but not made from these records"
    assert failures == "report/tables/failures.csv: is made but not shipped"
    assert (
        methods.startswith("report/tables/methods.csv: line 3 is 'vicreg\\") and "the records give 'vicreg," in methods
    )
    assert "\x1b" not in methods
    assert verdicts.startswith("report/verdicts/claims.json: line ") and "true" in verdicts


def test_other_versions_of_what_writes_the_report_are_named_if_files_differ(tampered, tmp_path):
    def older(members: Members) -> None:
        manifest = json.loads(members["MANIFEST.json"])
        manifest["rendered_with"] = {**rendered_with(), "plotly": "0.0.1\x1b"}
        members |= {"MANIFEST.json": as_json(manifest), "report/index.html.sha256": b"0" * 64 + b"\n"}

    level = verified(tampered(older), tmp_path, "render")
    assert level.outcome == "passed"  # of the page the digest is shipped, and plotly is in it
    assert any(
        "made with other versions than here, which may explain it: plotly 0.0.1\\x1b" in note for note in level.notes
    )

    def same(members: Members) -> None:
        older(members)
        members["MANIFEST.json"] = as_json(
            json.loads(members["MANIFEST.json"]) | {"rendered_with": dict(rendered_with())}
        )

    page = tampered(same)
    assert "report/index.html.sha256: line 1 is" in faults_of(page, tmp_path, "render")
    assert {"python", "twinbench", "code", *RENDERED_WITH} == json.loads(members_of(page)["MANIFEST.json"])[
        "rendered_with"
    ].keys()


# --- numbers against the outputs ------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> GenuineRun:
    return genuine_run(tmp_path / "run", seeds=1)


def test_a_number_that_differs_from_the_outputs_is_reported_with_both_values(run, tmp_path):
    outputs = drawn_outputs(run.trials[0])
    right = int((outputs["linear_prediction"] == outputs["labels"]).sum())

    def better(result: dict[str, Any]) -> None:
        next(m for m in result["metrics"] if (m["name"], m["split"]) == ("linear_top1", "test"))["value"] = 0.99

    found = faults_of(with_outputs(run, 0, lambda _: None, better), tmp_path, "aggregate")
    start = f"trial {run.ids[0]}: linear_top1 on test: the record says 0.99 of {EXAMPLES} examples, the outputs give"
    assert found == f"{start} {right / EXAMPLES} of {EXAMPLES}"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda a: a.update(knn_correct=np.ones(EXAMPLES, np.uint8)),
            "knn_correct does not mark where knn_prediction equals",
        ),
        (lambda a: a.pop("knn_prediction"), "its outputs lack knn_prediction"),
        (lambda a: a.update(knn_correct=a["knn_correct"][:9]), "its outputs have 359, 359 and 9 examples"),
        (
            lambda a: a.update(labels=np.ones((2, 2), np.int32)),
            "cannot be read as outputs: whole numbers, one per example",
        ),
        (lambda a: a.update(labels=np.ones(EXAMPLES)), "cannot be read as outputs: whole numbers, one per example"),
    ],
)
def test_outputs_that_contradict_themselves_or_others_are_named(run, tmp_path, change, fault):
    assert fault in faults_of(with_outputs(run, 1, change, lambda _: None), tmp_path, "aggregate")


def test_a_number_without_outputs_is_named(run, tmp_path):
    path = run.folder / "records" / f"{run.ids[0]}.json"
    path.write_bytes(changed_record(path.read_bytes(), lambda result: result.update(outputs=None)))
    found = faults_of(run.bundle().path, tmp_path, "aggregate")
    assert "knn_top1 on test: its outputs lack labels, knn_prediction, knn_correct" in found


@pytest.mark.parametrize("data", [b"", b"no safetensors", b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_outputs_that_are_no_safetensors_are_named(run, tmp_path, data):
    sha256 = hashlib.sha256(data).hexdigest()
    (run.folder / "artefacts" / f"{sha256}.safetensors").write_bytes(data)
    path = run.folder / "records" / f"{run.ids[0]}.json"
    reference = {"sha256": sha256, "file": f"artefacts/{sha256}.safetensors"}
    path.write_bytes(changed_record(path.read_bytes(), lambda result: result.update(outputs=reference)))
    found = faults_of(run.bundle().path, tmp_path, "aggregate")
    assert f"trial {run.ids[0]}" in found


def test_a_maximum_over_epochs_is_computed_again_from_its_curves(tmp_path):
    protocol = read_protocol("lightly-cifar10-200ep")
    assert protocol.checkpoint == "best_on_test"
    run = genuine_run(tmp_path / "base", seeds=1)
    own = replace(run.protocol, dataset=replace(protocol.dataset, name="of my own"))
    trained = {"training": own.training, "methods": own.methods, "movable": own.movable}
    protocol = replace(protocol, name="of my own", dataset=own.dataset, **trained)
    trial = Trial(**(run.trials[0].content() | {"protocol": protocol.carried}))
    run = GenuineRun(tmp_path / "run", protocol, (trial,))
    run.plan()
    run.record(trial)
    path = run.folder / "records" / f"{trial.trial_id}.json"
    curves = json.dumps({"epoch": [1, 2, 3], "series": {"test/knn_top1": [0.25, None, 0.75], "loss": [9, 9, 9]}})
    sha256 = hashlib.sha256(curves.encode()).hexdigest()
    (run.folder / "artefacts" / f"{sha256}.json").write_text(curves)

    def maximum(value: float) -> Callable[[dict[str, Any]], None]:
        def change(result: dict[str, Any]) -> None:
            result["curves"] = {"sha256": sha256, "file": f"artefacts/{sha256}.json"}
            how = {"variant": "knn/cosine-softmax-max-over-epochs@1", "selected_on": "test", "candidates": 2}
            result["metrics"] = [{"name": "knn_top1", "split": "test", "value": value, "n_examples": 10_000} | how]

        return change

    for value, outcome in ((0.75, "passed"), (0.8, "failed")):
        path.write_bytes(changed_record(path.read_bytes(), maximum(value)))
        level = verified(run.bundle().path, tmp_path, "aggregate")
        assert level.outcome == outcome
        assert "1 number as a maximum over epochs, taken again from the curves" in level.notes
    assert "the record says 0.8, the curves' maximum is 0.75" in level.faults[0]


# --- hostile contents -----------------------------------------------------------------------------------------------

STRANGE = {
    "a record that is a list": ("records/", b"[]", "not a record"),
    "a record nested too deep": ("records/", b'{"a":' * 900 + b"1" + b"}" * 900, "too deep"),
    "a record of a huge number": ("records/", b'{"a": 1' + b"0" * 400 + b"}", "too large"),
    "a plan that is a list": ("plan.json", b"[]", "not a plan"),
    "a plan without trials": ("plan.json", b'{"schema": 1}', "not a plan"),
    "attempts that are none": ("attempts.json", b"{}", "not a list of attempts"),
    "attempts at a path": (
        "attempts.json",
        b'[{"trial_id": "../../../../aaaa", "number": 1, "status": "", "reason": "", "started": ""}]',
        "0.trial_id: should match pattern",
    ),
    "attempts of a short id": (
        "attempts.json",
        b'[{"trial_id": "aaaa", "number": 1, "status": "", "reason": "", "started": ""}]',
        "0.trial_id: should match pattern",
    ),
    "an attempt of no number": (
        "attempts.json",
        b'[{"trial_id": "aaaaaaaaaaaaaaaa", "number": true, "status": "", "reason": "", "started": ""}]',
        "0.number: should be a valid integer (seen: True)",
    ),
    "an environment that is none": ("environment.json", b"7", "differs from the code"),
    "a protocol that is none": ("protocols/", b'{"hash": 3}', "is not the protocol of that hash"),
    "curves of infinite numbers": ("artefacts/", b'{"epoch": [1e999], "series": {}}', "too large"),
    "a log that is none": ("declarations.jsonl", b"\xff\xfe", "cannot be read"),
    "a log of lists": ("declarations.jsonl", b"[[[]]]", "is not a declaration"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_members_of_the_wrong_kind_are_reported_and_raise_nothing(tampered, tmp_path, name):
    prefix, data, fault = STRANGE[name]

    def change(members: Members) -> None:
        file = next(one for one in members if one.startswith(prefix) and not one.endswith(".safetensors"))
        members[file] = data

    assert fault in faults_of(tampered(change), tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method_version", "1"),
        ("method_version", True),
        ("seed", None),
        ("settings", []),
        ("training", 3),
        ("trial_id", 7),
        ("dataset_fingerprint", {}),
    ],
)
def test_a_planned_trial_of_the_wrong_kind_is_named(tampered, tmp_path, key, value):
    def change(members: Members) -> None:
        plan = json.loads(members["plan.json"])
        plan["trials"][0][key] = value
        members["plan.json"] = as_json(plan)

    assert f"plan.json: not a plan: trials.0.{key}: should be a " in faults_of(tampered(change), tmp_path)


@pytest.mark.parametrize("commands", ["twinbench run digits", [5]])
def test_commands_of_the_wrong_kind_are_named(tampered, tmp_path, commands):
    def change(members: Members) -> None:
        members["plan.json"] = as_json(json.loads(members["plan.json"]) | {"commands": commands})

    assert "plan.json: not a plan: commands" in faults_of(tampered(change), tmp_path)


def test_a_file_that_is_not_claims_fails_the_level_render_alone(tampered, tmp_path):
    bundle = tampered(lambda members: members.update({"claims.toml": b"protocol = 3 \x1b"}))
    found = faults_of(bundle, tmp_path, "render")
    assert found.startswith("no report can be made of these records: InvalidInput") and "\x1b" not in found


def test_markup_in_names_reaches_neither_page_nor_terminal_unescaped(tmp_path):
    run = genuine_run(tmp_path / "base", seeds=1)
    nasty = "<script>alert(1)</script>\x1b[2J"
    trial = Trial(**(run.trials[0].content() | {"method": nasty}))
    run = GenuineRun(tmp_path / "run", run.protocol, (trial,))
    run.plan()
    run.record(trial)
    (run.folder / "records" / f"{trial.trial_id}.json").unlink()
    contents = contents_of(run.bundle().path, tmp_path)
    found = [integrity(contents), render(contents), aggregate(contents)]
    assert "\x1b" not in "".join(text for level in found for text in (*level.faults, *level.notes))
    page = (contents.unpacked.run_folder / "report" / "index.html").read_text()
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page


def test_many_random_changes_of_one_byte_are_all_found_and_none_raises(honest, tmp_path):
    rng = np.random.default_rng(0)
    members = members_of(honest)
    names = [name for name in members if members[name] and name != "MANIFEST.json"]
    contents = []
    for round_ in range(30):
        name = names[int(rng.integers(len(names)))]
        data = bytearray(members[name])
        data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        bundle = packed(members | {name: bytes(data)}, tmp_path / f"{round_}.tar.gz", mend=False)
        contents = [fault for fault in verified(bundle, tmp_path).faults if fault.startswith(f"{name}: ")]
        assert contents, name
