"""Which rows of a table differ significantly, and the letters that show it.

Every pair of rows is tested over seeds, paired by seed where the rows share seeds, with Holm's correction over the
column. Rows that share a letter are not significantly different, which does not mean that they are equal.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from twinbench.reports.statistics.hypothesis_tests import holm
from twinbench.reports.statistics.intervals import (
    ALPHA,
    are_paired,
    mean_difference,
    seed_correlation,
    seed_differences,
    welch_difference,
)

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
    """Return Pearson's r of each pair of rows with at least three common seeds, where both vary."""
    found = (seed_correlation(rows[a], rows[b]) for a, b in combinations(sorted(rows), 2))
    return [r for r in found if r is not None]


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
    """Return the two-sided p-value of the t test; of equal differences, where t is not defined, of the sign test."""
    if not are_paired(a, b):
        p = welch_difference(list(a.values()), list(b.values())).p
        return 1.0 if p is None else p
    difference = mean_difference(seed_differences(a, b))
    if difference.p is not None:
        return difference.p
    return min(1.0, 2.0 ** (1 - difference.n)) if difference.mean != 0 else 1.0
