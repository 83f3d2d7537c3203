"""Check one printed table: judge each of its numbers, in its cells and outside of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from twinbench.reports.table_check.checked_number import CheckedNumber
from twinbench.reports.table_check.derived import Entry, Position, entry, judge_derived
from twinbench.reports.table_check.explanations import Match, PublishedMatch, published_matches
from twinbench.reports.table_check.labels import Vocabulary, words_of_records
from twinbench.reports.table_check.lookups import Lookup, lookups
from twinbench.reports.table_check.mapping import NO_MAPPING, MappingFile, mapped, proposal
from twinbench.reports.table_check.matching import CellMatcher
from twinbench.reports.table_check.numbers import rounded_text
from twinbench.reports.table_check.outside import numbers_outside
from twinbench.reports.table_check.reader import PrintedTable
from twinbench.reports.table_check.recorded import Recorded, is_equal
from twinbench.reports.table_check.verdicts import Judge
from twinbench.reports.tables.cells import WITHOUT_SEEDS
from twinbench.reports.tables.published import PublishedTable
from twinbench.sweeps.errors import counted


class TableChecker:
    """Checks one table: finds the cells that match each number's labels, then judges the number."""

    def __init__(
        self,
        file: str,
        table: PrintedTable,
        recorded: Recorded,
        published: Mapping[str, PublishedTable],
        vocabulary: Vocabulary,
        mapping: MappingFile = NO_MAPPING,
    ):
        self.table, self.vocabulary, self.recorded, self.published = table, vocabulary, recorded, published
        self.lookups = [
            self._of_one_trial(mapped(lookup, table.number, mapping)) for lookup in lookups(table, vocabulary)
        ]
        self.outside = [
            (mapped(lookup, table.number, mapping), problem) for lookup, problem in numbers_outside(table, vocabulary)
        ]
        self.cells = CellMatcher(recorded, self.lookups)
        self.judge = Judge(file, table, recorded, published, self.cells)

    @property
    def used(self) -> list[object]:
        """The entries of the mapping file that say something of a number of the table."""
        return [one for lookup in [*self.lookups, *(lookup for lookup, _ in self.outside)] for one in lookup.entries]

    def check(self) -> list[CheckedNumber]:
        """Return every number of the table, in order, then the number of seeds that the caption gives."""
        checked: list[CheckedNumber] = []
        values: dict[tuple[int, int, int], Match | PublishedMatch | None] = {}  # by row, column and part
        entries: dict[Position, Entry] = {}
        for lookup in self.lookups:
            at = (lookup.row_number, lookup.column_number)
            preceding = values.get((*(lookup.of or at), lookup.number.part))  # the value that a ± is of
            if lookup.cited:
                number = self._cited(lookup)
            elif lookup.problem:
                number = self._unnamed(lookup)
            elif lookup.derived:
                number = self._derived(lookup, entries)
            elif lookup.number.role == "value":
                number, match = self.judge.value(lookup)
                values[(*at, lookup.number.part)] = match
                exact = match.number.exact if isinstance(match, Match) and number.evidence else None
                scale = match.scale if isinstance(match, Match) else 1
                entries[at] = entry(lookup, exact, scale, number.verdict == "traced")
            elif isinstance(preceding, PublishedMatch):
                number = self.judge.published_spread(lookup, preceding)
            else:
                number = self.judge.count_or_spread(lookup, preceding)
            number = self._with_words(lookup, number)
            checked.append(replace(number, mapped=bool(lookup.entries)))
        of_caption = self._seeds_of_caption(checked)
        return [*checked, *([of_caption] if of_caption else []), *self._outside()]

    def _outside(self) -> list[CheckedNumber]:
        """Return the numbers in caption, head, headings and labels that may be results."""
        checked = []
        for lookup, problem in self.outside:
            found = self._cited(lookup) if lookup.cited else None if problem else self.judge.value(lookup)[0]
            if found is None or found.verdict == "untraceable":
                reason = f"{problem or f'is in the {lookup.row}'} and is compared with no record"
                found = self.judge.result(lookup, "not read", reason)
            checked.append(found)
        return checked

    def _cited(self, lookup: Lookup) -> CheckedNumber:
        found = published_matches(lookup, self.published, frozenset())
        source = f"; {found[0].table.name} has it ({found[0].table.source})" if found else ""
        return self.judge.result(lookup, "cited", f"is marked as taken from elsewhere by {lookup.cited!r}{source}")

    def _derived(self, lookup: Lookup, entries: Mapping[Position, Entry]) -> CheckedNumber:
        verdict, reason, correct = judge_derived(lookup, entries, self.table)
        text = "" if correct is None else rounded_text(lookup.number, correct, 1)
        return self.judge.result(lookup, verdict, reason, correct=text)

    def _with_words(self, lookup: Lookup, checked: CheckedNumber) -> CheckedNumber:
        """Return the number as not traced if a word of its labels is explained by nothing in its records."""
        if checked.verdict != "traced" or checked.evidence is None or lookup.statistic == "provenance":
            return checked
        words = self._unexplained_words(lookup, checked.evidence.cell_id)
        if words:
            reason = f"equals the {checked.reason}, but no record explains these words: {' '.join(words)}"
            proposals = self._proposals(lookup, words, checked.evidence.cell_id)
            return replace(checked, verdict="untraceable", reason=reason, proposals=proposals)
        if lookup.n_seeds not in (None, checked.evidence.n) and checked.evidence.cell_id:
            reason = f"equals the {checked.reason}, but the label says {counted(lookup.n_seeds, 'seed')}"
            return replace(checked, verdict="untraceable", reason=reason)
        return checked

    def _unnamed(self, lookup: Lookup) -> CheckedNumber:
        """Return the result for labels that name nothing; propose the one cell that has all values of the row."""
        result = self.judge.result(lookup, "untraceable", lookup.problem)
        row = [one for one in self.lookups if one.row_number == lookup.row_number and one.number.role == "value"]
        if lookup.methods or lookup.ids or len(row) < 2 or not all(one.metrics for one in row):
            return result
        found = [one for one in self.recorded.all_cells if all(self.cells.fits(value, one) for value in row)]
        if len({one.cell_id for one in found}) != 1:
            return result
        entry = proposal("row", label=lookup.row, table=self.table.number, cell=found[0].cell_id)
        return replace(result, proposals=(entry,))

    def _proposals(self, lookup: Lookup, words: Sequence[str], cell_id: str) -> tuple[str, ...]:
        """Return the entries of a mapping file under which the number would be traced."""
        entries, table = [], self.table.number
        if lookup.row and set(words) & set(lookup.unknown):
            entries.append(proposal("row", label=lookup.row, table=table, cell=cell_id))
        if lookup.column and set(words) & set(lookup.unknown_of_column) and lookup.metrics:
            entries.append(proposal("column", label=lookup.column, table=table, metric=lookup.metrics[0]))
        return tuple(entries)

    def _unexplained_words(self, lookup: Lookup, cell_id: str) -> list[str]:
        """Return the unknown words that are neither in the cell's settings nor in the names of its protocol."""
        unknown = lookup.unknown + lookup.unknown_of_column
        one = next((one for one in self.recorded.all_cells if one.cell_id == cell_id), None)
        if one is None or not unknown:
            return list(unknown)
        section, values = one.run_section.section, one.cell.values
        known = words_of_records(section)
        varied = [values[axis] for axis in section.varied(one.cell.label) if axis in values]
        return [word for word in unknown if word not in known and not any(is_equal(v, word) for v in varied)]

    def _of_one_trial(self, lookup: Lookup) -> Lookup:
        """Return the lookup for one seed if its row gives the id of a trial instead of a cell."""
        seeds = [self.recorded.seeds[one] for one in lookup.ids if one in self.recorded.seeds]
        return replace(lookup, statistic=f"seed {seeds[0]}") if seeds and lookup.statistic == "mean" else lookup

    def _seeds_of_caption(self, checked: Sequence[CheckedNumber]) -> CheckedNumber | None:
        """Judge a caption's "mean over 5 seeds" by the seeds of the means that were traced."""
        n_seeds = self.vocabulary.facts(self.table.caption).n_seeds
        means = [one.evidence for one in checked if one.evidence and (one.verdict, one.kind) == ("traced", "mean")]
        # every seed of raw pixels gives the same result, so that one is enough
        counts = {one.n for one in means if one.method != WITHOUT_SEEDS} or {one.n for one in means}
        if n_seeds is None or not counts:
            return None
        actual = ", ".join(map(str, sorted(counts)))
        start = (self.judge.file, self.table.line, self.table.number, "caption", "", str(n_seeds), "seeds done")
        reason = f"the means of the table are over {actual} seeds"
        is_right = counts == {n_seeds}
        return CheckedNumber(*start, "traced" if is_right else "wrong", reason, "" if is_right else actual)
