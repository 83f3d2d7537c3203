r"""Read one LaTeX table, from \begin{tabular} or a relative of it to its end, as rows of plain text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from twinbench.reports.table_check.latex_text import TABULARS, plain_text
from twinbench.reports.table_check.latex_tokens import QUERY, LatexError, Token, TokenStream, joined
from twinbench.reports.table_check.numbers import is_value

MOST_COLUMNS = 200
INCLUDING = (r"\input", r"\include", r"\subfile", r"\csvreader", r"\csvautotabular", r"\pgfplotstabletypeset")


@dataclass(frozen=True)
class PrintedRow:
    """One row of a table. `group`: the text of the heading rows above it, such as "Decorrelation"."""

    line: int
    cells: tuple[str, ...]  # as many as the table has columns
    group: str = ""
    queries: tuple[tuple[str, ...], ...] = ()  # cell, metric and split of each mean, if comments above it say so


@dataclass(frozen=True)
class Grid:
    """The rows of a table. In the head, a text is repeated over all columns it spans; in the body, it stands once."""

    line: int
    caption: str  # of the tabular's own environment first, then of those around it
    head: tuple[PrintedRow, ...]
    body: tuple[PrintedRow, ...]
    notes: str = ""  # the text of a tablenotes environment


@dataclass(frozen=True)
class NotFollowed:
    """A command that would include another file; `table` is the number of the table it is in, or 0."""

    line: int
    text: str
    table: int = 0
    in_float: bool = False  # where a table is expected

    @property
    def stem(self) -> str:
        """The name of the included file without folder and suffix."""
        return PurePosixPath(self.text.partition("{")[2].rstrip("}").strip()).stem


_RULES = {r"\toprule": 0, r"\midrule": 0, r"\bottomrule": 0, r"\hline": 0, r"\specialrule": 3}  # arguments
_RULES |= {r"\Hline": 0, r"\Xhline": 1, r"\hhline": 1, r"\tabucline": 1, r"\firsthline": 0, r"\lasthline": 0}
_NO_CELL = {r"\cmidrule": 1, r"\cline": 1, r"\addlinespace": 0, r"\noalign": 1, r"\rowcolor": 1, r"\label": 1}
_NO_CELL |= {r"\cdashline": 1, r"\arrayrulecolor": 1, r"\RowStyle": 1, r"\SetRow": 1} | _RULES
_ROW_ENDS = (r"\\", r"\tabularnewline", r"\cr")
_HEAD_ENDS = (r"\endfirsthead", r"\endhead", r"\endfoot", r"\endlastfoot")


class _Cell(NamedTuple):
    """A text and how many columns and rows it covers."""

    text: str
    columns: int
    rows: int
    is_written_after: bool = False  # whether the cells that it covers are written too


_Row = tuple[int, list[_Cell]]


def read_table(body: Sequence[Token], begin: Token) -> tuple[Grid, list[NotFollowed]]:
    """Return the table, with the caption inside it (a longtable's), and the commands that would include a file."""
    stream = TokenStream(body)
    caption, columns = _options(stream, begin.begins)
    head_rows, depth = 0, 0
    rows: list[_Row] = []
    rules: list[int] = []
    queries: dict[int, list[tuple[str, ...]]] = {}  # by row
    including: list[NotFollowed] = []
    cells: list[list[Token]] = [[]]
    while (token := stream.take()) is not None:
        depth += token.nesting
        command = "" if depth else token.text.rstrip("*")
        if command == "&":
            cells.append([])
        elif token.text.startswith(QUERY):
            queries.setdefault(len(rows), []).append(tuple(token.text.split()[1:]))
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
        elif command in INCLUDING:
            including.append(NotFollowed(token.line, f"{command}{{{plain_text(stream.argument())}}}"))
        else:
            cells[-1].append(token)
    rows += _row(cells)
    head_rows = head_rows or next((rule for rule in rules if 0 < rule < len(rows)), 0)
    head_rows = _head_rows(rows, head_rows)
    grid = _grid(rows, head_rows, begin.line)
    signs = _columns_with_sign(columns) if "tblr" not in begin.begins else []
    for texts in grid[head_rows:]:
        for column, (text, sign) in enumerate(zip(texts, signs, strict=False)):
            texts[column] = f"±{text}" if sign and is_value(text) else text
    lines = tuple(
        PrintedRow(line, tuple(texts), queries=tuple(queries.get(number, ())))
        for number, ((line, _), texts) in enumerate(zip(rows, grid, strict=True))
    )
    return Grid(begin.line, caption, lines[:head_rows], lines[head_rows:]), including


def _options(stream: TokenStream, name: str) -> tuple[str, list[Token]]:
    r"""Take the arguments of \begin{name}; return the caption in those of a longtblr, and the column argument."""
    caption = ""
    if name in ("tabu", "longtabu"):  # \begin{tabu} to \linewidth {lX}
        while stream.peek() not in ("{", ""):
            stream.take()
    elif "tblr" in name:
        options = TokenStream(stream.bracket() or [])
        while (token := options.take()) is not None:
            if token.text.rstrip("=") == "caption":
                options.skip_space()
                caption = plain_text(options.argument() if options.peek() == "{" else _after_equals(options))
    *_, columns = stream.arguments(TABULARS[name])
    return caption, columns


def _after_equals(options: TokenStream) -> list[Token]:
    options.take()
    return options.argument()


# What the first cell of a head row may say beside the numbers of a setting: other rows with numbers are data.
_HEAD_WORDS = re.compile(
    "(methods?|models?|approach(es)?|algorithms?|datasets?|settings?|values?|axis|at|by|of|the|for|per|batch|size|"
    "epochs?|ep|width|depth|dim(ension)?s?|proj(ector|ection)?|output|hidden|predictor|learning|rate|lr|weight|decay|wd|"
    "momentum|ema|target|temperature|lambda|mu|nu|tau|alpha|beta|gamma|coefficient|off|diagonal|invariance|variance|"
    "covariance|seeds?|layers?|views?|number|n|k|bs)+"
)


def _head_rows(rows: Sequence[_Row], above_rule: int) -> int:
    """Return how many rows are the head: those above the first rule, or without a rule the first, but no data."""

    def is_data(number: int, cells: Sequence[_Cell]) -> bool:
        words = re.sub(r"[^a-z]", "", cells[0].text.lower())
        values = [cell.text for cell in cells[1:] if is_value(cell.text)]
        may_be_settings = number == 0 and above_rule == 1 and all(map(str.isdigit, values))
        return bool(words and values) and not _HEAD_WORDS.fullmatch(words) and not may_be_settings

    first_data = next((number for number, (_, cells) in enumerate(rows) if is_data(number, cells)), len(rows))
    return min(first_data, above_rule or 1, len(rows))


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
    if line is None:
        return []
    row: list[_Cell] = []
    covered = 0  # cells after a \SetCell or \Block, which are written but lie under it
    for one in map(_cell, cells):
        if covered and not one.text:
            covered -= 1
            continue
        row.append(one)
        covered = one.columns - 1 if one.is_written_after else 0
    return [(line, row)]


def _cell(cell: list[Token]) -> _Cell:
    columns = rows = 1
    stream = TokenStream(cell)
    if stream.peek() in (r"\SetCell", r"\Block"):
        return _spanning_cell(stream, cell)
    if stream.peek() == r"\multicolumn":
        _, count, _, cell = stream.arguments(4)
        columns = _count(count)
    multirow = next((number for number, token in enumerate(cell, 1) if token.text == r"\multirow"), 0)
    if multirow:
        rows = _count(TokenStream(cell[multirow:]).arguments(1)[0])
    return _Cell(plain_text(cell), max(columns, 1), rows)


def _spanning_cell(stream: TokenStream, cell: list[Token]) -> _Cell:
    r"""Return the cell of a \SetCell[c=2,r=3]{c} of tabularray, or of a \Block{3-2}{text} of nicematrix."""
    stream.skip_space()
    stream.take()
    options = joined(stream.bracket() or [])
    size = joined(stream.argument())
    rows, columns = (re.search(rf"\b{letter} *= *(\d{{1,4}})", options) for letter in "rc")
    if block := re.fullmatch(r"(\d{1,4})-(\d{1,4})", size):
        return _Cell(plain_text(cell), int(block[2]) or 1, int(block[1]) or 1, True)
    return _Cell(plain_text(cell), int(columns[1]) if columns else 1, int(rows[1]) if rows else 1, True)


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
