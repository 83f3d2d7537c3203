"""Find the cells of the records that match the labels of a printed number."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from twinbench.reports.table_check.explanations import Match, fitting_scale, is_in_scope, recorded_number
from twinbench.reports.table_check.labels import Settings
from twinbench.reports.table_check.lookups import Lookup
from twinbench.reports.table_check.recorded import Part, Recorded, RunCell, best_on_validation, is_equal

Key = tuple[str, str]  # protocol hash and dataset fingerprint of a run section


# Protocol and dataset, method, names of the settings that a row gives, and the values of the other axes.
Slice = tuple[Key, str, frozenset[str], tuple[tuple[str, str], ...]]


def _slice(lookup: Lookup, cell: RunCell) -> Slice:
    named = frozenset(name for names, _ in lookup.settings for name in names)
    values = cell.cell.values
    axes = [axis for axis in cell.run_section.section.varied(cell.cell.label) if axis in values and axis not in named]
    return cell.key, cell.cell.label, named, tuple((axis, values[axis].text) for axis in axes)


class CellMatcher:
    """The cells that match a number's labels. `lookups`: all numbers of a table, which decide its protocol."""

    def __init__(self, recorded: Recorded, lookups: Sequence[Lookup]):
        self.recorded = recorded
        self.home: Key | None = None  # the protocol and dataset of most numbers of the table
        self.votes: Counter[tuple[tuple[str, int], Part]] = Counter()  # by line and cell: numbers that the cell has too
        self.scales: Counter[tuple[int, int]] = Counter()  # by column and scale: numbers that fit at that scale only
        self.slices: dict[Slice, set[Settings]] = {}  # the settings at which cells of a slice have a printed number
        self._vote(lookups)

    def _vote(self, lookups: Sequence[Lookup]) -> None:
        """Find the protocol of most numbers, and count the numbers of each method's row that each cell has."""
        keys: Counter[Key] = Counter()
        for lookup in lookups:
            if lookup.problem or lookup.number.role != "value":
                continue
            fits = {one: self.fits(lookup, one) for one in self.matching(lookup)}
            fitting = [one for one in fits if fits[one]]
            scales = {match.scale for matches in fits.values() for match in matches}
            self.scales.update((lookup.column_number, scale) for scale in scales if len(scales) == 1)
            keys.update({one.key for one in fitting})
            self.votes.update({(lookup.of_method, one.part) for one in fitting})
            for one in fitting if lookup.settings else ():
                self.slices.setdefault(_slice(lookup, one), set()).add(lookup.settings)
        sizes = {run_section.key: len(run_section.section.trials) for run_section in self.recorded.run_sections}
        self.home = max(keys, key=lambda key: (keys[key], sizes[key], key), default=None)

    def is_held(self, lookup: Lookup, cell: RunCell) -> bool:
        """Return whether the cell is that of an ablation: what its row does not name is as in other rows, or default.

        The rows of one method that name the same settings are one slice of the sweep, at equal values of the others.
        """
        if not lookup.settings and "default" not in lookup.row.lower():
            return False
        own, content = _slice(lookup, cell), cell.run_section.section.content
        others = [len(points) for one, points in self.slices.items() if one[:3] == own[:3] and one != own]
        here = len(self.slices.get(own, ()))
        is_slice = here > 1 and here > max(others, default=0)
        defaults = content.get("training", {}) | content.get("methods", {}).get(cell.cell.method, {})
        values = [(cell.cell.values[axis], defaults.get(axis)) for axis, _ in own[3]]
        return is_slice or all(default is not None and is_equal(one, str(default)) for one, default in values)

    def matching(self, lookup: Lookup) -> list[RunCell]:
        """Return the cells that match the labels, under any protocol. A caption's settings apply if a cell has them."""
        settings = lookup.settings
        cells = self.recorded.cells(self.methods(lookup), lookup.version, settings, lookup.ids)
        named = {name for names, _ in settings for name in names}
        for one in lookup.of_caption:
            with_setting = self.recorded.cells(self.methods(lookup), lookup.version, (*settings, one), lookup.ids)
            if with_setting and not named & set(one[0]):
                cells, settings = with_setting, (*settings, one)
        return cells

    def in_scope(self, lookup: Lookup) -> list[RunCell]:
        """Return the matching cells under the protocol and dataset of the number."""
        keys = self.keys(lookup)
        return [one for one in self.matching(lookup) if one.key in keys]

    def methods(self, lookup: Lookup) -> frozenset[str]:
        """Return the methods that the labels name; with only an id, all methods."""
        return lookup.methods or frozenset(self.recorded.by_method if lookup.ids else ())

    def keys(self, lookup: Lookup) -> set[Key]:
        """Return the protocols and datasets that the labels name, else those of most of the table."""
        if lookup.scope is None and self.home is not None:
            return {self.home}
        return {run_section.key for run_section in self.recorded.run_sections if is_in_scope(lookup, run_section)}

    def fits(self, lookup: Lookup, cell: RunCell) -> list[Match]:
        """Return the numbers of the cell that match the labels and equal the printed number."""
        numbers = (recorded_number(lookup, cell, metric) for metric in lookup.metrics)
        return [Match(number, scale) for number in numbers if number and (scale := fitting_scale(lookup, number))]

    def other_scale(self, lookup: Lookup, scale: int) -> int:
        """Return the scale of all other numbers of the column if it differs from that of this one, else 0."""
        if lookup.percent:  # as its labels say
            return 0
        counts = {one: count for (column, one), count in self.scales.items() if column == lookup.column_number}
        others = [one for one, count in counts.items() if one != scale and count > 1]
        return others[0] if counts.get(scale) == 1 and len(counts) == 2 and others else 0

    def of_other_numbers(self, lookup: Lookup, found: RunCell, likely: RunCell, is_chosen: bool) -> bool:
        """Return whether the other numbers of the row or column are of the cell `likely`, and not of `found`."""
        own, others = self.votes[lookup.of_method, found.part], self.votes[lookup.of_method, likely.part]
        return others > own or (others == own and is_chosen)

    def most_likely(self, lookup: Lookup, cells: Sequence[RunCell]) -> RunCell:
        """Return the cell with most numbers of the row, then the best on validation, if several match."""
        chosen = best_on_validation(cells).cell_id
        votes = {one.part: self.votes[lookup.of_method, one.part] for one in cells}
        return max(cells, key=lambda one: (votes[one.part], one.cell_id == chosen, one.cell_id, one.cell.confirms))

    def elsewhere(self, lookup: Lookup) -> Match | None:
        """Return a match under another protocol: in a cell that matches the labels, else in the selected cell."""
        keys, cells = self.keys(lookup), self.matching(lookup)
        others = [one for one in cells if one.key not in keys]
        if not others and (cells or not lookup.settings):
            of_method = self.recorded.cells(self.methods(lookup), lookup.version)
            for key in sorted({one.key for one in of_method} - keys):
                others.append(best_on_validation([one for one in of_method if one.key == key]))
        fits = [match for one in others for match in self.fits(lookup, one)]
        return replace(fits[0], elsewhere=True) if fits else None
