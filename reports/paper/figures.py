"""Which figures a paper gets, each a row of panels: the page's own, and accuracy against cost and by two axes."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import plotly.graph_objects as go

from twinbench.reports import figures
from twinbench.reports.cells import REPORTED_ON, Cell, Record, Run, Section
from twinbench.reports.figures import Panel, Style
from twinbench.reports.paper.parts import TITLES
from twinbench.reports.paper.tables import grid_of
from twinbench.reports.statistics import CONFIDENCE
from twinbench.reports.tables import METRIC_NAMES, estimate_text

SHADES = ((0.0, "#EAF3FA"), (1.0, "#6FA8D6"))  # black figures stay readable on all of them


@dataclass(frozen=True)
class PaperFigure:
    """Panels under one key; `title` says in a few words what they show, `note` what they rest on."""

    key: str
    title: str
    panels: tuple[Panel, ...]
    note: str
    legend: tuple[tuple[str, Style], ...] = ()

    @property
    def alternative(self) -> str:
        return " ".join(f"{panel.alternative.rstrip('. ')}." for panel in self.panels)


def paper_figures(run: Run, section: Section) -> list[PaperFigure]:
    """Every figure that the section gives."""
    legend, n = tuple(_legend(section)), _seeds(section)
    bars = f"Means with {CONFIDENCE:.0%} t intervals over seeds ({n})."
    lines = "A line per trial, one per seed; its end is marked."
    made = [
        PaperFigure(f"sensitivity-{axis}", f"Accuracy against {axis}", tuple(panels), f"{bars} Small points: seeds.")
        for axis in section.axes
        if (panels := figures.sensitivity(section, axis))
    ]
    front = f"{bars} Faint: cells that were not chosen. Dashed: the Pareto front of the means."
    made += [PaperFigure("cost", "Accuracy against cost", tuple(cost(section)), front, legend)]
    drawn = figures.Drawn(run, section)
    curves = figures.learning_curves(drawn)
    accuracy = [panel for panel in curves if not panel.title.startswith("Loss, ")]
    losses = [panel for panel in curves if panel.title.startswith("Loss, ")]
    made += [
        PaperFigure("curves-accuracy", "Accuracy on validation by epoch", tuple(accuracy), lines, legend),
        PaperFigure("curves-loss", "Training loss by epoch", tuple(losses), lines),
        PaperFigure("diagnostics", "Collapse by epoch", tuple(figures.diagnostics(drawn)), lines, legend),
    ]
    made += heat_maps(section)
    return [figure for figure in made if figure.panels]


# --- accuracy against cost ------------------------------------------------------------------------------------------


def cost(section: Section) -> list[Panel]:
    """Test accuracy against what a trial costs: faint points of all cells, chosen ones with intervals, Pareto front."""
    metric = section.selected_by[0]
    quantities: list[tuple[str, Callable[[Record], float | None]]] = [
        ("Training (minutes per trial)", lambda trial: (trial["train_seconds"] or 0.0) / 60),
        ("Images seen (millions)", lambda trial: (trial["images_seen"] or 0) / 1e6),
        ("Peak memory (GiB)", lambda trial: (trial["peak_memory_bytes"] or 0) / 2**30),
    ]
    panels = [_cost_panel(section, metric, title, of) for title, of in quantities]
    return [panel for panel in panels if panel.figure.data]


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, value) the points that no other beats in both, from the cheapest on."""
    front: list[tuple[float, float]] = []
    for at, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((at, value))
    return front


def _cost_panel(section: Section, metric: str, title: str, of: Callable[[Record], float | None]) -> Panel:
    looks = figures.styles(cell.method for cell in section.cells)
    costs = {cell.cell_id: _mean_cost(cell, of) for cell in section.cells}
    found = [
        (cell, costs[cell.cell_id], interval)
        for cell in section.cells
        if not cell.is_baseline and costs[cell.cell_id] and (interval := cell.interval(metric, REPORTED_ON))
    ]
    if not found:
        return Panel("", title, go.Figure(), "")
    chosen = {cell.cell_id for cell in section.chosen.values()}
    front = pareto([(cost, interval.mean) for _, cost, interval in found])
    traces = [
        go.Scatter(
            x=[_short(x) for x, _ in front],
            y=[_short(100 * y) for _, y in front],
            mode="lines",
            name="Pareto front",
            line={"color": "#8C8C8C", "width": 1.4, "dash": "dash", "shape": "hv"},
        )
    ]
    for cell, at, interval in sorted(found, key=lambda item: item[0].cell_id in chosen):
        look, strong = looks[cell.method], cell.cell_id in chosen
        half = interval.half_width
        traces.append(
            go.Scatter(
                x=[_short(at)],
                y=[_short(100 * interval.mean)],
                mode="markers",
                name=_safe(cell.label),
                opacity=1.0 if strong else 0.4,
                marker={"color": look.colour, "symbol": look.symbol, "size": 9 if strong else 6},
                error_y={"type": "data", "array": [None if half is None or not strong else _short(100 * half)]},
            )
        )
    figure = go.Figure(traces, _layout(f"{METRIC_NAMES[metric]} on {REPORTED_ON}", title))
    if max(x for _, x, _ in found) >= 10 * min(x for _, x, _ in found):
        figure.update_xaxes(type="log")
    said = [f"{cell.label} {estimate_text(i)} at {at:.3g}" for cell, at, i in found if cell.cell_id in chosen]
    hosts = {(trial["device"], trial["host"]) for cell, _, _ in found for trial in cell.trials if trial["host"]}
    warning = f" The trials ran on {len(hosts)} different machines or devices." if len(hosts) > 1 else ""
    alternative = (
        f"{METRIC_NAMES[metric]} on {REPORTED_ON} against {title}, means of the trials that are done. Chosen cells: "
        f"{'; '.join(said)}. The line is the Pareto front of the means of all cells, whatever their intervals.{warning}"
    )
    return Panel("", title, figure, alternative)


def _mean_cost(cell: Cell, of: Callable[[Record], float | None]) -> float:
    values = [value for trial in cell.trials if trial["status"] == "done" and (value := of(trial))]
    return sum(values) / len(values) if values else 0.0


# --- two axes -------------------------------------------------------------------------------------------------------


def heat_maps(section: Section) -> list[PaperFigure]:
    """For each pair of axes, a panel per method that moved both."""
    metric, made = section.selected_by[0], []
    for down, across in combinations(section.axes, 2):
        labels = [label for label in section.methods if {down, across} <= section.moved(label).keys()]
        panels = [panel for label in labels if (panel := _heat_map(section, label, down, across, metric))]
        title = f"{TITLES[metric]} (%) on {REPORTED_ON} by {down} and {across}"
        made.append(
            PaperFigure(f"grid-{down}-{across}", title, tuple(panels), f"Means over seeds ({_seeds(section)}).")
        )
    return made


def _heat_map(section: Section, label: str, down: str, across: str, metric: str) -> Panel | None:
    grid = grid_of(section, label, down, across)
    means = {
        place: interval.mean for place, cell in grid.cells.items() if (interval := cell.interval(metric, REPORTED_ON))
    }
    if len(means) < 4 or len(grid.rows) < 2 or len(grid.columns) < 2:
        return None
    percent = [[round(100 * means[r, c], 6) if (r, c) in means else None for c in grid.columns] for r in grid.rows]
    figure = go.Figure(
        go.Heatmap(
            x=[_safe(column.text) for column in grid.columns],
            y=[_safe(row.text) for row in grid.rows],
            z=percent,
            text=[["–" if z is None else f"{z:.1f}" for z in row] for row in percent],
            texttemplate="%{text}",
            colorscale=[list(shade) for shade in SHADES],
            showscale=False,
        ),
        _layout(down, across),
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category")
    low, high = min(means.items(), key=lambda i: i[1]), max(means.items(), key=lambda i: i[1])
    chosen = section.chosen[label]
    others = ", ".join(f"{axis} = {chosen.values[axis].text}" for axis in grid.others)
    alternative = (
        f"{label}: mean {METRIC_NAMES[metric]} on {REPORTED_ON} by {down} and {across}"
        f"{f', at {others}' if others else ''}: from {100 * low[1]:.1f} at {low[0][0].text} and {low[0][1].text} "
        f"to {100 * high[1]:.1f} at {high[0][0].text} and {high[0][1].text}."
    )
    return Panel("", label, figure, alternative)


# --- pieces ---------------------------------------------------------------------------------------------------------


def _legend(section: Section) -> list[tuple[str, Style]]:
    looks = figures.styles(cell.method for cell in section.cells)
    return [(label, looks[cell.method]) for label, cell in section.chosen.items() if not cell.is_baseline]


def _seeds(section: Section) -> str:
    n = sorted({cell.done for cell in section.cells if cell.done and not cell.is_baseline}) or [0]
    return f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"


def _layout(y_title: str, x_title: str) -> go.Layout:
    return go.Layout(
        template="simple_white",
        height=280,
        xaxis={"title": {"text": _safe(x_title)}},
        yaxis={"title": {"text": _safe(y_title)}},
        showlegend=False,
    )


def _safe(text: str) -> str:
    """plotly reads a few HTML tags in its labels; a name must not be one."""
    return html.escape(text, quote=False)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
