"""Which rows of a table differ significantly, and the letters that show it.

Every pair of rows is tested over seeds, paired by seed where the rows share seeds, with Holm's correction over the
column. Rows that share a letter are not significantly different, which does not mean that they are equal.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import correlation

from twinbench.reports.statistics.hypothesis_tests import holm, paired_t_test, welch_test
from twinbench.reports.statistics.intervals import ALPHA, Difference, are_paired, paired_difference, seed_differences

LEAST_SEEDS = 3  # for a correlation: with two seeds it is always 1 or -1
Values = Mapping[int, float]  # by seed
Pair = frozenset[str]


def significantly_different(rows: Mapping[str, Values], reference: str | None = None) -> dict[Pair, bool]:
    """Return whether each pair of rows differs significantly, all pairs being one family.

    With `reference`, only the pairs that contain it are tested.
    """
    pairs = [frozenset(pair) for pair in combinations(sorted(rows), 2) if reference is None or reference in pair]
    adjusted = holm([_p(*(rows[name] for name in sorted(pair))) for pair in pairs])
    return {pair: p <= ALPHA for pair, p in zip(pairs, adjusted, strict=True)}


def seed_correlations(rows: Mapping[str, Values]) -> list[float]:
    """Return Pearson's r of each pair of rows with at least LEAST_SEEDS common seeds, where both vary."""
    found = []
    for a, b in combinations(sorted(rows), 2):
        shared = sorted(rows[a].keys() & rows[b].keys())
        of_a, of_b = ([rows[name][seed] for seed in shared] for name in (a, b))
        if len(shared) >= LEAST_SEEDS and len(set(of_a)) > 1 and len(set(of_b)) > 1:
            found.append(correlation(of_a, of_b))
    return found


def letters(different: Mapping[Pair, bool], order: Sequence[str]) -> dict[str, str]:
    """Return the letters of each row, "a" first in `order`: rows share a letter unless they differ significantly.

    Insert and absorb (Piepho 2004): start with one group of all rows; each significant pair splits the groups that
    contain both; a group within another is removed.
    """
    groups = [frozenset(order)] if order else []
    for pair in (pair for pair in map(frozenset, combinations(order, 2)) if different[pair]):
        split = [part for group in groups for part in ([group - {name} for name in pair] if pair <= group else [group])]
        groups = [group for group in dict.fromkeys(split) if not any(group < other for other in split)]
    groups.sort(key=lambda group: sorted(order.index(name) for name in group))
    return {name: "".join(_letter(at) for at, group in enumerate(groups) if name in group) for name in order}


def leads(different: Mapping[Pair, bool], order: Sequence[str]) -> bool:
    """Return whether the first in `order` differs significantly from every other."""
    return len(order) > 1 and all(different[frozenset((order[0], name))] for name in order[1:])


def by_mean(means: Iterable[tuple[str, float]]) -> list[str]:
    """Return the names from the highest mean to the lowest."""
    return [name for name, _ in sorted(means, key=lambda item: (-item[1], item[0]))]


def _letter(at: int) -> str:
    return chr(ord("a") + at) if at < 26 else f"({at + 1})"


def _p(a: Values, b: Values) -> float:
    """Return the two-sided p-value of the t test; where t is not defined, that of the sign test."""
    if are_paired(a, b):
        differences = seed_differences(a, b)
        p = paired_t_test(differences).p
        return _sign_test(paired_difference(a, b)) if p is None else p
    p = welch_test(list(a.values()), list(b.values())).p
    return 1.0 if p is None else p


def _sign_test(difference: Difference) -> float:
    """Return the p-value of differences that are all equal, and so all of one sign."""
    has_sign = difference.n > 1 and difference.mean != 0
    return min(1.0, 2.0 ** (1 - difference.n)) if has_sign else 1.0
