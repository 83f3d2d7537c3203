"""Claims: the command line runs, resumes, answers and refuses as documented, with the documented exit codes."""

import html
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import pytest
from conftest import CLAIM, SyntheticRun
from PIL import Image

from twinbench.harness import cli
from twinbench.harness.cli import COMMANDS
from twinbench.harness.commands import options
from twinbench.harness.commands.claims import claim_app
from twinbench.results.record import read_record, write_record
from twinbench.sweeps.sweep import shipped_protocols

PAGE = "runs/digits/report/index.html"
CHANGES = ("epochs=1", "batch_size=256", "seeds=[0]", "confirm.seeds=[]", "projector_width=16")
TINY = tuple(part for change in CHANGES for part in ("--set", change))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "twinbench.harness.cli", *map(str, arguments)]


def _run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"TWINBENCH_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    return subprocess.run(_command(*arguments), capture_output=True, text=True, env=variables, cwd=folder, timeout=300)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The console command in this process, which saves the import of torch: `call(folder, *arguments)`."""

    def run_main(folder: Path, *arguments: object) -> Done:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("TWINBENCH_CACHE", str(folder / "cache"))
        monkeypatch.setattr(sys, "argv", ["twinbench", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        options.out.cache_clear()  # a terminal of this width
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run_main


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A finished run of two methods in DIR/runs/digits."""
    folder = tmp_path_factory.mktemp("cli")
    return folder, _run(folder, "run", "digits", *TINY, "--set", 'methods=["barlow_twins", "simclr"]')


def test_run_ends_with_code_0_and_says_where_the_report_is(finished) -> None:  # type: ignore[no-untyped-def]
    folder, done = finished
    assert done.returncode == 0, done.stderr
    assert "report: runs/digits/report/index.html" in done.stdout
    assert (folder / "runs/digits/report/index.html").stat().st_size > 10_000
    assert "\x1b" not in done.stdout  # plain lines where the output is no terminal
    assert "[6/6]" in done.stdout


def test_run_again_runs_nothing_again(finished, call) -> None:  # type: ignore[no-untyped-def]
    folder, _ = finished
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "runs/digits/records").iterdir()}
    again = call(folder, "run", "digits", *TINY, "--set", 'methods=["barlow_twins", "simclr"]')
    assert again.returncode == 0, again.stderr
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "runs/digits/records").iterdir()} == before


def test_the_page_says_by_which_command_the_run_was_made_once_however_often_it_was_run(finished) -> None:  # type: ignore[no-untyped-def]
    folder, _ = finished
    command = shlex.join(["twinbench", "run", "digits", *TINY, "--set", 'methods=["barlow_twins", "simclr"]'])
    assert json.loads((folder / "runs/digits/plan.json").read_text())["commands"] == [command]
    page = (folder / "runs/digits/report/index.html").read_text("utf-8")
    assert page.count(f"<code>{html.escape(command).replace('&quot;', '&#34;').replace('&#x27;', '&#39;')}</code>") == 1


def test_plan_status_collect_and_query_answer(finished, call) -> None:  # type: ignore[no-untyped-def]
    folder, _ = finished
    planned = call(folder, "plan", "digits", *TINY, "--set", "methods=simclr")
    assert planned.returncode == 0 and "0 missing" in planned.stdout and "simclr seed=0" in planned.stdout
    assert "3 more trials in the folder, not part of this plan; its report shows them too" in planned.stdout
    assert "6 trials: 6 done" in call(folder, "status", "runs/digits").stdout
    assert call(folder, "collect", "runs/digits").returncode == 0
    answer = call(folder, "query", "runs/digits", "select count(*) as n from trials", "--format", "json")
    assert json.loads(answer.stdout) == [{"n": 6}], answer.stderr


def test_logs_of_a_trial_are_found_by_the_beginning_of_its_id(finished, call) -> None:  # type: ignore[no-untyped-def]
    folder, _ = finished
    trial_id = next((folder / "runs/digits/records").iterdir()).stem
    log_text = call(folder, "logs", "runs/digits", trial_id[:6])
    assert log_text.returncode == 0 and "--- attempt 1 on" in log_text.stdout, log_text.stderr
    unknown = call(folder, "logs", "runs/digits", "x")
    assert unknown.returncode == 2 and "no such trial" in unknown.stderr
    several = call(folder, "logs", "runs/digits", "")
    assert several.returncode == 2 and "several" in several.stderr


def test_query_cannot_write(finished, call) -> None:  # type: ignore[no-untyped-def]
    folder, _ = finished
    refused = call(folder, "query", "runs/digits", "delete from trials")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "6 trials: 6 done" in call(folder, "status", "runs/digits").stdout


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        (("run", "digit"), ("no such sweep", "did you mean 'digits'?")),
        (("run", "missing.toml"), ("missing.toml", "cannot be read")),
        (("run", "digits", "--set", "simclr.tau=1", "--set", "epochs=0.5"), ("did you mean 'temperature'?", "epochs")),
        (("run", "digits", "--set", "epochs"), ("KEY=VALUE",)),
        (("run", "digits", "--device", "cuda:7"), ("no such device", "cpu")),
        (("run", "digits", "--launcher", "locale"), ("did you mean 'local'?",)),
        (("run", "cifar10_methods", "--data", "nowhere"), ("nowhere",)),
        (("run", "cifar10_methods"), ("--data",)),
        (("run", "digits", "--out", "/proc/nowhere"), ("cannot be written",)),
        (("run", "digits", "--retry", "done"), ("--retry: runs failed trials again, and no others", "allowed: failed")),
        (("run", "digits", "--isolate", "--launcher", "ray"), ("cannot fork", "local, slurm")),
        (
            ("run", "digits", "--pack", "4", "--processes-per-trial", "2", "--trial-time-limit", "60"),
            ("combined with --processes-per-trial (seen: 2)", "combined with --trial-time-limit (seen: 60.0)"),
        ),
        (("run", "digits", "--pack", "none"), ("is not a number of trials", "1 or more, or auto")),
        (("run", "digits", "--threads", "many"), ("is not a number of threads", "1 or more, or auto")),
        (
            ("run", "digits", "--threads", "auto", "--launcher", "slurm", "--processes-per-trial", "2"),
            ("auto cannot be combined with --launcher slurm", "auto cannot be combined with --processes-per-trial"),
        ),
        (("run", "digits", "--mode", "quick"), ("no such mode", "repro, fast")),
        (("run", "digits", "--threads", "99999999", "--pack", "9" * 5000), ("--threads: is not", "--pack: is not")),
        (("run", "digits", "--workers", "99999999"), ("'--workers'", "4096")),
        (
            ("run", "digits", "--site", "a.toml", "--slurm", "gpus=1", "--address", "auto"),
            (
                "--site: is not used by local; allowed: --launcher ray or --launcher slurm",
                "--slurm: is",
                "--address: is",
            ),
        ),
        (
            ("run", "digits", "--launcher", "slurm", "--address", "7"),
            ("--address: is not used by slurm; allowed: --l",),
        ),
        (("run", "digits", "--launcher", "slurm", "--workers", "2"), ("--workers: is not used by slurm",)),
        (("run", "digits", "--trial-time-limit", "nan"), ("greater than or equal to 1",)),
        (("status", "nowhere"), ("not a run folder",)),
        (("logs", "nowhere", "0"), ("not a run folder",)),
        (("cancel", "nowhere"), ("not a run folder",)),
        (("report", "nowhere"), ("not a run folder",)),
        (("query", "nowhere", "select 1"), ("not a run folder",)),
        (("list", "method"), ("did you mean 'methods'?",)),
        (("run", "digits", "--out", "x" * 300), ("xxx: cannot be a run folder: File name too long",)),
        (("run", "digits", "--out", os.fsdecode(b"a\xffb")), ("is not UTF-8 (seen: b'a\\xffb')",)),
        (("report", os.fsdecode(b"\xff"), os.fsdecode(b"\xfe")), ("b'\\xff'", "b'\\xfe'")),
    ],
)
def test_a_mistake_ends_with_code_2_and_no_traceback(
    tmp_path: Path, call: Callable[..., Done], arguments: tuple[str, ...], pieces: tuple[str, ...]
) -> None:
    done = call(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for piece in pieces:
        assert piece in done.stderr, done.stderr


def test_a_folder_with_another_protocols_runs_is_refused(finished, call) -> None:  # type: ignore[no-untyped-def]
    folder, _ = finished
    plan = json.loads((folder / "runs/digits/plan.json").read_text())
    other = folder / "other"
    other.mkdir()
    plan["protocol"]["hash"] = "0" * 64
    (other / "plan.json").write_text(json.dumps(plan))
    refused = call(folder, "run", "digits", "--out", other)
    assert refused.returncode == 2 and "another protocol" in refused.stderr


@pytest.mark.parametrize("what", ["methods", "backbones", "datasets", "protocols", "sweeps"])
def test_list_names_what_there_is(tmp_path: Path, call: Callable[..., Done], what: str) -> None:
    expected = {
        "methods": "barlow_twins",
        "backbones": "resnet18",
        "datasets": "shapes",
        "protocols": "cifar10-r18-200ep",
        "sweeps": "projector_width",
    }[what]
    assert expected in call(tmp_path, "list", what).stdout


@pytest.mark.parametrize("command", [("watch",), ("serve", "--port", "0"), ("status", "--watch")])
def test_a_mistyped_folder_is_reported_and_not_waited_for(
    command: tuple[str, ...], tmp_path: Path, call: Callable[..., Done]
) -> None:
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    done = call(tmp_path, command[0], "runs/digts", *command[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: runs/digts: no such folder; allowed: ")
    assert done.stderr.endswith("; did you mean 'runs/digits'?\n")
    assert call(tmp_path, command[0], "rums/digits", *command[1:]).returncode == 2  # nor where nothing is beside it


LOADED = """
import os, sys
del os.fork  # what reads in a process of its own reads in this one
from twinbench.harness.cli import main
try:
    main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""
QUICK = {"torch", "duckdb", "plotly", "pandas", "pyarrow", "numpy", "ray", "submitit"}


@pytest.mark.parametrize(
    ("arguments", "without"),
    [
        (("--help",), QUICK | {"rich"}),
        (("run", "--help"), QUICK | {"rich"}),
        (("status", "."), QUICK),
        (("plan", "digits"), {"torchvision", "ray", "submitit"}),
        (("report", "."), {"torch"}),
        (("query", ".", "select 1"), {"torch"}),
        (("check", "claims.toml", "."), {"torch"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_only_reads_imports_no_torch_and_what_is_quick_no_database(
    filled_run: SyntheticRun, arguments: tuple[str, ...], without: set[str]
) -> None:
    (filled_run.folder / "claims.toml").write_text(CLAIM)
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=filled_run.folder)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert done.returncode in (0, 1) and "typer" in loaded, done.stderr  # 1: a claim that is not supported
    assert "Traceback" not in done.stderr and not without & loaded


def test_merge_joins_two_sites_and_says_where_they_disagree(finished, call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder, _ = finished
    site, other = folder / "runs/digits", tmp_path / "other"
    shutil.copytree(site, other)
    merged = call(tmp_path, "merge", site, other, "--out", "equal")
    assert merged.returncode == 0 and "6 recorded (6 more than once, equal)" in merged.stdout, merged.stderr
    assert call(tmp_path, "report", "equal").returncode == 0
    path = next((other / "records").iterdir())
    record = read_record(path)
    result = record["result"] | {"reason": "another"}
    write_record(other, result, record["circumstance"])
    merged = call(tmp_path, "merge", site, other, "--out", "unequal")
    assert merged.returncode == 1 and f"different results of {path.stem}" in merged.stdout, merged.stdout
    assert call(tmp_path, "merge", site, "--out", "equal").returncode == 2


def test_plan_and_run_say_what_is_left_out_of_the_images_and_the_plan_counts_it(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    protocol = shipped_protocols()["digits-small"].read_text().replace('name = "digits"', 'name = "image_folder"')
    (tmp_path / "p.toml").write_text(protocol.replace("digits-small", "mine"))
    for number, name in enumerate(("train/dark", "train/light", "test/dark", "test/light")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for image in range(40):
            colour = (40 + 160 * (number % 2), image, 0)
            Image.new("RGB", (8, 8), colour).save(tmp_path / f"data/{name}/{image}.png")
    for name in ("a\x1b.gif", "b.gif", "c.GIF", ".hidden.png"):
        (tmp_path / "data/train/light" / name).touch()
    changes = ("epochs=1", "batch_size=32", "seeds=[0]", "projector_width=16", "methods=simclr")
    changes = (*changes, f"protocol={tmp_path / 'p.toml'}")
    options = ("digits", *(part for change in changes for part in ("--set", change)), "--data", "data")
    expected = (
        "left out of the dataset: files that end in .gif: 3, for example train/light/a\\x1b.gif\n"
        "left out of the dataset: hidden files and folders: 1, for example train/light/.hidden.png\n"
    )
    done = [call(tmp_path, "plan", *options), call(tmp_path, "run", *options, "--workers", 1)]
    assert [(one.returncode, one.stderr) for one in done] == [(0, expected)] * 2
    counts = ["files that end in .gif: 3", "hidden files and folders: 1"]
    assert json.loads((tmp_path / "runs/digits/plan.json").read_text())["left_out"] == counts
    assert "files that end in .gif: 3; hidden files and folders: 1." in (tmp_path / PAGE).read_text("utf-8")


ONE_TRIAL = (*TINY, "--set", "methods=simclr", "--set", "baselines=false", "--workers", "1", "--threads", "1")


@pytest.mark.slow
def test_the_processes_of_a_run_import_nothing_from_the_working_directory(tmp_path: Path) -> None:
    """As the installed command does, which Python starts without the working directory among the module folders."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "twinbench"
    script.write_text("from twinbench.harness.cli import main\nif __name__ == '__main__':\n    main()\n")
    here = tmp_path / "here"
    (here / "twinbench").mkdir(parents=True)
    for module in ("signal", "types", "socket", "torch", "twinbench/__init__"):
        (here / f"{module}.py").write_text("raise SystemExit('imported from the working directory')\n")
    variables = os.environ | {"TWINBENCH_CACHE": str(tmp_path / "cache")}
    for extra in ([], ["--isolate"], ["--processes-per-trial", "2"]):
        command = [sys.executable, script, "run", "digits", "--out", f"run{len(extra)}", *ONE_TRIAL, *extra]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=here, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&-", "2>&- >&-", "| true", ">/dev/full"])
def test_a_run_that_can_print_nothing_still_records_its_trials(tmp_path: Path, redirection: str) -> None:
    """The code is that of the last command in the pipe, so it is written to a file."""
    command = ["sh", "-c", f'("$@"; echo $? > code) {redirection}', "sh", *_command("run", "digits", *ONE_TRIAL)]
    variables = os.environ | {"TWINBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=tmp_path, timeout=300)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "code").read_text() == "0\n"
    assert len(list((tmp_path / "runs/digits/records").iterdir())) == 1
    assert (tmp_path / "runs/digits/report/index.html").exists()


@pytest.mark.parametrize("out", ["[/red]", "[bold]x", ":smile:"])
def test_a_path_is_printed_as_it_is(finished, call, tmp_path: Path, out: str) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(finished[0] / "runs/digits", tmp_path / out)
    assert f"report: {out}/report/index.html\n" in call(tmp_path, "report", out).stdout


FOLDER_COMMANDS = (
    *("status", "watch", "cancel", "collect", "report", "bundle", "paper", "logs FOLDER 0", "query FOLDER sql"),
    *("export FOLDER --to tensorboard", "merge FOLDER --out merged", "check CLAIMS FOLDER"),
    *("claim declare CLAIMS FOLDER", "claim log FOLDER", "run digits --out FOLDER"),
    *("plan digits --out FOLDER", "serve FOLDER --port 0"),
)


@pytest.mark.parametrize("command", FOLDER_COMMANDS)
def test_every_command_refuses_a_run_folder_with_a_file_in_place_of_a_folder(
    call: Callable[..., Done], tmp_path: Path, command: str
) -> None:
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FOLDER/plan.json").touch()
    (tmp_path / "FOLDER/records").touch()
    (tmp_path / "CLAIMS").write_text(CLAIM)
    done = call(tmp_path, *command.split(), *([] if "FOLDER" in command else ["FOLDER"]))
    assert done.returncode == 2
    assert "error: FOLDER/records: is not a folder; allowed: a folder, or nothing\n" in done.stderr


FOLLOWERS = {"run", "bench", "watch", "serve", "logs", "cancel", "list_"}


def test_every_command_that_reads_a_run_folder_has_limits_unless_it_makes_or_follows_a_run() -> None:
    of_claims = [command.callback for command in claim_app.registered_commands if command.callback]
    without = {one.__name__ for one in (*COMMANDS, *of_claims) if "memory_limit" not in signature(one).parameters}
    assert without == FOLLOWERS


def test_cancel_names_a_note_of_a_launch_that_tells_nothing(finished, call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(finished[0] / "runs/digits", tmp_path / "run")
    (tmp_path / "run/launches").mkdir(exist_ok=True)
    (tmp_path / "run/launches/x.json").write_text("1")
    (tmp_path / "run/launches/y.json").write_text('{"launcher": "local"}')
    done = call(tmp_path, "cancel", "run")
    assert done.returncode == 0
    assert "x.json is not the note of a launch" in done.stderr and "y.json" not in done.stderr
