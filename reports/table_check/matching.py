"""Find the cells of the records that match the labels of a printed number."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from twinbench.reports.table_check.explanations import fitting_scale, is_in_scope
from twinbench.reports.table_check.lookups import Lookup
from twinbench.reports.table_check.recorded import Candidate, Pair, Recorded, best_on_validation

Key = tuple[str, str]  # protocol hash and dataset fingerprint of a run section


@dataclass(frozen=True)
class Match:
    """The recorded number that, times `scale`, a printed number was compared with.

    `elsewhere`: it was recorded under another protocol or dataset than the table names.
    """

    candidate: Candidate
    scale: int
    elsewhere: bool = False


class CellMatcher:
    """The cells that match a number's labels. `lookups`: all numbers of a table, which decide its protocol."""

    def __init__(self, recorded: Recorded, lookups: Sequence[Lookup]):
        self.recorded = recorded
        self.home: Key | None = None  # the protocol and dataset of most numbers of the table
        self.votes: Counter[tuple[int, str]] = Counter()  # by row and cell: printed numbers that the cell has too
        self._vote(lookups)

    def _vote(self, lookups: Sequence[Lookup]) -> None:
        """Find the protocol of most numbers, and count the numbers of each row that each cell has."""
        keys: Counter[Key] = Counter()
        for lookup in lookups:
            if lookup.problem or lookup.number.role != "value":
                continue
            fitting = [found.candidate for pair in self.pairs(lookup) for found in self.fits(lookup, pair)]
            keys.update({candidate.run_section.key for candidate in fitting})
            self.votes.update({(lookup.row_number, candidate.cell_id) for candidate in fitting})
        sizes = {run_section.key: len(run_section.section.trials) for run_section in self.recorded.run_sections}
        self.home = max(keys, key=lambda key: (keys[key], sizes[key], key), default=None)

    def pairs(self, lookup: Lookup) -> list[Pair]:
        """Return the cells that match the labels, under any protocol. A caption's settings apply if a cell has them."""
        settings = lookup.settings
        pairs = self.recorded.cells(self.methods(lookup), lookup.version, settings, lookup.ids)
        named = {name for names, _ in settings for name in names}
        for one in lookup.of_caption:
            with_setting = self.recorded.cells(self.methods(lookup), lookup.version, (*settings, one), lookup.ids)
            if with_setting and not named & set(one[0]):
                pairs, settings = with_setting, (*settings, one)
        return pairs

    def pairs_in_scope(self, lookup: Lookup) -> list[Pair]:
        """Return the matching cells under the protocol and dataset of the number."""
        keys = self.keys(lookup)
        return [pair for pair in self.pairs(lookup) if pair[0].key in keys]

    def methods(self, lookup: Lookup) -> frozenset[str]:
        """Return the methods that the labels name; with only an id, all methods."""
        return lookup.methods or frozenset(self.recorded.by_method if lookup.ids else ())

    def keys(self, lookup: Lookup) -> set[Key]:
        """Return the protocols and datasets that the labels name, else those of most of the table."""
        if lookup.scope is None and self.home is not None:
            return {self.home}
        return {run_section.key for run_section in self.recorded.run_sections if is_in_scope(lookup, run_section)}

    def fits(self, lookup: Lookup, pair: Pair) -> list[Match]:
        """Return the numbers of the cell that match the labels and equal the printed number."""
        found = []
        for metric in lookup.metrics:
            candidate = self.recorded.candidate(pair, metric, lookup.split, lookup.statistic)
            if candidate is not None and (scale := fitting_scale(lookup, candidate)):
                found.append(Match(candidate, scale))
        return found

    def most_likely(self, lookup: Lookup, pairs: Sequence[Pair]) -> Pair:
        """Return the cell with most numbers of the row, then the best on validation, if several match."""
        chosen = best_on_validation(pairs)[1].cell_id

        def rank(pair: Pair) -> tuple[int, bool, str]:
            cell_id = pair[1].cell_id
            return self.votes[lookup.row_number, cell_id], cell_id == chosen, cell_id

        return max(pairs, key=rank)

    def elsewhere(self, lookup: Lookup) -> Match | None:
        """Return a match under another protocol: in a cell that matches the labels, else in the selected cell."""
        keys, pairs = self.keys(lookup), self.pairs(lookup)
        other_pairs = [pair for pair in pairs if pair[0].key not in keys]
        if not other_pairs and (pairs or not lookup.settings):
            of_method = self.recorded.cells(self.methods(lookup), lookup.version)
            for key in sorted({pair[0].key for pair in of_method} - keys):
                other_pairs.append(best_on_validation([pair for pair in of_method if pair[0].key == key]))
        fits = [found for pair in other_pairs for found in self.fits(lookup, pair)]
        return replace(fits[0], elsewhere=True) if fits else None
