"""What all figures share: panels as plotly objects, styles of methods, layout, and ranges.

A method has one colour and one marker in every figure. Colours are from Okabe and Ito's palette for colour-blind
readers (https://jfly.uni-koeln.de/color/); baselines are grey. Figures set no text colour: the page does, for its light
and dark themes.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from twinbench.reports.statistics.intervals import Interval
from twinbench.reports.tables.cells import Section
from twinbench.sweeps.metrics import metric_names

MOST = 101.0  # the end of axes of accuracy in percent: no mean is above 100, but a marker at 100 needs room


@dataclass(frozen=True)
class Style:
    """Colour, marker and line style of a method in every figure."""

    colour: str
    symbol: str  # plotly's name of the marker
    glyph: str  # the same marker as a character, for the page's legend
    dash: str = "solid"


@dataclass(frozen=True)
class Panel:
    """One figure with its heading and a description in words."""

    title: str
    figure: go.Figure
    alternative: str


_STYLES = {
    "barlow_twins": Style("#0072B2", "circle", "●"),
    "simclr": Style("#D55E00", "square", "■"),
    "byol": Style("#009E73", "diamond", "◆"),
    "vicreg": Style("#CC79A7", "triangle-up", "▲"),
    "raw_pixels": Style("#8C8C8C", "x-thin-open", "×", "dash"),
    "untrained": Style("#8C8C8C", "cross-thin-open", "+", "dot"),
}
_MORE_STYLES = (
    Style("#E69F00", "triangle-down", "▼"),
    Style("#56B4E9", "pentagon", "⬟"),
    Style("#B8860B", "star", "★"),
    Style("#7A5195", "hexagon", "⬢"),
)


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """Return the style of each method: fixed for shipped methods, by alphabetical order for all others."""
    added = sorted(set(methods) - _STYLES.keys())
    return _STYLES | {name: _MORE_STYLES[index % len(_MORE_STYLES)] for index, name in enumerate(added)}


def looks(section: Section) -> dict[str, Style]:
    """Return the style of each method of a section, by the method's label."""
    found = styles(cell.method for cell in section.cells)
    return {label: found[cell.method] for label, cell in section.chosen.items()}


def legend(section: Section) -> list[tuple[str, Style]]:
    """Return label and style of every trained method; baselines have no curves."""
    return [(label, style) for label, style in looks(section).items() if not section.chosen[label].is_baseline]


def diagnostic_order(name: str) -> tuple[int, str]:
    """Return a sort key for the names of diagnostics: registered ones first, in the registry's order."""
    order = metric_names("diagnostic")
    return (order.index(name) if name in order else len(order), name)


def faint(colour: str) -> str:
    """Return a colour such as "#0072B2" as a transparent fill colour."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def layout(y_title: str, x_title: str) -> go.Layout:
    """Return the layout of a panel with these axis titles."""
    return go.Layout(
        template="none",
        height=280,
        margin={"l": 56, "r": 12, "t": 12, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        xaxis={"title": {"text": safe(x_title)}, "zeroline": False, "showgrid": False, "showline": True},
        yaxis={"title": {"text": safe(y_title)}, "zeroline": False, "showgrid": True, "automargin": True},
        showlegend=False,  # the page has one legend for all panels
        hovermode="closest",
        dragmode=False,  # scrolling the page by touch must not zoom a figure
    )


def span_of(values: Sequence[float], levels: Sequence[float]) -> tuple[float, float]:
    """Return one range for all panels, in percent: `values`, and `levels` within half of the values' spread."""
    if not values:
        return 0.0, 100.0
    spread = max(max(values) - min(values), 2.0)
    near = [level for level in levels if min(values) - spread / 2 <= level <= max(values) + spread / 2]
    low, high = min([*values, *near]), max([*values, *near])
    margin = max(0.1 * (high - low), 0.5)
    return round(low - margin, 6), round(min(high + margin, MOST), 6)


def error_bars(intervals: Iterable[Interval | None]) -> dict[str, Any] | None:
    """Return plotly's error bars, in percent, for the intervals that have a width; None if none has."""
    halves = [None if i is None or i.half_width is None else percent(i.half_width) for i in intervals]
    if all(half is None for half in halves):
        return None
    return {"type": "data", "array": halves, "thickness": 1.5, "width": 4}


def percent(fraction: float) -> float:
    """Return the fraction in percent, rounded to 6 decimals."""
    return round(100 * fraction, 6)


def short(value: float) -> float:
    """Return the value with 6 significant digits: more cannot be seen, and curves are most of the page's data."""
    return float(f"{value:.6g}")


def safe(text: str) -> str:
    """Return the text escaped, since plotly interprets some HTML tags in labels."""
    return html.escape(text, quote=False)


def hover(*lines: str) -> str:
    """Return the text shown on hover, without empty lines."""
    return "<br>".join(safe(line) for line in lines if line)
