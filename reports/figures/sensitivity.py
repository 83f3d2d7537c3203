"""Sensitivity panels: accuracy against the values of one swept axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from twinbench.reports.figures.panels import (
    Panel,
    Style,
    error_bars,
    faint,
    hover,
    layout,
    percent,
    safe,
    span_of,
    styles,
)
from twinbench.reports.statistics.intervals import Interval
from twinbench.reports.tables.cells import REPORTED_ON, Cell, Section, Value
from twinbench.reports.tables.frames import estimate_text
from twinbench.sweeps.metrics import METRICS

Fixed = tuple[tuple[str, str], ...]  # names and values of axes


def sensitivity(section: Section, axis: str, metric: str) -> list[Panel]:
    """Return test accuracy against one axis, one panel per method for which it was varied.

    A panel shows every seed as a point, and means with intervals. Means are joined where cells differ only in the axis.
    The line through the chosen cell is strong, other lines are faint.
    """
    varied = [label for label in section.methods if axis in section.varied(label)]
    baselines = [cell for cell in section.chosen.values() if cell.is_baseline]
    shown = [cell for label in varied for cell in section.methods[label]]
    levels = [100 * mean for _, mean in _levels(baselines, metric)]
    span = span_of([100 * value for cell in shown for value in _extent(cell, metric)], levels)
    looks = styles(cell.method for cell in section.cells)
    return [_sensitivity_panel(section, label, axis, metric, baselines, span, looks) for label in varied]


def baselines_outside(section: Section, panels: Sequence[Panel], metric: str) -> str:
    """Return a sentence on baselines outside the panels' range, which would flatten the methods if drawn to scale."""
    if not panels:
        return ""
    low, high = panels[0].figure.layout.yaxis.range
    levels = _levels([cell for cell in section.chosen.values() if cell.is_baseline], metric)
    outside = [f"{cell.label} {100 * mean:.1f}" for cell, mean in levels if not low <= 100 * mean <= high]
    return f"Outside the range shown: {', '.join(outside)}." if outside else ""


def _levels(baselines: Sequence[Cell], metric: str) -> list[tuple[Cell, float]]:
    """Return the baselines that were measured, with their means."""
    intervals = [(cell, cell.interval(metric, REPORTED_ON)) for cell in baselines]
    return [(cell, interval.mean) for cell, interval in intervals if interval is not None]


def _sensitivity_panel(
    section: Section,
    label: str,
    axis: str,
    metric: str,
    baselines: Sequence[Cell],
    span: tuple[float, float],
    looks: dict[str, Style],
) -> Panel:
    cells = [cell for cell in section.methods[label] if axis in cell.values]
    ticks = section.varied(label)[axis]
    chosen = section.chosen[label]
    lines: dict[Fixed, list[Cell]] = {}
    for cell in cells:
        lines.setdefault(_fixed(section, label, cell, axis), []).append(cell)
    strong = _fixed(section, label, chosen, axis)
    traces = []
    # The strong line last, above the faint ones.
    for fixed, members in sorted(lines.items(), key=lambda item: (item[0] == strong, item[0])):
        traces += _Line(members, fixed, axis, metric, looks[chosen.method], fixed == strong, ticks).traces()
    figure = go.Figure(traces, layout(f"{METRICS[metric].heading} on {REPORTED_ON}", axis))
    figure.update_layout(yaxis_range=span)
    scale(figure, ticks)
    for baseline, level in _levels(baselines, metric):
        if span[0] <= 100 * level <= span[1]:
            figure.add_hline(
                y=percent(level),
                line={"color": looks[baseline.method].colour, "dash": looks[baseline.method].dash, "width": 1.2},
                annotation={"text": safe(baseline.label), "font": {"size": 10}, "xanchor": "left", "x": 0},
                annotation_position="top left",
            )
    values = [
        f"{cell.values[axis].text}: {estimate_text(cell.interval(metric, REPORTED_ON))}" for cell in lines[strong]
    ]
    alternative = (
        f"{label}: {METRICS[metric].heading} on {REPORTED_ON} against {axis}, other axes as in the chosen cell. "
        + "; ".join(values)
    )
    return Panel("", label, figure, alternative)


@dataclass(frozen=True)
class _Line:
    """The cells of a method that differ only in the axis: their seeds as points, their means joined by a line."""

    cells: Sequence[Cell]
    fixed: Fixed  # the values of the other varied axes
    axis: str
    metric: str
    style: Style
    is_strong: bool  # whether the chosen cell is on it
    ticks: Sequence[Value]

    def traces(self) -> list[go.Scatter]:
        """Return the traces from bottom to top. Only the strong line shows intervals: a band, or error bars."""
        found = [(cell, i) for cell in self.cells if (i := cell.interval(self.metric, REPORTED_ON)) is not None]
        points, mean = self._seeds(), self._means(found)
        if not self.is_strong:
            return [points, mean]
        with_width = [(self._x(cell), i) for cell, i in found if i.half_width is not None]
        if len(with_width) > 1 and not self._kind[0]:
            return [_band(with_width, self.style.colour), points, mean]
        mean.error_y = error_bars(i for _, i in found)
        return [points, mean]

    def _seeds(self) -> go.Scatter:
        seeds = [(cell, one) for cell in self.cells for one in cell.measured.get((self.metric, REPORTED_ON), ())]
        return go.Scatter(
            name=self._name("seeds"),
            x=[self._right_of(self._x(cell)) for cell, _ in seeds],
            y=[percent(one.value) for _, one in seeds],
            mode="markers",
            opacity=0.75 if self.is_strong else 0.35,
            marker={"color": self.style.colour, "symbol": "circle", "size": 5, "line": {"width": 0}},
            hoverinfo="text",
            hovertext=[self._hover(cell, f"seed {one.seed}: {100 * one.value:.1f}%") for cell, one in seeds],
        )

    def _means(self, found: Sequence[tuple[Cell, Interval]]) -> go.Scatter:
        symbol = self.style.symbol
        return go.Scatter(
            name=self._name("mean"),
            x=[self._x(cell) for cell, _ in found],
            y=[percent(interval.mean) for _, interval in found],
            mode="lines+markers" if self.is_strong else "lines",
            opacity=1.0 if self.is_strong else 0.4,
            line={"color": self.style.colour, "width": 2 if self.is_strong else 1},
            marker={
                # Hollow: some of the planned seeds are missing or failed.
                "symbol": [symbol if cell.is_complete else f"{symbol}-open" for cell, _ in found],
                "size": 9,
                "color": self.style.colour,
            },
            hoverinfo="text",
            hovertext=[self._hover(cell, f"{estimate_text(i)}, seeds {cell.seeds_text}") for cell, i in found],
        )

    @property
    def _kind(self) -> tuple[bool, bool, float]:
        return _kind_of_axis(self.ticks)

    def _x(self, cell: Cell) -> float | str:
        value = cell.values[self.axis]
        return safe(value.text) if self._kind[0] or value.number is None else value.number

    def _right_of(self, x: float | str) -> float | str:
        """Return a position slightly to the right, so that the mean does not hide its seeds."""
        _, logarithmic, width = self._kind
        if isinstance(x, str):
            return x
        return float(f"{x * width**0.03 if logarithmic else x + 0.03 * width:.6g}")

    def _name(self, what: str) -> str:
        return f"{what}, {safe(self._fixed_text)}" if self.fixed else what

    def _hover(self, cell: Cell, text: str) -> str:
        return hover(f"{self.axis} = {cell.values[self.axis].text}", self._fixed_text, text)

    @property
    def _fixed_text(self) -> str:
        return ", ".join(f"{name} = {text}" for name, text in self.fixed)


def _band(found: Sequence[tuple[float | str, Interval]], colour: str) -> go.Scatter:
    """Return the t intervals along the axis as one area; values with a single seed have none and are bridged."""
    upper = [percent(i.mean + (i.half_width or 0.0)) for _, i in found]
    lower = [percent(i.mean - (i.half_width or 0.0)) for _, i in found]
    places = [x for x, _ in found]
    return go.Scatter(
        x=places + places[::-1],
        y=upper + lower[::-1],
        name="95 % t interval",
        mode="lines",
        fill="toself",
        fillcolor=faint(colour),
        line={"width": 0},
        hoverinfo="skip",
    )


def _fixed(section: Section, label: str, cell: Cell, axis: str) -> Fixed:
    """Return the cell's values of the varied axes other than `axis`."""
    return tuple(
        (name, cell.values[name].text) for name in section.varied(label) if name != axis and name in cell.values
    )


def _extent(cell: Cell, metric: str) -> list[float]:
    """Return the values and the ends of the interval, which a panel must include."""
    interval = cell.interval(metric, REPORTED_ON)
    if interval is None:
        return []
    values = [one.value for one in cell.measured[metric, REPORTED_ON]]
    half_width = interval.half_width or 0.0
    return [*values, interval.mean - half_width, interval.mean + half_width]


def _kind_of_axis(ticks: Sequence[Value]) -> tuple[bool, bool, float]:
    """Return whether the values are categories, whether the axis is logarithmic (ratio of 10 or more), and its width.

    The width is the ratio of the ends of a logarithmic axis, and the difference of those of a linear one.
    """
    numbers = [value.number for value in ticks if value.number is not None]
    if len(numbers) < len(ticks) or not numbers:
        return True, False, 0.0
    low, high = min(numbers), max(numbers)
    logarithmic = low > 0 and high >= 10 * low
    return False, logarithmic, high / low if logarithmic else high - low


def scale(figure: go.Figure, ticks: Sequence[Value]) -> None:
    """Set the ticks of the x axis at the values of the sweep, if there are at most 7."""
    categories, logarithmic, _ = _kind_of_axis(ticks)
    if categories:
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=[safe(t.text) for t in ticks])
        return
    shown = ticks if len(ticks) <= 7 else ()
    figure.update_xaxes(type="log" if logarithmic else "linear")
    if shown:
        figure.update_xaxes(tickvals=[value.number for value in shown], ticktext=[safe(value.text) for value in shown])
