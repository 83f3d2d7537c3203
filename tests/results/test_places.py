"""Claims: a run folder in which a file is where a folder belongs, or the reverse, is refused with every such place."""

import os
from pathlib import Path

import pytest
from conftest import SyntheticRun

from twinbench.results.places import DERIVED_FOLDERS, FILES, FOLDERS, check_output, check_places, check_trial_places
from twinbench.sweeps.errors import InvalidInput


@pytest.mark.parametrize("place", [*FOLDERS, *DERIVED_FOLDERS])
@pytest.mark.parametrize("what", ["a file", "a pipe", "a broken link"])
def test_a_place_that_is_no_folder_is_named(tmp_path: Path, place: str, what: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    {"a file": path.touch, "a pipe": lambda: os.mkfifo(path), "a broken link": lambda: path.symlink_to("no")}[what]()
    with pytest.raises(InvalidInput) as refused:
        check_places(tmp_path)
    assert str(refused.value) == f"{path}: is not a folder; allowed: a folder, or nothing"


def test_a_link_in_place_of_a_folder_that_commands_write_into_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine/tables").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/report").symlink_to(tmp_path / "mine")
    with pytest.raises(InvalidInput, match="run/report: is a link, and nothing is written through links"):
        check_places(tmp_path / "run")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "records").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "trials" and mode == os.R_OK | os.X_OK)
    with pytest.raises(InvalidInput) as refused:
        check_places(tmp_path)
    assert str(refused.value) == f"{tmp_path / 'trials'}: cannot be read: Permission denied"


def test_all_places_of_all_folders_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for file in FILES:
            (tmp_path / name / file).mkdir(parents=True)
        (tmp_path / name / "records").touch()
    (tmp_path / "c").touch()
    with pytest.raises(InvalidInput) as refused:
        check_places(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert len(refused.value.mistakes) == 2 * (len(FILES) + 1) + 1
    assert refused.value.mistakes[-1].problem == "is not a folder"


def test_what_is_missing_linked_or_unknown_is_fine(tmp_path: Path) -> None:
    check_places(tmp_path / "nowhere", tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "records").symlink_to("elsewhere")
    (tmp_path / "trials").mkdir()
    (tmp_path / "plan.json").touch()
    (tmp_path / "notes").touch()
    (tmp_path / "results.duckdb").mkdir()  # tables are read from a temporary database
    check_places(tmp_path)


def test_what_is_in_the_place_of_a_trials_record_or_attempts_is_named_at_once(synthetic_run: SyntheticRun) -> None:
    folder = synthetic_run.folder
    ids = [synthetic_run.planned_and_recorded(seed=seed) for seed in range(7)]
    place = [folder / "records" / f"{trial_id}.json" for trial_id in ids]
    (folder / "trials").mkdir()
    check_trial_places(folder, ids)
    place[0].unlink()
    place[0].mkdir()
    place[1].unlink()
    os.mkfifo(place[1])
    place[2].rename(folder / "elsewhere")
    place[2].symlink_to("nowhere")
    place[3].write_text("torn, and written again")
    place[4].unlink()
    place[4].symlink_to(place[3])  # written again, but not through the link
    (folder / "sound").mkdir()
    place[5].rename(folder / "sound" / place[5].name)
    place[5].symlink_to(folder / "sound" / place[5].name)
    (folder / "trials" / ids[6]).touch()
    with pytest.raises(InvalidInput) as refused:
        check_trial_places(folder, ids)
    named = {Path(mistake.where) for mistake in refused.value.mistakes}
    assert named == {place[0], place[1], place[2], place[4], folder / "trials" / ids[6]}
    check_trial_places(folder, [ids[3], ids[5]])


@pytest.mark.parametrize(
    "name", [*FILES, *FOLDERS, "records/x.json", "claims.toml", "claims-2.toml", "trials/a/b/c.log"]
)
def test_no_output_is_written_to_the_data_of_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/plan.json").touch()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for out in (tmp_path / "run" / name, tmp_path / "link" / name):
        with pytest.raises(InvalidInput) as refused:
            check_output(out)
        assert str(refused.value).startswith(
            f"--out: would write to the data of the run in {tmp_path}/run (seen: '{out}'"
        )


def test_no_output_replaces_an_input(tmp_path: Path) -> None:
    (tmp_path / "c.toml").touch()
    (tmp_path / "link.toml").symlink_to("c.toml")
    for out in (tmp_path / "c.toml", tmp_path / "link.toml", tmp_path / "x/../c.toml"):
        with pytest.raises(InvalidInput, match="--out: would replace one of the given paths"):
            check_output(out, tmp_path / "run", tmp_path / "c.toml")


def test_outputs_may_be_written_beside_inputs_and_to_what_is_derived_in_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/plan.json").touch()
    for name in ("c.txt", "records/c.txt", "plan.json", "run/c.txt", "run/report", "run/paper/records"):
        check_output(tmp_path / name, tmp_path / "run", tmp_path / "c.toml")
