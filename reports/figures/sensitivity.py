"""Sensitivity panels: accuracy against the values of one swept axis."""

from collections.abc import Sequence

import plotly.graph_objects as go

from twinbench.reports.figures.panels import (
    Panel,
    Style,
    _span,
    error_bars,
    faint,
    hover,
    layout,
    percent,
    safe,
    styles,
)
from twinbench.reports.statistics.intervals import Interval
from twinbench.reports.tables.cells import REPORTED_ON, Cell, Section, Value
from twinbench.reports.tables.frames import estimate_text
from twinbench.sweeps.metrics import METRICS


def sensitivity(section: Section, axis: str, metric: str) -> list[Panel]:
    """Test accuracy against one axis, a panel per method that moved it: every seed a point, mean and interval beside.

    Points are joined where nothing but the axis differs. The line through the chosen cell is strong, the others faint.
    """
    moved = [label for label in section.methods if axis in section.moved(label)]
    baselines = [cell for cell in section.chosen.values() if cell.is_baseline]
    shown = [cell for label in moved for cell in section.methods[label]]
    levels = [100 * mean for _, mean in _levels(baselines, metric)]
    span = _span([100 * value for cell in shown for value in _extent(cell, metric)], levels)
    looks = styles(cell.method for cell in section.cells)
    return [_sensitivity_panel(section, label, axis, metric, baselines, span, looks) for label in moved]


def baselines_outside(section: Section, panels: Sequence[Panel], metric: str) -> str:
    """The baselines that lie outside the panels' range, in words: drawn to scale they would flatten the methods."""
    if not panels:
        return ""
    low, high = panels[0].figure.layout.yaxis.range
    levels = _levels([cell for cell in section.chosen.values() if cell.is_baseline], metric)
    outside = [f"{cell.label} {100 * mean:.1f}" for cell, mean in levels if not low <= 100 * mean <= high]
    return f"Outside the range shown: {', '.join(outside)}." if outside else ""


def _levels(baselines: Sequence[Cell], metric: str) -> list[tuple[Cell, float]]:
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
    ticks = section.moved(label)[axis]
    chosen = section.chosen[label]
    lines: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in cells:
        lines.setdefault(_others(section, label, cell, axis), []).append(cell)
    strong = _others(section, label, chosen, axis)
    traces = []
    # The strong line last, above the faint ones.
    for others, members in sorted(lines.items(), key=lambda item: (item[0] == strong, item[0])):
        traces += _line(members, others, axis, metric, looks[chosen.method], others == strong, ticks)
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
    said = [f"{cell.values[axis].text}: {estimate_text(cell.interval(metric, REPORTED_ON))}" for cell in lines[strong]]
    alternative = (
        f"{label}: {METRICS[metric].heading} on {REPORTED_ON} against {axis}, other axes as in the chosen cell. "
        + "; ".join(said)
    )
    return Panel("", label, figure, alternative)


def _line(
    cells: Sequence[Cell],
    others: tuple[tuple[str, str], ...],
    axis: str,
    metric: str,
    style: Style,
    strong: bool,
    ticks: Sequence[Value],
) -> list[go.Scatter]:
    """One combination of the other axes: its seeds as points, its means joined, with their intervals if strong."""

    categories, logarithmic, width = _kind_of_axis(ticks)

    def place(cell: Cell) -> float | str:
        value = cell.values[axis]
        return safe(value.text) if categories or value.number is None else value.number

    def beside(x: float | str) -> float | str:
        """A little to the right, so that the mean does not hide its seeds."""
        if isinstance(x, str):
            return x
        return float(f"{x * width**0.03 if logarithmic else x + 0.03 * width:.6g}")

    rest = ", ".join(f"{name} = {text}" for name, text in others)
    seeds = [(place(cell), cell, one) for cell in cells for one in cell.measured.get((metric, REPORTED_ON), ())]
    means = [(place(cell), cell, cell.interval(metric, REPORTED_ON)) for cell in cells]
    found = [(x, cell, interval) for x, cell, interval in means if interval is not None]
    opacity = 1.0 if strong else 0.4
    points = go.Scatter(
        name=f"seeds{f', {safe(rest)}' if rest else ''}",
        x=[beside(x) for x, _, _ in seeds],
        y=[percent(one.value) for _, _, one in seeds],
        mode="markers",
        opacity=0.75 if strong else 0.35,
        marker={"color": style.colour, "symbol": "circle", "size": 5, "line": {"width": 0}},
        hoverinfo="text",
        hovertext=[
            hover(f"{axis} = {cell.values[axis].text}", rest, f"seed {one.seed}: {100 * one.value:.1f}%")
            for _, cell, one in seeds
        ],
    )
    mean = go.Scatter(
        name=f"mean{f', {safe(rest)}' if rest else ''}",
        x=[x for x, _, _ in found],
        y=[percent(interval.mean) for _, _, interval in found],
        mode="lines+markers" if strong else "lines",
        opacity=opacity,
        line={"color": style.colour, "width": 2 if strong else 1},
        marker={
            # Hollow: some of the seeds that were planned are missing or failed.
            "symbol": [style.symbol if cell.is_complete else f"{style.symbol}-open" for _, cell, _ in found],
            "size": 9,
            "color": style.colour,
        },
        hoverinfo="text",
        hovertext=[
            hover(f"{axis} = {cell.values[axis].text}", rest, f"{estimate_text(interval)}, seeds {cell.seeds_text}")
            for _, cell, interval in found
        ],
    )
    if not strong:
        return [points, mean]
    whole = [(x, i) for x, _, i in found if i.half_width is not None]
    if len(whole) > 1 and not categories:
        return [_band(whole, style.colour), points, mean]
    mean.error_y = error_bars(i for _, _, i in found)
    return [points, mean]


def _band(found: Sequence[tuple[float | str, Interval]], colour: str) -> go.Scatter:
    """The t intervals from value to value of the axis, as an area; a value with one seed has none and is bridged."""
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


def _others(section: Section, label: str, cell: Cell, axis: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, cell.values[name].text) for name in section.moved(label) if name != axis and name in cell.values
    )


def _extent(cell: Cell, metric: str) -> list[float]:
    interval = cell.interval(metric, REPORTED_ON)
    if interval is None:
        return []
    values = [one.value for one in cell.measured[metric, REPORTED_ON]]
    half_width = interval.half_width or 0.0
    return [*values, interval.mean - half_width, interval.mean + half_width]


def _kind_of_axis(ticks: Sequence[Value]) -> tuple[bool, bool, float]:
    """Whether the values are categories, whether the axis is logarithmic (a spread of ten times or more), its width.

    The width of a logarithmic axis is the quotient of its ends, that of a linear one their difference.
    """
    numbers = [value.number for value in ticks if value.number is not None]
    if len(numbers) < len(ticks) or not numbers:
        return True, False, 0.0
    low, high = min(numbers), max(numbers)
    logarithmic = low > 0 and high >= 10 * low
    return False, logarithmic, high / low if logarithmic else high - low


def scale(figure: go.Figure, ticks: Sequence[Value]) -> None:
    """Marks stand at the values that were tried."""
    categories, logarithmic, _ = _kind_of_axis(ticks)
    if categories:
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=[safe(t.text) for t in ticks])
        return
    shown = ticks if len(ticks) <= 7 else ()
    figure.update_xaxes(type="log" if logarithmic else "linear")
    if shown:
        figure.update_xaxes(tickvals=[value.number for value in shown], ticktext=[safe(value.text) for value in shown])
