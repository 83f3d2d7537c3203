"""Accuracy against cost, with the Pareto front of the means; rank correlations of diagnostics with accuracy."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from twinbench.reports.figures.panels import (
    Panel,
    Style,
    error_bars,
    hover,
    layout,
    percent,
    short,
    styles,
)
from twinbench.reports.tables.cells import REPORTED_ON, Cell, Record, Run, Section, is_packed, records
from twinbench.reports.tables.frames import NOTHING, estimate_text
from twinbench.sweeps.metrics import DIAGNOSTICS, METRICS, get_metric, metric_names

LEAST_TRIALS = 4  # with fewer, a rank correlation is 1 or -1 by chance too often


@dataclass(frozen=True)
class Cost:
    """One kind of cost: its name with the unit, and a function that returns a trial's amount."""

    name: str
    of: Callable[[Record], float | None]


def _per(field: str, divisor: float) -> Callable[[Record], float | None]:
    return lambda trial: trial[field] / divisor if trial[field] else None


def _alone(cost: Callable[[Record], float | None]) -> Callable[[Record], float | None]:
    return lambda trial: None if is_packed(trial) else cost(trial)


HOURS = Cost("Hours of training per trial", _alone(_per("train_seconds", 3600)))
MINUTES = Cost("Minutes of training per trial", _alone(_per("train_seconds", 60)))
IMAGES = Cost("Images seen per trial (million)", _per("images_seen", 1e6))
FEWER_IMAGES = Cost("Images seen per trial (thousand)", _per("images_seen", 1e3))
MEMORY = Cost("Peak memory (GiB)", _per("peak_memory_bytes", 2**30))


def _costs(section: Section) -> tuple[Cost, ...]:
    """Return the costs in units that suit the largest amounts."""
    seconds = max((trial["train_seconds"] or 0 for trial in section.trials), default=0)
    images = max((trial["images_seen"] or 0 for trial in section.trials), default=0)
    return (MINUTES if seconds < 3600 else HOURS, FEWER_IMAGES if images < 1e6 else IMAGES, MEMORY)


# --- accuracy against cost ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """One cell: the mean cost of its completed trials, and its mean accuracy."""

    cell: Cell
    cost: float
    accuracy: float


def cost_panels(section: Section, metric: str) -> list[Panel]:
    """Return one panel per cost that differs between cells: a marker per cell, with intervals for chosen cells."""
    panels = []
    for cost in _costs(section):
        points = _points(section, cost, metric)
        if len({short(point.cost) for point in points}) > 1:
            panels.append(_cost_panel(section, cost, points, metric))
    return panels


def front(points: Sequence[Point]) -> list[Point]:
    """Return the Pareto front: points that no other beats in both accuracy and cost, from the cheapest on."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.accuracy, p.cell.cell_id)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


def devices(section: Section) -> list[str]:
    """Return the devices the trials ran on; hours on different devices are not comparable."""
    return sorted({str(trial["device"]) for trial in section.trials if trial["device"]})


def _points(section: Section, cost: Cost, metric: str) -> list[Point]:
    points = []
    for cell in section.cells:
        interval = cell.interval(metric, REPORTED_ON)
        amounts = [amount for trial in cell.trials if trial["status"] == "done" and (amount := cost.of(trial))]
        if interval and amounts and not cell.is_baseline:
            points.append(Point(cell, statistics.mean(amounts), interval.mean))
    return points


def _cost_panel(section: Section, cost: Cost, points: Sequence[Point], metric: str) -> Panel:
    looks = styles(cell.method for cell in section.cells)
    chosen = {cell.cell_id for cell in section.chosen.values()}
    best = front(points)
    line = go.Scatter(
        name="Pareto front of the means",
        x=[short(point.cost) for point in best],
        y=[percent(point.accuracy) for point in best],
        mode="lines",
        line={"color": "#8C8C8C", "width": 1.2, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )
    labels = dict.fromkeys(point.cell.label for point in points)
    marks = [
        _marks(section, own, looks, filled, metric)
        for filled in (False, True)  # chosen cells on top
        for label in labels
        if (own := [p for p in points if p.cell.label == label and (p.cell.cell_id in chosen) == filled])
    ]
    figure = go.Figure([line, *marks], layout(f"{METRICS[metric].heading} on {REPORTED_ON}", cost.name))
    amounts = [point.cost for point in points]
    if max(amounts) >= 10 * min(amounts):
        figure.update_xaxes(type="log")
    on_front = "; ".join(f"{_named(section, p.cell)}: {p.cost:.3g}, {100 * p.accuracy:.1f} %" for p in best[:6])
    return Panel(
        "", cost.name, figure, f"Mean {METRICS[metric].heading} against {cost.name}. On the Pareto front: {on_front}."
    )


def _marks(section: Section, points: Sequence[Point], looks: dict[str, Style], filled: bool, metric: str) -> go.Scatter:
    """Return the markers of some cells as one trace. Cells with intervals need a trace of their own: plotly draws a
    missing interval as a bar of length 0.
    """
    cells = [point.cell for point in points]
    style = looks[cells[0].method]
    return go.Scatter(
        name=cells[0].label,
        x=[short(point.cost) for point in points],
        y=[percent(point.accuracy) for point in points],
        mode="markers",
        marker={
            "color": style.colour,
            "symbol": style.symbol if filled else f"{style.symbol}-open",
            "size": 11 if filled else 8,
        },
        error_y=error_bars(cell.interval(metric, REPORTED_ON) for cell in cells) if filled else None,
        hoverinfo="text",
        hovertext=[
            hover(_named(section, p.cell), estimate_text(p.cell.interval(metric, REPORTED_ON)), f"{p.cost:.3g}")
            for p in points
        ],
    )


def _named(section: Section, cell: Cell) -> str:
    varied = [f"{axis} = {cell.values[axis].text}" for axis in section.varied(cell.label) if axis in cell.values]
    return ", ".join([cell.label, *varied])


# --- diagnostics and accuracy ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over the trials of a method; None below LEAST_TRIALS or without spread."""

    rho: float | None
    n: int

    @property
    def text(self) -> str:
        """Return the correlation as text: "−0.82 (n = 12)"."""
        if self.rho is None:
            return f"{NOTHING} (n = {self.n})"
        sign = "−" if self.rho < -0.005 else ""
        return f"{sign}{abs(self.rho):.2f} (n = {self.n})"


def spearman(pairs: Sequence[tuple[float, float]]) -> Correlation:
    """Return Pearson's correlation of the ranks, ties at their mean rank (Spearman 1904)."""
    n = len(pairs)
    if n < LEAST_TRIALS:
        return Correlation(None, n)
    a, b = (stats.rankdata(side).tolist() for side in zip(*pairs, strict=True))
    if len(set(a)) == 1 or len(set(b)) == 1:
        return Correlation(None, n)
    return Correlation(statistics.correlation(a, b), n)


def correlations(run: Run, section: Section, metric: str) -> pd.DataFrame:
    """Return one row per method and diagnostic: its rank correlation at the end of training with test accuracy."""
    accuracy = {}
    for cell in section.cells:
        by_seed = {one.seed: one.value for one in cell.measured.get((metric, REPORTED_ON), ())}
        for trial in cell.trials:
            if trial["status"] == "done" and int(trial["seed"]) in by_seed and not cell.is_baseline:
                accuracy[trial["trial_id"]] = (cell.label, by_seed[int(trial["seed"])])
    rows = run.curves[run.curves["name"].str.startswith(DIAGNOSTICS) & run.curves["trial_id"].isin(accuracy.keys())]
    last = rows.drop_duplicates(["name", "trial_id"], keep="last")  # curves are in the order of their epochs
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for name, trial_id, value in last[["name", "trial_id", "value"]].itertuples(index=False, name=None):
        label, reached = accuracy[trial_id]
        if math.isfinite(value):
            pairs.setdefault((label, name.removeprefix(DIAGNOSTICS)), []).append((value, reached))
    order = metric_names("diagnostic")
    names = sorted({name for _, name in pairs}, key=lambda n: (order.index(n) if n in order else len(order), n))
    found = [
        {"method": label, "diagnostic": name, "spearman": one.rho, "trials": one.n}
        for label in section.methods
        for name in names
        if (label, name) in pairs
        for one in [spearman(pairs[label, name])]
    ]
    return pd.DataFrame(found, columns=pd.Index(["method", "diagnostic", "spearman", "trials"]), dtype=object)


def display_correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the correlations as printed: one row per method, one column per diagnostic."""
    diagnostics = list(dict.fromkeys(frame["diagnostic"]))
    texts = {
        (row["method"], row["diagnostic"]): Correlation(row["spearman"], row["trials"]).text for row in records(frame)
    }
    rows = [[label, *(texts.get((label, n), NOTHING) for n in diagnostics)] for label in dict.fromkeys(frame["method"])]
    titles = [get_metric(name).title for name in diagnostics]
    return pd.DataFrame(rows, columns=pd.Index(["Method", *titles]), dtype=object)
