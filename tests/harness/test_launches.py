"""Claims: what is launched is noted with its code, and a cancelled launch is not taken for one that goes on."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import PLUGINS

from twinbench.harness import provenance
from twinbench.harness.execute import Surroundings
from twinbench.harness.launchers import slurm
from twinbench.harness.launchers.ray import Actors
from twinbench.harness.launchers.slurm import launched
from twinbench.harness.run_folder import cancel, last_words, launch_notes, leave_last_words, write_launch
from twinbench.harness.site import RaySite
from twinbench.harness.snapshot import snapshot


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

    monkeypatch.setattr(slurm, "slots_in_queue", slots_in_queue)
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock[0])
    queue = slurm.Queue({"7": "a"}, _asked_at=0.0)
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
    monkeypatch.setattr(slurm, "_states_of_slots", lambda jobs: next(told))
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)
    slurm._left(tmp_path).mkdir(parents=True)
    for slot in left:
        (slurm._left(tmp_path) / slot).touch()
    assert slurm.slots_to_count_on(tmp_path, {"7": "a"}) == counted
    assert next(told, "none") == "none"


def test_a_slot_goes_on_after_a_signal_that_nothing_follows_and_says_when_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[bool] = []

    class Launcher:
        """Is sent SIGTERM in its first run, and looks in the second whether the slot counts as one that works."""

        def __init__(self, *given: object, **named: object):
            pass

        def run(self, is_over: Callable[[], bool]) -> None:
            if not ran:
                os.kill(os.getpid(), signal.SIGTERM)
            ran.append(is_over())
            assert not list(slurm._left(tmp_path).glob("*"))

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(slurm, "LocalLauncher", Launcher)
    monkeypatch.setattr(slurm, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "_requeue_if_preempted", lambda: None)
    monkeypatch.setattr(slurm, "planned_trials", lambda folder: [])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    try:
        slurm.Slot(Surroundings(tmp_path), "cpu", 1, 1, 0)()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ran == [True, False]
    assert [path.name for path in slurm._left(tmp_path).iterdir()] == ["7"]


def test_last_words_of_a_worker_are_read_once(tmp_path: Path) -> None:
    assert last_words(tmp_path, "ray-a") == ""
    leave_last_words(tmp_path, "ray-a", ValueError("no such thing"), "node 7")
    assert last_words(tmp_path, "ray-b") == ""
    assert last_words(tmp_path, "ray-a") == "ValueError: no such thing, on node 7"
    assert last_words(tmp_path, "ray-a") == ""
    assert launch_notes(tmp_path) == []


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
    assert actors._room({"CPU": 4.0, "GPU": 1.0}, {"region": "eu"}) == room


def test_the_code_of_other_packages_methods_is_kept_with_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "misbehaving.py"
    module.write_bytes((PLUGINS / "misbehaving.py").read_bytes())
    monkeypatch.setattr(provenance, "other_packages", lambda: (module,))
    hashes = []
    for content in ("first = 1\n", "second = 2\n"):
        module.write_text(content)
        provenance.code_hash.cache_clear()
        hashes.append(provenance.code_hash())
        code = snapshot(tmp_path / "run")
        assert code.name == hashes[-1][:16]
        assert (code / "misbehaving.py").read_text() == content
        assert (code / "twinbench" / "methods" / "byol.py").exists()
    provenance.code_hash.cache_clear()
    assert hashes[0] != hashes[1]


def test_the_package_of_an_entry_point_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))
    assert provenance.other_packages.__wrapped__() == (PLUGINS / "misbehaving.py",)
