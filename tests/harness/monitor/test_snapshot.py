"""Claims: a poll of a run folder reads only what changed, and all views of it show the same numbers."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import SyntheticRun, invented_curves
from rich.console import Console
from serving import running_attempt

from twinbench.harness.monitor.labels import counts_text
from twinbench.harness.monitor.progress_bars import ProgressBars
from twinbench.harness.monitor.server import state_json
from twinbench.harness.monitor.snapshot import RunView
from twinbench.harness.monitor.terminal import screen, status_text
from twinbench.harness.run_folder.live_curves import LiveCurves
from twinbench.results.attempts import attempt_file, trial_folder
from twinbench.results.plan import read_plan


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read from now on."""
    names: list[str] = []

    def counting(original: Any) -> Any:
        def open_and_count(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if mode.startswith("r") and not str(file).startswith("/proc"):
                names.append(Path(file).name)
            return original(file, mode, *arguments, **options)

        return open_and_count

    monkeypatch.setattr(Path, "open", counting(Path.open))
    monkeypatch.setattr("builtins.open", counting(open))
    return names


def poll(view: RunView, times: int = 5) -> None:
    for _ in range(times):
        view.poll()


def test_five_polls_after_one_change_read_one_file(filled_run: SyntheticRun, reads: list[str]) -> None:
    run = filled_run
    trials = [run.plan(run.trial(seed=seed)) for seed in range(50, 54)]
    attempt = running_attempt(run.folder, trials[0]["trial_id"], step=1, steps=10)
    running_attempt(run.folder, trials[1]["trial_id"]).end("interrupted")
    curves = LiveCurves(trial_folder(run.folder, trials[0]["trial_id"]))
    curves.write(lambda: invented_curves("byol", 0))
    view = RunView(run.folder)
    reads.clear()  # what the attempts read as they began
    poll(view, 1)
    assert sorted(reads) == sorted(
        ["plan.json", "curves.json", *["attempt-0001.json"] * 2, *(file.name for file in run.folder.glob("records/*"))]
    )

    def read_by_polls() -> list[str]:
        reads.clear()
        poll(view)
        return list(reads)

    assert read_by_polls() == []
    run.record(trials[2])
    assert read_by_polls() == [f"{trials[2]['trial_id']}.json"]
    attempt.beat()
    assert read_by_polls() == ["attempt-0001.json"]
    running_attempt(run.folder, trials[1]["trial_id"], number=2)
    assert read_by_polls() == ["attempt-0002.json"]
    LiveCurves(trial_folder(run.folder, trials[0]["trial_id"])).write(lambda: invented_curves("byol", 1))
    assert read_by_polls() == ["curves.json"]
    failed = run.record(trials[3], None, status="failed", reason="invented")
    assert read_by_polls() == [failed.name]
    for whole in (False, True):
        if whole:
            run.record(trials[3])
        else:
            failed.write_text("torn")
        assert read_by_polls() == [failed.name]
    failed.write_text("torn")
    assert read_by_polls() == []  # the record of a done trial never changes
    run.plan(run.trial(seed=60))
    assert read_by_polls() == ["plan.json"]


def test_the_protocol_is_named_with_what_all_cells_change(synthetic_run: SyntheticRun) -> None:
    for seed in range(2):
        synthetic_run.plan(synthetic_run.trial("simclr", seed, settings={"temperature": 0.2}))
    view = RunView(synthetic_run.folder)
    assert view.poll().protocol == "synthetic v1 (555555555555), with temperature = 0.2 (protocol: 0.1)"


def test_progress_bars_read_each_record_once(synthetic_run: SyntheticRun, reads: list[str]) -> None:
    for seed in range(3):
        synthetic_run.planned_and_recorded(seed=seed)
    left = synthetic_run.plan(synthetic_run.trial(seed=3))
    trials = read_plan(synthetic_run.folder).full_trials()
    file = io.StringIO()
    bars = ProgressBars(synthetic_run.folder, (), trials, Console(file=file, width=120, force_terminal=True))
    reads.clear()
    with bars:
        for _ in range(5):
            bars._next_poll = 0.0
            assert not bars.update()
        synthetic_run.record(left, None, status="failed", reason="invented")
        for _ in range(5):
            bars._next_poll = 0.0
            assert bars.update()
    assert reads == [f"{left['trial_id']}.json"]
    assert file.getvalue().count("[4/4] barlow_twins seed=3: failed: invented") == 1


def test_terminal_status_and_page_show_the_same_counts(filled_run: SyntheticRun) -> None:
    for seed in range(2):
        trial_id = filled_run.plan(filled_run.trial("byol", 100 + seed))["trial_id"]
        running_attempt(filled_run.folder, trial_id, step=3, steps=10)
    counts = "60 trials: 1 diverged, 55 done, 1 failed, 1 queued, 2 running"
    snapshot = RunView(filled_run.folder).poll()
    file = io.StringIO()
    console = Console(file=file, width=200)
    console.print(screen(snapshot, filled_run.folder, 200, None))
    console.print(status_text(filled_run.folder))
    assert file.getvalue().count(counts) == 2
    page = json.loads(state_json(snapshot, has_report=False))
    assert counts_text(page["counts"]) == counts
    assert (page["planned"], page["recorded"], len(page["running"]), len(page["failures"])) == (60, 57, 2, 2)


def test_attempts_that_cannot_be_read_are_named_and_not_taken_for_none(synthetic_run: SyntheticRun) -> None:
    no_folder, no_file = (synthetic_run.plan(synthetic_run.trial(seed=seed))["trial_id"] for seed in range(2))
    trial_folder(synthetic_run.folder, no_folder).parent.mkdir(exist_ok=True)
    trial_folder(synthetic_run.folder, no_folder).write_text("")
    attempt_file(synthetic_run.folder, no_file, 1).mkdir(parents=True)
    view = RunView(synthetic_run.folder)
    for _ in range(2):  # also when nothing has changed
        snapshot = view.poll()
        assert {one.label: one.reason for one in snapshot.failures} == {
            no_folder: "its attempts cannot be read (Not a directory)",
            no_file: "its attempts cannot be read (Is a directory)",
        }
    attempt_file(synthetic_run.folder, no_file, 1).rmdir()
    attempt_file(synthetic_run.folder, no_file, 1).write_text('{"status": "interrupted"}')
    assert [one.label for one in view.poll().failures] == [no_folder]


def seconds_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def test_a_worker_of_another_machine_is_silent_after_three_minutes_without_a_report(
    synthetic_run: SyntheticRun,
) -> None:
    for seed, silence in ((0, 60), (1, 240)):
        trial_id = synthetic_run.plan(synthetic_run.trial(seed=seed))["trial_id"]
        running_attempt(synthetic_run.folder, trial_id)
        file = attempt_file(synthetic_run.folder, trial_id, 1)
        changes = {"machine": "elsewhere", "updated": seconds_ago(silence)}
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    snapshot = RunView(synthetic_run.folder).poll()
    assert [one.state for one in snapshot.running] == ["running", "silent"]
    assert snapshot.counts == {"running": 1, "silent": 1}
    console = Console(file=io.StringIO(), width=200)
    console.print(status_text(synthetic_run.folder))
    assert console.file.getvalue().count(f"(silent since {snapshot.running[1].updated})") == 1  # type: ignore[attr-defined]


def test_the_time_left_follows_from_the_pace_of_the_attempt_and_of_recorded_trials(
    synthetic_run: SyntheticRun,
) -> None:
    for seed, seconds in ((0, 40.0), (1, 60.0)):
        times = {"train_seconds": seconds, "evaluation_seconds": 0.0}
        synthetic_run.planned_and_recorded(seed=seed, circumstance=times)
    running, starting, _ = (synthetic_run.plan(synthetic_run.trial(seed=seed)) for seed in (2, 3, 4))
    for trial in (running, starting):
        running_attempt(synthetic_run.folder, trial["trial_id"])
    file = attempt_file(synthetic_run.folder, running["trial_id"], 1)
    changes = {"started": seconds_ago(100), "updated": seconds_ago(0), "from_step": 10, "step": 30, "steps": 40}
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    snapshot = RunView(synthetic_run.folder).poll()
    assert snapshot.running[0].seconds_left == pytest.approx(50, abs=1)  # 5 s a step
    # Recorded trials took 50 s: a quarter of one and two whole ones are left, for two workers.
    assert snapshot.seconds_left == pytest.approx((50 / 4 + 50 + 50) / 2)
