import json

import pytest

from twinbench.results.attempts import attempt_file, attempt_numbers, last_attempt, latest_attempt, read_attempt


def write(folder, number, text):
    file = attempt_file(folder, "a", number)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_attempts_are_numbered_by_their_files_and_other_files_are_none(tmp_path):
    assert attempt_numbers(tmp_path, "a") == []
    assert latest_attempt(tmp_path, "a") == (0, {})
    for number in (2, 10_000, 1):
        write(tmp_path, number, json.dumps({"number": number}))
    for name in ("attempt-0003.log", "attempt-3.json", "attempt-0004.json.tmp", "attempt-0005.record.json"):
        (tmp_path / "trials" / "a" / name).write_text("{}")
    assert attempt_numbers(tmp_path, "a") == [1, 2, 10_000]
    assert last_attempt(tmp_path, "a") == {"number": 10_000}


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000])
def test_a_file_that_holds_no_table_says_nothing_and_is_still_an_attempt(tmp_path, text):
    write(tmp_path, 3, text)
    assert latest_attempt(tmp_path, "a") == (3, {})


def test_values_of_the_wrong_type_are_left_out_and_so_are_unknown_keys(tmp_path):
    right = {"number": 1, "status": "running", "parent": 7, "from_step": 3, "images_per_second": 1.5}
    wrong = {"beat": True, "step": "4", "steps": 4.0, "epoch": None, "reason": 5, "host": [], "started": 0, "pid": -1}
    wrong |= {"seconds": 1e300, "later": 1}
    write(tmp_path, 1, json.dumps(right | wrong))
    assert read_attempt(tmp_path, "a", 1) == right
