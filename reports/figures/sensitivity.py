"""Sensitivity panels: accuracy against the values of one swept axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from twinbench.reports.figures.panels import (
    Panel,
    Style,
    error_bars,
    faint,
    hover,
    layout,
    looks,
    percent,
    safe,
    span_of,
)
from twinbench.reports.statistics.intervals import Interval
from twinbench.reports.tables.cells import REPORTED_ON, Cell, Section, Value, value_order
from twinbench.reports.tables.frames import estimate_text
from twinbench.reports.tables.slices import Slice, held_text, slices
from twinbench.sweeps.metrics import METRICS

_DASHES = {"solid": "solid", "dash": "dashed", "dot": "dotted"}  # plotly's names of line styles, in words


def sensitivity(section: Section, axis: str, metric: str) -> list[Panel]:
    """Return test accuracy against one axis, one panel per method for which it was varied.

    A panel shows every seed of a slice as a point, and its means with intervals, joined by a line. The method's first
    slice is strong, others are faint. Slices of one cell are left out, since they do not show the effect of the axis.
    """
    drawn = _drawn(section, axis)
    cells = [cell for found in drawn.values() for one in found for cell in one.cells.values()]
    values = [100 * value for cell in cells for value in _extent(cell, metric)]
    span = span_of(values, [100 * mean for mean in _levels(section, metric).values()])
    return [_sensitivity_panel(section, label, found, metric, span) for label, found in drawn.items()]


def _drawn(section: Section, axis: str) -> dict[str, list[Slice]]:
    """Return each method's first slice and those of two or more cells; all of its slices if the first has one cell."""
    varied = [label for label in section.methods if axis in section.varied(label)]
    found = {label: slices(section, label, axis) for label in varied}
    return {
        label: [one for one in own if one is own[0] or len(one.cells) > 1 or len(own[0].cells) == 1]
        for label, own in found.items()
    }


def sensitivity_note(section: Section, axis: str, panels: Sequence[Panel], metric: str) -> str:
    """Return the settings along the strong lines, what faint and grey lines are, and the baselines outside the range.

    Drawn to scale, those outside would flatten the methods.
    """
    drawn = _drawn(section, axis)
    low, high = panels[0].figure.layout.yaxis.range
    levels, styles = {label: 100 * mean for label, mean in _levels(section, metric).items()}, looks(section)
    outside = [f"{label} {level:.1f}" for label, level in levels.items() if not low <= level <= high]
    grey = [f"{label} ({_DASHES[styles[label].dash]})" for label, level in levels.items() if low <= level <= high]
    sentences = [
        held_text({label: found[0] for label, found in drawn.items()}),
        _faint_text(drawn),
        f"Grey lines: {', '.join(grey)}." if grey else "",
        f"Outside the range shown: {', '.join(outside)}." if outside else "",
    ]
    return " ".join(filter(None, sentences))


def _faint_text(drawn: Mapping[str, Sequence[Slice]]) -> str:
    """Return which of several lines is the strong one, and in what the faint ones differ; empty without any."""
    strong: dict[str, list[str]] = {}
    others: dict[str, None] = {}
    for label, (first, *rest) in drawn.items():
        if rest:
            strong.setdefault(first.choice, []).append(label)
            others |= dict.fromkeys(first.held)
    if not strong:
        return ""
    where = [f"{choice} ({', '.join(labels)})" for choice, labels in strong.items()] if len(strong) > 1 else [*strong]
    return f"Strong lines: {', '.join(where)}; faint: other values of {', '.join(others)}."


def _levels(section: Section, metric: str) -> dict[str, float]:
    """Return the means of the baselines that were measured, by label."""
    baselines = {label: cell.interval(metric) for label, cell in section.chosen.items() if cell.is_baseline}
    return {label: interval.mean for label, interval in baselines.items() if interval}


def _sensitivity_panel(
    section: Section, label: str, found: Sequence[Slice], metric: str, span: tuple[float, float]
) -> Panel:
    styles, (axis,) = looks(section), found[0].axes
    scale = _scale_of(sorted({value for one in found for value in one.values(axis)}, key=value_order))
    traces = []
    for one in reversed(found):  # the strong line last, above the faint ones
        traces += _Line(one, axis, metric, styles[label], one is found[0], scale).traces()
    figure = go.Figure(traces, layout(f"{METRICS[metric].heading} on {REPORTED_ON}", axis))
    figure.update_layout(yaxis_range=span)
    figure.update_xaxes(scale.layout)
    for baseline, level in _levels(section, metric).items():
        if span[0] <= 100 * level <= span[1]:
            figure.add_hline(
                y=percent(level),
                line={"color": styles[baseline].colour, "dash": styles[baseline].dash, "width": 1.2},
                annotation={"text": safe(baseline), "font": {"size": 10}, "xanchor": "right", "x": 1},
                annotation_position="top right",
            )
    values = [f"{cell.values[axis].text}: {estimate_text(cell.interval(metric))}" for cell in found[0].cells.values()]
    opening = f"{label}: {METRICS[metric].heading} on {REPORTED_ON} against {axis}"
    return Panel(label, figure, f"{'; '.join(filter(None, [opening, found[0].words]))}. {'; '.join(values)}")


@dataclass(frozen=True)
class _Scale:
    """The x axis of a panel: categories, or numbers on a linear or logarithmic scale."""

    is_of_texts: bool
    width: float  # of numbers: the ratio of the ends of a logarithmic scale, the difference of those of a linear one
    layout: dict[str, object]  # plotly's settings of the axis

    def place(self, value: Value) -> float | str:
        return safe(value.text) if self.is_of_texts or value.number is None else value.number

    def right_of(self, value: Value) -> float | str:
        """Return a place slightly to the right, so that the mean does not hide its seeds."""
        x = self.place(value)
        if isinstance(x, str):
            return x
        return float(f"{x * self.width**0.03 if self.layout['type'] == 'log' else x + 0.03 * self.width:.6g}")


def _scale_of(ticks: Sequence[Value]) -> _Scale:
    """Return the scale for the values of an axis: logarithmic from a ratio of 10 on, with ticks at up to 7 values."""
    numbers = [value.number for value in ticks if value.number is not None]
    texts = [safe(value.text) for value in ticks]
    if len(numbers) < len(ticks):
        return _Scale(True, 0.0, {"type": "category", "categoryorder": "array", "categoryarray": texts})
    low, high = min(numbers), max(numbers)
    logarithmic = low > 0 and high >= 10 * low
    marks = {"tickvals": numbers, "ticktext": texts} if len(ticks) <= 7 else {}
    width = high / low if logarithmic else high - low
    return _Scale(False, width, {"type": "log" if logarithmic else "linear"} | marks)


@dataclass(frozen=True)
class _Line:
    """The cells of one slice: their seeds as points, their means joined by a line."""

    slice: Slice
    axis: str
    metric: str
    style: Style
    is_strong: bool
    scale: _Scale

    def traces(self) -> list[go.Scatter]:
        """Return the traces from bottom to top. Only the strong line shows intervals: a band, or error bars."""
        found = [(cell, i) for cell in self.slice.cells.values() if (i := cell.interval(self.metric)) is not None]
        points, mean = self._seeds(), self._means(found)
        if not self.is_strong:
            return [points, mean]
        with_width = [(self._x(cell), i) for cell, i in found if i.half_width is not None]
        if len(with_width) > 1 and not self.scale.is_of_texts:
            return [_band(with_width, self.style.colour), points, mean]
        mean.error_y = error_bars(i for _, i in found)
        return [points, mean]

    def _seeds(self) -> go.Scatter:
        cells = self.slice.cells.values()
        seeds = [(cell, one) for cell in cells for one in cell.measured.get((self.metric, REPORTED_ON), ())]
        return go.Scatter(
            name=self._name("seeds"),
            x=[self.scale.right_of(cell.values[self.axis]) for cell, _ in seeds],
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

    def _x(self, cell: Cell) -> float | str:
        return self.scale.place(cell.values[self.axis])

    def _name(self, what: str) -> str:
        return f"{what}, {safe(self.slice.held_text)}" if self.slice.held else what

    def _hover(self, cell: Cell, text: str) -> str:
        others = cell.settings_text([*self.slice.held, *self.slice.following])
        return hover(f"{self.axis} = {cell.values[self.axis].text}", others, text)


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


def _extent(cell: Cell, metric: str) -> list[float]:
    """Return the values and the ends of the interval, which a panel must include."""
    interval = cell.interval(metric)
    if interval is None:
        return []
    half_width = interval.half_width or 0.0
    values = [one.value for one in cell.measured[metric, REPORTED_ON]]
    return [*values, interval.mean - half_width, interval.mean + half_width]
