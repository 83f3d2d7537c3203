import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twinbench.results import merge
from twinbench.results.merge import Disagreement, Merged, merge_folders
from twinbench.results.record import read_artefact, read_record, record_path, recorded_ids, write_artefact, write_record
from twinbench.results.store import ResultStore
from twinbench.sweeps.errors import InvalidInput

CURVES = {"epoch": [1, 2], "series": {"loss": [3.0, 2.5]}}
OTHER_CURVES = {"epoch": [1, 2], "series": {"loss": [3.0, 2.4]}}
DIGESTS = [
    hashlib.sha256(json.dumps(curves, sort_keys=True).encode()).hexdigest()[:12] for curves in (CURVES, OTHER_CURVES)
]


@pytest.fixture
def site(new_synthetic_run, tmp_path):
    """Makes a run folder, named by its site, with an empty plan in it."""

    def make(name: str, **choices):
        run = new_synthetic_run(tmp_path / name)
        for key, value in choices.items():
            setattr(run, key, value)
        run.write_plan()
        return run

    return make


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "merged"


def joined(out: Path, *runs) -> Merged:
    return merge_folders([run.folder for run in runs], out)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder by its path, links unfollowed."""
    files = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(folder)): b"link" if path.is_symlink() else path.read_bytes() for path in files}


def change_plan(run, **changes) -> None:
    path = run.folder / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- the plan and the records ---------------------------------------------------------------------------------------


def test_records_of_all_sites_are_copied_byte_for_byte(site, out):
    here, there = site("here"), site("there")
    first = here.planned_and_recorded(0.9, seed=0, curves=CURVES)
    second = there.planned_and_recorded(0.8, seed=1, curves=OTHER_CURVES)
    assert joined(out, here, there) == Merged(2, 2, 0, (), (), 0, 0)
    plan = contents(out).pop("plan.json")
    expected = contents(here.folder) | contents(there.folder) | {"plan.json": plan}
    assert contents(out) == expected
    assert len(expected) == 5
    for trial_id in (first, second):
        assert read_artefact(out, read_record(record_path(out, trial_id))["result"]["curves"])


def test_the_merged_plan_is_the_union_in_order_of_first_appearance(site, out):
    here = site("here", axes=("width", "depth"), question="Is it wide?")
    there = site("there", axes=("depth", "weight"), question="Is it heavy?")
    third = site("third", axes=(), question="Is it wide?")
    ids = [here.plan(here.trial(seed=seed))["trial_id"] for seed in (5, 2)]
    there.plan(there.trial(seed=2))
    ids.append(there.plan(there.trial(seed=0))["trial_id"])
    change_plan(
        there,
        name="another",
        commands=["twinbench run b", "twinbench run a"],
        left_out=["hidden: 1"],
        confirm={"seeds": [8]},
    )
    change_plan(third, commands=["twinbench run c", "twinbench run b"], confirm={"seeds": [9, 8]})
    merged = joined(out, here, there, third)
    plan = json.loads((out / "plan.json").read_text())
    assert [trial["trial_id"] for trial in plan["trials"]] == ids
    assert [trial["seed"] for trial in plan["trials"]] == [5, 2, 0]
    assert plan["axes"] == ["width", "depth", "weight"]
    assert plan["commands"] == ["twinbench run b", "twinbench run a", "twinbench run c"]
    assert (plan["left_out"], plan["confirm"]) == (["hidden: 1"], {"seeds": [8, 9]})
    assert (plan["name"], plan["question"]) == ("synthetic", "Is it wide? / Is it heavy?")
    assert plan["protocol"] == json.loads((here.folder / "plan.json").read_text())["protocol"]
    assert (merged.trials, merged.records, merged.missing) == (3, 0, 3)


def test_a_merged_folder_is_a_run_folder_that_the_store_ingests(site, out):
    here, there = site("here"), site("there")
    here.planned_and_recorded(0.9, seed=0, curves=CURVES)
    there.planned_and_recorded(None, seed=1, status="diverged", reason="loss was nan")
    there.plan(there.trial(seed=2))
    joined(out, here, there)
    store = ResultStore(out)
    ingested = store.ingest()
    assert (ingested.new, ingested.set_aside) == (2, [])
    assert sorted(store.query("SELECT status FROM trials")["status"]) == ["diverged", "done", "missing"]


def test_of_equal_results_the_first_sources_record_is_kept(site, out):
    runs = [site(name) for name in ("one", "two", "three")]
    for run in runs:
        trial_id = run.planned_and_recorded(0.9, circumstance={"host": run.folder.name})
    merged = joined(out, *runs)
    assert merged == Merged(1, 1, 2, (), (), 0, 0)
    assert record_path(out, trial_id).read_bytes() == record_path(runs[0].folder, trial_id).read_bytes()
    assert read_record(record_path(out, trial_id))["circumstance"]["host"] == "one"


def test_a_record_that_is_in_no_plan_is_copied(site, out):
    here, there = site("here"), site("there")
    here.record(here.trial(), 0.9)
    there.plan(there.trial(seed=1))
    assert joined(out, here, there) == Merged(1, 1, 0, (), (), 0, 1)


# --- disagreements --------------------------------------------------------------------------------------------------


def test_of_results_that_differ_none_is_chosen_and_both_are_kept_unchanged(site, out):
    here, there = site("here"), site("there")
    trial_id = here.planned_and_recorded(0.9, validation=0.8, curves=CURVES)
    there.planned_and_recorded(0.91, validation=0.8, curves=OTHER_CURVES)
    merged = joined(out, here, there)
    assert (merged.trials, merged.records, merged.duplicates, merged.missing) == (1, 0, 0, 1)
    assert merged.disagreements == (
        Disagreement(
            trial_id,
            (1, 2),
            (
                "knn_top1 (knn/cosine-softmax@1, test) is 0.88 in source 1 and 0.89 in source 2.",
                "linear_top1 (linear/sgd-standardised@1, test) is 0.9 in source 1 and 0.91 in source 2.",
                f"The digest of the curves is '{DIGESTS[0]}' in source 1 and '{DIGESTS[1]}' in source 2.",
            ),
            (),
        ),
    )
    assert recorded_ids(out) == {}
    for number, run in enumerate((here, there), start=1):
        kept = out / "disagreements" / f"{trial_id}.{number}.json"
        original = record_path(run.folder, trial_id)
        assert kept.read_bytes() == original.read_bytes()
        assert read_artefact(out, read_record(original)["result"]["curves"])


def test_done_and_diverged_disagree_and_the_circumstances_that_differ_are_named(site, out):
    here, there = site("here"), site("there")
    here.planned_and_recorded(0.9)
    elsewhere = {
        "device": "NVIDIA H100",
        "threads": 8,
        "code_hash": "e" * 64,
        "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "host": "there",
        "train_seconds": 1.5,
    }
    there.planned_and_recorded(None, status="diverged", reason="loss was nan", circumstance=elsewhere)
    (disagreement,) = joined(out, here, there).disagreements
    assert disagreement.differences == (
        "The status is 'done' in source 1 and 'diverged' in source 2.",
        "The reason is '' in source 1 and 'loss was nan' in source 2.",
        "knn_top1 (knn/cosine-softmax@1, test) is 0.88 in source 1 and absent in source 2.",
        "linear_top1 (linear/sgd-standardised@1, test) is 0.9 in source 1 and absent in source 2.",
        "knn_top1 (knn/cosine-softmax@1, validation) is 0.88 in source 1 and absent in source 2.",
        "linear_top1 (linear/sgd-standardised@1, validation) is 0.9 in source 1 and absent in source 2.",
    )
    assert disagreement.hints == (
        "The device is 'cpu' in source 1 and 'NVIDIA H100' in source 2.",
        "The number of threads is 1 in source 1 and 8 in source 2.",
        "The version of torch is '2.14.1' in source 1 and '2.11.0' in source 2.",
        "The code's hash is 'dddddddddddd' in source 1 and 'eeeeeeeeeeee' in source 2.",
    )


def test_code_hashes_of_two_kinds_are_said_not_to_be_comparable(site, out):
    here, there = site("here"), site("there")
    here.planned_and_recorded(0.9)
    there.planned_and_recorded(0.8, circumstance={"code_hash": "2:" + "e" * 64, "commit": "f" * 40})
    (disagreement,) = joined(out, here, there).disagreements
    assert disagreement.hints == (
        "The code's hash is 'dddddddddddd' in source 1 and '2:eeeeeeeeee' in source 2.",
        "The code's hashes are of two kinds, which cannot be compared: whether the code differs is not known.",
    )


def test_a_disagreement_among_three_says_which_sources_agree(site, out):
    runs = [site(name) for name in ("one", "two", "three")]
    for run, accuracy in zip(runs, (0.9, 0.8, 0.9), strict=True):
        trial_id = run.planned_and_recorded(accuracy)
    (disagreement,) = joined(out, *runs).disagreements
    assert disagreement.sources == (1, 2, 3)
    sentence = "linear_top1 (linear/sgd-standardised@1, test) is 0.9 in sources 1 and 3 and 0.8 in source 2."
    assert sentence in disagreement.differences
    files = [f"{trial_id}.{number}.json" for number in (1, 2, 3)]
    assert sorted(path.name for path in (out / "disagreements").iterdir()) == files


@pytest.mark.parametrize(
    ("changes", "beginning"),
    [
        ({"derived": {"steps": 121}}, "derived.steps is 120 in source 1 and 121 in source 2."),
        ({"derived": {"steps": 120.0}}, "derived.steps is 120 in source 1 and 120.0 in source 2."),
        ({"cell_id": "0" * 16}, "cell_id is '1111111111111111' in source 1 and '0000000000000000' in source 2."),
        ({"later": True}, "later is absent in source 1 and True in source 2."),
        ({"later\x1b[2J": 1}, r"'later\x1b[2J' is absent in source 1 and 1 in source 2."),
        ({"metrics": "turned"}, "The digest of the result is "),
        ({"metrics": "recounted"}, "n_examples of knn_top1 (knn/cosine-softmax@1, test) is 360 in source 1 and 359 in"),
    ],
)
def test_every_difference_between_results_is_described(site, out, changes, beginning):
    here, there = site("here"), site("there")
    result = read_record(here.record(here.trial(), 0.9))["result"] | {"cell_id": "1" * 16, "derived": {"steps": 120}}
    first, *rest = result["metrics"]
    if changes.get("metrics") == "turned":
        changes = {"metrics": [*rest, first]}
    elif changes.get("metrics") == "recounted":
        changes = {"metrics": [first | {"n_examples": 359}, *rest]}
    write_record(here.folder, result, {})
    write_record(there.folder, result | changes, {})
    (disagreement,) = joined(out, here, there).disagreements
    assert len(disagreement.differences) == 1
    assert disagreement.differences[0].startswith(beginning)


def test_disagreements_of_an_earlier_merge_are_set_aside(site, out, tmp_path):
    here, there = site("here"), site("there")
    here.planned_and_recorded(0.9)
    trial_id = there.planned_and_recorded(0.8)
    joined(out, here, there)
    again = merge_folders([out, here.folder], tmp_path / "again")
    reason = "belongs to an earlier merge: merge the sources of that merge instead"
    files = [out / "disagreements" / f"{trial_id}.{number}.json" for number in (1, 2)]
    assert again.set_aside == tuple((str(file), reason) for file in files)


def test_the_order_of_a_files_keys_is_not_a_difference(site, out):
    here, there = site("here"), site("there")
    here.planned_and_recorded(0.9, settings={"depth": 2, "width": 64})
    trial_id = there.planned_and_recorded(0.8, settings={"depth": 2, "width": 64})
    path = record_path(there.folder, trial_id)
    record = read_record(path)
    record["result"]["trial"]["settings"] = {"width": 64, "depth": 2}
    path.write_text(json.dumps(record))
    (disagreement,) = joined(out, here, there).disagreements
    assert [sentence.split(" ")[0] for sentence in disagreement.differences] == ["knn_top1", "linear_top1"] * 2


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["done", "diverged", "collapsed"])
@pytest.mark.parametrize("failed_first", [True, False])
def test_another_sites_result_replaces_a_failure(site, out, status, failed_first):
    here, there = site("here"), site("there")
    trial_id = here.planned_and_recorded(None, status="failed", reason="RuntimeError: no memory")
    there.planned_and_recorded(0.9, status=status)
    merged = joined(out, *([here, there] if failed_first else [there, here]))
    assert merged == Merged(1, 1, 0, (), (), 1, 0)
    assert record_path(out, trial_id).read_bytes() == record_path(there.folder, trial_id).read_bytes()


def test_of_failures_with_different_reasons_the_first_is_kept(site, out):
    runs = [site(name) for name in ("one", "two", "three")]
    for run, reason in zip(runs, ("no memory", "no disk", "no memory"), strict=True):
        trial_id = run.planned_and_recorded(None, status="failed", reason=reason)
    assert joined(out, *runs) == Merged(1, 1, 1, (), (), 1, 0)
    assert record_path(out, trial_id).read_bytes() == record_path(runs[0].folder, trial_id).read_bytes()


# --- what is not whole ----------------------------------------------------------------------------------------------


def test_a_torn_record_is_listed_and_not_copied(site, out):
    here, there = site("here"), site("there")
    trial_id = here.planned_and_recorded(0.9)
    lost = here.planned_and_recorded(0.9, seed=1)
    there.planned_and_recorded(0.9)
    for torn in (trial_id, lost):
        record_path(here.folder, torn).write_text("{")
    merged = joined(out, here, there)
    assert (merged.records, merged.missing) == (1, 1)
    assert sorted(file for file, _ in merged.set_aside) == sorted(
        str(record_path(here.folder, torn)) for torn in (trial_id, lost)
    )
    assert all(reason.startswith("not JSON") for _, reason in merged.set_aside)
    assert record_path(out, trial_id).read_bytes() == record_path(there.folder, trial_id).read_bytes()
    assert not record_path(out, lost).exists()


def test_a_record_of_another_protocol_is_set_aside(site, out):
    run = site("here")
    path = run.record(run.trial(protocol={"name": "other", "version": 1, "hash": "6" * 64, "content": {}}), 0.9)
    merged = joined(out, run)
    assert merged.records == 0
    assert merged.set_aside == ((str(path), "has another protocol than the plan: other, 666666666666"),)


def test_a_record_with_a_broken_artefact_is_set_aside_with_the_reason(site, out):
    run = site("here")
    trial_id = run.planned_and_recorded(0.9, curves=CURVES)
    (artefact,) = (run.folder / "artefacts").iterdir()
    artefact.write_bytes(b"spoilt")
    merged = joined(out, run)
    assert (merged.records, merged.missing) == (0, 1)
    ((file, reason),) = merged.set_aside
    assert file == str(record_path(run.folder, trial_id))
    assert reason.startswith(f"an artefact that it names is broken: artefacts/{artefact.name}: its digest is")
    assert list(contents(out)) == ["plan.json"]


def test_another_sources_whole_record_replaces_one_with_a_broken_artefact(site, out):
    here, there = site("here"), site("there")
    for run in (here, there):
        trial_id = run.planned_and_recorded(0.9, curves=CURVES, circumstance={"host": run.folder.name})
    next((here.folder / "artefacts").iterdir()).unlink()
    assert joined(out, here, there) == Merged(1, 1, 1, (), (), 0, 0)
    record = read_record(record_path(out, trial_id))
    assert record["circumstance"]["host"] == "there"
    assert read_artefact(out, record["result"]["curves"]) == json.dumps(CURVES, sort_keys=True).encode()


def test_of_two_artefacts_one_broken_means_that_neither_is_copied(site, out):
    run = site("here")
    result = read_record(run.record(run.trial(), 0.9, curves=CURVES))["result"]
    outputs = write_artefact(run.folder, b"outputs", ".safetensors")
    write_record(run.folder, result | {"outputs": outputs}, {})
    (run.folder / outputs["file"]).write_bytes(b"spoilt")
    assert joined(out, run).records == 0
    assert list(contents(out)) == ["plan.json"]


def test_a_failure_is_kept_where_the_only_result_is_not_whole(site, out):
    here, there = site("here"), site("there")
    here.planned_and_recorded(0.9, curves=CURVES)
    shutil.rmtree(here.folder / "artefacts")
    trial_id = there.planned_and_recorded(None, status="failed", reason="no memory")
    merged = joined(out, here, there)
    assert recorded_ids(out) == {trial_id: "failed"}
    assert (len(merged.set_aside), merged.failures_superseded) == (1, 0)


def test_a_broken_artefact_does_not_hide_a_disagreement(site, out):
    here, there = site("here"), site("there")
    trial_id = here.planned_and_recorded(0.9, curves=CURVES)
    shutil.rmtree(here.folder / "artefacts")
    there.planned_and_recorded(0.8)
    merged = joined(out, here, there)
    assert [one.trial_id for one in merged.disagreements] == [trial_id]
    assert merged.set_aside[0][1].startswith("an artefact of this disagreeing record is broken: artefacts/")
    assert len(list((out / "disagreements").iterdir())) == 2


# --- trials' folders, links, derived files --------------------------------------------------------------------------


def test_attempts_and_logs_of_the_kept_record_are_copied_without_state_and_temporary_files(site, out):
    here, there = site("here"), site("there")
    for run in (here, there):
        trial_id = run.planned_and_recorded(0.9)
        folder = run.folder / "trials" / trial_id
        (folder / "deeper").mkdir(parents=True)
        for name in ("attempt-0001.json", "attempt-0001.log", "deeper/notes.txt"):
            (folder / name).write_text(f"{name} of {run.folder.name}")
        for name in ("state.pt", "state.pt.123.456", ".attempt-0001.json.0123.tmp", "upload.tmp"):
            (folder / name).write_text("not to be copied")
    unfinished = here.folder / "trials" / here.plan(here.trial(seed=1))["trial_id"]
    unfinished.mkdir()
    (unfinished / "attempt-0001.log").write_text("went on until the power was cut")
    joined(out, here, there)
    assert contents(out / "trials") == {
        f"{trial_id}/attempt-0001.json": b"attempt-0001.json of here",
        f"{trial_id}/attempt-0001.log": b"attempt-0001.log of here",
        f"{trial_id}/deeper/notes.txt": b"deeper/notes.txt of here",
    }


def test_symbolic_links_are_neither_followed_nor_copied(site, out, tmp_path):
    secret = tmp_path / "secret"
    (secret / "inside").mkdir(parents=True)
    (secret / "inside" / "key").write_text("secret")
    run = site("here")
    plain = run.planned_and_recorded(0.9)
    folder = run.folder / "trials" / plain
    folder.mkdir(parents=True)
    (folder / "attempt-0001.log").write_text("log")
    (folder / "key").symlink_to(secret / "inside" / "key")
    (folder / "inside").symlink_to(secret / "inside")
    linked_folder = run.planned_and_recorded(0.9, seed=1)
    (run.folder / "trials" / linked_folder).symlink_to(secret)
    linked = record_path(run.folder, run.planned_and_recorded(0.9, seed=2))
    linked.symlink_to(linked.rename(secret / linked.name))
    behind = record_path(run.folder, run.planned_and_recorded(0.9, seed=3, curves=CURVES))
    (artefact,) = (run.folder / "artefacts").iterdir()
    artefact.symlink_to(artefact.rename(secret / artefact.name))
    merged = joined(out, run)
    reason = "is reached through a symbolic link, which is not followed"
    assert dict(merged.set_aside) == {
        str(linked): reason,
        str(folder / "inside"): reason,
        str(folder / "key"): reason,
        str(run.folder / "trials" / linked_folder): reason,
        str(behind): f"an artefact that it names is broken: artefacts/{artefact.name}: {reason}",
    }
    kept = {"plan.json", f"trials/{plain}/attempt-0001.log"} | {f"records/{i}.json" for i in (plain, linked_folder)}
    assert set(contents(out)) == kept


def test_folders_behind_links_are_not_entered(site, out, tmp_path):
    run = site("here")
    run.planned_and_recorded(0.9)
    (run.folder / "records").rename(tmp_path / "elsewhere")
    (run.folder / "records").symlink_to(tmp_path / "elsewhere")
    merged = joined(out, run)
    assert (merged.records, len(merged.set_aside)) == (0, 1)
    assert "symbolic link" in merged.set_aside[0][1]


def test_pipes_and_folders_instead_of_records_do_not_stop_a_merge(site, out):
    run = site("here")
    trial_id = run.planned_and_recorded(0.9)
    os.mkfifo(record_path(run.folder, "0" * 16))
    record_path(run.folder, "1" * 16).mkdir()
    (run.folder / "trials" / trial_id).mkdir(parents=True)
    os.mkfifo(run.folder / "trials" / trial_id / "attempt-0001.log")
    merged = joined(out, run)
    assert merged.records == 1
    assert [reason for _, reason in merged.set_aside] == ["is not a plain file"] * 3
    assert "trials" not in os.listdir(out)


def test_a_trials_folder_that_cannot_be_read_is_set_aside_and_its_record_kept(site, out):
    run = site("here")
    trial_id = run.planned_and_recorded(0.9)
    (run.folder / "trials").mkdir()
    (run.folder / "trials" / trial_id).write_text("not a folder")
    merged = joined(out, run)
    assert (merged.records, merged.set_aside) == (
        1,
        ((str(run.folder / "trials" / trial_id), "cannot be read (Not a directory)"),),
    )


def test_derived_files_are_not_copied_and_the_sources_stay_as_they_are(site, out):
    here, there = site("here"), site("there")
    here.planned_and_recorded(0.9, curves=CURVES)
    there.planned_and_recorded(0.8)
    ResultStore(here.folder).ingest()
    (here.folder / "report").mkdir()
    (here.folder / "report" / "index.html").write_text("<html>")
    before = [contents(run.folder) for run in (here, there)]
    joined(out, here, there)
    assert [contents(run.folder) for run in (here, there)] == before
    assert sorted(os.listdir(out)) == ["artefacts", "disagreements", "plan.json"]


# --- what cannot be merged ------------------------------------------------------------------------------------------


def test_every_reason_why_folders_cannot_be_merged_is_reported_at_once(site, tmp_path):
    here, there, bare, full = site("here"), site("there"), tmp_path / "bare", tmp_path / "full"
    for folder in (bare, full):
        folder.mkdir()
    (full / "file").touch()
    change_plan(there, protocol={"name": "other", "version": 3, "hash": "6" * 64, "content": {}})
    with pytest.raises(InvalidInput) as error:
        merge_folders([here.folder, there.folder, bare, here.folder], full)
    fresh = "a new or an empty folder, outside of the sources"
    assert sorted(str(mistake) for mistake in error.value.mistakes) == sorted(
        [
            f"{here.folder}: this source was given twice",
            f"{full}: exists already and is not empty; allowed: {fresh}",
            f"{bare}: not a run folder: it has no plan.json",
            f"{there.folder}: holds runs of another protocol than {here.folder}"
            " (seen: 'other v3, 666666666666'); allowed: synthetic v1, 555555555555",
        ]
    )
    assert sorted(os.listdir(tmp_path)) == ["bare", "full", "here", "there"]


def test_confirm_seeds_that_another_sources_grid_has_are_refused(site, out):
    here, there = site("here"), site("there")
    for seed in (0, 1):
        here.plan(here.trial("simclr", seed=seed))
    here.write_plan()
    change_plan(there, confirm={"seeds": [1, 2]})
    with pytest.raises(InvalidInput) as error:
        joined(out, here, there)
    assert f"{here.folder}: seeds: its grid has confirm seeds of {there.folder}" in str(error.value)
    assert "(seen: [1])" in str(error.value)


def test_a_source_that_is_given_twice_under_two_names_is_refused(site, out, tmp_path):
    run = site("here")
    (tmp_path / "alias").symlink_to(run.folder)
    with pytest.raises(InvalidInput, match=f"alias: this source was given twice, before as {run.folder}"):
        merge_folders([run.folder, tmp_path / "alias"], out)


def test_the_merged_folder_may_neither_be_nor_lie_in_a_source(site):
    run = site("here")
    before = contents(run.folder)
    with pytest.raises(InvalidInput, match=r"here: the merged folder cannot be one of its sources"):
        merge_folders([run.folder], run.folder)
    with pytest.raises(InvalidInput, match=r"new: the merged folder cannot lie inside the source .*here;"):
        merge_folders([run.folder], run.folder / "trials" / "new")
    assert contents(run.folder) == before


def test_a_merge_of_nothing_is_refused(out):
    with pytest.raises(InvalidInput, match="no run folder was given to merge"):
        merge_folders([], out)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "its plan.json is not a plan: not JSON (Expecting"),
        ("[]", "its plan.json is not a plan: should be a table (seen: [])"),
        ('{"name": "x"}', "its plan.json is not a plan: schema: is missing"),
        ('{"schema": 2}', "its plan.json is not a plan: schema: 2 is not supported; this version reads 1"),
        (
            '{"schema": 1, "name": "x", "question": 7, "protocol": {"hash": ""}, "axes": [], "trials": []}',
            "its plan.json is not a plan: question: should be a valid string (seen: 7)",
        ),
        (
            '{"schema": 1, "name": "x", "question": "", "axes": [], "trials": [], "a": NaN,'
            '"protocol": {"name": "p", "version": 1, "hash": "", "content": {}}}',
            "its plan.json is not a plan: not JSON (NaN is not a JSON number)",
        ),
    ],
)
def test_a_file_that_is_not_a_plan_is_refused_with_the_reason(site, out, text, problem):
    run = site("here")
    (run.folder / "plan.json").write_text(text)
    with pytest.raises(InvalidInput) as error:
        joined(out, run)
    assert str(error.value).startswith(f"{run.folder}: {problem}")
    assert not out.exists()


def test_an_empty_folder_is_filled_and_a_file_is_refused(site, out, tmp_path):
    run = site("here")
    run.planned_and_recorded(0.9)
    out.mkdir()
    assert joined(out, run).records == 1
    assert recorded_ids(out) == recorded_ids(run.folder)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="exists already and is not a folder"):
        joined(tmp_path / "file", run)


# --- whole or not at all --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(28, "disk is full"), InvalidInput), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_an_error_in_the_middle_leaves_nothing_behind(site, out, tmp_path, monkeypatch, error, raised):
    run = site("here")
    run.planned_and_recorded(0.9, curves=CURVES)

    def broken(path: Path, obj: object) -> None:
        assert any(".merged." in name for name in os.listdir(tmp_path))  # the records are written by now
        raise error

    monkeypatch.setattr(merge, "write_json_atomically", broken)
    with pytest.raises(raised):
        joined(out, run)
    assert os.listdir(tmp_path) == ["here"]


def test_a_folder_that_another_process_fills_during_the_merge_is_not_replaced(site, out, tmp_path, monkeypatch):
    run = site("here")
    replace = os.replace

    def raced(source: Path, target: Path) -> None:
        if target == out:
            out.mkdir()
            (out / "file").write_text("of another process")
        replace(source, target)

    monkeypatch.setattr(os, "replace", raced)
    with pytest.raises(InvalidInput, match="cannot be merged into it"):
        joined(out, run)
    assert contents(out) == {"file": b"of another process"}
    assert sorted(os.listdir(tmp_path)) == ["here", "merged"]


def test_a_kill_in_the_middle_leaves_no_merged_folder_and_the_next_merge_succeeds(site, out):
    run = site("here")
    run.planned_and_recorded(0.9, curves=CURVES)
    program = """
import os, signal, sys
from pathlib import Path
from twinbench.results import merge
merge.write_json_atomically = lambda path, plan: os.kill(os.getpid(), signal.SIGKILL)
merge.merge_folders([Path(sys.argv[1])], Path(sys.argv[2]))
"""
    killed = subprocess.run([sys.executable, "-c", program, str(run.folder), str(out)], timeout=60)
    assert killed.returncode == -9
    assert not out.exists()
    assert joined(out, run).records == 1


# --- claims ---------------------------------------------------------------------------------------------------------


def test_the_log_that_continues_the_others_and_all_claims_files_are_copied(site, out):
    one, two, three = site("one"), site("two"), site("three")
    (one.folder / "declarations.jsonl").write_text("first\n")
    (two.folder / "declarations.jsonl").write_text("first\nsecond\n")
    for run, text in ((one, "a"), (two, "a"), (three, "b")):
        (run.folder / "claims.toml").write_text(text)
    assert joined(out, one, two, three).set_aside == ()
    assert (out / "declarations.jsonl").read_text() == "first\nsecond\n"
    assert sorted(file.read_text() for file in out.glob("claims*.toml")) == ["a", "b"]


def test_a_log_that_cannot_be_copied_is_named(site, out, tmp_path):
    one, two, three = site("one"), site("two"), site("three")
    (one.folder / "declarations.jsonl").write_text("first\n")
    (two.folder / "declarations.jsonl").write_text("another\n")
    (tmp_path / "secret").write_text("secret")
    (three.folder / "claims.toml").symlink_to(tmp_path / "secret")
    aside = dict(joined(out, one, two, three).set_aside)
    assert "does not continue" in aside[str(two.folder / "declarations.jsonl")]
    assert "symbolic link" in aside[str(three.folder / "claims.toml")]
    assert (out / "declarations.jsonl").read_text() == "first\n" and not list(out.glob("claims*"))
