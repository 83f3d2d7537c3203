"""Attempts: what failed may run again, every result stands, and the record is that of an attempt that was made."""

import pytest

from twinbench.reports.claims.attempts import attempt_conflicts, attempts_at
from twinbench.reports.claims.run_context import unknown_trials
from twinbench.results.attempts import Attempt


def attempt(number: int, status: str, started: str = "") -> Attempt:
    return Attempt(trial_id="a", number=number, status=status, reason="", started=started)


def attempts(*statuses: str) -> list[Attempt]:
    return [attempt(number, status) for number, status in enumerate(statuses, 1)]


@pytest.mark.parametrize(
    ("statuses", "status", "recorded"),
    [
        (["done"], "done", 1),
        (["failed", "done"], "done", 2),  # run --retry failed
        (["failed", "failed"], "failed", 2),  # and failed again
        (["running", "died", "interrupted", "", "done"], "done", 5),  # none of the first four left a result
        (["done", "failed"], "done", 1),  # the worker that had lost its lease finished last
        (["done", "done"], "done", 2),  # both finished: results of one trial are equal
        (["diverged"], "diverged", 1),
        ([], "done", 1),  # a folder that was copied without its attempts
    ],
)
def test_these_attempts_agree_with_the_record(statuses, status, recorded):
    assert list(attempt_conflicts(attempts(*statuses), status, recorded)) == []


@pytest.mark.parametrize(
    ("statuses", "status", "recorded", "conflict"),
    [
        (["diverged", "done"], "done", 2, "attempt 1 ended as diverged, but its record says done"),
        (["done", "collapsed"], "done", 1, "attempt 2 ended as collapsed, but its record says done"),
        (["failed"], "done", 1, "attempt 1 ended as failed, but its record says done"),
        (["done", "failed"], "failed", 2, "attempt 1 ended as done, but its record says failed"),
        (["failed", "done"], "done", 1, "attempt 1 ended as failed, but its record says done"),
        (["done"], "done", 2, "its record names attempt 2, which does not exist"),
        (["done"], "done", None, "its record names attempt None, which does not exist"),
    ],
)
def test_these_attempts_contradict_the_record(statuses, status, recorded, conflict):
    assert list(attempt_conflicts(attempts(*statuses), status, recorded)) == [conflict]


def test_attempts_are_read_in_order_and_an_empty_file_is_an_attempt_without_status(tmp_path):
    folder = tmp_path / "trials" / "a"
    folder.mkdir(parents=True)
    (folder / "attempt-0002.json").write_text('{"status": "done", "started": "2026-01-01"}')
    (folder / "attempt-0001.json").write_text("")
    (folder / "attempt-0003.json").write_text("")
    (folder / "attempt-0001.log").write_text("printed")
    assert attempts_at(tmp_path, "a") == ([attempt(1, ""), attempt(2, "done", "2026-01-01"), attempt(3, "")], "")
    assert attempts_at(tmp_path, "b") == ([], "")


def test_attempts_that_cannot_be_read_are_told_from_none_and_may_have_ended(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "c").write_text("a file, not a folder")
    assert attempts_at(tmp_path, "c")[1].startswith("its attempts cannot be read (Not a directory)")
    (tmp_path / "trials" / "d" / "attempt-0001.json").mkdir(parents=True)
    assert attempts_at(tmp_path, "d")[1].startswith("its attempts cannot be read (Is a directory)")
    (tmp_path / "trials" / "e").mkdir()
    (tmp_path / "trials" / "e" / "attempt-0001.json").write_text('{"status": "running"}')
    assert unknown_trials(tmp_path, set()) == (("d",), ("e",))
    assert unknown_trials(tmp_path, {"d", "e"}) == ((), ())


@pytest.mark.parametrize(
    "text",
    [
        '{"status": "diverged"',
        "[]",
        "{}",
        '{"status": ["diverged"]}',
        '{"status": "done", "seconds": "9"}',
        '{"status": "done", "started": 0}',
    ],
)
def test_a_damaged_attempt_may_have_ended_otherwise_than_its_record(tmp_path, text):
    folder = tmp_path / "trials" / "a"
    folder.mkdir(parents=True)
    (folder / "attempt-0001.json").write_text('{"status": "done"}')
    (folder / "attempt-0002.json").write_text(text)
    found, problem = attempts_at(tmp_path, "a")
    assert found == [] and problem.startswith("its attempts cannot be read (the file ")
