"""Claims: one worker runs a trial; only a dead worker's trial is taken over; no trial is tried forever."""

import errno
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from trial_runs import Execute, executing, run_trial

from twinbench.harness.launchers.worker_loop import drain
from twinbench.harness.monitor.logs import log_lines
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder import leases
from twinbench.harness.run_folder.heartbeat import LOST, TIME_LIMIT_EXIT, Heartbeat
from twinbench.harness.run_folder.layout import cancel, retry_failed, undo_cancel, write_plan
from twinbench.harness.run_folder.leases import Attempt, LeaseObserver, claim
from twinbench.harness.run_folder.progress import RunProgress, state_of
from twinbench.harness.training.checkpoint import Progress, save_state
from twinbench.harness.training.loop import Interrupted
from twinbench.harness.trial import worker
from twinbench.harness.trial.execute import Report, Surroundings
from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.declarations import declare
from twinbench.results.attempts import attempt_file, attempt_numbers, read_attempt
from twinbench.results.plan import read_plan
from twinbench.results.record import read_record, record_path
from twinbench.sweeps.errors import InvalidInput

ID = "0123456789abcdef"
Planner = Callable[..., Plan]


def _whole(work: Callable[..., tuple[str, str]]) -> Execute:
    """Return `work` as an execution that never yields."""

    def execute(*given: Any) -> Generator[None, None, tuple[str, str]]:
        yield from ()
        return work(*given)

    return execute


def _execute(status: str = "done") -> Execute:
    return _whole(lambda *_: (status, ""))


def _of_another_machine(folder: Path, beat: int = 1, **changes: object) -> None:
    """Write attempt 1 as a worker on another machine would."""
    content = {"number": 1, "status": "running", "machine": "elsewhere", "pid": 1, "process_start": "1", "beat": beat}
    file = attempt_file(folder, ID, 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content | changes))


def test_one_of_many_workers_that_claim_at_once_gets_the_trial(tmp_path: Path) -> None:
    gate, got = threading.Barrier(8), []

    def compete() -> None:
        gate.wait()
        got.append(claim(tmp_path, ID, LeaseObserver()))

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(attempt is not None for attempt in got) == 1
    assert attempt_numbers(tmp_path, ID) == [1]


HOLDS = """
import pathlib, sys
from twinbench.harness.run_folder.leases import LeaseObserver, claim
claim(pathlib.Path(sys.argv[1]), sys.argv[2], LeaseObserver())
print(flush=True)
sys.stdin.read()
"""


def test_on_this_machine_the_lease_of_a_dead_process_is_free_at_once_and_that_of_a_living_one_is_held(
    tmp_path: Path,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path), ID], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdin
    process.stdout.readline()
    assert claim(tmp_path, ID, LeaseObserver()) is None
    process.kill()
    process.communicate()
    taken = claim(tmp_path, ID, LeaseObserver())
    assert taken is not None and taken.number == 2


def test_a_reused_process_id_is_not_the_holder(tmp_path: Path) -> None:
    attempt = claim(tmp_path, ID, LeaseObserver())
    assert attempt is not None
    content = json.loads(attempt_file(tmp_path, ID, 1).read_text())
    attempt_file(tmp_path, ID, 1).write_text(json.dumps(content | {"process_start": "1"}))
    assert claim(tmp_path, ID, LeaseObserver()) is not None


def test_a_lease_of_another_machine_is_free_once_its_heartbeat_has_stopped_for_long(tmp_path: Path) -> None:
    leases = LeaseObserver(stale_seconds=0.2)
    _of_another_machine(tmp_path, updated="2001-01-01T00:00:00+00:00")  # by a clock that is wrong
    for beat in (1, 2, 3):
        _of_another_machine(tmp_path, beat)
        assert claim(tmp_path, ID, leases) is None
        time.sleep(0.15)
    assert leases.has_beaten(ID)
    time.sleep(0.3)
    assert claim(tmp_path, ID, leases) is not None


def test_a_lease_file_that_is_still_empty_is_held(tmp_path: Path) -> None:
    _of_another_machine(tmp_path)
    attempt_file(tmp_path, ID, 1).write_bytes(b"")
    assert claim(tmp_path, ID, LeaseObserver()) is None


def test_a_released_lease_is_free_and_the_attempts_are_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        attempt = claim(tmp_path, ID, LeaseObserver())
        assert attempt is not None and attempt.number == number
        attempt.end("interrupted", "preempted")
    assert [read_attempt(tmp_path, ID, number)["reason"] for number in (1, 2, 3)] == ["preempted"] * 3


def _left(folder: Path, number: int, began: int | None = None, **content: Any) -> None:
    """Write an attempt of a process that is gone; `began` is its first step, None if it came to none."""
    attempt = Attempt(folder, ID, number, "")
    attempt_file(folder, ID, number).parent.mkdir(parents=True, exist_ok=True)
    if began is not None:
        attempt.report(step=began, steps=100)
    attempt.beat()
    written = read_attempt(folder, ID, number) | {"process_start": "gone"} | content
    attempt_file(folder, ID, number).write_text(json.dumps(written))


@pytest.mark.parametrize(
    ("steps", "deaths"),
    [((0, 0, 0), 3), ((0, 0, 0, 0), 4), ((0, 0, 40), 0), ((40, None, 40), 3), ((0, 40, 80), 0), ((40, 40), 0)],
)
def test_deaths_count_if_the_trial_makes_no_progress(
    tmp_path: Path, steps: tuple[int | None, ...], deaths: int
) -> None:
    for number, step in enumerate(steps, 1):
        _left(tmp_path, number, step, status="died")
    expected = f"its process died {deaths} times in a row" if deaths else ""
    assert leases.why_hopeless(tmp_path, ID, len(steps) + 1) == expected


@pytest.mark.parametrize(
    ("content", "counts"),
    [
        ({}, True),
        ({"parent_start": "gone"}, False),  # a node was lost or a whole job killed
        ({"machine": "another boot of this machine"}, False),
    ],
)
def test_a_death_counts_if_the_parent_process_lives_on(tmp_path: Path, content: dict[str, Any], counts: bool) -> None:
    for number in range(1, leases.DEATHS_ALLOWED + 1):
        _left(tmp_path, number, 0, **content)
        assert claim(tmp_path, ID, LeaseObserver(stale_seconds=-1.0)) is not None
        assert read_attempt(tmp_path, ID, number)["status"] == ("died" if counts else "running")
    assert bool(leases.why_hopeless(tmp_path, ID, leases.DEATHS_ALLOWED + 1)) == counts


def test_a_trial_whose_attempts_make_no_progress_is_given_up(tmp_path: Path) -> None:
    for number in range(1, leases.ENDS_ALLOWED + 1):
        assert leases.why_hopeless(tmp_path, ID, number) == ""
        _left(tmp_path, number, 100, status="interrupted")
    hopeless = leases.why_hopeless(tmp_path, ID, leases.ENDS_ALLOWED + 1)
    assert hopeless == "10 attempts in a row made no progress after step 100: its worker was asked to stop"


def test_no_trial_is_given_up_because_of_a_full_disk(tmp_path: Path) -> None:
    for number in range(1, 2 * leases.ENDS_ALLOWED):
        attempt = claim(tmp_path, ID, LeaseObserver())
        assert attempt is not None
        attempt.report(step=40, steps=100)
        with pytest.raises(worker.Unwritable), worker._storage_errors_as_unwritable(attempt):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert leases.why_hopeless(tmp_path, ID, number + 1) == ""


@pytest.mark.parametrize("content", [{"status": "failed"}, {"from_step": 40}, {"reason": "cancelled"}])
def test_an_attempt_with_progress_or_a_reason_resets_the_count(tmp_path: Path, content: dict[str, Any]) -> None:
    for number in range(1, leases.ENDS_ALLOWED + 1):
        _left(tmp_path, number, 100, **{"status": "interrupted", **(content if number == 5 else {})})
    assert leases.why_hopeless(tmp_path, ID, leases.ENDS_ALLOWED + 1) == ""


def test_a_trial_that_keeps_killing_its_process_is_recorded_as_failed(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = tiny_plan("methods=simclr").trials[0]
    for number in (1, 2, 3):
        attempt = claim(tmp_path, trial.trial_id, LeaseObserver())
        assert attempt is not None and attempt.number == number
        content = read_attempt(tmp_path, trial.trial_id, number) | {"process_start": "gone"}
        attempt_file(tmp_path, trial.trial_id, number).write_text(json.dumps(content))
    assert run_trial(trial, Surroundings(tmp_path), execute=_execute()) == "failed"
    record = read_record(record_path(tmp_path, trial.trial_id))
    assert record["result"]["reason"] == "its process died 3 times in a row"
    assert record["circumstance"]["attempts"] == 4


def test_a_broken_device_ends_its_process_and_affects_no_other_trial(tiny_plan: Planner, tmp_path: Path) -> None:
    first, second, *_ = tiny_plan("methods=simclr", "baselines=false", "seeds=[0, 1]").trials

    @_whole
    def breaks(*given: Any) -> tuple[str, str]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nfor debugging consider")

    for _ in range(leases.DEATHS_ALLOWED):
        with pytest.raises(worker.BrokenDevice, match="CUDA error: an illegal memory access was encountered"):
            run_trial(first, Surroundings(tmp_path), execute=breaks)
    assert read_attempt(tmp_path, first.trial_id, 1)["status"] == "died"
    assert run_trial(first, Surroundings(tmp_path), execute=breaks) == "failed"
    reason = read_record(record_path(tmp_path, first.trial_id))["result"]["reason"]
    assert reason == "its process died 3 times in a row: CUDA error: an illegal memory access was encountered"
    assert run_trial(second, Surroundings(tmp_path), execute=_whole(lambda *given: ("done", ""))) == "done"


def test_a_trial_that_runs_out_of_gpu_memory_fails_and_its_worker_continues(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = tiny_plan("methods=simclr").trials[0]

    @_whole
    def runs_out(*given: Any) -> tuple[str, str]:
        raise torch.AcceleratorError("CUDA error: out of memory\nfor debugging consider")

    assert run_trial(trial, Surroundings(tmp_path), execute=runs_out) == "failed"
    reason = read_record(record_path(tmp_path, trial.trial_id))["result"]["reason"]
    assert reason == "AcceleratorError: CUDA error: out of memory"


def test_a_hidden_process_of_another_user_is_judged_by_its_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"machine": leases.machine(), "pid": 1, "process_start": "7"}
    monkeypatch.setattr(leases, "process_start", lambda pid: "")
    monkeypatch.setattr(leases.os, "kill", _refuse)
    assert leases.process_lives(content) is None
    monkeypatch.undo()
    assert leases.process_lives(content) is False  # process 1 started at another time


def _refuse(*given: Any) -> None:
    raise PermissionError


def test_a_record_keeps_the_log_of_declarations_as_it_was_when_the_trial_began(
    tiny_plan: Planner, tmp_path: Path
) -> None:
    def stops(*_: Any) -> tuple[str, str]:
        raise Interrupted

    (trial, second, *_), now = tiny_plan().trials, datetime(2026, 1, 1, tzinfo=UTC)
    byol = Claim("one", "It holds.", "better", {"method": "simclr"}, b={"method": "byol"}, protocol="invented")
    _, first = declare([byol], tmp_path, now)
    assert run_trial(trial, Surroundings(tmp_path), execute=_whole(stops)) == "interrupted"
    _, last = declare([replace(byol, name="two")], tmp_path, now)
    for one, count, head in ((trial, 1, first), (second, 2, last)):
        assert run_trial(one, Surroundings(tmp_path), execute=_execute()) == "done"
        record = read_record(record_path(tmp_path, one.trial_id))
        assert record["circumstance"]["declarations"] == {"count": count, "head": head}


def test_a_recorded_trial_is_not_claimed(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = tiny_plan("methods=simclr").trials[0]
    assert run_trial(trial, Surroundings(tmp_path), execute=_execute()) == "done"
    assert run_trial(trial, Surroundings(tmp_path), execute=_execute()) == "taken"
    assert attempt_numbers(tmp_path, trial.trial_id) == [1]


def test_a_worker_that_loses_its_lease_saves_and_writes_no_record(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinbench.harness.run_folder.heartbeat.CHECK_SECONDS", 0.02)
    trial = tiny_plan("methods=simclr").trials[0]

    def slow(_: Any, __: Any, folder: Path, report: Report, should_stop: Callable[[], bool], *___: Any) -> Any:
        attempt_file(tmp_path, trial.trial_id, 2).write_text("{}")
        return _until(should_stop)

    assert run_trial(trial, Surroundings(tmp_path), execute=_whole(slow)) == "interrupted"
    assert "another worker" in read_attempt(tmp_path, trial.trial_id, 1)["reason"]
    assert not record_path(tmp_path, trial.trial_id).exists()


def _until(should_stop: Callable[[], bool]) -> Any:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if should_stop():
            raise Interrupted
        time.sleep(0.01)
    raise AssertionError("the trial was not asked to stop")


def test_cancel_interrupts_running_trials(tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinbench.harness.run_folder.heartbeat.CHECK_SECONDS", 0.02)
    trial = tiny_plan("methods=simclr").trials[0]

    def slow(_: Any, __: Any, folder: Path, report: Report, should_stop: Callable[[], bool], *___: Any) -> Any:
        cancel(tmp_path)
        return _until(should_stop)

    assert run_trial(trial, Surroundings(tmp_path), execute=_whole(slow)) == "interrupted"
    assert read_attempt(tmp_path, trial.trial_id, 1)["reason"] == "cancelled"
    undo_cancel(tmp_path)
    assert run_trial(trial, Surroundings(tmp_path), execute=_execute()) == "done"


def test_the_heartbeat_continues_while_a_trial_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinbench.harness.run_folder.heartbeat.CHECK_SECONDS", 0.01)
    monkeypatch.setattr("twinbench.harness.run_folder.heartbeat.BEAT_SECONDS", 0.02)
    attempt = claim(tmp_path, ID, LeaseObserver())
    assert attempt is not None
    with Heartbeat(attempt, None, lambda reason: None):
        time.sleep(0.3)
    assert read_attempt(tmp_path, ID, 1)["beat"] >= 3


HANGS = """
import json, pathlib, sys, time
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial import worker
from twinbench.sweeps.trial import Trial

def hang(*_):
    time.sleep(1000)
    yield

worker.train_and_evaluate = hang
worker.run_pack([Trial(**json.load(sys.stdin))], Surroundings(pathlib.Path(sys.argv[1]), trial_time_limit=1.0))
"""


def test_a_trial_that_hangs_is_ended_by_its_time_limit_and_recorded(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = tiny_plan("methods=simclr").trials[0]
    command = [sys.executable, "-c", HANGS, str(tmp_path)]
    ended = subprocess.run(command, input=json.dumps(trial.content()), text=True, timeout=60)
    assert ended.returncode == TIME_LIMIT_EXIT
    record = read_record(record_path(tmp_path, trial.trial_id))
    assert record["result"]["status"] == "failed" and "time limit of 1 s" in record["result"]["reason"]


def test_retry_runs_failed_trials_again_and_keeps_their_records_with_their_attempts(
    tiny_plan: Planner, tmp_path: Path
) -> None:
    planned = tiny_plan("methods=simclr", "baselines=false")
    trial = planned.trials[0]
    write_plan(tmp_path, planned)
    assert run_trial(trial, Surroundings(tmp_path), execute=_execute("failed")) == "failed"
    assert retry_failed(tmp_path, planned) == 1
    aside = attempt_file(tmp_path, trial.trial_id, 1, ".record.json")
    assert json.loads(aside.read_text())["result"]["status"] == "failed"
    assert run_trial(trial, Surroundings(tmp_path), execute=_execute()) == "done"
    record = read_record(record_path(tmp_path, trial.trial_id))
    assert record["result"]["status"] == "done" and record["circumstance"]["attempts"] == 2
    assert retry_failed(tmp_path, planned) == 0


def test_unrecorded_trials_cannot_leave_the_plan_once_a_trial_has_started(tiny_plan: Planner, tmp_path: Path) -> None:
    whole, part = tiny_plan("methods=simclr", "seeds=[0, 1]"), tiny_plan("methods=simclr", "seeds=[0]")
    write_plan(tmp_path, whole)
    write_plan(tmp_path, part)  # no trial has started
    write_plan(tmp_path, whole)
    for trial in whole.trials:
        if trial.seed == 0:
            run_trial(trial, Surroundings(tmp_path), execute=_execute())
    left = [trial for trial in whole.trials if trial.seed == 1]
    with pytest.raises(InvalidInput, match=f"{len(left)} of its planned trials have no record"):
        write_plan(tmp_path, part)
    for trial in left:
        run_trial(trial, Surroundings(tmp_path), execute=_execute("failed"))
    write_plan(tmp_path, part)  # all are recorded; the store also shows trials that are not planned


FILLS = """
import json, pathlib, sys
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial import worker
from twinbench.sweeps.trial import Trial

def fill(*_):
    try:
        with open(sys.argv[1] + "/other", "wb", buffering=0) as other:
            while True:
                other.write(b"x" * 4096)
    except OSError:
        pass  # full
    yield
    return "done", ""

worker.train_and_evaluate = fill
worker.run_pack([Trial(**json.load(sys.stdin))], Surroundings(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_stops_the_worker_with_its_reason_and_fails_no_trial(tiny_plan: Planner, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a disk")
    try:
        trial = tiny_plan("methods=simclr").trials[0]

        command = [sys.executable, "-c", FILLS, str(disk)]
        ended = subprocess.run(command, input=json.dumps(trial.content()), capture_output=True, text=True, timeout=60)
        assert "Unwritable: the run folder cannot be written: No space left" in ended.stderr
        assert not list((disk / "records").glob("*"))
        (disk / "other").unlink()
        assert run_trial(trial, Surroundings(disk), execute=_execute()) == "done"
        assert read_record(record_path(disk, trial.trial_id))["result"]["status"] == "done"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_plan_reads_back_as_the_planned_trials(tiny_plan: Planner, tmp_path: Path) -> None:
    planned = tiny_plan()
    write_plan(tmp_path, planned)
    assert read_plan(tmp_path).full_trials() == list(planned.trials)


def test_progress_distinguishes_recorded_running_and_interrupted_trials(tiny_plan: Planner, tmp_path: Path) -> None:
    done, running, stopped, *_ = trials = tiny_plan("methods=simclr").trials
    progress = RunProgress(tmp_path, [trial.trial_id for trial in trials])
    assert progress.poll_records() == [] and progress.missing == len(trials)
    run_trial(done, Surroundings(tmp_path), execute=_execute())
    claim(tmp_path, running.trial_id, LeaseObserver())
    interrupted = claim(tmp_path, stopped.trial_id, LeaseObserver())
    assert interrupted is not None
    interrupted.end("interrupted")
    assert progress.poll_records() == [done.trial_id] and progress.poll_records() == []
    assert progress.missing == len(trials) - 1
    states = {trial_id: state_of(attempt) for trial_id, attempt in progress.poll_attempts().items()}
    assert states == {running.trial_id: "running", stopped.trial_id: "interrupted"}


def test_logs_hold_what_each_attempt_printed_and_how_it_ended(
    tiny_plan: Planner, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trial = tiny_plan("methods=simclr").trials[0]

    def broken(*_: Any) -> tuple[str, str]:
        os.write(1, b"printed below Python\n")
        raise RuntimeError("on fire")

    with capfd.disabled():
        run_trial(trial, Surroundings(tmp_path, keep_log=True), execute=_whole(broken))
    text = "".join(log_lines(tmp_path, trial.trial_id))
    assert "attempt 1" in text and "failed: RuntimeError: on fire" in text
    assert "printed below Python" in text and "Traceback" in text


def test_a_folder_in_place_of_its_log_fails_no_trial(tiny_plan: Planner, tmp_path: Path) -> None:
    trial = tiny_plan("methods=simclr").trials[0]
    attempt_file(tmp_path, trial.trial_id, 1, ".log").mkdir(parents=True)
    assert run_trial(trial, Surroundings(tmp_path, keep_log=True), execute=_whole(lambda *_: ("done", ""))) == "done"


def test_a_log_that_is_a_link_out_of_the_folder_is_not_shown_and_long_lines_are_broken(
    tiny_plan: Planner, tmp_path: Path
) -> None:
    trial = tiny_plan("methods=simclr").trials[0]
    (tmp_path / "private").write_text("not for others")
    log = attempt_file(tmp_path / "run", trial.trial_id, 1, ".log")
    log.parent.mkdir(parents=True)
    log.with_suffix(".json").write_text('{"number": 1, "status": "done"}')
    log.symlink_to(tmp_path / "private")
    with pytest.raises(OSError, match="is a link out of the run folder"):
        list(log_lines(tmp_path / "run", trial.trial_id))
    log.unlink()
    log.write_text("x" * (2**16 + 5) + "\n")
    assert [len(line) for line in log_lines(tmp_path / "run", trial.trial_id)][1:] == [2**16, 6]


def test_heartbeats_are_ten_times_as_frequent_as_the_limit_of_silence() -> None:
    assert leases.STALE_SECONDS >= 10 * leases.BEAT_SECONDS


def test_a_failure_never_replaces_another_workers_result(tiny_plan: Planner, tmp_path: Path) -> None:
    """A frozen worker that was taken for dead continues and fails after another has recorded the trial."""
    trial = tiny_plan("methods=simclr").trials[0]

    def frozen(_: Any, surroundings: Surroundings, *__: Any) -> tuple[str, str]:
        content = json.loads(attempt_file(tmp_path, trial.trial_id, 1).read_text()) | {"process_start": "gone"}
        attempt_file(tmp_path, trial.trial_id, 1).write_text(json.dumps(content))
        assert run_trial(trial, surroundings, execute=_execute()) == "done"
        raise MemoryError

    assert run_trial(trial, Surroundings(tmp_path), execute=_whole(frozen)) == "interrupted"
    assert read_record(record_path(tmp_path, trial.trial_id))["result"]["status"] == "done"
    assert read_attempt(tmp_path, trial.trial_id, 1)["reason"] == LOST


def test_a_state_that_does_not_fit_the_disk_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save raises a RuntimeError about its archive, which would be recorded as the trial's failure."""

    class Full(io.BytesIO):
        """A file that takes only a part of the state."""

        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 200_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    weights = torch.nn.Linear(300, 300)
    optimiser = torch.optim.SGD(weights.parameters())
    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    with pytest.raises(OSError, match="No space left"):
        save_state(tmp_path, Progress(), weights, optimiser)


def test_a_worker_runs_trials_that_were_planned_while_it_worked(tiny_plan: Planner, tmp_path: Path) -> None:
    first, both = tiny_plan("methods=simclr", "baselines=false"), tiny_plan("methods=simclr", "seeds=[0, 1]")
    write_plan(tmp_path, first)

    def grow(*_: Any) -> tuple[str, str]:
        write_plan(tmp_path, both)
        return "done", ""

    with executing(_whole(grow)):
        drain(Surroundings(tmp_path), lambda: False, stay=False)
    progress = RunProgress(tmp_path, [trial.trial_id for trial in both.trials])
    progress.poll_records()
    assert progress.missing == 0


def test_a_worker_leaves_trials_of_other_workers_or_waits_for_them_with_stay(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinbench.harness.launchers.worker_loop.LOOK_AGAIN_SECONDS", 0.01)
    planned = tiny_plan("methods=simclr", "baselines=false")
    write_plan(tmp_path, planned)
    trial_id = planned.trials[0].trial_id
    held = claim(tmp_path, trial_id, LeaseObserver())
    assert held is not None
    beating = threading.Event()

    def beat() -> None:
        while not beating.wait(0.02):
            held.beat()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with executing(_execute()):
            drain(Surroundings(tmp_path), lambda: False, stay=False)
        assert attempt_numbers(tmp_path, trial_id) == [1]
    finally:
        beating.set()
        thread.join()
    threading.Timer(0.2, held.end, ["interrupted"]).start()
    with executing(_execute()):
        drain(Surroundings(tmp_path), lambda: False, stay=True)
    assert read_record(record_path(tmp_path, trial_id))["circumstance"]["attempts"] == 2


def test_a_folder_in_place_of_a_planned_trials_record_is_named_before_anything_runs(
    tiny_plan: Planner, tmp_path: Path
) -> None:
    planned = tiny_plan("methods=simclr")
    place = record_path(tmp_path, planned.trials[-1].trial_id)
    place.mkdir(parents=True)
    with pytest.raises(InvalidInput, match=f"{place}: is in place of a record; allowed: a record, or nothing"):
        write_plan(tmp_path, planned)
    assert not (tmp_path / "plan.json").exists()
