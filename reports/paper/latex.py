"""A paper's table as LaTeX: booktabs for the rules, siunitx for the columns, colortbl for heat maps.

Comments above each row give the queries that reproduce its numbers. All names are escaped.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from scipy import stats

from twinbench.reports.figures.paper_style import PaperStyle
from twinbench.reports.latex import LONGEST, breakable, escape, length
from twinbench.reports.paper.parts import Number, PaperTable, Row, texts
from twinbench.reports.statistics.intervals import CONFIDENCE
from twinbench.reports.tables.cells import NOTHING, REPORTED_ON
from twinbench.reports.tables.queries import of_stage

PACKAGES = r"\usepackage{booktabs,siunitx,colortbl,xcolor}"
ROWS_ON_A_PAGE = 36
HEAD = 16  # digits; if a table must be split, longer heads of number columns are broken into lines
# For each size: the command, the width of a digit relative to the body size, and the space beside a column in points.
_SIZES = (("", 0.5, 6.0), (r"\small", 0.455, 4.0), (r"\footnotesize", 0.41, 3.0))
_LIGHT, _DARK = (234, 243, 250), (111, 168, 214)  # black text is readable on every colour between them
_GROUPS = {"†": r"$\dagger$", "*": "$*$"}


def latex(table: PaperTable, style: PaperStyle) -> str:
    """Return the table as one float, or as several if it has many rows.

    A table wider than a column is set smaller, then across the page; then names are broken into lines, and the number
    columns are split into blocks below each other.
    """
    pages = [table.rows[at : at + ROWS_ON_A_PAGE] for at in range(0, len(table.rows), ROWS_ON_A_PAGE)]
    return _head(table) + "\n".join(
        _float(table, rows, style, number, number == len(pages)) for number, rows in enumerate(pages, 1)
    )


def query_of(number: Number) -> str:
    """Return SQL that gives the number as printed: mean and half width in percent with one decimal, and n.

    For seeds of one variant. `favg` sums without rounding errors, which could change a printed digit. Without `e0`
    DuckDB would read the quantile as a DECIMAL, which overflows.
    """
    if number.cell is None or number.interval is None:
        return ""
    n = number.interval.n
    half_width = "''"
    if n > 1:
        quantile = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1))
        half_width = f"printf('%.1f', 100 * {quantile!r}e0 * stddev_samp(value) / sqrt(count(*)))"
    return (
        f"SELECT printf('%.1f', 100 * favg(value)) AS mean, {half_width} AS half_width, count(*) AS n "
        f"FROM metrics JOIN trials USING (trial_id) WHERE cell_id = '{number.cell.cell_id}'"
        f"{of_stage(number.source.section, number.cell)} AND status = 'done' "
        f"AND name = '{number.metric}' AND split = '{REPORTED_ON}'"
    )


def _head(table: PaperTable) -> str:
    lines = [f"% Made by twinbench from records. Needs {PACKAGES}"]
    lines += ["% Above each row: the queries that reproduce its numbers, with the run folders as shell variables:"]
    lines += [f"%   {source.variable}=...  # {escape(source.words)}" for source in table.sources]
    return "\n".join([*lines, ""])


def _float(table: PaperTable, rows: Sequence[Row], style: PaperStyle, page: int, is_last: bool) -> str:
    layout = _layout(table, style)
    continued = " (continued)" if page > 1 else ""
    label = rf"\label{{tab:{table.key}}}" if page == 1 else ""
    lines = [
        rf"\begin{{{layout.environment}}}",
        r"\centering",
        rf"\caption{{{_texts(table.caption + continued)}}}{label}",
        rf"{layout.size}\setlength{{\tabcolsep}}{{{layout.gap:g}pt}}",
        r"\sisetup{table-align-text-after=false,detect-weight=true}",
    ]
    for number, block in enumerate(layout.blocks):
        lines += [r"\par\medskip"] if number else []
        lines += _tabular(table, rows, block, layout, first_page=page == 1)
    if is_last and table.notes:
        notes = [r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [*notes, *(_texts(note) for note in table.notes), r"\end{minipage}"]
    return "\n".join([*lines, rf"\end{{{layout.environment}}}", ""])


# --- layout ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """The layout of a table, lengths in points. A width of None means that a column is as wide as its content."""

    environment: str
    size: str
    digit: float
    gap: float  # at each side of a column
    blocks: tuple[range, ...]  # of number columns, one below the other
    texts: tuple[float | None, ...]  # widths of the text columns, before and after the numbers
    spanning: float | None = None
    head: float = math.inf  # the largest width of a head


def _layout(table: PaperTable, style: PaperStyle) -> _Layout:
    words, whole = _text_lengths(table), range(len(table.columns))
    numbers = max(sum(_number_length(table, at) for at in whole), length(table.spanning))
    widths = [("table", style.width)] + ([("table*", style.text_width)] if style.text_width > style.width else [])
    for environment, inches in widths:
        for size, share, gap in _SIZES:
            layout = _Layout(environment, size, share * style.body_size, gap, (whole,), (None,) * len(words))
            if layout.digit * (sum(words) + numbers) + 2 * gap * (len(words) + len(whole)) <= 72 * inches:
                return layout
    return _broken(table, layout, 72 * inches)


def _broken(table: PaperTable, layout: _Layout, inside: float) -> _Layout:
    """Return a layout with broken lines and blocks of width `inside`, of which texts leave at least half to numbers."""
    digit, gap = layout.digit, layout.gap
    numbers = [digit * _number_length(table, at, HEAD) + 2 * gap for at in range(len(table.columns))]
    wanted = [digit * wide for wide in _text_lengths(table)]
    gaps = 2 * gap * len(wanted)
    shares = _shared(wanted, max(inside / 2, inside - sum(numbers)) - gaps)
    left = inside - sum(shares) - gaps
    blocks = [range(min(1, len(numbers)))]
    for at in range(1, len(numbers)):
        wider = range(blocks[-1].start, at + 1)
        if sum(numbers[wider.start : wider.stop]) <= left:
            blocks[-1] = wider
        else:
            blocks.append(range(at, at + 1))
    return replace(
        layout,
        blocks=tuple(blocks),
        texts=tuple(None if share == wide else share for share, wide in zip(shares, wanted, strict=True)),
        spanning=left - 2 * gap if digit * length(table.spanning) > left - 2 * gap else None,
        head=HEAD * digit,
    )


def _shared(wanted: Sequence[float], room: float) -> list[float]:
    """Return the max-min fair split of `room`: all of `wanted`, or an equal share of what is left."""
    got: dict[int, float] = {}
    for place in sorted(range(len(wanted)), key=wanted.__getitem__):
        got[place] = min(wanted[place], (room - sum(got.values())) / (len(wanted) - len(got)))
    return [got[place] for place in range(len(wanted))]


def _text_lengths(table: PaperTable) -> list[float]:
    """Return the widths, in digits, of the text columns before and after the numbers."""
    rows = [(*table.stub, *table.tail), *((*row.labels, *row.tail) for row in table.rows)]
    return [max(map(length, column)) for column in zip(*rows, strict=True)]


def _number_length(table: PaperTable, at: int, longest_head: float = math.inf) -> float:
    """Return the width of a number column in digits. A head longer than `longest_head` is broken into lines."""
    numbers = [row.numbers[at] for row in table.rows]
    printed = max((len(" ± ".join(filter(None, texts(n)))) for n in numbers), default=1)
    groups = 0.8 * max((len(number.group) for number in numbers), default=0)
    return max(printed + groups, min(length(table.columns[at]), longest_head))


# --- content --------------------------------------------------------------------------------------------------------


def _tabular(table: PaperTable, rows: Sequence[Row], block: range, layout: _Layout, first_page: bool) -> Iterator[str]:
    stub, across = len(table.stub), len(block)
    formats = [_lines(width) if width else "l" for width in layout.texts]
    numbers = "".join(_number_column(table, at) for at in block)
    yield rf"\begin{{tabular}}{{{''.join([*formats[:stub], numbers, *formats[stub:]])}}}"
    yield r"\toprule"
    if table.spanning:
        spanning = _over(across, table.spanning, layout.spanning, layout)
        yield rf"{'& ' * stub}{spanning}{' &' * len(table.tail)} \\"
        yield rf"\cmidrule(lr){{{stub + 1}-{stub + across}}}"
    heads = [_head_of(table.columns[at], layout) for at in block]
    yield " & ".join(_row([*table.stub, *table.tail], heads, stub, layout)) + r" \\"
    yield r"\midrule"
    for place, row in enumerate(rows):
        if first_page and place and place == table.rule_before:
            yield r"\midrule"
        yield from _comments(table, row, block)
        cells = [_number(table, row.numbers[at]) for at in block]
        yield " & ".join(_row([*row.labels, *row.tail], cells, stub, layout)) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _row(words: Sequence[str], cells: Sequence[str], stub: int, layout: _Layout) -> list[str]:
    """Return texts, cells and texts of a row; texts in narrow columns can be broken."""
    broken = [_texts(text, _longest(width, layout)) for text, width in zip(words, layout.texts, strict=True)]
    return [*broken[:stub], *cells, *broken[stub:]]


def _head_of(text: str, layout: _Layout) -> str:
    is_long = layout.digit * length(text) > layout.head
    return _over(1, text, layout.head if is_long else None, layout)


def _over(columns: int, text: str, width: float | None, layout: _Layout) -> str:
    """Return a head over one or more columns."""
    form = _lines(width, r"\centering") if width else "c"
    return rf"\multicolumn{{{columns}}}{{{form}}}{{{_texts(text, _longest(width, layout))}}}"


def _lines(width: float, how: str = r"\raggedright") -> str:
    """Return a column format that breaks texts into lines without stretching lines or hyphenating names."""
    return rf">{{{how}\hyphenpenalty10000\arraybackslash}}p{{{width:.1f}pt}}"


def _longest(width: float | None, layout: _Layout) -> float:
    """Return the longest word, in digits, that fits a column of that width unbroken."""
    return LONGEST if width is None else width / layout.digit


def _comments(table: PaperTable, row: Row, block: range) -> Iterator[str]:
    for at in block:
        if query := query_of(row.numbers[at]):
            where = escape(", ".join([*row.labels, table.columns[at]]))
            yield f'% {where}: twinbench query "${row.numbers[at].source.variable}" "{query}"'


def _number_column(table: PaperTable, at: int) -> str:
    """Return a column format aligned at the decimal point, with room for half widths; centred in heat maps."""
    if _is_heat_map(table):
        return "c"
    numbers = [row.numbers[at] for row in table.rows]
    means, half_widths = zip(*map(texts, numbers), strict=True)
    whole = max(len(mean.partition(".")[0]) for mean in means) or 1
    half_width = max(half_widths, key=len)
    group = max((number.group for number in numbers), key=len)
    after = _after_mean(half_width, group)
    return rf"S[table-format={whole}.1{f',table-space-text-post={after}' if after else ''}]"


def _number(table: PaperTable, number: Number) -> str:
    (mean, half_width), is_heat_map = texts(number), _is_heat_map(table)
    if not mean:
        return _texts(NOTHING) if is_heat_map else f"{{{_texts(NOTHING)}}}"
    # Without braces siunitx would read the half width as an uncertainty, and set its sign without space.
    after = _after_mean(half_width, number.group)
    if is_heat_map:
        return rf"\cellcolor[RGB]{{{_colour(number.shade or 0.0)}}}{mean}{after}"
    text = f"{mean} {after}".rstrip()
    return rf"\bfseries {text}" if number.leads else text


def _after_mean(half_width: str, group: str) -> str:
    """Return what follows a mean: half width and group."""
    spread = rf"\,$\pm$\,{half_width}" if half_width else ""
    marks = rf"\textsuperscript{{{_GROUPS.get(group, escape(group))}}}" if group else ""
    return f"{{{spread}{marks}}}" if spread or marks else ""


def _colour(shade: float) -> str:
    mixed = (round(light + shade * (dark - light)) for light, dark in zip(_LIGHT, _DARK, strict=True))
    return ",".join(map(str, mixed))


def _is_heat_map(table: PaperTable) -> bool:
    return any(number.shade is not None for row in table.rows for number in row.numbers)


def _texts(text: str, longest: float = LONGEST) -> str:
    """Return the text escaped, with long words breakable, and the marks of groups in math mode."""
    return "".join(_GROUPS.get(part, breakable(part, longest)) for part in re.split("(†)", text))
