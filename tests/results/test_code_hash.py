"""Code hashes of one kind decide whether code is the same; of two kinds, the commits may."""

import pytest

from twinbench.results.code_hash import is_same_code, kind

OLD, OTHER_OLD, NEW, OTHER_NEW = "d" * 64, "e" * 64, "2:" + "d" * 64, "2:" + "e" * 64
ONE, ANOTHER, CHANGED = "c" * 40, "f" * 40, "c" * 40 + "+changes"


@pytest.mark.parametrize(
    ("made_by", "is_same"),
    [
        ([(OLD, ONE), (OLD, ANOTHER)], True),
        ([(NEW, ONE), (NEW, ANOTHER)], True),
        ([(OLD, ONE), (OTHER_OLD, ONE)], False),
        ([(NEW, ONE), (OTHER_NEW, ONE)], False),
        ([(OLD, ONE), (None, ONE)], False),
        ([(OLD, ONE), (NEW, ONE)], True),
        ([(OLD, ONE), (NEW, ANOTHER)], None),
        ([(OLD, CHANGED), (NEW, CHANGED)], None),
        ([(OLD, ""), (NEW, None)], None),
        ([(OLD, ONE), (NEW, ONE), (OTHER_NEW, ONE)], False),
        ([], True),
    ],
)
def test_hashes_of_one_kind_are_compared_and_across_kinds_only_clean_commits(
    made_by: list[tuple[str | None, str | None]], is_same: bool | None
) -> None:
    assert is_same_code(made_by) is is_same


def test_the_kind_stands_before_the_colon() -> None:
    assert [kind(one) for one in (OLD, NEW, None)] == ["", "2", ""]
