"""Claims: only slots that will take trials are counted, and a cancelled job is not taken for one that continues."""

import itertools
import json
from pathlib import Path

import pytest

from twinbench.harness.launchers import slurm_queue
from twinbench.harness.launchers.slurm_queue import departed_slots, launched
from twinbench.harness.run_folder.layout import cancel, write_launch


def test_a_cancelled_job_is_not_found_again(tmp_path: Path) -> None:
    write_launch(tmp_path, "slurm-7", {"job_id": "7", "name": "a"})
    assert launched(tmp_path) == {"7": "a"}
    (aside,) = cancel(tmp_path)
    assert json.loads(aside.read_text())["job_id"] == "7"
    assert launched(tmp_path) == {}
    write_launch(tmp_path, "slurm-8", {"job_id": "8", "name": "a"})
    assert launched(tmp_path) == {"8": "a"}


def test_a_queue_is_empty_after_two_empty_answers_in_a_row_and_is_queried_less_often_while_it_has_slots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = {"7_0": "RUNNING"}
    answers, clock, queried_at = iter([slots, {}, None, {}, slots, {}, {}]), [0.0], list[float]()

    def states_of_slots(jobs: dict[str, str]) -> dict[str, str] | None:
        queried_at.append(clock[0])
        return next(answers)

    monkeypatch.setattr(slurm_queue, "_states_of_slots", states_of_slots)
    monkeypatch.setattr(slurm_queue.time, "monotonic", lambda: clock[0])
    queue = slurm_queue.Queue({"7": "a"}, _queried_at=0.0)
    while not queue.is_empty():
        clock[0] += 1
    pauses = [after - before for before, after in itertools.pairwise([0.0, *queried_at])]
    assert pauses == [10, 15, 10, 15, 10, 15, 10]  # after a slot or no answer half as long again
    assert next(answers, "none") == "none"


@pytest.mark.parametrize(
    ("answers", "departed", "counted"),
    [
        ([{}, {}], (), 0),
        ([{}, {"7_0": "PENDING"}], (), 1),  # one answer without slots proves nothing
        ([{"7_0": "RUNNING", "7_1": "COMPLETING"}], (), 2),
        ([{"7_0": "COMPLETING"}, {"7_0": "PENDING"}], (), 1),  # it was requeued
        ([{"7_0": "COMPLETING"}, {}, {}], (), 0),
        ([{"7_0": "COMPLETING"}] * 17, (), 0),  # its node does not release it
        ([{"7_0": "RUNNING", "7_1": "RUNNING"}], ("7_0",), 1),
        ([{"7_0": "RUNNING"}], ("7_0",), 0),
        ([None], (), None),
    ],
)
def test_only_slots_that_take_trials_or_will_are_counted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[dict[str, str] | None],
    departed: tuple[str, ...],
    counted: int | None,
) -> None:
    remaining_answers = iter(answers)
    monkeypatch.setattr(slurm_queue, "_states_of_slots", lambda jobs: next(remaining_answers))
    clock = [0.0]
    monkeypatch.setattr(slurm_queue.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(slurm_queue.time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    for slot in departed:
        (departed_slots(tmp_path) / slot).touch()
    assert slurm_queue.slots_to_count_on(tmp_path, {"7": "a"}) == counted
    assert next(remaining_answers, "none") == "none"
