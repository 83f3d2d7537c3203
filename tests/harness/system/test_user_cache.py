"""A cache, a home folder or a folder for temporary files that cannot be used is named, with the variable to set."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twinbench.harness.system.user_cache import share_cache

KEPT = "-all,+dac_read_search"  # may read the interpreter's files, which other users could not
NOBODY = ("setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", f"--inh-caps={KEPT}", f"--bounding-set={KEPT}")
AS_NOBODY = (*NOBODY, "--ambient-caps=+dac_read_search")


def _run(folder: Path, variables: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Return exit code and error output of the command line, run by a user without a name and a home folder."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("becoming another user needs root")
    removed = ("HOME", "TWINBENCH_CACHE", "TMPDIR")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    command = [*AS_NOBODY, sys.executable, "-m", "twinbench.harness.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=kept | variables, cwd=folder)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_without_a_home_folder_plan_names_the_variable_and_list_answers(tmp_path: Path) -> None:
    returncode, error = _run(tmp_path, {}, "plan", "digits")
    assert (returncode, error.count("\n")) == (2, 1), error
    assert error.startswith("error: TWINBENCH_CACHE: not set, and this user has no home folder; allowed: a folder that")
    assert _run(tmp_path, {}, "list", "methods") == (0, "")


@pytest.mark.slow
def test_a_home_folder_that_cannot_be_written_is_named_with_the_variable(tmp_path: Path) -> None:
    returncode, error = _run(tmp_path, {"HOME": str(tmp_path)}, "plan", "digits")
    assert (returncode, error.count("\n")) == (2, 1), error
    assert f"TWINBENCH_CACHE: the cache cannot be used: Permission denied (seen: '{tmp_path}/.cache" in error
    (tmp_path / "cache").mkdir(mode=0o777)
    (tmp_path / "cache").chmod(0o777)
    variables = {"HOME": str(tmp_path), "TWINBENCH_CACHE": str(tmp_path / "cache")}
    assert _run(tmp_path, variables, "plan", "digits") == (0, "")


@pytest.mark.slow
def test_where_no_temporary_file_can_be_written_tmpdir_is_named(tmp_path: Path) -> None:
    no_folder = "import sys, tempfile; place = sys.argv.pop(); tempfile._candidate_tempdir_list = lambda: [place]"
    code = f"{no_folder}; from twinbench.harness.cli import main; main()"
    command = [sys.executable, "-c", code, "plan", "digits", "--seed-spread", "0.01", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: TMPDIR: No usable temporary directory found in [")


def test_other_programs_caches_are_below_the_cache_unless_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRITON_CACHE_DIR", "MPLCONFIGDIR", "TWINBENCH_CACHE"):
        monkeypatch.setenv(name, "")  # so that what `share_cache` sets is undone
        monkeypatch.delenv(name)
    share_cache()
    assert "TRITON_CACHE_DIR" not in os.environ and "MPLCONFIGDIR" not in os.environ
    monkeypatch.setenv("TWINBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", "/elsewhere")
    share_cache()
    assert (os.environ["TRITON_CACHE_DIR"], os.environ["MPLCONFIGDIR"]) == (f"{tmp_path}/triton", "/elsewhere")
