"""Claims: a run reports why its workers left, and waits only for trials that can still run."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from twinbench.harness.monitor.progress_bars import ProgressBars
from twinbench.harness.monitor.terminal import status_text
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.layout import (
    clear_worker_error,
    launch_notes,
    missing,
    note_worker_error,
    read_launches,
    why_unplanned,
    worker_error,
    write_launch,
    write_plan,
)
from twinbench.harness.run_folder.leases import LeaseObserver, claim
from twinbench.harness.run_folder.progress import running_attempts
from twinbench.results.attempts import attempt_file

Planner = Callable[..., Plan]


def test_the_reason_a_worker_left_is_shown_by_status_until_its_launch_starts_workers_again(
    tiny_plan: Planner, tmp_path: Path
) -> None:
    assert worker_error(tmp_path, "ray-a") == ""
    note_worker_error(tmp_path, "ray-a", ValueError("no such thing"), "node 7")
    assert worker_error(tmp_path, "ray-b") == "" and launch_notes(tmp_path) == []
    assert worker_error(tmp_path, "ray-a") == "ValueError: no such thing, on node 7"
    write_plan(tmp_path, tiny_plan("methods=simclr"))
    write_launch(tmp_path, "ray-a", {"launcher": "ray"})
    console = Console(file=io.StringIO(), width=200)
    console.print(status_text(tmp_path))
    assert "one of its workers ended with ValueError: no such thing, on node 7" in console.file.getvalue()
    clear_worker_error(tmp_path, "ray-a")
    assert worker_error(tmp_path, "ray-a") == ""


@pytest.mark.parametrize("damage", [b"", b"[]", b"null", b'{"name": "a"}', b'{"job_id": "7"', b"\xff"])
def test_a_damaged_note_of_a_launch_is_left_out(tmp_path: Path, damage: bytes) -> None:
    write_launch(tmp_path, "slurm-1", {"job_id": "7", "name": "a"})
    write_launch(tmp_path, "slurm-2", {"job_id": 8, "name": "b"})
    (tmp_path / "launches" / "slurm-1.json").write_bytes(damage)
    assert read_launches(launch_notes(tmp_path), "job_id", "name") == [{"job_id": "8", "name": "b"}]


def test_reasons_left_before_a_run_are_not_reported_as_its_end(tiny_plan: Planner, tmp_path: Path) -> None:
    planned = tiny_plan("methods=simclr", "baselines=false", "seeds=[0, 1]")
    write_plan(tmp_path, planned)
    first, second = [trial.trial_id for trial in planned.trials]
    _end(tmp_path, first, "cancelled")
    watch = ProgressBars(tmp_path, planned.axes, planned.trials, Console(quiet=True))
    assert watch.why_stopped() == ""
    _end(tmp_path, second, "the disk is full")
    assert watch.why_stopped() == "the disk is full"
    _end(tmp_path, first, "its device is broken", later=True)
    assert watch.why_stopped() == "its device is broken"


def test_an_attempt_counts_as_running_only_if_its_process_lives(tmp_path: Path) -> None:
    held = claim(tmp_path, "held", LeaseObserver(), "ray 12345678 actor 3")
    assert held is not None
    for trial_id, changes in [("ended", {"status": "interrupted"}), ("died", {"process_start": "gone"})]:
        assert claim(tmp_path, trial_id, LeaseObserver()) is not None
        file = attempt_file(tmp_path, trial_id, 1)
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert [attempt["where"] for attempt in running_attempts(tmp_path)] == ["ray 12345678 actor 3"]


def _end(folder: Path, trial_id: str, reason: str, later: bool = False) -> None:
    attempt = claim(folder, trial_id, LeaseObserver())
    assert attempt is not None
    attempt.end("interrupted", reason)
    if later:
        file = attempt_file(folder, trial_id, attempt.number)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"updated": "2999-01-01T00:00:00+00:00"}))


def test_trials_no_longer_in_the_folders_plan_are_not_waited_for(tiny_plan: Planner, tmp_path: Path) -> None:
    first, other = tiny_plan("methods=simclr", "seeds=[0, 1]"), tiny_plan("methods=simclr", "seeds=[1, 2]")
    write_plan(tmp_path, first)
    write_plan(tmp_path, other)  # nothing was begun, so it takes the other's place
    assert {trial.seed for trial in missing(first, tmp_path)} == {1}
    assert "without" in why_unplanned(tmp_path, first) and why_unplanned(tmp_path, other) == ""
