"""The figures of a report as plotly objects: a panel per method or quantity, so that a page lays them out at any width.

A method has one colour and one marker in every figure: Okabe and Ito's palette (https://jfly.uni-koeln.de/color/),
which colour-blind eyes tell apart; baselines are grey. Figures carry no text colour: the page sets it, for light and
dark.
"""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from twinbench.reports.statistics.intervals import Interval


@dataclass(frozen=True)
class Style:
    """How a method looks in every figure."""

    colour: str
    symbol: str  # plotly's name of the marker
    glyph: str  # the same marker as a character, for the page's legend
    dash: str = "solid"


@dataclass(frozen=True)
class Panel:
    """One figure with its heading, and in words what it shows."""

    key: str  # letters, digits and hyphens: the id on the page
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
_OTHERS = (
    Style("#E69F00", "triangle-down", "▼"),
    Style("#56B4E9", "pentagon", "⬟"),
    Style("#B8860B", "star", "★"),
    Style("#7A5195", "hexagon", "⬢"),
)


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """The style of each method: ours have their own, others take what is left in the order of their names."""
    others = sorted(set(methods) - _STYLES.keys())
    return _STYLES | {name: _OTHERS[index % len(_OTHERS)] for index, name in enumerate(others)}


# --- sensitivity ----------------------------------------------------------------------------------------------------


def faint(colour: str) -> str:
    """ "#0072B2" as an area that lets what lies below through."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


# --- curves ---------------------------------------------------------------------------------------------------------


# --- pieces ---------------------------------------------------------------------------------------------------------


def layout(y_title: str, x_title: str) -> go.Layout:
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
        dragmode=False,  # a finger that scrolls the page must not zoom a figure
    )


def _span(values: Sequence[float], levels: Sequence[float]) -> tuple[float, float]:
    """One range for all panels, in percent: all `values`, and `levels` that are near (half of the values' spread)."""
    if not values:
        return 0.0, 100.0
    spread = max(max(values) - min(values), 2.0)
    near = [level for level in levels if min(values) - spread / 2 <= level <= max(values) + spread / 2]
    low, high = min([*values, *near]), max([*values, *near])
    air = max(0.1 * (high - low), 0.5)
    return round(low - air, 6), round(high + air, 6)


def error_bars(intervals: Iterable[Interval | None]) -> dict[str, Any] | None:
    """A bar per interval that has a width; None where none has."""
    halves = [None if i is None or i.half_width is None else percent(i.half_width) for i in intervals]
    if all(half is None for half in halves):
        return None
    return {"type": "data", "array": halves, "thickness": 1.5, "width": 4}


def percent(fraction: float) -> float:
    return round(100 * fraction, 6)


def short(value: float) -> float:
    """Six digits: more cannot be seen, and curves are most of the page's data."""
    return float(f"{value:.6g}")


def safe(text: str) -> str:
    """plotly reads a few HTML tags in its labels; a name must not be one."""
    return html.escape(text, quote=False)


def hover(*lines: str) -> str:
    return "<br>".join(safe(line) for line in lines if line)
