"""Find the tables of a LaTeX file and return their captions, heads and rows as plain text.

No TeX runs and no other file is opened. The file's own macros are expanded inside tables and captions, up to a limit.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from twinbench.reports.table_check.latex_text import TABULARS, plain_text
from twinbench.reports.table_check.latex_tokens import LatexError, Token, TokenStream, joined, tokens
from twinbench.reports.table_check.numbers import is_value

MOST_COLUMNS = 200


class Line(NamedTuple):
    """A row of a table: the line where it begins, and the text of each column."""

    line: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class LatexTable:
    """A tabular. In the head, a text is repeated over all columns it spans; in the body, it is in the first only."""

    line: int
    caption: str  # of the tabular's own environment first, then of those around it
    head: tuple[Line, ...]
    body: tuple[Line, ...]


Including = tuple[int, str, int]  # line, the command, and the number of the table it is in, or 0

# --- the file -------------------------------------------------------------------------------------------------------

_FLOATS = re.compile(r"(sub|wrap|sideways)?(table|figure)\*?|minipage|threeparttable")
_DEFINING = (r"\newcommand", r"\renewcommand", r"\providecommand", r"\def")
_CAPTIONS = (r"\caption", r"\captionof", r"\subcaption")
_INCLUDING = (r"\input", r"\include", r"\subfile", r"\csvreader", r"\csvautotabular", r"\pgfplotstabletypeset")


def latex_tables(text: str) -> tuple[list[LatexTable], list[Including]]:
    """Return all tables, and all commands that would include another file. LatexError for an unreadable table."""
    stream = TokenStream(tokens(text))
    environments: list[tuple[str, list[str]]] = []  # those that are open, with the captions in each
    found: list[tuple[LatexTable, list[list[str]]]] = []
    including: list[Including] = []
    while (token := stream.take()) is not None:
        command = token.text.rstrip("*")
        if command in _DEFINING:
            stream.define(command)
        elif command in (r"\newenvironment", r"\renewenvironment"):
            stream.arguments(3)
        elif command in _INCLUDING:
            including.append((token.line, f"{command}{{{joined(stream.argument())}}}", 0))
        elif command in _CAPTIONS:
            _read_caption(stream, token, [captions for name, captions in environments if _FLOATS.fullmatch(name)])
        elif token.begins in TABULARS:
            table, inside = _tabular(stream.body(token.begins, token.line), token)
            including += [(line, included, len(found) + 1) for line, included in inside]
            found.append((table, [captions for _, captions in environments]))
        elif token.begins:
            environments.append((token.begins, []))
        elif token.ends:
            _close(environments, token.ends)
    return [_with_captions(table, around) for table, around in found], including


def _with_captions(table: LatexTable, around: list[list[str]]) -> LatexTable:
    captions = [table.caption, *(caption for captions in reversed(around) for caption in captions)]
    return replace(table, caption=" ".join(filter(None, captions)))


def _close(environments: list[tuple[str, list[str]]], name: str) -> None:
    """Close the innermost environment of that name. Outside tables, TeX accepts environments that do not nest."""
    names = [one for one, _ in environments]
    if name in names:
        del environments[len(names) - 1 - names[::-1].index(name) :]


def _read_caption(stream: TokenStream, token: Token, floats: list[list[str]]) -> None:
    """Add the caption that follows to the innermost float."""
    if token.text.startswith(r"\captionof"):
        stream.argument()
    stream.closed_bracket()
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


def _tabular(body: Sequence[Token], begin: Token) -> tuple[LatexTable, list[tuple[int, str]]]:
    """Return the table, with the caption inside it (a longtable's), and the commands that would include a file."""
    stream = TokenStream(body)
    *_, columns = stream.arguments(TABULARS[begin.begins])
    caption, head_rows, depth = "", 0, 0
    rows: list[_Row] = []
    rules: list[int] = []
    including = []
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
            stream.parenthesis()
            stream.arguments(_NO_CELL[command])
            rules += [len(rows)] if command in _RULES else []
        elif command in _HEAD_ENDS:  # rows that a longtable repeats on each page, after its first head
            head_rows = head_rows or len(rows)
            del rows[head_rows:]
        elif command == r"\caption":
            caption = plain_text(stream.arguments(1)[0])
        elif command in _INCLUDING:
            including.append((token.line, f"{command}{{{plain_text(stream.argument())}}}"))
        else:
            cells[-1].append(token)
    rows += _row(cells)
    head_rows = head_rows or next((rule for rule in rules if 0 < rule < len(rows)), min(len(rows), 1))
    lines = _lines(rows, head_rows, begin.line)
    lines[head_rows:] = [_with_signs(one, _columns_with_sign(columns)) for one in lines[head_rows:]]
    return LatexTable(begin.line, caption, tuple(lines[:head_rows]), tuple(lines[head_rows:])), including


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


def _with_signs(row: Line, signs: list[bool]) -> Line:
    texts = [f"±{text}" if sign and is_value(text) else text for text, sign in zip(row.texts, signs, strict=False)]
    return Line(row.line, (*texts, *row.texts[len(texts) :]))


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


def _lines(rows: list[_Row], head_rows: int, line: int) -> list[Line]:
    """Return the rows as texts by column. A text over several rows is repeated in each, unless it is a value."""
    width = max((sum(cell.columns for cell in cells) for _, cells in rows), default=0)
    if width > MOST_COLUMNS:
        raise LatexError(line, f"has more than {MOST_COLUMNS} columns")
    grid = [_over_columns(cells, width, index < head_rows) for index, (_, cells) in enumerate(rows)]
    for index, (_, cells) in enumerate(rows):
        column = 0
        for cell in cells:
            covered = range(index + 1, index + cell.rows) if cell.rows > 0 else range(index + cell.rows + 1, index)
            if cell.text and not is_value(cell.text):
                for other in covered:
                    if 0 <= other < len(grid):
                        grid[other][column] = grid[other][column] or cell.text
            column += cell.columns
    return [Line(row_line, tuple(texts)) for (row_line, _), texts in zip(rows, grid, strict=True)]


def _over_columns(cells: list[_Cell], width: int, repeat: bool) -> list[str]:
    """Return `width` texts. A text over several columns is put into the first of them, or into all with `repeat`."""
    texts: list[str] = []
    for cell in cells:
        texts += [cell.text, *[cell.text if repeat else ""] * (cell.columns - 1)]
    return texts + [""] * (width - len(texts))
