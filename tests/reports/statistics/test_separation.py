import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from twinbench.reports.statistics.separation import leads, letters, significantly_different

HIGH = {0: 0.950, 1: 0.952, 2: 0.951, 3: 0.953}
NEAR = {0: 0.949, 1: 0.953, 2: 0.950, 3: 0.953}
LOW = {0: 0.800, 1: 0.803, 2: 0.800, 3: 0.804}


def test_distant_rows_differ_significantly_and_close_ones_do_not():
    different = significantly_different({"a": HIGH, "b": NEAR, "c": LOW})
    assert different == {frozenset("ab"): False, frozenset("ac"): True, frozenset("bc"): True}
    assert letters(different, ["a", "b", "c"]) == {"a": "a", "b": "a", "c": "b"}
    assert not leads(different, ["a", "b", "c"])
    assert leads(significantly_different({"a": HIGH, "c": LOW}), ["a", "c"])


def test_pairs_are_compared_by_paired_t_tests_with_holms_correction():
    rows = {"a": HIGH, "b": {0: 0.948, 1: 0.951, 2: 0.9485, 3: 0.952}, "c": {0: 0.94, 1: 0.95, 2: 0.93, 3: 0.96}}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    p = [stats.ttest_rel(list(rows[x].values()), list(rows[y].values())).pvalue for x, y in pairs]
    expected, *_ = multipletests(p, 0.05, "holm")
    assert significantly_different(rows) == {frozenset(pair): bool(e) for pair, e in zip(pairs, expected, strict=True)}
    assert p[0] < 0.05 < p[1]


def test_more_rows_make_a_difference_harder_to_find():
    a, b = {0: 0.90, 1: 0.91, 2: 0.92}, {0: 0.885, 1: 0.897, 2: 0.902}
    assert significantly_different({"a": a, "b": b})[frozenset("ab")]
    others = {f"z{n}": {0: 0.7, 1: 0.9, 2: 0.8} for n in range(4)}
    assert not significantly_different({"a": a, "b": b} | others)[frozenset("ab")]


def test_with_one_seed_nothing_is_significantly_different():
    assert significantly_different({"a": {0: 0.9}, "b": {0: 0.1}}) == {frozenset("ab"): False}


def test_with_a_reference_only_pairs_with_it_are_tested():
    assert set(significantly_different({"a": HIGH, "b": NEAR, "c": LOW}, "b")) == {frozenset("ab"), frozenset("bc")}


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        (["ac"], {"a": "a", "b": "ab", "c": "b", "d": "ab"}),
        (["ac", "ad", "bd"], {"a": "a", "b": "ab", "c": "bc", "d": "c"}),
        (["ab", "ac", "ad", "bc", "bd", "cd"], {"a": "a", "b": "b", "c": "c", "d": "d"}),
        ([], {"a": "a", "b": "a", "c": "a", "d": "a"}),
    ],
)
def test_rows_share_a_letter_exactly_if_they_do_not_differ_significantly(different, expected):
    every = {frozenset(x + y) for x in "abcd" for y in "abcd" if x < y}
    found = letters({pair: pair in set(map(frozenset, different)) for pair in every}, list("abcd"))
    assert found == expected
    for x, y in map(sorted, every):
        assert bool(set(found[x]) & set(found[y])) == (frozenset(x + y) not in set(map(frozenset, different)))
