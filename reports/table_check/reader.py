"""Read the tables of a .tex, .csv or .tsv file: captions, heads and rows, in plain text.

Nothing is run and no other file is opened: commands that would include one are listed in `not_followed`.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from twinbench.reports.table_check.latex_reader import MOST_COLUMNS, Line, latex_tables
from twinbench.reports.table_check.latex_tokens import LatexError
from twinbench.reports.table_check.numbers import clean, is_value
from twinbench.sweeps.errors import InvalidInput, Mistake

MOST_BYTES = {".tex": 1_000_000, ".csv": 20_000_000, ".tsv": 20_000_000}


@dataclass(frozen=True)
class PrintedRow:
    """One row of a body. `group`: the text of the heading rows above it, such as "Decorrelation"."""

    line: int
    cells: tuple[str, ...]  # as many as the table has columns
    group: str = ""


@dataclass(frozen=True)
class PrintedTable:
    """One table. `heads`: for each column, the texts of all head rows above it."""

    number: int
    line: int
    caption: str
    heads: tuple[str, ...]
    rows: tuple[PrintedRow, ...]


@dataclass(frozen=True)
class NotFollowed:
    """A command that would include another file; `table` is the number of the table it is in, or 0."""

    line: int
    text: str
    table: int = 0


@dataclass(frozen=True)
class PrintedFile:
    """The tables of a file."""

    tables: tuple[PrintedTable, ...]
    not_followed: tuple[NotFollowed, ...] = ()


def read_tables(path: Path) -> PrintedFile:
    """Return all tables of the file, in order. InvalidInput, with file and line, for what cannot be read."""
    readers = {".tex": _read_latex, ".csv": _read_csv, ".tsv": _read_csv}
    if path.suffix.lower() not in readers:
        raise InvalidInput(
            [Mistake(str(path), "", "is not a table file by its suffix", path.suffix, ", ".join(readers))]
        )
    text = _text_of(path, MOST_BYTES[path.suffix.lower()])
    found = readers[path.suffix.lower()](text, str(path))
    if not found.tables:
        included = ", ".join(one.text for one in found.not_followed[:5])
        hint = f"; {included} is not followed: give the file that contains the table" if included else ""
        raise InvalidInput([Mistake(str(path), "", f"contains no table{hint}")])
    return found


def _text_of(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InvalidInput([Mistake(str(path), "", f"cannot be read: {error.strerror}")]) from None
    if len(data) > most:
        raise InvalidInput([Mistake(str(path), "", f"is larger than {most:,} bytes")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(str(path), data.count(b"\n", 0, error.start) + 1, "is not UTF-8")
    if "\0" in text:
        _refuse(str(path), text.count("\n", 0, text.index("\0")) + 1, "contains a zero byte")
    return re.sub("\r\n?", "\n", text)


def _refuse(where: str, line: int, problem: str) -> NoReturn:
    raise InvalidInput([Mistake(f"{where}:{line}", "", problem)])


def _read_latex(text: str, where: str) -> PrintedFile:
    try:
        found, including = latex_tables(text)
    except LatexError as error:
        _refuse(where, error.line, error.problem)
    tables = (_table(i, one.line, one.caption, one.head, one.body) for i, one in enumerate(found, 1))
    return PrintedFile(tuple(tables), tuple(NotFollowed(line, command, of) for line, command, of in including))


def _read_csv(text: str, where: str) -> PrintedFile:
    """Return the one table of a CSV file. Lines above the head that begin with # are its caption."""
    lines = text.split("\n")
    above = 0
    while above < len(lines) and (lines[above].startswith("# ") or not lines[above].strip()):
        above += 1
    caption = " ".join(line.lstrip("# ") for line in lines[:above]).strip()
    rows = _csv_rows("\n".join(lines[above:]), above, where)
    if not rows:
        return PrintedFile(())
    width = len(rows[0].texts)
    if width > MOST_COLUMNS:
        _refuse(where, rows[0].line, f"has more than {MOST_COLUMNS} columns")
    for row in rows:
        if len(row.texts) > width:
            _refuse(where, row.line, f"the row has {len(row.texts)} fields, the head {width}")
    padded = [Line(row.line, (*row.texts, *[""] * (width - len(row.texts)))) for row in rows]
    return PrintedFile((_table(1, rows[0].line, clean(caption), padded[:1], padded[1:]),))


def _csv_rows(text: str, above: int, where: str) -> list[Line]:
    """Return the rows that are not empty, without the ' that guards cells against being run as formulas."""
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count), strict=True, skipinitialspace=True)
    rows, line = [], above + 1
    try:
        for fields in reader:
            texts = tuple(clean(re.sub(r"^'(?=[-=+@])", "", field)) for field in fields)
            if any(texts):
                rows.append(Line(line, texts))
            line = above + reader.line_num + 1
    except csv.Error as error:
        _refuse(where, line, f"is not CSV: {error}")
    return rows


def _table(number: int, line: int, caption: str, head: Sequence[Line], body: Sequence[Line]) -> PrintedTable:
    """Return the table. Head rows are joined by column; a body row of one text names the group of the rows below."""
    width = len(head[0].texts) if head else 0
    heads = tuple(" ".join(dict.fromkeys(row.texts[i] for row in head if row.texts[i])) for i in range(width))
    rows: list[PrintedRow] = []
    group, used = "", False
    for row in body:
        filled = [text for text in row.texts if text]
        if len(filled) == 1 and width > 1 and not is_value(filled[0]):
            group = filled[0] if used else f"{group} {filled[0]}".strip()
            used = False
        else:
            rows.append(PrintedRow(row.line, row.texts, group))
            used = True
    return PrintedTable(number, line, caption, heads, tuple(rows))
