"""Claims: with `isolate` nothing of one trial reaches the next, and the death of its process costs an attempt alone."""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from trial_runs import Execute, executing

from twinbench.harness.launchers import isolation, worker_loop
from twinbench.harness.launchers.worker_loop import drain
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.layout import write_plan
from twinbench.harness.run_folder.leases import LeaseObserver, claim
from twinbench.harness.training.loop import Interrupted
from twinbench.harness.trial.execute import Report, Surroundings
from twinbench.harness.trial.worker import BrokenDevice, Unwritable
from twinbench.results.attempts import attempt_file, read_attempt
from twinbench.results.record import read_record, record_files

Run = Generator[None, None, tuple[str, str]]
before: list[str] = []


@pytest.fixture
def planned(tiny_plan: Callable[..., Plan], tmp_path: Path) -> Plan:
    """Two trials."""
    made = tiny_plan("methods=simclr", "baselines=false", "seeds=[0, 1]")
    write_plan(tmp_path, made)
    return made


def _drain(folder: Path, execute: Execute, should_stop: Callable[[], bool] = lambda: False, pack: int = 1) -> None:
    with executing(execute):
        drain(Surroundings(folder, isolate=True, pack=pack), should_stop, stay=True)


def _statuses(folder: Path) -> list[str]:
    return sorted(read_record(file)["result"]["status"] for file in record_files(folder))


def _leaves_something(trial: Any, *_: Any) -> Run:
    yield
    before.append(trial.trial_id)
    return ("done", "") if before == [trial.trial_id] else ("diverged", f"{before} were here")


def test_what_a_trial_leaves_in_its_process_does_not_reach_the_next(planned: Plan, tmp_path: Path) -> None:
    _drain(tmp_path, _leaves_something)
    assert _statuses(tmp_path) == ["done", "done"] and before == []
    pids = {read_attempt(tmp_path, trial.trial_id, 1)["pid"] for trial in planned.trials}
    assert len(pids) == 2 and os.getpid() not in pids


def test_a_pack_has_one_process(tiny_plan: Callable[..., Plan], tmp_path: Path) -> None:
    write_plan(tmp_path, tiny_plan("methods=simclr", "baselines=false", "projector_width=[16, 32]"))

    def done(*_: Any) -> Run:
        yield
        return "done", ""

    _drain(tmp_path, done, pack=2)
    attempts = [read_attempt(tmp_path, folder.name, 1) for folder in (tmp_path / "trials").iterdir()]
    assert len(attempts) == 2 and len({attempt["pid"] for attempt in attempts} - {os.getpid()}) == 1


@pytest.mark.parametrize("end", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(3)])
def test_a_process_that_dies_costs_its_attempt_and_the_worker_goes_on(
    planned: Plan, tmp_path: Path, end: Callable[[], None]
) -> None:
    first, second = planned.trials

    def dies_once(trial: Any, _: Any, folder: Path, *__: Any) -> Run:
        yield
        if trial.seed == first.seed and len(list(folder.glob("attempt-*.json"))) == 1:
            end()
        return "done", ""

    _drain(tmp_path, dies_once)
    assert _statuses(tmp_path) == ["done", "done"]
    assert read_attempt(tmp_path, first.trial_id, 1)["status"] == "died"
    assert read_attempt(tmp_path, first.trial_id, 2)["status"] == "done"
    assert read_attempt(tmp_path, second.trial_id, 2) == {}


def test_a_trial_whose_process_always_dies_is_recorded_in_the_end(planned: Plan, tmp_path: Path) -> None:
    def dies(trial: Any, *_: Any) -> Run:
        yield
        if trial.seed == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done", ""

    _drain(tmp_path, dies)
    assert _statuses(tmp_path) == ["done", "failed"]


def test_a_worker_that_has_to_stop_passes_that_on_to_the_trial_and_waits_for_it(planned: Plan, tmp_path: Path) -> None:
    begun = time.monotonic()

    def stops_late(_: Any, __: Any, folder: Path, report: Report, should_stop: Callable[[], bool], *___: Any) -> Run:
        yield
        while not should_stop():
            time.sleep(0.01)
        raise Interrupted

    _drain(tmp_path, stops_late, lambda: time.monotonic() - begun > 0.5)
    first, second = planned.trials
    assert read_attempt(tmp_path, first.trial_id, 1)["status"] == "interrupted"
    assert read_attempt(tmp_path, second.trial_id, 1) == {}


def test_no_process_is_started_for_trials_that_others_hold(planned: Plan, tmp_path: Path) -> None:
    held = [claim(tmp_path, trial.trial_id, LeaseObserver()) for trial in planned.trials]
    assert all(held)
    leases = LeaseObserver()
    with executing(_fails):
        for trial in planned.trials:
            assert isolation.run_pack_in_fork([trial], Surroundings(tmp_path), lambda: False, leases) == ["taken"]


def _fails(*_: Any) -> Run:
    raise AssertionError("a process was started")


def test_an_empty_lease_file_is_taken_over(planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_loop, "LeaseObserver", lambda: LeaseObserver(stale_seconds=0.5))
    first = planned.trials[0]
    torn = attempt_file(tmp_path, first.trial_id, 1)
    torn.parent.mkdir(parents=True)
    torn.touch()

    def done(*_: Any) -> Run:
        yield
        return "done", ""

    _drain(tmp_path, done)
    assert _statuses(tmp_path) == ["done", "done"]


def test_a_device_that_cannot_compute_costs_no_trial(planned: Plan, tmp_path: Path) -> None:
    with pytest.raises(BrokenDevice, match="cuda:99 cannot be used"):
        drain(Surroundings(tmp_path, isolate=True, device="cuda:99"), lambda: False, stay=True)
    assert not record_files(tmp_path) and not (tmp_path / "trials").exists()


def test_a_thread_left_behind_does_not_delay_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "ENDING_SECONDS", 0.2)

    def leaves_a_thread(_: Any) -> str:
        threading.Thread(target=time.sleep, args=[60]).start()
        return "fine"

    begun = time.monotonic()
    assert isolation.run_in_fork(leaves_a_thread) == "fine"
    assert time.monotonic() - begun < 30


def test_errors_of_the_forked_process_are_raised_in_the_worker() -> None:
    def full(_: Any) -> None:
        raise Unwritable("the disk is full")

    def broken(_: Any) -> None:
        raise BrokenDevice("an illegal access")

    with pytest.raises(Unwritable, match="the disk is full"):
        isolation.run_in_fork(full)
    with pytest.raises(BrokenDevice, match="an illegal access"):
        isolation.run_in_fork(broken)
    with pytest.raises(Unwritable, match="ZeroDivisionError"):
        isolation.run_in_fork(lambda _: 1 / 0)
    assert isolation.run_in_fork(lambda _: "fine") == "fine"
