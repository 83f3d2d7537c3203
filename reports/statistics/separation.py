"""Which rows of a table the statistics tell apart, and the letters that say so.

Rows are compared over seeds, in pairs where they share seeds, each pair at the level that Holm's procedure leaves it
within the column. Rows that share a letter were not told apart: that is not to say that they are equal.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import correlation

from twinbench.reports.statistics.hypothesis_tests import holm, paired_t_test, welch_test
from twinbench.reports.statistics.intervals import ALPHA, Difference, are_paired, paired_difference, seed_differences

LEAST_SEEDS = 3  # of which two rows' correlation is told: of two it is always 1 or -1
Values = Mapping[int, float]  # by seed
Pair = frozenset[str]


def significantly_different(rows: Mapping[str, Values], reference: str | None = None) -> dict[Pair, bool]:
    """Whether each pair of rows is told apart, all pairs being one family; with `reference`, those that it is in."""
    pairs = [frozenset(pair) for pair in combinations(sorted(rows), 2) if reference is None or reference in pair]
    adjusted = holm([_p(*(rows[name] for name in sorted(pair))) for pair in pairs])
    return {pair: p <= ALPHA for pair, p in zip(pairs, adjusted, strict=True)}


def seed_correlations(rows: Mapping[str, Values]) -> list[float]:
    """Pearson's r over seeds of each pair of rows that shares LEAST_SEEDS of them, where both vary."""
    found = []
    for a, b in combinations(sorted(rows), 2):
        shared = sorted(rows[a].keys() & rows[b].keys())
        of_a, of_b = ([rows[name][seed] for seed in shared] for name in (a, b))
        if len(shared) >= LEAST_SEEDS and len(set(of_a)) > 1 and len(set(of_b)) > 1:
            found.append(correlation(of_a, of_b))
    return found


def letters(apart: Mapping[Pair, bool], order: Sequence[str]) -> dict[str, str]:
    """The letters of each row, a to the group of the first in `order`: rows share one unless they are told apart.

    Piepho's insert and absorb (2004): one column of all rows; each pair that is told apart splits the columns that
    hold both; a column within another goes.
    """
    groups = [frozenset(order)] if order else []
    for pair in (pair for pair in map(frozenset, combinations(order, 2)) if apart[pair]):
        split = [part for group in groups for part in ([group - {name} for name in pair] if pair <= group else [group])]
        groups = [group for group in dict.fromkeys(split) if not any(group < other for other in split)]
    groups.sort(key=lambda group: sorted(order.index(name) for name in group))
    return {name: "".join(_letter(at) for at, group in enumerate(groups) if name in group) for name in order}


def leads(apart: Mapping[Pair, bool], order: Sequence[str]) -> bool:
    """Whether the first in `order` is told apart from every other."""
    return len(order) > 1 and all(apart[frozenset((order[0], name))] for name in order[1:])


def by_mean(means: Iterable[tuple[str, float]]) -> list[str]:
    """Names from the highest mean to the lowest."""
    return [name for name, _ in sorted(means, key=lambda item: (-item[1], item[0]))]


def _letter(at: int) -> str:
    return chr(ord("a") + at) if at < 26 else f"({at + 1})"


def _p(a: Values, b: Values) -> float:
    """Two-sided. Where t is not defined: that of the sign test, which asks that every seed goes the same way."""
    if are_paired(a, b):
        differences = seed_differences(a, b)
        p = paired_t_test(differences).p
        return _of_signs(paired_difference(a, b)) if p is None else p
    p = welch_test(list(a.values()), list(b.values())).p
    return 1.0 if p is None else p


def _of_signs(difference: Difference) -> float:
    steady = difference.n > 1 and difference.mean != 0
    return min(1.0, 2.0 ** (1 - difference.n)) if steady else 1.0
