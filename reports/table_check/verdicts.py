"""Judge each number of a printed table: compare it with the recorded number that its labels name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from twinbench.reports.table_check.checked_number import CheckedNumber, Verdict, evidence_of
from twinbench.reports.table_check.explanations import (
    Match,
    PublishedMatch,
    cell_text,
    chosen_on_test_reason,
    nearest_match,
    no_cell_reason,
    other_row_reason,
    published_matches,
    recorded_number,
    same_cell_candidates,
    same_cell_reason,
    scales,
)
from twinbench.reports.table_check.labels import dataset_of
from twinbench.reports.table_check.lookups import Lookup
from twinbench.reports.table_check.matching import CellMatcher
from twinbench.reports.table_check.numbers import as_fraction, is_truncated, off_by, rounded_text
from twinbench.reports.table_check.reader import PrintedTable
from twinbench.reports.table_check.recorded import (
    COSTS,
    Candidate,
    Recorded,
    RunCell,
    best_on_validation,
    count_or_cost,
    provenance_count,
    seed_count,
)
from twinbench.reports.tables.cells import SELECTED_BY
from twinbench.reports.tables.published import PublishedTable


class Judge:
    """Judges numbers of one table: compares each with the recorded number that its labels name."""

    def __init__(
        self,
        file: str,
        table: PrintedTable,
        recorded: Recorded,
        published: Mapping[str, PublishedTable],
        cells: CellMatcher,
    ):
        self.file, self.table = file, table
        self.recorded, self.published, self.cells = recorded, published, cells

    # Verdicts -------------------------------------------------------------------------------------------------------

    def count_or_spread(self, lookup: Lookup, preceding: Match | None) -> CheckedNumber:
        """Judge a number that is not a value; `preceding` is the value before it in its cell."""
        if lookup.statistic == "provenance":
            (((name,), text),) = lookup.settings
            counts = [provenance_count(run_section, name, text) for run_section in self.recorded.run_sections]
            return self._count_or_cost(lookup, counts)
        if lookup.statistic in ("candidates", *COSTS):
            counts = [
                count_or_cost(run_section, label, lookup.statistic)
                for run_section in self.recorded.run_sections
                for label, (first, *_) in run_section.section.methods.items()
                if first.method in lookup.methods
                and lookup.version in (None, first.parts[-1].trials[0]["method_version"])
            ]
            return self._count_or_cost(lookup, counts)
        if lookup.statistic.startswith("seeds "):
            here = self.cells.in_scope(lookup)
            if not here:
                return self._no_cell(lookup)
            return self._compare(lookup, Match(seed_count(self.cells.most_likely(lookup, here), lookup.statistic)))
        return self._after_value(lookup, preceding)

    def _count_or_cost(self, lookup: Lookup, candidates: Sequence[Candidate]) -> CheckedNumber:
        """Judge a count or a cost, which has one value under each protocol."""
        keys = self.cells.keys(lookup)
        here = [Match(one) for one in candidates if one.run_section.key in keys] or [Match(one) for one in candidates]
        if not here:
            return self.result(lookup, "untraceable", f"no record belongs to {lookup.row!r}")
        return self._compare(lookup, next((match for match in here if match.off_by(lookup.number) == 0), here[0]))

    def _after_value(self, lookup: Lookup, preceding: Match | None) -> CheckedNumber:
        """Judge what follows a value in its cell: a half width, the ends of an interval, the number of seeds."""
        role = lookup.number.role
        preceding = preceding or self._unprinted_mean(lookup)
        lookup = replace(lookup, statistic={"spread": lookup.spread, "count": "n"}.get(role, role))
        if preceding is None:
            return self._no_cell(lookup)
        of = preceding.number
        number = recorded_number(replace(lookup, split=of.split), of.measured_on, of.metric)
        if number is None:
            return self.result(lookup, "wrong", f"one seed has no {lookup.statistic}")
        expected = Match(number, preceding.scale if role != "count" else 1)
        is_right = expected.off_by(lookup.number) == 0
        if is_right and preceding.elsewhere:
            reason = "is of the same cell as the value before it"
            return self.result(lookup, "from another protocol", reason, expected)
        if not is_right:
            for other in same_cell_candidates(number):
                if off_by(lookup.number, other.exact, expected.scale) == 0:
                    return self._wrong(lookup, expected, f"is the {other}, not the {number}")
        return self._compare(lookup, expected)

    def _unprinted_mean(self, lookup: Lookup) -> Match | None:
        """Return the mean that the labels name, for a spread or an interval printed without its value."""
        here = self.cells.in_scope(lookup)
        if not here:
            return None
        mean = nearest_match(replace(lookup, statistic="mean"), self.cells.most_likely(lookup, here))
        return mean and Match(mean.number, max(scales(lookup, mean.number.metric)))

    def published_spread(self, lookup: Lookup, preceding: PublishedMatch) -> CheckedNumber:
        spread = preceding.row.spread if lookup.number.role == "spread" else None
        if spread is not None and off_by(lookup.number, spread, preceding.scale) == 0:
            return self.result(lookup, "reported", "is published with the value before it")
        return self.result(lookup, "untraceable", "is not published with the value before it")

    def value(self, lookup: Lookup) -> tuple[CheckedNumber, Match | PublishedMatch | None]:
        """Judge a value: first by the cells in scope, then under other protocols, then by published tables."""
        here = self.cells.in_scope(lookup)
        if lookup.cell:
            of_query = [one for one in here if one.cell_id == lookup.cell]
            if not of_query:
                reason = f"the query above its row is of cell {lookup.cell}, which its labels do not name"
                return self.result(lookup, "untraceable", reason), None
            here = of_query if lookup.settings or len(self.cells.methods(lookup)) != 1 else here
        fits = [match for one in here for match in self.cells.fits(lookup, one)]
        if fits:
            return self._fitting(lookup, here, fits)
        expected = nearest_match(lookup, self.cells.most_likely(lookup, here)) if here else None
        if expected is not None:
            also = same_cell_reason(lookup, expected.number)
            if expected.off_by(lookup.number) == 1:
                one = self._compare(lookup, expected)
                return replace(one, reason=f"{one.reason}; it {also}" if also else one.reason), expected
            if also:
                return self._wrong(lookup, expected, also), expected
        if elsewhere := self.cells.elsewhere(lookup):
            return self._from_another_protocol(lookup, elsewhere, expected), elsewhere
        datasets = lookup.scope.datasets if lookup.scope else {dataset_of(one.run_section.section) for one in here}
        if published := published_matches(lookup, self.published, datasets):
            return self._reported(lookup, published)
        if expected is None:
            return self._without_value(lookup, here), None
        return self._unexplained(lookup, here, expected), expected

    def _fitting(self, lookup: Lookup, here: Sequence[RunCell], fits: Sequence[Match]) -> tuple[CheckedNumber, Match]:
        """Judge a number that at least one matching cell has; prefer the cell that is best on validation."""
        chosen, likely = best_on_validation(here), self.cells.most_likely(lookup, here)
        held = next((match for match in fits if self.cells.is_held(lookup, match.number.measured_on)), None)
        by_id = {match.number.cell_id: match for match in fits}  # two folders may hold the same records
        ids = [one.cell_id for one in (chosen, likely) if one.cell_id in by_id] or list(by_id)
        found, is_chosen = by_id[ids[0]], ids[0] == chosen.cell_id
        expected = nearest_match(lookup, chosen)
        if held is not None and not is_chosen:
            reason = f"{held.number}; its other settings are those of the other rows, or the protocol's own"
            return self.result(lookup, "traced", reason, held), held
        if expected is not None and not is_chosen and not lookup.unknown:
            expected = replace(expected, scale=found.scale)
            if reason := chosen_on_test_reason(here, found.number, expected.number):
                return self._wrong(lookup, expected, reason), expected
            of_likely = nearest_match(lookup, likely)
            is_other = self.cells.of_other_numbers(lookup, found.number.measured_on, likely, likely is chosen)
            if of_likely is not None and likely.cell_id not in by_id and is_other:
                reason = f"belongs to another cell ({cell_text(found.number)}) than the other numbers beside it"
                return self._wrong(lookup, of_likely, reason), of_likely
        if expected is not None and is_chosen and _is_of_the_choice(here, chosen, found):
            reason = "is of the seeds that chose this cell, not of those that confirm the choice"
            return self._wrong(lookup, replace(expected, scale=found.scale), reason), expected
        if scale := self.cells.other_scale(lookup, found.scale):
            units = {1: "a fraction", 100: "in percent"}
            reason = f"is {units[found.scale]}, and the other numbers of its column are {units[scale]}"
            return self._wrong(lookup, replace(found, scale=scale), reason), found
        reason, count = str(found.number), len({one.cell_id for one in here})
        if count > 1:
            which = "this one" if is_chosen else "another"
            reason += f"; {count} cells match the labels, of which {SELECTED_BY[1]} selects {which}"
        also = [] if is_chosen else [cell_text(other.number) for other in by_id.values() if other is not found]
        return replace(self.result(lookup, "traced", reason, found), ambiguous=tuple(also)), found

    def _from_another_protocol(self, lookup: Lookup, found: Match, expected: Match | None) -> CheckedNumber:
        section = found.number.run_section.section
        dataset = f"dataset {dataset_of(section) or 'unnamed'} ({section.dataset_fingerprint[:19]})"
        than = "than the table names" if lookup.scope else "than most of the table"
        reason = f"is under another protocol or dataset {than}: {section.ran_as}, {dataset}"
        correct = rounded_text(lookup.number, expected.number.exact, found.scale) if expected else ""
        return self.result(lookup, "from another protocol", reason, found, correct)

    def _reported(self, lookup: Lookup, published: Sequence[PublishedMatch]) -> tuple[CheckedNumber, PublishedMatch]:
        sources = list(dict.fromkeys(f"{table.name} ({row.dataset}; {table.source})" for table, row, _ in published))
        one = self.result(lookup, "reported", f"is not measured but published: {sources[0]}")
        return replace(one, ambiguous=tuple(sources[1:])), published[0]

    def _without_value(self, lookup: Lookup, here: Sequence[RunCell]) -> CheckedNumber:
        """Judge a number of a kind that was not measured on the matching cell, or that no cell matches."""
        if not here:
            return self._no_cell(lookup)
        likely = self.cells.most_likely(lookup, here)
        name, cell = likely.name, likely.cell
        statistic = f"{lookup.statistic} of {' or '.join(lookup.metrics)} on {lookup.split}"
        if cell.done == 0:
            return self.result(lookup, "wrong", f"no seed of {name} is done: {cell.seeds_text}")
        variants = {one.variant for metric in lookup.metrics for one in cell.measured.get((metric, lookup.split), ())}
        if len(variants) == 1:
            return self.result(lookup, "wrong", f"{name} has no {statistic}: {cell.seeds_text} done")
        how = f"was measured in several ways ({', '.join(sorted(variants))}), so that it" if variants else ""
        return self.result(lookup, "untraceable", f"{name} {how} has no {statistic}".replace("  ", " "))

    def _unexplained(self, lookup: Lookup, here: Sequence[RunCell], expected: Match) -> CheckedNumber:
        reason = f"is not the {expected.number}"
        if lookup.unknown:
            also = f"{reason}, and no record explains these words of the row: {' '.join(lookup.unknown)}"
            return self.result(lookup, "untraceable", also)
        reason = other_row_reason(lookup, self.recorded, expected.number) or reason
        count = len({one.cell_id for one in here})
        if count > 1:
            reason += f"; none of the {count} cells that match the labels has it"
        return self._wrong(lookup, expected, reason)

    # Results --------------------------------------------------------------------------------------------------------

    def result(
        self, lookup: Lookup, verdict: Verdict, reason: str, found: Match | None = None, correct: str = ""
    ) -> CheckedNumber:
        start = (self.file, lookup.line, self.table.number, lookup.row, lookup.column, lookup.number.text)
        evidence = evidence_of(found.number, found.scale) if found else None
        return CheckedNumber(*start, lookup.statistic or lookup.number.role, verdict, reason, correct, evidence)

    def _no_cell(self, lookup: Lookup) -> CheckedNumber:
        reason = no_cell_reason(lookup, self.recorded, self.cells.methods(lookup))
        return self.result(lookup, "untraceable", reason)

    def _wrong(self, lookup: Lookup, expected: Match, reason: str, verdict: Verdict = "wrong") -> CheckedNumber:
        correct = rounded_text(lookup.number, expected.number.exact, expected.scale)
        return self.result(lookup, verdict, reason, expected, correct)

    def _compare(self, lookup: Lookup, expected: Match) -> CheckedNumber:
        """Judge a number by its difference from the one recorded number that it can be."""
        number, scale = expected.number, expected.scale
        off = expected.off_by(lookup.number)
        if off == 0:
            return self.result(lookup, "traced", str(number), expected)
        if off > 1 or isinstance(number.exact, int):
            return self._wrong(lookup, expected, f"is not the {number}")
        truncated = is_truncated(lookup.number, number.exact, scale)
        how = "is truncated" if truncated else "is off by one in its last decimal"
        exact = f"{float(as_fraction(number.exact) * scale):.8g}"
        return self._wrong(lookup, expected, f"{how}: the {number} is {exact}", "rounded wrongly")


def _is_of_the_choice(here: Sequence[RunCell], chosen: RunCell, found: Match) -> bool:
    """Return whether the labels leave the cell open and the number is of the seeds that chose it, not of others."""
    is_open = len({one.cell_id for one in here}) > 1
    return is_open and chosen.cell.confirms and not found.number.measured_on.cell.confirms
