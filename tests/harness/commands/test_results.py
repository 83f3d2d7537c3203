"""Claims: tables are printed whole and safely, and a run folder that can only be read is read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from conftest import CLAIM, SyntheticRun

from twinbench.results.store import DATABASE, ResultStore

WITHOUT_PRIVILEGES = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def call(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-m", "twinbench.harness.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def read_only(filled_run: SyntheticRun) -> SyntheticRun:
    """A run folder of another user, called lock, without a database."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("giving a folder away needs root")
    folder = filled_run.folder.rename(filled_run.folder.with_name("lock"))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 4711, 4711)
        path.chmod(0o755 if path.is_dir() else 0o644)
    filled_run.folder = folder
    return filled_run


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.slow
def test_a_run_folder_that_can_only_be_read_is_queried_shown_and_checked(read_only, tmp_path):
    folder, before = read_only.folder, files(read_only.folder)
    (tmp_path / "claims.toml").write_text(CLAIM)
    commands = {
        "query": ("query", folder, "select count(*) as n from trials"),
        "report": ("report", folder, "--out", tmp_path / "out"),
        "paper": ("paper", folder, "--out", tmp_path / "paper"),
        "check": ("check", tmp_path / "claims.toml", folder),
    }
    for name, arguments in commands.items():
        done = call(*arguments, before=WITHOUT_PRIVILEGES)
        assert done.returncode == (name == "check"), done.stderr  # the claim is not supported
        assert (
            done.stderr == f"{folder / DATABASE}: cannot be written (Permission denied); a temporary database is used\n"
        )
        assert done.stdout
        if name == "query":
            assert done.stdout.split() == ["n", "58"]
    assert files(folder) == before
    assert call("report", folder).returncode == 0
    for path in ("index.html", "tables/methods.csv"):
        assert (tmp_path / "out" / path).read_bytes() == (folder / "report" / path).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "place"), [("report", "report"), ("paper", "paper")])
def test_what_is_written_into_a_folder_that_can_only_be_read_is_an_error_that_names_out(read_only, command, place):
    done = call(command, read_only.folder, before=WITHOUT_PRIVILEGES)
    assert done.returncode == 2
    error = f"error: --out: cannot be written: Permission denied (seen: '{read_only.folder / place}"
    assert done.stderr.splitlines()[-1].startswith(error)
    assert done.stderr.endswith("; allowed: a folder that this user can write\n")


def test_collect_fails_where_the_database_cannot_be_written(read_only):
    done = call("collect", read_only.folder, before=WITHOUT_PRIVILEGES)
    assert (done.returncode, done.stdout) == (2, "57 new, 0 replaced, 0 unchanged\n")
    assert "cannot be written (Permission denied)" in done.stderr


def test_a_current_database_of_a_folder_that_can_only_be_read_is_used(read_only):
    ResultStore(read_only.folder).ingest()
    done = call("query", read_only.folder, "select count(*) as n from trials", before=WITHOUT_PRIVILEGES)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_value_edited_in_the_database_is_in_no_table(filled_run, tmp_path):
    ResultStore(filled_run.folder).ingest()
    assert call("report", filled_run.folder, "--out", tmp_path / "before").returncode == 0
    with duckdb.connect(str(filled_run.folder / DATABASE)) as connection:
        connection.execute("UPDATE metrics SET value = 0.999")
    done = call("report", filled_run.folder, "--out", tmp_path / "after")
    assert done.returncode == 0 and "it is made again from the records" in done.stderr
    page = (tmp_path / "after" / "index.html").read_bytes()
    assert page == (tmp_path / "before" / "index.html").read_bytes()
