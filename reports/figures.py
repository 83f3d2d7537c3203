"""The figures of a report as plotly objects: a panel per method or quantity, so that a page lays them out at any width.

A method has one colour and one marker in every figure: Okabe and Ito's palette (https://jfly.uni-koeln.de/color/),
which colour-blind eyes tell apart; baselines are grey. Figures carry no text colour: the page sets it, for light and
dark.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from twinbench.reports.cells import REPORTED_ON, Cell, Record, Run, Section, Value
from twinbench.reports.statistics import Interval
from twinbench.reports.tables import METRIC_NAMES, estimate_text

VALIDATION_CURVE = "validation/knn_top1"
LOSS_CURVE = "loss"
DIAGNOSTICS = "diagnostics/"
MANY_TRIALS = 100  # above this, curves of the chosen cells and of failed trials only: the page must stay small

DIAGNOSTIC_NAMES = {
    "feature_std": "Standard deviation of normalised features",
    "rankme_backbone": "Effective rank (RankMe), backbone",
    "rankme_projector": "Effective rank (RankMe), projector",
    "off_diagonal_correlation": "Mean off-diagonal correlation",
    "alignment": "Alignment",
    "uniformity": "Uniformity",
}


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
    figure = go.Figure(traces, layout(f"{METRIC_NAMES[metric]} on {REPORTED_ON}", axis))
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
        f"{label}: {METRIC_NAMES[metric]} on {REPORTED_ON} against {axis}, other axes as in the chosen cell. "
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


def faint(colour: str) -> str:
    """ "#0072B2" as an area that lets what lies below through."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


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


# --- curves ---------------------------------------------------------------------------------------------------------


class Drawn:
    """The curves of a section that are drawn, read once: of the chosen cells and of trials that did not end well.

    Of all trials where they are few.
    """

    def __init__(self, run: Run, section: Section):
        self.section = section
        few = len(section.trials) <= MANY_TRIALS
        chosen = {cell.cell_id for cell in section.chosen.values()}
        wanted = {t["trial_id"] for t in section.trials if few or t["cell_id"] in chosen or t["status"] != "done"}
        self.by_trial: dict[str, dict[str, list[tuple[float, float]]]] = {}
        columns = run.curves.loc[run.curves["trial_id"].isin(wanted), ["trial_id", "name", "epoch", "value"]]
        for trial_id, name, epoch, value in columns.itertuples(index=False, name=None):
            self.by_trial.setdefault(trial_id, {}).setdefault(name, []).append((epoch, value))

    @property
    def diagnostic_names(self) -> list[str]:
        """Those there are, the known ones first."""
        names = {name for series in self.by_trial.values() for name in series if name.startswith(DIAGNOSTICS)}
        order = [DIAGNOSTICS + name for name in DIAGNOSTIC_NAMES]
        return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def learning_curves(drawn: Drawn) -> list[Panel]:
    """Validation kNN by epoch with all methods in one panel, then the training loss, which is each method's own."""
    panels = [_curve_panel(drawn, VALIDATION_CURVE, "kNN top-1 on validation (%)", 100.0)]
    for label in drawn.section.methods:
        panels.append(_curve_panel(drawn, LOSS_CURVE, f"Loss, {label}", 1.0, only=label))
    return [panel for panel in panels if panel.figure.data]


def diagnostics(drawn: Drawn) -> list[Panel]:
    """Collapse diagnostics by epoch, a panel per quantity."""
    bare = {name: name.removeprefix(DIAGNOSTICS) for name in drawn.diagnostic_names}
    panels = [
        _curve_panel(drawn, name, DIAGNOSTIC_NAMES.get(short_name, short_name), 1.0)
        for name, short_name in bare.items()
    ]
    return [panel for panel in panels if panel.figure.data]


def _curve_panel(drawn: Drawn, name: str, title: str, factor: float, only: str | None = None) -> Panel:
    """One quantity by epoch, a line per trial: chosen cells strong, other cells faint, trials that failed dashed."""
    section = drawn.section
    looks = styles(cell.method for cell in section.cells)
    chosen = {cell.cell_id for cell in section.chosen.values()}
    traces, said = [], []
    for cell in section.cells:
        if only is not None and cell.label != only:
            continue
        ends = []
        for trial in cell.trials:
            points = [(x, y) for x, y in drawn.by_trial.get(trial["trial_id"], {}).get(name, []) if math.isfinite(y)]
            # In a panel of several methods, cells that were not chosen would hide the comparison.
            if not points or (only is None and cell.cell_id not in chosen and trial["status"] == "done"):
                continue
            is_chosen = cell.cell_id in chosen
            traces.append(_curve(section, cell, trial, points, factor, looks[cell.method], is_chosen))
            ends.append(factor * points[-1][1])
        if ends and cell.cell_id in chosen:
            said.append(f"{cell.label} ends at {min(ends):.4g} to {max(ends):.4g} over {len(ends)} trials")
    figure = go.Figure(traces, layout("", "epoch"))
    # Lines from the faint to the strong, so that the chosen ones lie on top.
    figure.data = sorted(figure.data, key=lambda trace: (trace.opacity, trace.line.dash == "solid"))
    return Panel("", title, figure, f"{title} by epoch. " + "; ".join(said))


def _curve(
    section: Section,
    cell: Cell,
    trial: Record,
    points: Sequence[tuple[float, float]],
    factor: float,
    style: Style,
    is_chosen: bool,
) -> go.Scatter:
    done = trial["status"] == "done"
    moved = [f"{axis} = {cell.values[axis].text}" for axis in section.moved(cell.label) if axis in cell.values]
    about = (cell.label, ", ".join(moved), f"seed {trial['seed']}" + ("" if done else f", {trial['status']}"))
    # One marker per line, at its end: the method's, or a cross where the trial broke off.
    symbols = [style.symbol if done else "x"] * len(points)
    return go.Scatter(
        x=[x for x, _ in points],
        y=[short(factor * y) for _, y in points],
        mode="lines+markers",
        name=safe(", ".join(part for part in about if part)),
        opacity=0.9 if is_chosen else 0.6 if not done else 0.35,
        line={
            "color": style.colour,
            "width": 1.6 if is_chosen else 1.1,
            "dash": "solid" if done else "dot",
        },
        marker={
            "color": style.colour,
            "symbol": symbols,
            "size": [0] * (len(points) - 1) + [7],
            "line": {"width": 0},
        },
        # One template per line: a text per point would be most of the page.
        hovertemplate=hover(*about).replace("%", "&#37;") + "<br>epoch %{x}: %{y:.4~g}<extra></extra>",
    )


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
