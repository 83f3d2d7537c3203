"""The page's plotly panels drawn by matplotlib as PDF and SVG, with the same data, colours and markers.

Supports what the panels contain: lines, bands, markers with error bars, horizontal lines, heat maps. Equal panels give
equal bytes: no dates or versions, and ids from a fixed salt. Fonts are embedded (PDF) or drawn as paths (SVG).
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twinbench.reports.figures.fitted_labels import FALLBACK, Labels, plain
from twinbench.reports.figures.panels import Panel, Style
from twinbench.reports.figures.paper_style import PaperStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS = ("pdf", "svg")
LEAST_PANEL = 1.55  # inches, at 8 points: in narrower panels the tick labels overlap
WIDEST_PANEL = 3.4
LONGEST_MARK, LONGEST_NAME = 8.5, 17.0  # em; longer labels would leave no room for the panel
MARK_SHARE, NAME_SHARE = 0.6, 0.64  # of the room for names; of the panel, as tick labels take the rest
USUAL_MARK = 3.0  # em; slanted tick labels that hang lower make their row higher
SLANT = 40  # degrees
_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "pentagon": "p",
    "star": "*",
    "hexagon": "h",
    "x": "x",
    "x-thin": "x",
    "cross-thin": "+",
}
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
_POINTS_OF_A_PIXEL = 0.55  # size on paper of a marker or line of one pixel
_GREY = "#d9d9d9"


@dataclass(frozen=True)
class Drawing:
    """A figure's files by format, and the full names of shortened labels, by the shortened name."""

    files: dict[str, bytes]
    shortened: dict[str, str]


def draw(panels: Sequence[Panel], style: PaperStyle, legend: Sequence[tuple[str, Style]] = ()) -> Drawing:
    """Return the panels as PDF and SVG, side by side in rows that fit the style's width."""
    labels = Labels(style.font)
    with _settings(style):
        figure = _figure(panels, style, legend, labels)
        return Drawing({form: _bytes(figure, form) for form in FORMS}, labels.whole)


@contextmanager
def _settings(style: PaperStyle) -> Iterator[None]:
    import matplotlib

    settings: dict[str, Any] = {
        "font.family": [style.font, FALLBACK],
        "font.size": style.size,
        "axes.titlesize": style.size,
        "xtick.labelsize": style.size - 1,
        "ytick.labelsize": style.size - 1,
        "legend.fontsize": style.size - 1,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.parse_math": False,  # dollar signs in names are not math
        "pdf.fonttype": 42,  # TrueType: some venues reject Type 3
        "svg.fonttype": "path",  # looks the same without the font
        "svg.hashsalt": "twinbench",
        "path.simplify": False,
    }
    # The user's own matplotlibrc must not change the output.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


def _figure(
    panels: Sequence[Panel], style: PaperStyle, legend: Sequence[tuple[str, Style]], labels: Labels
) -> "Figure":
    from matplotlib.figure import Figure

    across = max(1, min(len(panels), math.floor(style.width / (LEAST_PANEL * style.size / 8))))
    down = math.ceil(len(panels) / across)
    # A single panel must not fill the whole width, unless the style sets a height.
    width = style.width if style.height else min(style.width, WIDEST_PANEL * across)
    room = NAME_SHARE * 72 * width / across  # points available to a text above a panel
    row = style.height or min(max(1.6 * style.size / 8, 0.78 * width / across), 2.4)
    if style.height is None:
        row += max(_more_height(panel, labels, style.size, room) for panel in panels) / 72
    figure = Figure((width, row * down), layout="constrained")
    shared = len({_y_title(panel) for panel in panels}) == 1
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(down, across, number + 1)
        _panel(axes, panel, labels, style.size, room)
        axes.set_title(_title_above(panel, labels, style.size, room))
        y_title = _y_title(panel) if number % across == 0 or not shared else ""
        axes.set_ylabel(labels.wrapped(y_title, NAME_SHARE * 72 * row, style.size, 3))
    if legend:
        rows = _legend(figure, legend, labels, style.size - 1, 72 * width)
        figure.set_figheight(row * down + 0.1 + 1.35 * rows * style.size / 72)
    return figure


def _title_above(panel: Panel, labels: Labels, size: float, room: float) -> str:
    """Return the title above the panel; empty if it equals the title of the x axis."""
    title = panel.title if panel.title != _title(panel.figure.layout.xaxis) else ""
    return labels.wrapped(title, room, size, 3)


def _title_below(panel: Panel, labels: Labels, size: float, room: float) -> str:
    return labels.wrapped(_title(panel.figure.layout.xaxis), room, size, 2)


def _more_height(panel: Panel, labels: Labels, size: float, room: float) -> float:
    """Return the extra height of a row, in points, for titles of several lines and long slanted tick labels."""
    marks = _x_marks(panel)
    longest = max((labels.width(plain(mark), size - 1) for mark in marks), default=0.0)
    down = min(longest, LONGEST_MARK * size) * math.sin(math.radians(SLANT)) if _are_slanted(marks) else 0.0
    lines = (_title_above(panel, labels, size, room) + _title_below(panel, labels, size, room)).count("\n")
    return 1.2 * size * lines + max(0.0, down - USUAL_MARK * size)


def _bytes(figure: "Figure", form: str) -> bytes:
    varying = {"pdf": ("CreationDate", "ModDate", "Producer", "Creator"), "svg": ("Date", "Creator")}[form]
    file = io.BytesIO()
    figure.savefig(file, format=form, metadata=dict.fromkeys(varying))
    return file.getvalue()


# --- one panel ------------------------------------------------------------------------------------------------------


def _panel(axes: "Axes", panel: Panel, labels: Labels, size: float, room: float) -> None:
    """Draw a panel. `room`: points available to a text above or below it."""
    layout = panel.figure.layout
    axes.set_xlabel(_title_below(panel, labels, size, room))
    categories = list(layout.xaxis.categoryarray or ())
    for trace in panel.figure.data:
        if trace.type == "heatmap":
            _heat_map(axes, trace, labels, size, room)
        else:
            _scatter(axes, trace, categories)
    for shape in layout.shapes:
        axes.axhline(shape.y0, color=shape.line.color, linestyle=_DASHES[shape.line.dash or "solid"], linewidth=0.7)
    for note in layout.annotations:
        # Names of horizontal lines are at the right end, above the line.
        axes.annotate(
            labels.fitted(note.text, 0.8 * room, size), (0.99, note.y), xycoords=("axes fraction", "data"),
            xytext=(0, 1), textcoords="offset points", fontsize="x-small", color="#555555", ha="right", va="bottom",
        )  # fmt: skip
    if panel.figure.data and panel.figure.data[0].type != "heatmap":
        _scale(axes, panel, labels, size)


def _scatter(axes: "Axes", trace: Any, categories: Sequence[str]) -> None:
    xs = [categories.index(x) if isinstance(x, str) else x for x in trace.x]
    ys = list(trace.y)
    opacity = 1.0 if trace.opacity is None else trace.opacity
    if trace.fill == "toself":
        _band(axes, xs, ys, trace.fillcolor)
        return
    colour = trace.line.color or trace.marker.color
    if "lines" in trace.mode:
        width, dashes = 0.5 * trace.line.width, _DASHES[trace.line.dash or "solid"]
        steps = "steps-post" if trace.line.shape == "hv" else "default"
        axes.plot(xs, ys, color=colour, alpha=opacity, linewidth=width, linestyle=dashes, drawstyle=steps)
    for x, y, half in zip(xs, ys, trace.error_y.array or (), strict=False):
        if half is not None:
            axes.errorbar(x, y, half, color=colour, alpha=opacity, linewidth=0.8, capsize=1.8, capthick=0.8)
    if "markers" in trace.mode:
        symbols, sizes = _each(trace.marker.symbol, len(xs)), _each(trace.marker.size, len(xs))
        for x, y, symbol, size in zip(xs, ys, symbols, sizes, strict=True):
            if size:
                _mark(axes, x, y, symbol, size, colour, opacity)


def _band(axes: "Axes", xs: Sequence[float], ys: Sequence[float], colour: str) -> None:
    """Fill an outline. `colour` is plotly's: "rgba(0,114,178,0.16)"."""
    red, green, blue, opacity = map(float, colour.removeprefix("rgba(").removesuffix(")").split(","))
    axes.fill(xs, ys, color=(red / 255, green / 255, blue / 255), alpha=opacity, linewidth=0)


def _mark(axes: "Axes", x: float, y: float, symbol: str, size: float, colour: str, opacity: float) -> None:
    name = symbol.removesuffix("-open")
    axes.plot(
        [x], [y],
        linestyle="none",
        marker=_MARKERS[name],
        markersize=_POINTS_OF_A_PIXEL * size,
        markerfacecolor="none" if name != symbol else colour,  # so that overlapping markers stay visible
        markeredgecolor=colour,
        markeredgewidth=0.8 if name != symbol or name == "x" else 0.0,
        alpha=opacity,
        zorder=3,
    )  # fmt: skip


def _heat_map(axes: "Axes", trace: Any, labels: Labels, size: float, room: float) -> None:
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    values = [[math.nan if z is None else float(z) for z in row] for row in trace.z]
    colours = LinearSegmentedColormap.from_list("", [(at, colour) for at, colour in trace.colorscale])
    mesh = axes.pcolormesh(values, cmap=colours, edgecolors="white", linewidth=1.0)
    grounds = mesh.to_rgba(np.array(values)).tolist()
    for down, row in enumerate(trace.text):
        for across, text in enumerate(row):
            ink = _ink(grounds[down][across])
            axes.text(across + 0.5, down + 0.5, plain(text), ha="center", va="center", fontsize="small", color=ink)
    _mark_x(axes, [at + 0.5 for at in range(len(trace.x))], trace.x, labels, size)
    most = min(LONGEST_MARK * size, MARK_SHARE * room)
    axes.set_yticks([at + 0.5 for at in range(len(trace.y))], [labels.fitted(y, most, size - 1) for y in trace.y])
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _ink(ground: Sequence[float]) -> str:
    """Return white or black, whichever is readable on the colour (red, green, blue, opacity); opacity 0 is paper."""
    red, green, blue, opacity = ground
    return "white" if opacity and 0.299 * red + 0.587 * green + 0.114 * blue < 0.46 else "black"


def _scale(axes: "Axes", panel: Panel, labels: Labels, size: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    layout = panel.figure.layout
    axes.grid(axis="y", color=_GREY, linewidth=0.4)
    axes.set_axisbelow(True)
    if layout.yaxis.range:
        axes.set_ylim(*layout.yaxis.range)
    if _title(layout.xaxis) == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    if layout.xaxis.type == "log":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if marks := _x_marks(panel):
        _mark_x(axes, layout.xaxis.tickvals or range(len(marks)), marks, labels, size)
        axes.minorticks_off()


def _mark_x(axes: "Axes", ticks: Sequence[float], texts: Sequence[str], labels: Labels, size: float) -> None:
    axes.set_xticks(list(ticks), [labels.fitted(text, LONGEST_MARK * size, size - 1) for text in texts], minor=False)
    if _are_slanted(texts):
        for label in axes.get_xticklabels():
            label.set(rotation=SLANT, ha="right", rotation_mode="anchor")


def _x_marks(panel: Panel) -> Sequence[str]:
    """Return the tick labels of the x axis that are given as texts."""
    axis, traces = panel.figure.layout.xaxis, panel.figure.data
    if traces and traces[0].type == "heatmap":
        return list(traces[0].x)
    return list(axis.categoryarray or axis.ticktext or ())


def _are_slanted(texts: Sequence[str]) -> bool:
    """Return whether tick labels must be slanted, as long ones such as 0.00051 would overlap."""
    return sum(map(len, texts)) > 16


def _legend(figure: "Figure", legend: Sequence[tuple[str, Style]], labels: Labels, size: float, width: float) -> int:
    """Draw the legend above all panels, `width` points wide; return its number of rows."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=s.colour, linestyle=_DASHES[s.dash], marker=_MARKERS[s.symbol], linewidth=1, markersize=4)
        for _, s in legend
    ]
    places = [str(number) for number in range(len(legend))]  # a label that begins with "_" would be omitted
    texts = [labels.fitted(label, min(LONGEST_NAME * size, 0.75 * width), size) for label, _ in legend]
    longest = max(labels.width(text, size) for text in texts)
    columns = max(1, min(len(legend), int(width / (longest + 4.5 * size))))  # a line and its gaps are 4.5 em wide
    drawn = figure.legend(lines, places, loc="outside upper center", ncols=columns, frameon=False, handlelength=1.6)
    for place, text in zip(drawn.get_texts(), texts, strict=True):
        place.set_text(text)
    return math.ceil(len(legend) / columns)


# --- pieces ---------------------------------------------------------------------------------------------------------


def _each(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * count


def _title(axis: Any) -> str:
    return str(axis.title.text or "")


def _y_title(panel: Panel) -> str:
    return _title(panel.figure.layout.yaxis)
