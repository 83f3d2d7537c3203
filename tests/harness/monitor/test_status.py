"""Claims: `twinbench status` tells what waits, what died and what failed, by the run folder alone."""

import io
import json
from pathlib import Path

import pytest
from conftest import SyntheticRun
from rich.console import Console
from serving import running_attempt

from twinbench.harness.monitor.status import FAILURES_SHOWN, Status, shown
from twinbench.harness.run_folder.layout import cancel, write_launch
from twinbench.harness.run_folder.leases import Attempt, attempt_file


def told(folder: Path) -> str:
    """What the command prints."""
    file = io.StringIO()
    Console(file=file, width=200, soft_wrap=True).print(shown(Status(folder)))
    return file.getvalue()


def dead_attempt(folder: Path, trial_id: str) -> None:
    """One of this machine whose process is there no more."""
    running_attempt(folder, trial_id, step=3, steps=10)
    file = attempt_file(folder, trial_id, 1, ".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"process_start": "before the last boot"}))


def test_trials_are_queued_while_others_run_and_planned_while_none_does(synthetic_run: SyntheticRun) -> None:
    first, *_ = (synthetic_run.plan(synthetic_run.trial(seed=seed))["trial_id"] for seed in range(3))
    assert "3 trials: 3 planned" in told(synthetic_run.folder)
    running_attempt(synthetic_run.folder, first, step=3, steps=10)
    assert "3 trials: 2 queued, 1 running" in told(synthetic_run.folder)


def test_a_trial_that_died_is_named_with_its_place(synthetic_run: SyntheticRun) -> None:
    trial_id = synthetic_run.plan(synthetic_run.trial(seed=0))["trial_id"]
    dead_attempt(synthetic_run.folder, trial_id)
    text = told(synthetic_run.folder)
    assert "1 trial: 1 died" in text
    assert f"died {trial_id} " in text and "; the next worker takes it over" in text


def test_failures_are_told_with_their_attempts_and_the_last_reason(synthetic_run: SyntheticRun) -> None:
    for seed in range(FAILURES_SHOWN + 1):
        trial_id = synthetic_run.planned_and_recorded(None, seed=seed, status="failed", reason="x")
    for number, reason in ((1, "first"), (2, "[bold]last")):
        Attempt(synthetic_run.folder, trial_id, number, "").end("failed", reason)
    text = told(synthetic_run.folder)
    assert f"failed after 2 attempts {trial_id} " in text and ": [bold]last" in text and "first" not in text
    assert "and 1 more that failed" in text


def test_what_a_cluster_was_asked_for_is_told_while_nothing_runs(synthetic_run: SyntheticRun) -> None:
    trial_id = synthetic_run.plan(synthetic_run.trial(seed=0))["trial_id"]
    write_launch(synthetic_run.folder, "slurm-7", {"launcher": "slurm"})
    assert "asked for: slurm slurm-7, 2" in told(synthetic_run.folder)
    cancel(synthetic_run.folder)
    assert "asked for" not in told(synthetic_run.folder)
    write_launch(synthetic_run.folder, "slurm-8", {"launcher": "slurm"})
    running_attempt(synthetic_run.folder, trial_id)
    assert "asked for" not in told(synthetic_run.folder)


@pytest.mark.parametrize("note", ["{", "[]", '{"launcher": "slurm"}'])
def test_a_broken_note_of_a_launch_is_passed_over(note: str, synthetic_run: SyntheticRun) -> None:
    synthetic_run.plan(synthetic_run.trial(seed=0))
    write_launch(synthetic_run.folder, "slurm-7", {})
    (synthetic_run.folder / "launches" / "slurm-7.json").write_text(note)
    assert "1 trial: 1 planned" in told(synthetic_run.folder)
