"""Claims: a run folder's plan keeps the commands that made it, ready for a shell, and nothing that may be a secret."""

import json
import shlex
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer

from twinbench.harness.cli import app
from twinbench.harness.commands.command_text import as_given
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder import layout
from twinbench.harness.run_folder.layout import write_plan
from twinbench.results.plan import read_plan
from twinbench.results.record import PLAN, WITHHELD
from twinbench.sweeps.errors import InvalidInput

TOKEN = "ghp_" + "aB3dE6gH9j" * 4


def shown_command(*arguments: str) -> str:
    """The text of `twinbench run` with these arguments, which are read and not carried out."""
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    return as_given(run.make_context("run", list(arguments)))


def test_the_command_is_given_as_a_shell_takes_it() -> None:
    arguments = ["my sweep.toml", "--out", "runs/it's $HOME", "--workers", "2", "--detach"]
    arguments += ["--set", "seeds=[0, 1]", "--set", "methods='simclr'"]
    assert shlex.split(shown_command(*arguments)) == ["twinbench", "run", *arguments]


def test_equal_arguments_are_one_text_whatever_their_order_and_defaults_are_not_in_it() -> None:
    assert shown_command("digits") == "twinbench run digits"
    given = shown_command("--set", "epochs=1", "--launcher=ray", "digits", "--workers=3")
    assert given == shown_command("digits", "--workers", "3", "--launcher", "ray", "--set", "epochs=1")
    assert given == "twinbench run digits --launcher ray --workers 3 --set epochs=1"


def test_what_could_be_a_secret_is_not_in_it() -> None:
    secret = [f"setup=['export TOKEN={TOKEN}']", "sbatch.export=KEY=hunter2", "address=ray://me:hunter2@head:10001"]
    harmless = ["partition=gpu", "gpus=0.5", "labels.region=eu"]
    options = [word for value in harmless + secret for word in ("--slurm", value)]
    text = shown_command(
        "https://me:hunter2@x/y", *options, "--address", "ray://me:hunter2@head:10001", "--site", TOKEN
    )
    assert TOKEN not in text and "hunter2" not in text
    words = shlex.split(text)
    assert [f"setup={WITHHELD}", f"sbatch.export={WITHHELD}", f"address={WITHHELD}"] == [
        word for word in words if word.endswith(f"={WITHHELD}")
    ]
    assert words[words.index("--address") + 1] == WITHHELD and set(harmless) <= set(words)
    assert shlex.split(shown_command("digits", "--address", "auto"))[-1] == "auto"


def test_a_plan_keeps_each_command_once_in_the_order_of_the_first_time(
    tiny_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    planned = tiny_plan("methods=simclr")
    write_plan(tmp_path, planned)
    without = (tmp_path / PLAN).read_bytes()
    assert "commands" not in json.loads(without)
    for command in ("twinbench run b", "twinbench run a", "twinbench run b", ""):
        write_plan(tmp_path, planned, command)
    assert read_plan(tmp_path).commands == ("twinbench run b", "twinbench run a")
    assert json.loads((tmp_path / PLAN).read_text()) == json.loads(without) | {
        "commands": ["twinbench run b", "twinbench run a"]
    }
    elsewhere = tmp_path / "elsewhere"
    for command in ("twinbench run b", "twinbench run a"):
        write_plan(elsewhere, planned, command)
    assert (elsewhere / PLAN).read_bytes() == (tmp_path / PLAN).read_bytes()


def test_runs_that_begin_together_lose_no_command(
    tiny_plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run reads, writes and ends between what this one read of the folder and the plan that it leaves."""
    planned, more = tiny_plan("methods=simclr"), tiny_plan("methods=simclr", "seeds=[0, 1]")
    write_plan(tmp_path, planned, "twinbench run first")
    write = layout.write_bytes_atomically

    def late(path: Path, data: bytes) -> Path:
        monkeypatch.setattr(layout, "write_bytes_atomically", write)
        write_plan(tmp_path, more, "twinbench run meanwhile")
        return write(path, data)

    monkeypatch.setattr(layout, "write_bytes_atomically", late)
    write_plan(tmp_path, more, "twinbench run late")
    plan = read_plan(tmp_path)
    assert plan.commands[0] == "twinbench run first"
    assert sorted(plan.commands[1:]) == ["twinbench run late", "twinbench run meanwhile"]
    assert len(plan.trials) == len(more.trials)


def _overtake(monkeypatch: pytest.MonkeyPatch, folder: Path, plan: Plan) -> None:
    """Another run writes its whole plan right after the next one that is written."""
    write = layout.write_bytes_atomically

    def early(path: Path, data: bytes) -> Path:
        monkeypatch.setattr(layout, "write_bytes_atomically", write)
        written = write(path, data)
        write_plan(folder, plan, "twinbench run meanwhile")
        return written

    monkeypatch.setattr(layout, "write_bytes_atomically", early)


def test_a_run_that_is_overtaken_leaves_the_trials_of_the_one_that_overtook_it(
    tiny_plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, more = tiny_plan("methods=simclr"), tiny_plan("methods=simclr", "seeds=[0, 1]")
    _overtake(monkeypatch, tmp_path, more)
    write_plan(tmp_path, planned, "twinbench run early")
    plan = read_plan(tmp_path)
    assert set(plan.commands) == {"twinbench run early", "twinbench run meanwhile"}
    assert [trial.trial_id for trial in plan.trials] == [trial.trial_id for trial in more.trials]


def test_a_run_whose_plan_is_overtaken_by_another_sweeps_says_so(
    tiny_plan: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, other = tiny_plan("methods=simclr", "seeds=[0]"), tiny_plan("methods=byol", "seeds=[0]")
    _overtake(monkeypatch, tmp_path, other)
    with pytest.raises(InvalidInput, match="another run has replaced the plan, without"):
        write_plan(tmp_path, planned, "twinbench run early")
    assert {trial.trial_id for trial in read_plan(tmp_path).trials} == {trial.trial_id for trial in other.trials}


def test_eight_runs_at_one_moment_leave_eight_commands(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    planned = tiny_plan("methods=simclr")
    together = threading.Barrier(8)

    def run(number: int) -> None:
        together.wait()
        write_plan(tmp_path, planned, f"twinbench run {number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert sorted(read_plan(tmp_path).commands) == [f"twinbench run {number}" for number in range(8)]


def test_a_folder_of_before_commands_had_files_keeps_those_of_its_plan(
    tiny_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    planned = tiny_plan("methods=simclr")
    for command in ("twinbench run b", "twinbench run a"):
        write_plan(tmp_path, planned, command)
    shutil.rmtree(tmp_path / layout.COMMANDS)
    write_plan(tmp_path, planned, "twinbench run c")
    assert read_plan(tmp_path).commands == ("twinbench run b", "twinbench run a", "twinbench run c")


@pytest.mark.parametrize("content", ["[1]", "{"])
def test_a_file_among_the_commands_that_holds_none_is_named(
    content: str, tiny_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    (tmp_path / layout.COMMANDS).mkdir()
    (tmp_path / layout.COMMANDS / "0.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"commands/0\.json: not a command"):
        write_plan(tmp_path, tiny_plan("methods=simclr"), "twinbench run a")


def test_a_plan_whose_commands_are_no_texts_is_told(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    planned = tiny_plan("methods=simclr")
    write_plan(tmp_path, planned)
    content = json.loads((tmp_path / PLAN).read_text())
    for commands in (5, [5]):
        (tmp_path / PLAN).write_text(json.dumps(content | {"commands": commands}))
        with pytest.raises(InvalidInput, match=r"its plan\.json is not a plan: commands"):
            write_plan(tmp_path, planned)
