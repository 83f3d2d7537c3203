"""Claims: `twinbench status` shows what waits, what died and what failed, from the run folder alone."""

import io
import json
from pathlib import Path

import pytest
from conftest import SyntheticRun
from rich.console import Console
from serving import running_attempt

from twinbench.harness.monitor.terminal import FAILURES_SHOWN, status_text
from twinbench.harness.run_folder.layout import cancel, write_launch
from twinbench.results.attempts import attempt_file


def printed(folder: Path) -> str:
    """Return what the command prints."""
    file = io.StringIO()
    Console(file=file, width=200, soft_wrap=True).print(status_text(folder))
    return file.getvalue()


def dead_attempt(folder: Path, trial_id: str) -> None:
    """Write an attempt of a process of this machine that no longer exists."""
    running_attempt(folder, trial_id, step=3, steps=10)
    file = attempt_file(folder, trial_id, 1, ".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"process_start": "before the last boot"}))


def test_trials_are_queued_while_others_run_and_planned_while_none_does(synthetic_run: SyntheticRun) -> None:
    first, *_ = (synthetic_run.plan(synthetic_run.trial(seed=seed))["trial_id"] for seed in range(3))
    assert "3 trials: 3 planned" in printed(synthetic_run.folder)
    running_attempt(synthetic_run.folder, first, step=3, steps=10)
    text = printed(synthetic_run.folder)
    assert "3 trials: 2 queued, 1 running" in text
    assert f"{first} barlow_twins seed=0" in text and "slurm 7, attempt 1" in text and "3/10" in text


def test_a_trial_that_died_is_named_with_its_host(synthetic_run: SyntheticRun) -> None:
    trial_id = synthetic_run.plan(synthetic_run.trial(seed=0))["trial_id"]
    dead_attempt(synthetic_run.folder, trial_id)
    text = printed(synthetic_run.folder)
    assert "1 trial: 1 died" in text
    assert f"died {trial_id} " in text and ": worker lost on " in text and "; the next worker takes over" in text


def test_failures_are_shown_uncut_with_their_attempts_and_reason(synthetic_run: SyntheticRun) -> None:
    for seed in range(FAILURES_SHOWN):
        synthetic_run.planned_and_recorded(None, seed=seed, status="failed", reason="x")
    reason = "[bold]last" + "s" * 300
    later = {"attempts": 2, "finished": "2026-02-02T00:00:00+00:00"}
    trial_id = synthetic_run.planned_and_recorded(None, seed=9, status="failed", reason=reason, circumstance=later)
    text = printed(synthetic_run.folder)
    assert f"failed after 2 attempts {trial_id} " in text and f": {reason}" in text
    assert text.count("failed ") == FAILURES_SHOWN
    assert "and 1 more failed" in text


def test_submitted_jobs_are_shown_while_nothing_runs(synthetic_run: SyntheticRun) -> None:
    trial_id = synthetic_run.plan(synthetic_run.trial(seed=0))["trial_id"]
    write_launch(synthetic_run.folder, "slurm-7", {"launcher": "slurm"})
    assert "submitted: slurm slurm-7, 2" in printed(synthetic_run.folder)
    cancel(synthetic_run.folder)
    assert "submitted" not in printed(synthetic_run.folder)
    write_launch(synthetic_run.folder, "slurm-8", {"launcher": "slurm"})
    running_attempt(synthetic_run.folder, trial_id)
    assert "submitted" not in printed(synthetic_run.folder)


@pytest.mark.parametrize("note", ["{", "[]", '{"launcher": "slurm"}'])
def test_a_damaged_note_of_a_launch_is_ignored(note: str, synthetic_run: SyntheticRun) -> None:
    synthetic_run.plan(synthetic_run.trial(seed=0))
    write_launch(synthetic_run.folder, "slurm-7", {})
    (synthetic_run.folder / "launches" / "slurm-7.json").write_text(note)
    assert "1 trial: 1 planned" in printed(synthetic_run.folder)


def test_an_attempt_with_an_impossible_number_of_steps_is_shown_without_an_end(synthetic_run: SyntheticRun) -> None:
    trial_id = synthetic_run.plan(synthetic_run.trial())["trial_id"]
    running_attempt(synthetic_run.folder, trial_id, step=1, steps=2**53 - 1)
    assert "1 running" in printed(synthetic_run.folder)
