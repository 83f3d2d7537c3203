"""Claims: a stranger's bundle costs no more than the limits, and commands that read a run folder read a bundle too."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bundling import GenuineRun, contents_of, genuine_run, members_of, packed
from hostile_bundles import CLAIM, HOSTILE, REAL, hostile_bundle
from typer.testing import CliRunner, Result

from twinbench.harness.cli import app
from twinbench.reports.verification.integrity import integrity

SMALL = 60
CLAIMS = CLAIM.format(kind="better") + 'b = { method = "vicreg" }\n'


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> GenuineRun:
    """A run of six trials with claims; its bundle is beside it."""
    run = genuine_run(tmp_path_factory.mktemp("honest") / "run")
    (run.folder / "claims.toml").write_text(CLAIMS)
    run.bundle(report=True)
    return run


def bundle_of(run: GenuineRun) -> Path:
    return run.folder.parent / "bundle.tar.gz"


def command(folder: Path, *arguments: object) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Run the command in a process of its own; return how it ended, its seconds, and its peak memory in GiB."""
    (folder / "tmp").mkdir(exist_ok=True)
    program = [sys.executable, "-P", "-m", "twinbench.harness.cli", *map(str, arguments)]
    begun, measure = time.monotonic(), "import resource; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    code = f"import subprocess, sys; code = subprocess.call({program!r}); {measure}; sys.exit(code)"
    environment = os.environ | {"TMPDIR": str(folder / "tmp"), "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and not list((folder / "tmp").iterdir()), done.stderr
    *lines, peak = done.stdout.splitlines()
    done.stdout = "\n".join(lines)
    return done, time.monotonic() - begun, int(peak) / 2**20


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "wide_scope"])
def test_a_small_bundle_of_each_hostile_kind_is_verified_as_any_other(
    name: str, honest: GenuineRun, tmp_path: Path
) -> None:
    """So that the large ones are refused for their size."""
    level = integrity(contents_of(hostile_bundle(bundle_of(honest), name, SMALL, tmp_path / "b.tar.gz"), tmp_path))
    faulty = {"many_dictionaries", "many_attempts"}  # of a protocol that is none, and of a record that is the first's
    assert (level.outcome == "failed") == (name in faulty), level.faults


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_takes_at_most_the_limits_and_leaves_nothing(
    name: str, honest: GenuineRun, tmp_path: Path
) -> None:
    bundle = hostile_bundle(bundle_of(honest), name, REAL[HOSTILE[name]], tmp_path / "b.tar.gz")
    done, seconds, peak = command(tmp_path, "verify", bundle, "--memory-limit", 1, "--time-limit", 60)
    print(f"{name}: {bundle.stat().st_size:,} bytes, {seconds:.1f} s, {peak:.2f} GiB, code {done.returncode}")
    assert seconds < 75 and peak < 1.3
    if done.returncode == 2:
        (error,) = done.stderr.splitlines()
        assert error.startswith(f"error: {bundle}: ")
    else:
        assert done.stdout.startswith("integrity: ")
        assert len(done.stdout.splitlines()) < 3000


# --- in this process, which saves the imports -------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """A command in the test's own folder; nothing may be left in the folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert not list((tmp_path / "tmp").iterdir())
        return result

    return run


@pytest.mark.slow
def test_verify_says_which_limit_a_bundle_met_and_removes_what_it_unpacked(
    honest: GenuineRun, tmp_path: Path, call: Callable[..., Result]
) -> None:
    bundle = hostile_bundle(bundle_of(honest), "many_declarations", 40_000, tmp_path / "b.tar.gz")
    done = call("verify", bundle, "--time-limit", 1)
    text = f"{bundle}: reading it takes more than 1 s; allowed: more with --time-limit SECONDS"
    assert (str(done.exception), done.output) == (text, "")


def test_check_and_report_read_a_bundle_as_its_run_folder_and_write_beside_the_caller(
    honest: GenuineRun, tmp_path: Path, call: Callable[..., Result]
) -> None:
    claims, bundle = tmp_path / "c.toml", tmp_path / "run.bundle.tar.gz"
    claims.write_text(CLAIMS)
    shutil.copyfile(bundle_of(honest), bundle)
    of_folder, of_bundle = call("check", claims, honest.folder), call("check", claims, bundle)
    assert (of_folder.exit_code, of_folder.output) == (of_bundle.exit_code, of_bundle.output)
    assert "hostile" in of_bundle.output
    assert call("report", bundle).exit_code == 0
    assert Path("report/tables/methods.csv").read_bytes() == members_of(bundle)["report/tables/methods.csv"]
    assert call("report", bundle, "--out", "mine").exit_code == 0 and Path("mine/index.html").is_file()


@pytest.mark.parametrize("arguments", [("check", "c.toml", "run"), ("check", "--table", "c.csv", "run")])
def test_what_check_reads_is_not_replaced_by_what_it_writes(
    tmp_path: Path, call: Callable[..., Result], arguments: tuple[str, ...]
) -> None:
    for name in ("c.toml", "c.csv", "run/plan.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("kept")
    for out in (next(name for name in arguments if "." in name), "run/plan.json"):
        assert "--out: would " in str(call(*arguments, "--out", out).exception)
        assert (tmp_path / out).read_text() == "kept"


@pytest.mark.parametrize("command", ["bundle", "report", "paper", "merge", "export"])
def test_no_command_writes_to_the_records_of_a_run(tmp_path: Path, call: Callable[..., Result], command: str) -> None:
    (tmp_path / "run/records").mkdir(parents=True)
    (tmp_path / "run/plan.json").write_text("kept")
    options = ("--to", "tensorboard") if command == "export" else ()
    done = call(command, "run", *options, "--out", "run/records/new")
    assert "--out: would write to the data of the run in" in str(done.exception)
    assert not list((tmp_path / "run/records").iterdir())


def test_a_bundle_that_differs_from_its_manifest_is_judged_by_no_command(
    honest: GenuineRun, tmp_path: Path, call: Callable[..., Result]
) -> None:
    (tmp_path / "c.toml").write_text(CLAIMS)
    members = members_of(bundle_of(honest))
    members["plan.json"] = members["plan.json"].replace(b"genuine", b"another")
    packed(members, tmp_path / "changed.tar.gz", mend=False)
    for arguments in (("check", "c.toml", "changed.tar.gz"), ("report", "changed.tar.gz")):
        assert "changed.tar.gz: is not intact: plan.json: was changed" in str(call(*arguments).exception)
