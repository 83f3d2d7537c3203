import hashlib
import json
import math
import os
import re
from pathlib import Path

import pytest

from twinbench.results.record import (
    BrokenArtefact,
    TornRecord,
    parse_record,
    read_artefact,
    read_record,
    recorded_ids,
    write_artefact,
    write_record,
)


def test_a_record_comes_back_as_it_was_written(synthetic_run):
    path = synthetic_run.record(synthetic_run.trial(settings={"off_diagonal_weight": 0.0051}), 0.1 + 0.2)
    record = read_record(path)
    assert record["result"]["metrics"][1]["value"] == 0.3
    assert record["result"]["trial"]["settings"] == {"off_diagonal_weight": 0.0051}
    assert record["circumstance"]["images_seen"] == 14370
    # An independent computation of the digest, from the file's own text.
    text = json.dumps(json.loads(path.read_text())["result"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert record["result_digest"] == hashlib.sha256(text.encode()).hexdigest()


def test_the_result_digest_leaves_the_circumstance_out(synthetic_run):
    trial = synthetic_run.trial()
    first = read_record(synthetic_run.record(trial, circumstance={"host": "one", "train_seconds": 1.0}))
    second = read_record(synthetic_run.record(trial, circumstance={"host": "two", "train_seconds": 2.0}))
    assert first["result_digest"] == second["result_digest"]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "", "not JSON"),
        (lambda text: text.replace("0.9", "NaN", 1), "not JSON"),
        (lambda text: "[" * 100_000, "not JSON"),
        (lambda text: '{"hello": 1}', "no 'schema'"),
        (lambda text: "[1, 2]", "no 'schema'"),
        (lambda text: text.replace('"schema": 1', '"schema": 99'), "schema 99"),
        (lambda text: text.replace("0.9,", "0.95,", 1), "its result was changed"),
        (lambda text: text.replace('"seed": 0', '"seed": "0"'), "result.trial.seed is '0'; must be an integer"),
        (lambda text: text.replace('"status": "done"', '"status": "fine"'), "'fine'; allowed: done, diverged"),
        (lambda text: text.replace('"reason"', '"raison"'), "result has no 'reason'"),
        (lambda text: text.replace("0.9,", "1e999,", 1), "1e999 is too large a number"),
        (lambda text: text.replace("0.9,", "1e308,", 1), "value is 1e+308; must be at most 1e+100"),
        (lambda text: text.replace("0.9,", "-1e308,", 1), "value is -1e+308; must be more than -1e+100"),
        (lambda text: text.replace('"seed": 0', f'"seed": {2**63}'), "must be an integer of 64 bits"),
        (lambda text: text.replace('"seed": 0', f'"seed": {-(2**63) - 1}'), "must be an integer of 64 bits"),
        (lambda text: text.replace('"cell_id": "', '"cell_id": "0'), "must be 16 hexadecimal digits"),
        (lambda text: text.replace('"cell_id": "', '"cell_id": "../'), "must be 16 hexadecimal digits"),
        (lambda text: re.sub('("cell_id": "[0-9a-f]+)', r"\1/../x", text), "must be 16 hexadecimal digits"),
    ],
)
def test_a_torn_or_foreign_file_is_refused_with_the_reason(synthetic_run, damage, problem):
    path = synthetic_run.record(synthetic_run.trial())
    path.write_text(damage(path.read_text()))
    with pytest.raises(TornRecord) as error:
        read_record(path)
    assert path.name in str(error.value)
    assert problem in str(error.value)
    assert recorded_ids(synthetic_run.folder) == {}


def test_a_record_under_another_trials_name_is_refused(synthetic_run):
    path = synthetic_run.record(synthetic_run.trial())
    with pytest.raises(TornRecord, match="the file should be called"):
        parse_record("0123456789abcdef.json", path.read_bytes())


def test_a_record_cannot_point_outside_its_run_folder(synthetic_run):
    path = synthetic_run.record(synthetic_run.trial())
    result = read_record(path)["result"]
    for file in ("/etc/passwd", "artefacts/../../secret.json", f"artefacts/{'0' * 64}.json"):
        with pytest.raises(ValueError, match="must be artefacts/ and its digest"):
            write_record(synthetic_run.folder, result | {"curves": {"sha256": "1" * 64, "file": file}}, {})


def test_a_value_that_is_not_finite_is_never_recorded(synthetic_run, tmp_path):
    for value in (math.inf, math.nan):
        with pytest.raises(ValueError, match="JSON compliant"):
            synthetic_run.record(synthetic_run.trial(), value)
    assert not list(tmp_path.rglob("*.*"))


def test_an_undecodable_name_in_a_traceback_does_not_keep_a_failure_from_being_recorded(synthetic_run):
    name = os.fsdecode(b"caf\xe9.png")
    path = synthetic_run.record(synthetic_run.trial(), None, status="failed", reason=name)
    assert read_record(path)["result"]["reason"] == name


def test_recorded_ids_gives_the_status_of_every_record(synthetic_run):
    done = synthetic_run.planned_and_recorded(seed=0)
    failed = synthetic_run.planned_and_recorded(None, seed=1, status="failed", reason="x")
    synthetic_run.plan(synthetic_run.trial(seed=2))
    assert recorded_ids(synthetic_run.folder) == {done: "done", failed: "failed"}
    assert recorded_ids(synthetic_run.folder / "nowhere") == {}


def test_equal_artefacts_are_stored_once_and_a_damaged_one_is_repaired(tmp_path: Path):
    reference = write_artefact(tmp_path, b"curves", ".json")
    assert reference["file"] == f"artefacts/{hashlib.sha256(b'curves').hexdigest()}.json"
    (tmp_path / reference["file"]).write_bytes(b"damaged")
    with pytest.raises(BrokenArtefact, match="its digest is"):
        read_artefact(tmp_path, reference)
    assert write_artefact(tmp_path, b"curves", ".json") == reference
    assert read_artefact(tmp_path, reference) == b"curves"
    assert len(list((tmp_path / "artefacts").iterdir())) == 1
