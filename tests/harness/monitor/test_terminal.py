"""Claims: `twinbench watch` fits its terminal, ends when all trials are recorded, and escapes control characters."""

import io
import threading
import time
from pathlib import Path

import pytest
from conftest import SyntheticRun, invented_curves
from rich.console import Console
from serving import running_attempt

from twinbench.harness.commands import watch as commands
from twinbench.harness.monitor import terminal
from twinbench.harness.monitor.snapshot import RunView
from twinbench.harness.monitor.terminal import screen, sparkline, watch
from twinbench.harness.run_folder.live_curves import LiveCurves
from twinbench.results.attempts import trial_folder


def printed(folder: Path, width: int, height: int | None) -> list[str]:
    """Return the lines of the screen."""
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=False)
    console.print(screen(RunView(folder).poll(), folder, width, height))
    return file.getvalue().splitlines()


def add_running(run: SyntheticRun, count: int, method: str = "byol") -> None:
    """Add running trials with curves."""
    for seed in range(count):
        trial_id = run.plan(run.trial(method, 100 + seed))["trial_id"]
        running_attempt(run.folder, trial_id, step=3, steps=10, images_per_second=100.0)
        curves = invented_curves(method, seed)
        LiveCurves(trial_folder(run.folder, trial_id)).write(lambda curves=curves: curves)  # type: ignore[misc]


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("height", [24, 30, 50])
def test_the_screen_fits_its_terminal(width: int, height: int, filled_run: SyntheticRun) -> None:
    add_running(filled_run, 12)
    lines = printed(filled_run.folder, width, height)
    assert len(lines) < height and max(map(len, lines)) <= width
    assert any("running" in line for line in lines) and any("seeds" in line for line in lines)


def test_the_screen_shows_progress_and_failures(filled_run: SyntheticRun) -> None:
    add_running(filled_run, 2)
    text = "\n".join(printed(filled_run.folder, 160, None))
    assert "60 trials: 1 diverged, 55 done, 1 failed, 1 queued, 2 running" in text
    assert text.count("3/10") == 2 and text.count("slurm 7") == 2 and "█" in text
    assert "RuntimeError: invented" in text and "loss was nan at epoch 7" in text
    assert text.count("■■■") > 3  # the seeds of whole cells


def test_control_characters_in_names_are_escaped(synthetic_run: SyntheticRun) -> None:
    name = "\x1b[31mred\x07\u202e[bold]x[/bold]\r\n"
    synthetic_run.planned_and_recorded(None, method=name, status="failed", reason=name)
    add_running(synthetic_run, 1, name)
    text = "\n".join(printed(synthetic_run.folder, 200, None))
    assert not set(text) & set("\x1b\x07\u202e\r") and "[bold]x[/bold]" in text


def test_watch_starts_before_the_folder_exists_and_ends_when_all_is_recorded(
    synthetic_run: SyntheticRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "POLL_SECONDS", 0.01)
    file = io.StringIO()
    watching = threading.Thread(target=watch, args=(synthetic_run.folder, Console(file=file, width=120)))
    watching.start()
    time.sleep(0.1)
    synthetic_run.plan(synthetic_run.trial(seed=0))
    synthetic_run.planned_and_recorded(seed=1)
    time.sleep(0.1)
    assert watching.is_alive()
    synthetic_run.record(synthetic_run.trial(seed=0), None, status="failed", reason="RuntimeError: invented")
    watching.join(timeout=30)
    assert not watching.is_alive()
    text = file.getvalue()
    assert f"{synthetic_run.folder}: not a run folder: it has no plan.json; waiting for `twinbench run`" in text
    assert "2 trials: 1 done, 1 failed; finished" in text
    assert text.count("RuntimeError: invented") == 1


def test_what_is_printed_for_a_pipe_is_as_wide_as_its_values(
    synthetic_run: SyntheticRun, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x" * 300
    synthetic_run.planned_and_recorded(0.5, method=name)
    commands.watch(synthetic_run.folder)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"{name} ") and line.count("(1 seed)") == 4  # two probes on two splits
    add_running(synthetic_run, 1, name)
    commands.status(synthetic_run.folder)
    assert any(name in line and "3/10" in line for line in capsys.readouterr().out.splitlines())


def test_a_sparkline_rises_with_its_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5.0, 5.0]) == "▁▁" and len(sparkline(list(range(1000)))) == 16
