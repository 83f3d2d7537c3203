"""A paper's table as LaTeX: booktabs for the rules, siunitx for the columns, colortbl for heat maps.

Above each row stand comments with the queries that give its numbers again. All names are escaped.
"""

from collections.abc import Iterator, Sequence

from scipy import stats

from twinbench.reports.cells import REPORTED_ON
from twinbench.reports.latex import escape
from twinbench.reports.paper.parts import Number, PaperTable, Row, texts
from twinbench.reports.paper.style import PaperStyle
from twinbench.reports.statistics import CONFIDENCE
from twinbench.reports.tables import NOTHING

PACKAGES = r"\usepackage{booktabs,siunitx,colortbl,xcolor}"
ROWS_ON_A_PAGE = 36
# Of each size: the command, a digit's width as a share of the body's size, and the space at a column's sides in points.
_SIZES = (("", 0.5, 6.0), (r"\small", 0.455, 4.0), (r"\footnotesize", 0.41, 3.0))
_LIGHT, _DARK = (234, 243, 250), (111, 168, 214)  # those of the figures; black print stays readable on all between
_GROUPS = {"†": r"$\dagger$", "*": "$*$"}


def latex(table: PaperTable, style: PaperStyle) -> str:
    """The whole float, or as many as its rows need. What is wider than a column is set smaller, then over the page,
    then parted into blocks of columns below each other.
    """
    pages = [table.rows[at : at + ROWS_ON_A_PAGE] for at in range(0, len(table.rows), ROWS_ON_A_PAGE)]
    return _head(table) + "\n".join(
        _float(table, rows, style, number, number == len(pages)) for number, rows in enumerate(pages, 1)
    )


def query_of(number: Number) -> str:
    """SQL that gives the number as it is printed: mean and half width in percent with one decimal, and n.

    Over seeds of one variant. `favg` sums without loss, so that no last bit turns a rounding; without `e0` DuckDB takes
    the quantile for a DECIMAL, which overflows.
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
        f"FROM metrics JOIN trials USING (trial_id) WHERE cell_id = '{number.cell.cell_id}' AND status = 'done' "
        f"AND name = '{number.metric}' AND split = '{REPORTED_ON}'"
    )


def _head(table: PaperTable) -> str:
    lines = [f"% Made by twinbench from records alone. Needs {PACKAGES}"]
    lines += ["% Above each row: the queries that give its numbers again, where the shell knows the run folders:"]
    lines += [f"%   {source.variable}=...  # {escape(source.words)}" for source in table.sources]
    return "\n".join([*lines, ""])


def _float(table: PaperTable, rows: Sequence[Row], style: PaperStyle, page: int, is_last: bool) -> str:
    environment, size, gap, blocks = _layout(table, style)
    continued = " (continued)" if page > 1 else ""
    label = rf"\label{{tab:{table.key}}}" if page == 1 else ""
    lines = [
        rf"\begin{{{environment}}}",
        r"\centering",
        rf"\caption{{{_texts(table.caption + continued)}}}{label}",
        rf"{size}\setlength{{\tabcolsep}}{{{gap:g}pt}}",
        r"\sisetup{table-align-text-after=false,detect-weight=true}",
    ]
    for number, block in enumerate(blocks):
        lines += [r"\par\medskip"] if number else []
        lines += _tabular(table, rows, block, first_page=page == 1)
    if is_last and table.notes:
        notes = [r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [*notes, *(_texts(note) for note in table.notes), r"\end{minipage}"]
    return "\n".join([*lines, rf"\end{{{environment}}}", ""])


def _layout(table: PaperTable, style: PaperStyle) -> tuple[str, str, float, list[range]]:
    """Environment, size, space between columns, and the blocks of columns."""
    whole = range(len(table.columns))
    widths = [("table", style.width)] + ([("table*", style.text_width)] if style.text_width > style.width else [])
    for environment, inches in widths:
        for size, digit, gap in _SIZES:
            if _width(table, whole, digit * style.body_size, gap) <= 72 * inches:
                return environment, size, gap, [whole]
    (environment, inches), (size, digit, gap) = widths[-1], _SIZES[-1]
    blocks = [range(1)] if table.columns else [whole]
    for at in range(1, len(table.columns)):
        wider = range(blocks[-1].start, at + 1)
        if _width(table, wider, digit * style.body_size, gap) <= 72 * inches:
            blocks[-1] = wider
        else:
            blocks.append(range(at, at + 1))
    return environment, size, gap, blocks


def _width(table: PaperTable, block: range, digit: float, gap: float) -> float:
    """Points, roughly: characters at a digit's width."""
    around = [(*table.stub, *table.tail), *((*row.labels, *row.tail) for row in table.rows)]
    widest: list[float] = [max(map(len, column)) for column in zip(*around, strict=True)]
    for at in block:
        numbers = [row.numbers[at] for row in table.rows]
        printed = max((len(" ± ".join(filter(None, texts(n).values()))) for n in numbers), default=1)
        groups = 0.8 * max((len(number.group) for number in numbers), default=0)
        widest.append(max(printed + groups, len(table.columns[at])))
    return digit * sum(widest) + 2 * gap * len(widest)


def _tabular(table: PaperTable, rows: Sequence[Row], block: range, first_page: bool) -> Iterator[str]:
    formats = "".join(_number_column(table, at) for at in block)
    yield rf"\begin{{tabular}}{{{'l' * len(table.stub)}{formats}{'l' * len(table.tail)}}}"
    yield r"\toprule"
    stub, across = len(table.stub), len(block)
    if table.spanning:
        yield rf"{'& ' * stub}\multicolumn{{{across}}}{{c}}{{{_texts(table.spanning)}}}{' &' * len(table.tail)} \\"
        yield rf"\cmidrule(lr){{{stub + 1}-{stub + across}}}"
    heads = [rf"\multicolumn{{1}}{{c}}{{{_texts(table.columns[at])}}}" for at in block]
    yield " & ".join([*map(_texts, table.stub), *heads, *map(_texts, table.tail)]) + r" \\"
    yield r"\midrule"
    for place, row in enumerate(rows):
        if first_page and place and place == table.rule_before:
            yield r"\midrule"
        yield from _comments(table, row, block)
        numbers = [_number(table, row.numbers[at]) for at in block]
        yield " & ".join([*map(_texts, row.labels), *numbers, *map(_texts, row.tail)]) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _comments(table: PaperTable, row: Row, block: range) -> Iterator[str]:
    for at in block:
        if query := query_of(row.numbers[at]):
            where = escape(", ".join([*row.labels, table.columns[at]]))
            yield f'% {where}: twinbench query "${row.numbers[at].source.variable}" "{query}"'


def _number_column(table: PaperTable, at: int) -> str:
    """A column aligned at the decimal point, with room behind for half widths and letters; a heat map's is centred."""
    if _is_heat_map(table):
        return "c"
    numbers = [row.numbers[at] for row in table.rows]
    whole = max((len(texts(number)["mean"].partition(".")[0]) for number in numbers), default=1) or 1
    half_width = max((texts(number)["half_width"] for number in numbers), key=len, default="")
    group = max((number.group for number in numbers), key=len, default="")
    behind = _behind(half_width, group)
    return rf"S[table-format={whole}.1{f',table-space-text-post={behind}' if behind else ''}]"


def _number(table: PaperTable, number: Number) -> str:
    printed, is_heat_map = texts(number), _is_heat_map(table)
    if not printed["mean"]:
        return _texts(NOTHING) if is_heat_map else f"{{{_texts(NOTHING)}}}"
    # Braces keep siunitx from reading the half width as its uncertainty, whose sign it sets without space.
    behind = _behind(printed["half_width"], number.group)
    if is_heat_map:
        return rf"\cellcolor[RGB]{{{_colour(number.shade or 0.0)}}}{printed['mean']}{behind}"
    text = f"{printed['mean']} {behind}".rstrip()
    return rf"\bfseries {text}" if number.leads else text


def _behind(half_width: str, group: str) -> str:
    """What stands behind a mean."""
    spread = rf"\,$\pm$\,{half_width}" if half_width else ""
    marks = rf"\textsuperscript{{{_GROUPS.get(group, escape(group))}}}" if group else ""
    return f"{{{spread}{marks}}}" if spread or marks else ""


def _colour(shade: float) -> str:
    mixed = (round(light + shade * (dark - light)) for light, dark in zip(_LIGHT, _DARK, strict=True))
    return ",".join(map(str, mixed))


def _is_heat_map(table: PaperTable) -> bool:
    return any(number.shade is not None for row in table.rows for number in row.numbers)


def _texts(text: str) -> str:
    """`text` escaped; the marks of groups, which pdfLaTeX's fonts have in mathematics, as such."""
    return "".join(_GROUPS.get(part, escape(part)) for part in _parted(text))


def _parted(text: str) -> list[str]:
    before, dagger, after = text.partition("†")
    return [before, dagger, *_parted(after)] if dagger else [before]
