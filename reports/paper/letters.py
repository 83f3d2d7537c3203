"""Marks on the numbers of a table: letters, daggers and bold for significant differences; shades for heat maps."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from twinbench.reports.page.summary import group_cells
from twinbench.reports.paper.parts import Number, PaperTable, Row
from twinbench.reports.statistics import separation
from twinbench.reports.statistics.intervals import CONFIDENCE
from twinbench.reports.tables.cells import Cell, Section

MOST_COMPARED = 26  # rows; in a longer table letters would not be readable


def grouped(table: PaperTable, sections: Sequence[Section]) -> PaperTable:
    """Return the table with letters per column, shared by methods that do not differ significantly; leaders in bold."""
    baselines = {label for section in sections for label, cell in section.chosen.items() if cell.is_baseline}
    rows = [list(row.numbers) for row in table.rows]
    found = False
    for column in range(len(table.columns)):
        cells = {
            str(place): number.cell
            for place, row in enumerate(table.rows)
            if row.labels[0] not in baselines and (number := row.numbers[column]).cell and number.interval
        }
        if not 1 < len(cells) <= MOST_COMPARED:
            continue
        found = True
        groups = group_cells(cells, table.rows[0].numbers[column].metric)
        for name, group in groups.letters.items():
            numbers = rows[int(name)]
            numbers[column] = replace(numbers[column], group=group, leads=name == groups.leader)
    return _renumbered(table, rows, _LETTERS_NOTE if found else "")


def against_chosen(table: PaperTable, chosen: Cell) -> PaperTable:
    """Return the table with a dagger, per metric, at each cell not significantly different from the chosen one.

    Without a mark or a note if the chosen cell has no number in the table.
    """
    rows, note = [list(row.numbers) for row in table.rows], ""
    for metric in {number.metric for row in table.rows for number in row.numbers}:
        places = {
            (r, c): number
            for r, row in enumerate(table.rows)
            for c, number in enumerate(row.numbers)
            if number.metric == metric and number.interval is not None
        }
        names = {"chosen" if number.cell is chosen else f"{r},{c}": (r, c) for (r, c), number in places.items()}
        if "chosen" not in names:
            continue
        note = _DAGGER_NOTE if table.tail else f"* The chosen cell. {_DAGGER_NOTE}"
        different = separation.significantly_different(
            {name: places[at].by_seed for name, at in names.items()}, "chosen"
        )
        for name, (r, c) in names.items():
            is_different = name == "chosen" or different[frozenset(("chosen", name))]
            star = "*" if name == "chosen" and not table.tail else ""
            rows[r][c] = replace(rows[r][c], group=star if is_different else "†")
    return _renumbered(table, rows, note)


_LETTERS_NOTE = (
    f"Methods that share a letter are not significantly different at {1 - CONFIDENCE:.0%}: t tests of all pairs of "
    "methods in a column, paired by seed where they share seeds, Holm-adjusted. Bold: significantly different from "
    "every other method."
)
_DAGGER_NOTE = (
    f"† Not significantly different from the chosen cell at {1 - CONFIDENCE:.0%}: t tests of the chosen cell against "
    "every other cell, paired by seed, Holm-adjusted."
)


def _renumbered(table: PaperTable, rows: Sequence[Sequence[Number]], note: str) -> PaperTable:
    made = tuple(replace(row, numbers=tuple(numbers)) for row, numbers in zip(table.rows, rows, strict=True))
    return replace(table, rows=made, notes=(*table.notes, note) if note else table.notes)


def shaded(rows: Sequence[Row]) -> Iterable[Row]:
    """Return the rows with each number's shade: 0 at the smallest mean of the table, 1 at the largest."""
    means = [number.interval.mean for row in rows for number in row.numbers if number.interval]
    low, spread = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    for row in rows:
        yield replace(
            row,
            numbers=tuple(
                replace(n, shade=(n.interval.mean - low) / spread if spread else 0.0) if n.interval else n
                for n in row.numbers
            ),
        )
