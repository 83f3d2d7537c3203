"""What an author says about rows, columns and numbers that cannot be looked up: `paper.map.toml` beside `paper.tex`.

    [[row]]                        # the row with these labels, as `check` prints them, is that cell
    label = "SimCLR w/o projector"
    cell = "a340113414f7e212"

    [[column]]                     # the column with this head has that metric
    label = "Transfer"
    metric = "knn_top1"

    [[number]]                     # this number, of that row, or outside the cells of that caption or head, is cited
    label = "caption"
    printed = "99.9"
    cited = "Table 2 of the authors' paper"

`table = 2` restricts an entry to the second table of the file. A row and a column can be `cited` as well. An entry says
where to look, and the number found there is compared as any other.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from twinbench.reports.table_check.lookups import Lookup
from twinbench.reports.table_check.recorded import Recorded
from twinbench.sweeps.errors import InvalidInput, Mistake, unknown_name
from twinbench.sweeps.protocol import Section
from twinbench.sweeps.toml_reader import parse, read_toml


@dataclass(frozen=True)
class RowEntry(Section):
    """The row with this label is a cell of the records, or is cited."""

    label: str
    cell: str = ""
    cited: str = ""
    table: int = 0


@dataclass(frozen=True)
class ColumnEntry(Section):
    """The column with this head has a metric of the records, or is cited."""

    label: str
    metric: str = ""
    split: str = ""
    statistic: str = ""
    cited: str = ""
    table: int = 0


@dataclass(frozen=True)
class NumberEntry(Section):
    """This number of the row with this label is cited."""

    label: str
    printed: str
    cited: str
    table: int = 0


@dataclass(frozen=True)
class MappingFile(Section):
    """The entries of a mapping file."""

    row: tuple[RowEntry, ...] = ()
    column: tuple[ColumnEntry, ...] = ()
    number: tuple[NumberEntry, ...] = ()


NO_MAPPING = MappingFile()


def mapping_path(table: Path) -> Path:
    """Return where the mapping of a table's file is."""
    return table.with_suffix(".map.toml")


def read_mapping(table: Path, recorded: Recorded) -> MappingFile:
    """Return the mapping beside the table's file; an empty one if there is none. InvalidInput lists its mistakes."""
    path = mapping_path(table)
    if not path.exists():
        return NO_MAPPING
    mapping = parse(MappingFile, read_toml(path), str(path))
    cells = sorted({one.cell_id for one in recorded.all_cells})
    mistakes = [
        unknown_name(f"{path}: row.{one.label}", "cell", one.cell, cells)
        for one in mapping.row
        if one.cell and one.cell not in cells
    ]
    mistakes += [
        unknown_name(f"{path}: column.{one.label}", "metric", one.metric, recorded.metrics)
        for one in mapping.column
        if one.metric and one.metric not in recorded.metrics
    ]
    for kind, needed in (("row", "cell"), ("column", "metric")):
        for entry in getattr(mapping, kind):
            if bool(getattr(entry, needed)) == bool(entry.cited):
                mistakes.append(Mistake(f"{path}: {kind}.{entry.label}", "", f"needs one of {needed}, cited"))
    if mistakes:
        raise InvalidInput(mistakes)
    return mapping


def mapped(lookup: Lookup, table: int, mapping: MappingFile) -> Lookup:
    """Return the lookup with what the mapping says of its row, its column and its number."""
    for row in mapping.row:
        if _is_of(row.label, row.table, lookup.row, table):
            lookup = replace(lookup, cited=row.cited, entries=(*lookup.entries, row))
            if row.cell:
                lookup = replace(lookup, ids=frozenset([row.cell]), methods=frozenset(), version=None, settings=())
                lookup = replace(lookup, of_caption=(), unknown=(), n_seeds=None, problem=lookup.unreadable)
    for column in mapping.column:
        if _is_of(column.label, column.table, lookup.column, table):
            lookup = replace(lookup, cited=column.cited or lookup.cited, entries=(*lookup.entries, column))
            if column.metric:
                problem = lookup.problem if not (lookup.methods or lookup.ids) else lookup.unreadable
                lookup = replace(lookup, metrics=(column.metric,), unknown_of_column=(), problem=problem)
                lookup = replace(lookup, split=column.split or lookup.split)
                lookup = replace(lookup, statistic=column.statistic or lookup.statistic)
    for number in mapping.number:
        if number.printed == lookup.number.text and _is_of(number.label, number.table, lookup.row, table):
            lookup = replace(lookup, cited=number.cited, entries=(*lookup.entries, number))
    return lookup


def _is_of(label: str, of_table: int, shown: str, table: int) -> bool:
    return of_table in (0, table) and " ".join(label.split()) == " ".join(shown.split())


def unused(path: Path, mapping: MappingFile, used: Iterable[object]) -> list[Mistake]:
    """Return a mistake for each entry that no number of the file belongs to."""
    taken = set(used)
    entries: list[tuple[str, str, RowEntry | ColumnEntry | NumberEntry]] = []
    entries += [("row", "row with numbers", one) for one in mapping.row]
    entries += [("column", "column with numbers", one) for one in mapping.column]
    entries += [("number", "number", one) for one in mapping.number]
    return [
        Mistake(f"{path}: {kind}.{one.label}", "", f"no {named} in the tables has this label")
        for kind, named, one in entries
        if one not in taken
    ]


def proposal(kind: str, **values: str | int) -> str:
    """Return an entry of a mapping file as TOML."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join([f"[[{kind}]]", *lines])
