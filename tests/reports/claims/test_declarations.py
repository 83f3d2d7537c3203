"""Claims: what was declared stays on record with its time, and whatever is done to the log shows."""

import hashlib
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import PROTOCOL

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.declarations import declare, read_log
from twinbench.results.record import DECLARATIONS
from twinbench.sweeps.errors import InvalidInput
from twinbench.sweeps.sweep import read_protocol

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def claim(name: str = "one", sentence: str = "On CIFAR-10 it holds.") -> Claim:
    return Claim(name, sentence, "better", {"method": "simclr"}, b={"method": "byol"}, protocol="cifar10-small")


def lines(folder: Path) -> list[str]:
    return (folder / DECLARATIONS).read_text(encoding="utf-8").split("\n")[:-1]


def rewrite(folder: Path, rows: list[str]) -> None:
    (folder / DECLARATIONS).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def test_a_declaration_holds_hash_time_and_what_was_recorded_then(tmp_path, synthetic_run):
    folder = synthetic_run.folder
    new, head = declare([claim()], folder, NOW)
    (entry,) = new
    assert (entry.name, entry.claim, entry.time) == ("one", claim().hash, "2026-01-02T03:04:05+00:00")
    assert (entry.recorded, entry.previous, head) == (0, "", entry.digest)
    assert entry.protocol == read_protocol("cifar10-small").hash
    synthetic_run.planned_and_recorded(0.9)
    ((second,), _) = declare([claim("two")], folder, NOW)
    assert (second.recorded, second.previous) == (1, head)
    assert read_log(folder).entries == (entry, second)


def test_each_line_is_digested_with_the_digest_of_the_line_before(tmp_path):
    declare([claim(), claim("two")], tmp_path, NOW)
    previous = ""
    for line in lines(tmp_path):
        entry = json.loads(line)
        digest = entry.pop("digest")
        canonical = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert entry["previous"] == previous
        assert digest == hashlib.sha256(canonical.encode()).hexdigest()
        previous = digest


def test_a_claim_is_declared_once_and_its_first_time_stays(tmp_path):
    declare([claim()], tmp_path, NOW)
    new, head = declare([claim(), claim("two")], tmp_path, NOW + timedelta(days=1))
    assert [entry.name for entry in new] == ["two"]
    log = read_log(tmp_path)
    assert log.of(claim()).time == "2026-01-02T03:04:05+00:00"
    assert declare([claim()], tmp_path, NOW + timedelta(days=2)) == ([], head)
    assert len(lines(tmp_path)) == 2


def test_a_changed_claim_is_another_one_under_the_same_name(tmp_path):
    declare([claim()], tmp_path, NOW)
    log = read_log(tmp_path)
    changed = replace(claim(), at_least=0.01)
    assert log.of(changed) is None
    assert [entry.claim for entry in log.named("one")] == [claim().hash]


def test_a_declaration_has_the_hash_of_ones_own_protocol_and_none_of_an_unknown_one(tmp_path):
    own = replace(claim(), protocol="mine")
    ((entry,), _) = declare([own], tmp_path / "known", NOW, {"mine": "5" * 64})
    assert entry.protocol == "5" * 64
    ((entry,), _) = declare([own], tmp_path / "unknown", NOW)
    assert entry.protocol == "" and "protocol" not in json.loads(lines(tmp_path / "unknown")[0])


def test_the_plan_of_the_folder_says_what_its_protocol_is(tmp_path, synthetic_run):
    synthetic_run.planned_and_recorded(0.9)
    ((entry,), _) = declare([replace(claim(), protocol="synthetic")], synthetic_run.folder, NOW)
    assert entry.protocol == PROTOCOL["hash"]


def test_a_claim_is_declared_again_when_its_protocol_was_changed(tmp_path):
    own = replace(claim(), protocol="mine")
    first, second = "5" * 64, "6" * 64
    declare([own], tmp_path, NOW, {"mine": first})
    assert declare([own], tmp_path, NOW, {"mine": first})[0] == []
    declare([own], tmp_path, NOW + timedelta(days=1), {"mine": second})
    log = read_log(tmp_path)
    assert log.of(own, [{first}]).time < log.of(own, [{second, "its base"}]).time
    assert log.of(own, [{"7" * 64}]) is None and log.of(own).protocol == first


def test_a_line_without_a_protocol_from_an_earlier_version_is_valid_for_any(tmp_path):
    entry = {"name": "one", "claim": claim().hash, "time": NOW.isoformat(timespec="seconds"), "recorded": 0}
    entry |= {"previous": ""}
    canonical = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    rewrite(tmp_path, [json.dumps(entry | {"digest": hashlib.sha256(canonical.encode()).hexdigest()})])
    log = read_log(tmp_path)
    assert log.problem == "" and log.of(claim(), [{"any"}]) == log.entries[0]
    assert declare([claim()], tmp_path, NOW)[0] == []
    declare([claim("two")], tmp_path, NOW)
    assert read_log(tmp_path).problem == ""


def test_removing_or_emptying_the_protocol_of_a_line_breaks_the_chain(tmp_path):
    declare([claim()], tmp_path, NOW)
    entry = json.loads(lines(tmp_path)[0])
    without = {key: value for key, value in entry.items() if key != "protocol"}
    rewrite(tmp_path, [json.dumps(without)])
    assert "line 1 was changed" in read_log(tmp_path).problem
    rewrite(tmp_path, [json.dumps(entry | {"protocol": ""})])
    assert "line 1 is not a declaration" in read_log(tmp_path).problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "other"),
        ("claim", "0" * 64),
        ("time", "2020-01-01T00:00:00+00:00"),
        ("recorded", 7),
        ("previous", "x"),
        ("protocol", "0" * 64),
    ],
)
def test_an_edited_line_breaks_the_chain_from_there_on(tmp_path, key, value):
    declare([claim(), claim("two"), claim("three")], tmp_path, NOW)
    rows = lines(tmp_path)
    rewrite(tmp_path, [rows[0], json.dumps(json.loads(rows[1]) | {key: value}), rows[2]])
    log = read_log(tmp_path)
    assert [entry.name for entry in log.entries] == ["one"]
    assert log.problem == f"{DECLARATIONS}: line 2 was changed, or a line before it was removed"


def test_a_dropped_moved_or_doubled_line_breaks_the_chain(tmp_path):
    declare([claim(), claim("two"), claim("three")], tmp_path, NOW)
    one, two, three = lines(tmp_path)
    for rows in ([two, three], [one, three], [two, one, three], [one, one, two, three]):
        rewrite(tmp_path, rows)
        assert "was changed, or a line before it was removed" in read_log(tmp_path).problem
    rewrite(tmp_path, [one, two])  # the end may be cut off: only a copy of the last digest shows that
    assert read_log(tmp_path).problem == ""


@pytest.mark.parametrize(
    "line",
    ["", "rubbish", "[]", "{}", "null", "[" * 100_000, '{"name": "one"}', '{"name": 1, "claim": "", "time": ""}'],
)
def test_what_is_no_declaration_is_named_and_nothing_after_it_counts(tmp_path, line):
    declare([claim(), claim("two")], tmp_path, NOW)
    one, two = lines(tmp_path)
    rewrite(tmp_path, [one, line, two])
    log = read_log(tmp_path)
    assert log.problem == f"{DECLARATIONS}: line 2 is not a declaration"
    assert len(log.entries) == 1


def test_a_value_of_another_type_is_no_declaration(tmp_path):
    declare([claim()], tmp_path, NOW)
    entry = json.loads(lines(tmp_path)[0])
    for key, value in (("recorded", True), ("recorded", "0"), ("name", None), ("extra", 1)):
        rewrite(tmp_path, [json.dumps(entry | {key: value})])
        assert "is not a declaration" in read_log(tmp_path).problem


def test_a_broken_log_takes_no_declaration_and_stays_as_it_is(tmp_path):
    declare([claim()], tmp_path, NOW)
    rewrite(tmp_path, ["rubbish"])
    with pytest.raises(InvalidInput, match="cannot take declarations"):
        declare([claim("two")], tmp_path, NOW)
    assert lines(tmp_path) == ["rubbish"]


def test_a_clock_that_went_back_is_refused(tmp_path):
    declare([claim()], tmp_path, NOW)
    with pytest.raises(InvalidInput, match="the clock is earlier than the last declaration"):
        declare([claim("two")], tmp_path, NOW - timedelta(seconds=1))


def test_a_log_that_cannot_be_read_or_written_is_reported(tmp_path):
    (tmp_path / DECLARATIONS).write_bytes(b"\xff\xfe")
    assert "cannot be read" in read_log(tmp_path).problem
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        declare([claim()], tmp_path / "file" / "run", NOW)
    (tmp_path / "run" / DECLARATIONS).mkdir(parents=True)
    assert "cannot be read" in read_log(tmp_path / "run").problem
    with pytest.raises(InvalidInput, match="cannot be written"):
        declare([claim()], tmp_path / "run", NOW)


def test_no_folder_and_an_empty_log_hold_no_declarations(tmp_path):
    assert read_log(tmp_path / "nowhere").entries == ()
    (tmp_path / DECLARATIONS).touch()
    assert read_log(tmp_path) == read_log(tmp_path / "nowhere")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\n", "\r"])
def test_a_line_separator_in_a_name_does_not_break_the_log(tmp_path, separator):
    declare([claim(f"a{separator}b"), claim("two")], tmp_path, NOW)
    log = read_log(tmp_path)
    assert [entry.name for entry in log.entries] == [f"a{separator}b", "two"] and log.problem == ""


def test_declarations_at_the_same_moment_follow_one_another(tmp_path):
    threads = [threading.Thread(target=declare, args=([claim(str(number))], tmp_path, NOW)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = read_log(tmp_path)
    assert log.problem == "" and {entry.name for entry in log.entries} == {str(number) for number in range(20)}
