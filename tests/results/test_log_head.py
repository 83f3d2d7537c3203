"""A trial keeps the head of the log of declarations: the lines that are complete, and the digest of the last."""

from datetime import UTC, datetime

import pytest

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.declarations import declare, read_log
from twinbench.results.log_head import LogHead, read_log_head, recorded_head
from twinbench.results.record import DECLARATIONS

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def claim(name: str) -> Claim:
    return Claim(name, "It holds.", "better", {"method": "simclr"}, b={"method": "byol"}, protocol="invented")


def test_the_head_is_what_declare_returned_and_the_log_continues_it(tmp_path):
    assert read_log_head(tmp_path) == LogHead(0, "")
    heads = [LogHead(0, "")]
    for number, name in enumerate(("one", "two"), 1):
        _, digest = declare([claim(name)], tmp_path, NOW)
        heads.append(LogHead(number, digest))
        assert read_log_head(tmp_path) == heads[-1]
    log = read_log(tmp_path)
    assert [log.contradiction(head) for head in heads] == ["", "", ""]
    assert [log.place(entry) for entry in log.entries] == [1, 2]


def test_a_line_that_is_being_written_does_not_count(tmp_path):
    _, digest = declare([claim("one")], tmp_path, NOW)
    with (tmp_path / DECLARATIONS).open("a") as log:
        log.write('{"name": "tw')
    assert read_log_head(tmp_path) == LogHead(1, digest)


@pytest.mark.parametrize("content", [b"[]\n", b"{}\n", b"no JSON\n", None], ids=str)
def test_a_log_that_cannot_be_read_has_no_head(tmp_path, content):
    if content is None:
        (tmp_path / DECLARATIONS).mkdir()
    else:
        (tmp_path / DECLARATIONS).write_bytes(content)
    assert read_log_head(tmp_path) is None


@pytest.mark.parametrize(
    "kept",
    [None, 5, {}, {"count": 1}, {"count": True, "head": "a"}, {"count": -1, "head": ""}, {"count": 1, "head": 2}],
)
def test_a_record_without_a_head_of_the_right_form_keeps_none(kept):
    assert recorded_head({"declarations": kept}) is None
    assert recorded_head({"declarations": {"count": 2, "head": "a"}}) == LogHead(2, "a")
