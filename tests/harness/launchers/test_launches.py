"""Claims: what is launched is noted with its code, and a cancelled launch is not taken for one that goes on."""

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from launching import PLUGINS
from rich.console import Console

from twinbench.harness.launchers import slurm_queue, slurm_slot, worker_pool
from twinbench.harness.launchers.code_snapshot import snapshot
from twinbench.harness.launchers.launcher import CannotStart
from twinbench.harness.launchers.ray_actors import Actors
from twinbench.harness.launchers.site import RaySite
from twinbench.harness.launchers.slurm_queue import departed_slots, launched
from twinbench.harness.launchers.worker_pool import WorkerPool
from twinbench.harness.monitor.progress_bars import ProgressBars
from twinbench.harness.monitor.terminal import status_text
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.layout import (
    cancel,
    clear_worker_error,
    launch_notes,
    missing,
    note_worker_error,
    why_unplanned,
    worker_error,
    write_launch,
    write_plan,
)
from twinbench.harness.run_folder.leases import LeaseObserver, claim
from twinbench.harness.run_folder.progress import running_attempts
from twinbench.harness.system import provenance
from twinbench.harness.trial.execute import Surroundings
from twinbench.results.attempts import attempt_file, read_attempt
from twinbench.results.record import record_files

Planner = Callable[..., Plan]


def test_a_cancelled_job_is_not_found_again(tmp_path: Path) -> None:
    write_launch(tmp_path, "slurm-7", {"job_id": "7", "name": "a"})
    assert launched(tmp_path) == {"7": "a"}
    (aside,) = cancel(tmp_path)
    assert json.loads(aside.read_text())["job_id"] == "7"
    assert launched(tmp_path) == {}
    write_launch(tmp_path, "slurm-8", {"job_id": "8", "name": "a"})
    assert launched(tmp_path) == {"8": "a"}


def test_a_queue_is_empty_after_two_answers_in_a_row_and_asked_less_often_while_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, clock, asked = iter([1, 0, None, 0, 2, 0, 0]), [0.0], list[float]()

    def slots_in_queue(jobs: dict[str, str]) -> int | None:
        asked.append(clock[0])
        return next(answers)

    monkeypatch.setattr(slurm_queue, "slots_in_queue", slots_in_queue)
    monkeypatch.setattr(slurm_queue.time, "monotonic", lambda: clock[0])
    queue = slurm_queue.Queue({"7": "a"}, _asked_at=0.0)
    while not queue.is_empty():
        clock[0] += 1
    pauses = [after - before for before, after in itertools.pairwise([0.0, *asked])]
    assert pauses == [10, 15, 10, 15, 10, 15, 10]  # after a slot or no answer half as long again
    assert next(answers, None) is None


@pytest.mark.parametrize(
    ("answers", "left", "counted"),
    [
        ([{}, {}], (), 0),
        ([{}, {"7_0": "PENDING"}], (), 1),  # one answer without slots proves nothing
        ([{"7_0": "RUNNING", "7_1": "COMPLETING"}], (), 2),
        ([{"7_0": "COMPLETING"}, {"7_0": "PENDING"}], (), 1),  # it was requeued
        ([{"7_0": "COMPLETING"}, {}, {}], (), 0),
        ([{"7_0": "COMPLETING"}] * 17, (), 0),  # its node does not let go of it
        ([{"7_0": "RUNNING", "7_1": "RUNNING"}], ("7_0",), 1),
        ([{"7_0": "RUNNING"}], ("7_0",), 0),
        ([None], (), None),
    ],
)
def test_slots_count_that_take_trials_or_will(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[dict[str, str] | None],
    left: tuple[str, ...],
    counted: int | None,
) -> None:
    told = iter(answers)
    monkeypatch.setattr(slurm_queue, "_states_of_slots", lambda jobs: next(told))
    clock = [0.0]
    monkeypatch.setattr(slurm_queue.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(slurm_queue.time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    departed_slots(tmp_path).mkdir(parents=True)
    for slot in left:
        (departed_slots(tmp_path) / slot).touch()
    assert slurm_queue.slots_to_count_on(tmp_path, {"7": "a"}) == counted
    assert next(told, "none") == "none"


def test_a_slot_goes_on_after_a_signal_that_nothing_follows_and_says_when_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[bool] = []

    class Pool:
        """Is sent SIGTERM in its first run, and looks in the second whether the slot counts as one that works."""

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
    monkeypatch.setattr(slurm_slot, "planned_trials", lambda folder: [])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    try:
        slurm_slot.Slot(Surroundings(tmp_path), "cpu", 1, 1, 0)()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ran == [True, False]
    assert [path.name for path in departed_slots(tmp_path).iterdir()] == ["7"]


def test_a_slot_that_finds_no_more_looks_once_more_and_takes_what_was_planned_since(
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


def test_a_slot_in_its_grace_ends_at_a_cancel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_worker_that_its_slot_kills_does_not_count_as_one_that_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen([sys.executable, "-c", STUBBORN, str(tmp_path), "a"], stdout=subprocess.PIPE)

    class Child:
        """What multiprocessing tells of a child."""

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


def test_last_words_of_a_worker_stay_until_its_launch_starts_others_and_are_told_by_status(
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


@pytest.mark.slow
def test_a_device_that_computes_nothing_is_let_go_and_the_others_do_its_work(
    tiny_plan: Planner, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "FAILED_STARTS_ALLOWED", 1)
    planned = tiny_plan("methods=simclr", "baselines=false")
    write_plan(tmp_path, planned)
    nowhere = "cuda:99"
    with pytest.raises(CannotStart, match="in a row ended as they started on cuda:99"):
        WorkerPool(Surroundings(tmp_path), 1, [nowhere]).run(lambda: False)
    assert not list(tmp_path.glob("trials/*")) and "cuda:99 cannot be used" in capfd.readouterr().err
    WorkerPool(Surroundings(tmp_path), 2, [nowhere, "cpu"], stay=False).run(lambda: False)
    assert len(record_files(tmp_path)) == len(planned.trials)


def test_a_worker_that_has_worked_is_replaced_whatever_others_failed_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool(Surroundings(tmp_path), 2, ["cpu"])
    started: list[str] = []
    ended = SimpleNamespace(is_alive=lambda: False, join=lambda: None, exitcode=-signal.SIGKILL)
    silent = SimpleNamespace(poll=lambda: False, close=lambda: None)
    monkeypatch.setattr(pool, "_start", lambda device: started.append(device))
    pool._failed_starts["cpu"] = worker_pool.FAILED_STARTS_ALLOWED
    pool._workers = [worker_pool._Worker(ended, silent, "cpu", is_ready=True)]  # type: ignore[arg-type]
    pool._replace_ended()
    assert started == ["cpu"]


def test_what_was_given_up_before_a_run_is_not_told_as_its_end(tiny_plan: Planner, tmp_path: Path) -> None:
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


def test_trials_are_at_work_whose_process_is_seen_to_live(tmp_path: Path) -> None:
    held = claim(tmp_path, "held", LeaseObserver(), "ray 12345678 actor 3")
    assert held is not None
    for trial_id, told in [("ended", {"status": "interrupted"}), ("died", {"process_start": "gone"})]:
        assert claim(tmp_path, trial_id, LeaseObserver()) is not None
        file = attempt_file(tmp_path, trial_id, 1)
        file.write_text(json.dumps(json.loads(file.read_text()) | told))
    assert [attempt["where"] for attempt in running_attempts(tmp_path)] == ["ray 12345678 actor 3"]


def _end(folder: Path, trial_id: str, reason: str, later: bool = False) -> None:
    attempt = claim(folder, trial_id, LeaseObserver())
    assert attempt is not None
    attempt.end("interrupted", reason)
    if later:
        file = attempt_file(folder, trial_id, attempt.number)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"updated": "2999-01-01T00:00:00+00:00"}))


def test_trials_that_left_the_folders_plan_are_not_waited_for(tiny_plan: Planner, tmp_path: Path) -> None:
    first, other = tiny_plan("methods=simclr", "seeds=[0, 1]"), tiny_plan("methods=simclr", "seeds=[1, 2]")
    write_plan(tmp_path, first)
    write_plan(tmp_path, other)  # nothing was begun, so it takes the other's place
    assert {trial.seed for trial in missing(first, tmp_path)} == {1}
    assert "without" in why_unplanned(tmp_path, first) and why_unplanned(tmp_path, other) == ""


@pytest.mark.parametrize(
    ("site", "room"),
    [
        (RaySite(cpus=2), 2),
        (RaySite(cpus=1, gpus=0.5), 2),
        (RaySite(cpus=1, gpus=0.1), 4),
        (RaySite(cpus=8), 0),
        (RaySite(labels={"region": "eu"}), 4),
        (RaySite(labels={"region": "us"}), 0),
        (RaySite(labels={"region": "!us"}), 4),
        (RaySite(resources={"licence": 1}), 0),
    ],
)
def test_a_node_has_room_for_as_many_actors_as_its_scarcest_resource(tmp_path: Path, site: RaySite, room: int) -> None:
    actors = Actors(Surroundings(tmp_path), site)
    assert actors._actors_on({"Resources": {"CPU": 4.0, "GPU": 1.0}, "Labels": {"region": "eu"}}) == room


@pytest.mark.parametrize(
    ("site", "actors", "processes"),
    [
        (RaySite(cpus=2), None, 8),
        (RaySite(cpus=2), 3, 3),
        (RaySite(cpus=1, gpus=0.25), None, 4),
        (RaySite(cpus=8, gpus=0.25), None, 2),
        (RaySite(cpus=1, gpus=1), 4, 1),
        (RaySite(cpus=64), None, 1),  # it waits for a node that fits
    ],
)
def test_packs_are_measured_by_as_many_as_a_node_or_a_gpu_will_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: RaySite, actors: int | None, processes: int
) -> None:
    nodes = [{"Resources": {"CPU": 4.0}}, {"Resources": {"CPU": 16.0, "GPU": 8.0}}]
    monkeypatch.setattr(Actors, "_nodes", lambda self: nodes)
    assert Actors(Surroundings(tmp_path), site)._sharing(actors) == processes


def test_the_code_of_other_packages_methods_is_kept_with_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "misbehaving.py"
    module.write_bytes((PLUGINS / "misbehaving.py").read_bytes())
    monkeypatch.setattr(provenance, "other_packages", lambda: (module,))
    hashes = []
    for content in ("first = 1\n", "second = 2\n"):
        module.write_text(content)
        provenance.code_hash.cache_clear()
        provenance.package_hash.cache_clear()
        hashes.append(provenance.code_hash())
        code = snapshot(tmp_path / "run")
        assert code.name == provenance.package_hash()[:16]
        assert (code / "misbehaving.py").read_text() == content
        assert (code / "twinbench" / "methods" / "byol.py").exists()
    provenance.code_hash.cache_clear()
    provenance.package_hash.cache_clear()
    assert hashes[0] != hashes[1]


def test_the_package_of_an_entry_point_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))
    assert provenance.other_packages.__wrapped__() == (PLUGINS / "misbehaving.py",)
