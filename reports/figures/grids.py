"""Heat maps of pairs of axes, and the importance of each axis."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from twinbench.reports.figures.panels import Panel, layout, percent, safe
from twinbench.reports.tables.cells import NOTHING, REPORTED_ON, Cell, Section, Value, value_order
from twinbench.reports.tables.frames import estimate_text
from twinbench.reports.tables.slices import Slice, slices
from twinbench.sweeps.metrics import METRICS


@dataclass(frozen=True)
class Grid:
    """A complete grid: one measured cell for every combination of the values of `axes`, all else equal."""

    axes: tuple[str, ...]
    cells: list[Cell]
    fixed: str  # the other varied axes with their values here


# --- heat maps ------------------------------------------------------------------------------------------------------


def plane(section: Section, label: str, axes: tuple[str, str]) -> Slice | None:
    """Return the slice of a method over two axes; None if it did not cross them, since all corners would be empty."""
    return next(filter(_is_crossed, slices(section, label, *axes)), None)


def _is_crossed(one: Slice) -> bool:
    first, second = (len(one.values(axis)) for axis in one.axes)
    return min(first, second) > 1 and len(one.cells) >= first + second


def axes_text(section: Section, axes: tuple[str, str], labels: Sequence[str]) -> str:
    """Return two axes with the protocol's values for these methods: "epochs (protocol: 12) and batch_size"."""
    return " and ".join(f"{axis}{section.own_value(axis, labels)}" for axis in axes)


def heat_maps(section: Section, metric: str) -> list[Panel]:
    """Return one panel per method and pair of crossed axes."""
    pairs = [(label, axes) for label in section.methods for axes in itertools.combinations(section.varied(label), 2)]
    return [panel for label, axes in pairs if (panel := heat_map(section, label, axes, metric))]


def heat_map(section: Section, label: str, axes: tuple[str, str], metric: str) -> Panel | None:
    """Return a method's mean accuracy by two axes; None if it did not cross them or nothing was measured."""
    found = plane(section, label, axes)
    cells = found.cells if found else {}
    intervals = {place: i for place, cell in cells.items() if (i := cell.interval(metric))}
    if not found or not intervals:
        return None
    across, up = (found.values(axis) for axis in axes)
    rows = [[intervals.get((x, y)) for x in across] for y in up]
    figure = go.Figure(
        go.Heatmap(
            x=[safe(value.text) for value in across],
            y=[safe(value.text) for value in up],
            z=[[None if i is None else percent(i.mean) for i in row] for row in rows],
            text=[[NOTHING if i is None else f"{100 * i.mean:.1f}" for i in row] for row in rows],
            customdata=[[estimate_text(i) for i in row] for row in rows],
            texttemplate="%{text}",
            hovertemplate="%{x}, %{y}: %{customdata}<extra></extra>",
            colorscale="Cividis",  # perceptually uniform, also for colour-blind readers
            showscale=False,
            xgap=2,
            ygap=2,
        ),
        layout(axes[1], axes[0]),
    )
    figure.update_xaxes(type="category", showline=False)
    figure.update_yaxes(type="category", showgrid=False)
    ends = [choose(intervals.items(), key=lambda one: one[1].mean) for choose in (min, max)]
    extremes = " to ".join(f"{cells[place].settings_text(axes)} with {100 * i.mean:.1f}" for place, i in ends)
    title = "; ".join(filter(None, [f"{label}: {axes[0]} × {axes[1]}", found.words]))
    about = f"{title}. Mean {METRICS[metric].phrase} (%) on {REPORTED_ON}, from {extremes}."
    return Panel(title, figure, about)


def _values(cells: Sequence[Cell], axis: str) -> list[Value]:
    return sorted({cell.values[axis] for cell in cells}, key=value_order)


# --- importance -----------------------------------------------------------------------------------------------------

COLUMNS = ("method", "axis", "values", "range", "slice", "share", "interactions", "noise", "grid")


def importance(section: Section, metric: str) -> pd.DataFrame:
    """Return one row per method and axis: the range of means along it, and its share of the variance in a grid.

    `values` and `range`: the number of means on the slice that the figures show, and the largest minus the smallest, as
    a fraction. `slice`: the other settings there. `share`: variance of the axis's level means divided by that of all
    cell means, in the largest complete grid with the axis (main effect of a functional ANOVA). `interactions`: 1 minus
    the shares of all axes. `noise`: the share expected from the seeds alone, which is the mean of s²/n over the grid's
    cells. These three are None without a complete grid.
    """
    found = []
    for label in section.methods:
        for axis in section.varied(label):
            shown = slices(section, label, axis)[0]
            means = [i.mean for cell in shown.cells.values() if (i := cell.interval(metric))]
            spread = max(means) - min(means) if len(means) > 1 else None
            shares = _shares(largest_grid(section, label, axis, metric), axis, metric)
            found.append((label, axis, len(means), spread, shown.words, *shares))
    return pd.DataFrame(found, columns=pd.Index(COLUMNS), dtype=object)


def display_importance(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the importance as printed, in points and percent."""

    def percents(name: str, decimals: int = 0) -> list[str]:
        return [NOTHING if value is None else f"{100 * value:.{decimals}f}" for value in frame[name]]

    return pd.DataFrame(
        {
            "Method": frame["method"],
            "Axis": frame["axis"],
            "Values": [str(value) for value in frame["values"]],
            "Range of means (points)": percents("range", 1),
            "Other settings": [words or NOTHING for words in frame["slice"]],
            "Share of variance (%)": percents("share"),
            "Interactions (%)": percents("interactions"),
            "Seed noise (%)": percents("noise"),
            "Grid": frame["grid"],
        },
        dtype=object,
    )


def largest_grid(section: Section, label: str, axis: str, metric: str) -> Grid | None:
    """Return the complete grid of `axis` and others with the most cells; None if no two axes are crossed."""
    varied, grids = list(section.varied(label)), []
    for size in range(min(len(varied), 4), 1, -1):  # no sweep crosses more axes
        for axes in (axes for axes in itertools.combinations(varied, size) if axis in axes):
            for one in slices(section, label, *axes):
                if whole := _trimmed([cell for cell in one.cells.values() if cell.interval(metric)], axes):
                    grids.append(Grid(axes, whole, one.held_text))
    return max(grids, key=lambda grid: len(grid.cells), default=None)


def _trimmed(cells: Sequence[Cell], axes: Sequence[str]) -> list[Cell]:
    """Return the largest complete grid found by removing values with missing combinations, the emptiest first.

    Empty if no grid of two values per axis remains.
    """
    left = list(cells)
    while True:
        values = {axis: _values(left, axis) for axis in axes}
        if min(map(len, values.values())) < 2:
            return []
        if len(left) == math.prod(map(len, values.values())):
            return left
        counts = Counter((axis, cell.values[axis]) for cell in left for axis in axes)
        axis, value = min(counts, key=lambda one: (counts[one] * len(values[one[0]]), one[0], value_order(one[1])))
        left = [cell for cell in left if cell.values[axis] != value]


def _shares(grid: Grid | None, axis: str, metric: str) -> tuple[float | None, float | None, float | None, str]:
    """Return share, interactions and noise, and the grid in words."""
    if grid is None:
        return None, None, None, "not crossed with another axis"
    values = {cell.cell_id: [one.value for one in cell.measured[metric, REPORTED_ON]] for cell in grid.cells}
    means = {cell_id: statistics.mean(found) for cell_id, found in values.items()}
    total = statistics.pvariance(means.values())
    sizes = " × ".join(f"{name} ({len(_values(grid.cells, name))})" for name in grid.axes)
    description = f"{sizes}{f', {grid.fixed}' if grid.fixed else ''}"
    if total <= 1e-18:
        return None, None, None, f"{description}; all means are equal"
    main = {name: _main_effect(grid, name, means) / total for name in grid.axes}
    noise = None
    if all(len(found) > 1 for found in values.values()):
        noise = statistics.mean(statistics.variance(found) / len(found) for found in values.values()) / total
    return main[axis], max(0.0, 1 - sum(main.values())), noise, description


def _main_effect(grid: Grid, axis: str, means: dict[str, float]) -> float:
    levels = [
        statistics.mean(means[cell.cell_id] for cell in grid.cells if cell.values[axis] == value)
        for value in _values(grid.cells, axis)
    ]
    return statistics.pvariance(levels)
