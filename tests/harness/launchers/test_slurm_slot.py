"""Claims: a slot works until no trial is free, and neither a stray signal nor a kill loses a trial."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from twinbench.harness.launchers import slurm_slot
from twinbench.harness.launchers.slurm_queue import departed_slots
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.layout import (
    cancel,
    write_plan,
)
from twinbench.harness.run_folder.leases import LeaseObserver, claim
from twinbench.harness.trial.execute import Surroundings
from twinbench.results.attempts import read_attempt

Planner = Callable[..., Plan]


def test_a_slot_continues_after_a_stray_sigterm_and_marks_itself_when_it_departs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[bool] = []

    class Pool:
        """Receives SIGTERM in its first run; neither run may find a mark that the slot has departed."""

        def __init__(self, *given: object, **named: object):
            pass

        def run(self, is_over: Callable[[], bool]) -> None:
            if not ran:
                os.kill(os.getpid(), signal.SIGTERM)
            ran.append(is_over())
            assert not list(departed_slots(tmp_path).glob("*"))

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(slurm_slot, "WorkerPool", Pool)
    monkeypatch.setattr(slurm_slot, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(slurm_slot, "_requeue_if_preempted", lambda: None)
    monkeypatch.setattr(slurm_slot, "unrecorded_trials", lambda folder: [])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    try:
        slurm_slot.Slot(Surroundings(tmp_path), "cpu", 1, 1, 0)()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ran == [True, False]
    assert [path.name for path in departed_slots(tmp_path).iterdir()] == ["7"]


def test_a_slot_without_work_looks_again_and_takes_trials_that_were_planned_since(
    tiny_plan: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = tiny_plan("methods=simclr", "baselines=false")
    write_plan(tmp_path, planned)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert slurm_slot._leaves_work(tmp_path)
    held = [claim(tmp_path, trial.trial_id, LeaseObserver()) for trial in planned.trials]
    assert not slurm_slot._leaves_work(tmp_path)
    held[0].end("interrupted")
    assert slurm_slot._leaves_work(tmp_path)


def test_a_slot_that_waits_for_slurm_to_end_it_returns_at_a_cancel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            cancel(tmp_path)

    monkeypatch.setattr(slurm_slot.time, "sleep", sleep)
    slurm_slot._wait_for_the_end(tmp_path)
    assert slept == [1, 1, 1]


STUBBORN = """
import pathlib, signal, sys, time
from twinbench.harness.run_folder.leases import LeaseObserver, claim
signal.signal(signal.SIGTERM, signal.SIG_IGN)
claim(pathlib.Path(sys.argv[1]), sys.argv[2], LeaseObserver())
print(flush=True)
time.sleep(60)
"""


def test_a_worker_killed_by_its_slot_counts_as_interrupted_and_not_as_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen([sys.executable, "-c", STUBBORN, str(tmp_path), "a"], stdout=subprocess.PIPE)

    class Child:
        """Stands for multiprocessing's view of the child."""

        pid, kill = child.pid, child.kill

        def join(self, timeout: float | None = None) -> None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout)

        def is_alive(self) -> bool:
            return child.poll() is None

    assert child.stdout
    child.stdout.readline()
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [Child()])
    monkeypatch.setattr(slurm_slot, "SAVING_SECONDS", 0.1)
    slurm_slot.stop_children(tmp_path)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert claim(tmp_path, "a", LeaseObserver()) is not None
    assert read_attempt(tmp_path, "a", 1)["status"] == "interrupted"
