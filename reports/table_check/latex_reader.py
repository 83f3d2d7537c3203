"""Find the tables of a LaTeX file and return their captions, heads and rows as plain text.

No TeX runs and no other file is opened. The file's own macros are expanded inside tables and captions, up to a limit.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from twinbench.reports.table_check.latex_text import TABULARS, plain_text
from twinbench.reports.table_check.latex_tokens import LatexError, Token, TokenStream, joined, tokens
from twinbench.reports.table_check.numbers import is_value

MOST_COLUMNS = 200


@dataclass(frozen=True)
class PrintedRow:
    """One row of a table. `group`: the text of the heading rows above it, such as "Decorrelation"."""

    line: int
    cells: tuple[str, ...]  # as many as the table has columns
    group: str = ""


@dataclass(frozen=True)
class Grid:
    """The rows of a table. In the head, a text is repeated over all columns it spans; in the body, it stands once."""

    line: int
    caption: str  # of the tabular's own environment first, then of those around it
    head: tuple[PrintedRow, ...]
    body: tuple[PrintedRow, ...]


@dataclass(frozen=True)
class NotFollowed:
    """A command that would include another file; `table` is the number of the table it is in, or 0."""

    line: int
    text: str
    table: int = 0


# --- the file -------------------------------------------------------------------------------------------------------

_FLOATS = re.compile(r"(sub|wrap|sideways)?(table|figure)\*?|minipage|threeparttable")
_DEFINING = (r"\newcommand", r"\renewcommand", r"\providecommand", r"\def")
_CAPTIONS = (r"\caption", r"\captionof", r"\subcaption")
_INCLUDING = (r"\input", r"\include", r"\subfile", r"\csvreader", r"\csvautotabular", r"\pgfplotstabletypeset")


def latex_tables(text: str) -> tuple[list[Grid], list[NotFollowed]]:
    """Return all tables, and all commands that would include another file. LatexError for an unreadable table."""
    stream = TokenStream(tokens(text))
    environments: list[tuple[str, list[str]]] = []  # those that are open, with the captions in each
    found: list[tuple[Grid, list[list[str]]]] = []
    including: list[NotFollowed] = []
    while (token := stream.take()) is not None:
        command = token.text.rstrip("*")
        if command in _DEFINING:
            stream.define(command)
        elif command in (r"\newenvironment", r"\renewenvironment"):
            stream.arguments(3)
        elif command in _INCLUDING:
            including.append(NotFollowed(token.line, f"{command}{{{joined(stream.argument())}}}"))
        elif command in _CAPTIONS:
            _read_caption(stream, token, [captions for name, captions in environments if _FLOATS.fullmatch(name)])
        elif token.begins in TABULARS:
            table, inside = _tabular(stream.body(token.begins, token.line), token)
            including += [replace(one, table=len(found) + 1) for one in inside]
            found.append((table, [captions for _, captions in environments]))
        elif token.begins:
            environments.append((token.begins, []))
        elif token.ends:
            _close(environments, token.ends)
    captions = [" ".join(filter(None, [table.caption, *chain(*reversed(around))])) for table, around in found]
    return [replace(table, caption=one) for (table, _), one in zip(found, captions, strict=True)], including


def _close(environments: list[tuple[str, list[str]]], name: str) -> None:
    """Close the innermost environment of that name. Outside tables, TeX accepts environments that do not nest."""
    names = [one for one, _ in environments]
    if name in names:
        del environments[len(names) - 1 - names[::-1].index(name) :]


def _read_caption(stream: TokenStream, token: Token, floats: list[list[str]]) -> None:
    """Add the caption that follows to the innermost float."""
    if token.text.startswith(r"\captionof"):
        stream.argument()
    stream.bracket(required=True)
    if floats and stream.peek() == "{":
        stream.skip_space()
        stream.take()
        floats[-1].append(plain_text(stream.body("{", token.line)))


# --- a table --------------------------------------------------------------------------------------------------------

_RULES = {r"\toprule": 0, r"\midrule": 0, r"\bottomrule": 0, r"\hline": 0, r"\specialrule": 3}  # arguments
_NO_CELL = {r"\cmidrule": 1, r"\cline": 1, r"\addlinespace": 0, r"\noalign": 1, r"\rowcolor": 1, r"\label": 1}
_NO_CELL |= {r"\cdashline": 1, r"\arrayrulecolor": 1} | _RULES
_ROW_ENDS = (r"\\", r"\tabularnewline", r"\cr")
_HEAD_ENDS = (r"\endfirsthead", r"\endhead", r"\endfoot", r"\endlastfoot")


class _Cell(NamedTuple):
    """A text and how many columns and rows it covers."""

    text: str
    columns: int
    rows: int


_Row = tuple[int, list[_Cell]]


def _tabular(body: Sequence[Token], begin: Token) -> tuple[Grid, list[NotFollowed]]:
    """Return the table, with the caption inside it (a longtable's), and the commands that would include a file."""
    stream = TokenStream(body)
    *_, columns = stream.arguments(TABULARS[begin.begins])
    caption, head_rows, depth = "", 0, 0
    rows: list[_Row] = []
    rules: list[int] = []
    including: list[NotFollowed] = []
    cells: list[list[Token]] = [[]]
    while (token := stream.take()) is not None:
        depth += token.nesting
        command = "" if depth else token.text.rstrip("*")
        if command == "&":
            cells.append([])
        elif command in _ROW_ENDS:
            rows += _row(cells)
            cells = [[]]
            stream.bracket()
        elif command in _NO_CELL:
            stream.bracket()
            stream.bracket("(", ")")
            stream.arguments(_NO_CELL[command])
            rules += [len(rows)] if command in _RULES else []
        elif command in _HEAD_ENDS:  # rows that a longtable repeats on each page, after its first head
            head_rows = head_rows or len(rows)
            del rows[head_rows:]
        elif command == r"\caption":
            caption = plain_text(stream.arguments(1)[0])
        elif command in _INCLUDING:
            including.append(NotFollowed(token.line, f"{command}{{{plain_text(stream.argument())}}}"))
        else:
            cells[-1].append(token)
    rows += _row(cells)
    head_rows = head_rows or next((rule for rule in rules if 0 < rule < len(rows)), min(len(rows), 1))
    grid = _grid(rows, head_rows, begin.line)
    signs = _columns_with_sign(columns)
    for texts in grid[head_rows:]:
        for column, (text, sign) in enumerate(zip(texts, signs, strict=False)):
            texts[column] = f"±{text}" if sign and is_value(text) else text
    lines = tuple(PrintedRow(line, tuple(texts)) for (line, _), texts in zip(rows, grid, strict=True))
    return Grid(begin.line, caption, lines[:head_rows], lines[head_rows:]), including


def _columns_with_sign(columns: Sequence[Token]) -> list[bool]:
    r"""Return, by column, whether the table's column argument puts a ± before it, as in r@{$\pm$}l."""
    found: list[bool] = []
    before, sign, count = "", False, 1
    stream = TokenStream(columns)
    while stream.peek():
        stream.bracket()
        is_group = stream.peek() == "{"
        given = stream.argument()
        if not is_group:
            for letter in "".join(token.text for token in given if not token.text.startswith("\\")):
                if letter.isalpha():
                    found.append(sign)
                    sign = False
                before = letter
        elif before == "*" and plain_text(given).isdigit():
            count = min(_count(given), MOST_COLUMNS)
        elif before == "*":
            found += (_columns_with_sign(given) * count)[:MOST_COLUMNS]
        elif before in ("@", "!", ">"):
            sign = sign or "±" in plain_text(given)
    return found[:MOST_COLUMNS]


def _row(cells: list[list[Token]]) -> list[_Row]:
    """Return the row as a list of one, or an empty list where all cells are empty."""
    line = next((token.line for cell in cells for token in cell if not token.text.isspace()), None)
    return [] if line is None else [(line, [_cell(cell) for cell in cells])]


def _cell(cell: list[Token]) -> _Cell:
    columns = rows = 1
    stream = TokenStream(cell)
    if stream.peek() == r"\multicolumn":
        _, count, _, cell = stream.arguments(4)
        columns = _count(count)
    multirow = next((number for number, token in enumerate(cell, 1) if token.text == r"\multirow"), 0)
    if multirow:
        rows = _count(TokenStream(cell[multirow:]).arguments(1)[0])
    return _Cell(plain_text(cell), max(columns, 1), rows)


def _count(argument: Sequence[Token]) -> int:
    text = plain_text(argument)
    if not re.fullmatch(r"-?\d{1,4}", text):
        raise LatexError(argument[0].line if argument else 0, f"{text[:40]!r} is not a number of columns or rows")
    return int(text)


def _grid(rows: list[_Row], head_rows: int, line: int) -> list[list[str]]:
    """Return the texts of each row by column. A text over several rows is repeated in each, unless it is a value."""
    width = max((sum(cell.columns for cell in cells) for _, cells in rows), default=0)
    if width > MOST_COLUMNS:
        raise LatexError(line, f"has more than {MOST_COLUMNS} columns")
    grid = [[""] * width for _ in rows]
    for index, (_, cells) in enumerate(rows):
        column = 0
        for cell in cells:
            for place in range(column, column + (cell.columns if index < head_rows else 1)):
                grid[index][place] = cell.text or grid[index][place]
            if cell.text and not is_value(cell.text):
                first, end = (index, index + cell.rows) if cell.rows > 0 else (index + cell.rows + 1, index)
                for texts in grid[max(first, 0) : end]:
                    texts[column] = texts[column] or cell.text
            column += cell.columns
    return grid
