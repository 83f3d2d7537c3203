"""Read the tables of a .tex, .csv or .tsv file: captions, heads and rows, in plain text.

Nothing is run and no other file is opened: commands that would include one are listed in `not_followed`.
"""

import csv
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from twinbench.reports.table_check.latex_grid import MOST_COLUMNS, Grid, NotFollowed, PrintedRow
from twinbench.reports.table_check.latex_reader import LatexFile, NotRead, latex_tables
from twinbench.reports.table_check.latex_tokens import LatexError
from twinbench.reports.table_check.numbers import clean, is_value
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.file_reader import read_regular

MOST_BYTES = {".tex": 2**20, ".csv": 20 * 2**20, ".tsv": 20 * 2**20}


@dataclass(frozen=True)
class PrintedTable:
    """One table. `heads`: for each column, the texts of all head rows above it."""

    number: int
    line: int
    caption: str
    heads: tuple[str, ...]
    rows: tuple[PrintedRow, ...]
    head_rows: tuple[PrintedRow, ...] = ()  # as printed, with the texts of `heads`
    notes: str = ""


@dataclass(frozen=True)
class PrintedFile:
    """The tables of a file, and what is not read."""

    tables: tuple[PrintedTable, ...]
    not_followed: tuple[NotFollowed, ...]
    not_read: tuple[NotRead, ...]


def read_tables(path: Path) -> PrintedFile:
    """Return all tables of the file, in order. InvalidInput, with file and line, for what cannot be read."""
    suffix, where = path.suffix.lower(), str(path)
    if suffix not in MOST_BYTES:
        problem = "is not a table file by its suffix"
        raise InvalidInput([Mistake(where, "", problem, path.suffix, ", ".join(MOST_BYTES))])
    text = _text_of(path, MOST_BYTES[suffix])
    read = _read_latex(text, where) if suffix == ".tex" else LatexFile(_read_csv(text, where), [], [])
    grids, not_followed, not_read = read
    if not grids and not not_read:
        included = ", ".join(one.text for one in not_followed[:5])
        hint = f"; {included} is not followed: give the file that contains the table" if included else ""
        raise InvalidInput([Mistake(where, "", f"contains no table{hint}")])
    tables = tuple(_table(number, grid) for number, grid in enumerate(grids, 1))
    return PrintedFile(tables, tuple(not_followed), tuple(not_read))


def _text_of(path: Path, most: int) -> str:
    try:
        data = read_regular(path, most)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput([Mistake(str(path), "", f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        _refuse(str(path), data.count(b"\n", 0, error.start) + 1, "is not UTF-8")
    if "\0" in text:
        _refuse(str(path), text.count("\n", 0, text.index("\0")) + 1, "contains a zero byte")
    return re.sub("\r\n?", "\n", text)


def _refuse(where: str, line: int, problem: str) -> NoReturn:
    raise InvalidInput([Mistake(f"{where}:{line}", "", problem)])


def _read_latex(text: str, where: str) -> LatexFile:
    try:
        return latex_tables(text)
    except LatexError as error:
        _refuse(where, error.line, error.problem)


def _read_csv(text: str, where: str) -> list[Grid]:
    """Return the one table of a CSV file, or none. Lines above the head that begin with # are its caption."""
    lines = text.split("\n")
    of_table = (number for number, line in enumerate(lines) if line.strip() and not line.startswith("# "))
    above = next(of_table, len(lines))
    caption = " ".join(line.lstrip("# ") for line in lines[:above]).strip()
    rows = _csv_rows("\n".join(lines[above:]), above, where)
    if not rows:
        return []
    width = len(rows[0].cells)
    if width > MOST_COLUMNS:
        _refuse(where, rows[0].line, f"has more than {MOST_COLUMNS} columns")
    for row in rows:
        if len(row.cells) > width:
            _refuse(where, row.line, f"the row has {len(row.cells)} fields, the head {width}")
    head, *body = (replace(row, cells=(*row.cells, *[""] * (width - len(row.cells)))) for row in rows)
    return [Grid(head.line, clean(caption), (head,), tuple(body))]


def _csv_rows(text: str, above: int, where: str) -> list[PrintedRow]:
    """Return the rows that are not empty, without the ' that guards cells against being run as formulas."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count), strict=True, skipinitialspace=True)
    rows, line = [], above + 1
    try:
        for fields in reader:
            cells = tuple(clean(re.sub(r"^'(?=[-=+@])", "", field)) for field in fields)
            if any(cells):
                rows.append(PrintedRow(line, cells))
            line = above + reader.line_num + 1
    except csv.Error as error:
        _refuse(where, line, f"is not CSV: {error}")
    return rows


def _table(number: int, grid: Grid) -> PrintedTable:
    """Return the table. Head rows are joined by column; a body row of one text names the group of the rows below."""
    width = len((*grid.head, *grid.body)[0].cells) if grid.head or grid.body else 0
    columns = zip(*(row.cells for row in grid.head), strict=True) if grid.head else [()] * width
    heads = tuple(" ".join(dict.fromkeys(filter(None, texts))) for texts in columns)
    rows: list[PrintedRow] = []
    group, used = "", False
    for row in grid.body:
        filled = [text for text in row.cells if text]
        if len(filled) == 1 and len(heads) > 1 and not is_value(filled[0]):
            group = filled[0] if used else f"{group} {filled[0]}".strip()
            used = False
        else:
            rows.append(replace(row, group=group))
            used = True
    return PrintedTable(number, grid.line, grid.caption, heads, tuple(rows), grid.head, grid.notes)
