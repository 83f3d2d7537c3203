"""Accuracy against cost, with the Pareto front of the means; rank correlations of diagnostics with accuracy."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from scipy import stats

from twinbench.reports.figures.panels import (
    Panel,
    Style,
    diagnostic_order,
    error_bars,
    hover,
    layout,
    looks,
    percent,
    short,
    span_of,
)
from twinbench.reports.tables.cells import NOTHING, REPORTED_ON, Cell, Section
from twinbench.reports.tables.frames import estimate_text, signed
from twinbench.reports.tables.run import Run, TrialRow, is_packed, rows
from twinbench.sweeps.metrics import DIAGNOSTICS, METRICS, get_metric

LEAST_TRIALS = 4  # with fewer, a rank correlation is 1 or -1 by chance too often


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
    for name, cost in _costs(section).items():
        points = _points(section, cost, metric)
        if len({short(point.cost) for point in points}) > 1:
            panels.append(_cost_panel(section, name, points, metric))
    return panels


def _costs(section: Section) -> dict[str, Callable[[TrialRow], float]]:
    """Return functions of a trial by the name of the cost, in units that suit the largest amounts; 0: not known."""
    seconds = max((trial["train_seconds"] or 0 for trial in section.trials), default=0)
    images = max((trial["images_seen"] or 0 for trial in section.trials), default=0)
    time, of_time = ("Minutes", 60) if seconds < 3600 else ("Hours", 3600)
    scale, of_images = ("thousand", 1e3) if images < 1e6 else ("million", 1e6)
    return {
        f"{time} of training per trial": lambda t: 0.0 if is_packed(t) else (t["train_seconds"] or 0.0) / of_time,
        f"Images seen per trial ({scale})": lambda t: (t["images_seen"] or 0.0) / of_images,
        "Peak memory (GiB)": lambda t: (t["peak_memory_bytes"] or 0.0) / 2**30,
    }


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


def _points(section: Section, cost: Callable[[TrialRow], float], metric: str) -> list[Point]:
    points = []
    for cell in section.cells:
        interval = cell.interval(metric)
        amounts = [amount for trial in cell.trials if trial["status"] == "done" and (amount := cost(trial))]
        if interval and amounts and not cell.is_baseline:
            points.append(Point(cell, statistics.mean(amounts), interval.mean))
    return points


def _cost_panel(section: Section, cost: str, points: Sequence[Point], metric: str) -> Panel:
    best = front(points)
    line = go.Scatter(
        name="Pareto front of the means",
        x=[short(point.cost) for point in best],
        y=[percent(point.accuracy) for point in best],
        mode="lines",
        line={"color": "#8C8C8C", "width": 1.2, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )
    styles, labels = looks(section), dict.fromkeys(point.cell.label for point in points)
    marks = [
        _marks(section, own, styles[label], filled, metric)
        for filled in (False, True)  # chosen cells on top
        for label in labels
        if (own := [p for p in points if p.cell.label == label and section.is_chosen(p.cell) == filled])
    ]
    heading = METRICS[metric].heading
    figure = go.Figure([line, *marks], layout(f"{heading} on {REPORTED_ON}", cost))
    ends = [end for mark in marks for end in _ends(mark)]
    figure.update_layout(yaxis_range=span_of(ends, []))
    amounts = [point.cost for point in points]
    if max(amounts) >= 10 * min(amounts):
        figure.update_xaxes(type="log")
    on_front = "; ".join(f"{_named(section, p.cell)}: {p.cost:.3g}, {100 * p.accuracy:.1f} %" for p in best[:6])
    return Panel(cost, figure, f"Mean {METRICS[metric].phrase} against {cost}. On the Pareto front: {on_front}.")


def _ends(mark: go.Scatter) -> Iterator[float]:
    """Yield the ends of the intervals, or the values where there are none."""
    for value, half in zip(mark.y, mark.error_y.array or [0.0] * len(mark.y), strict=True):
        yield from (value - (half or 0.0), value + (half or 0.0))


def _marks(section: Section, points: Sequence[Point], style: Style, filled: bool, metric: str) -> go.Scatter:
    """Return the markers of some cells of a method as one trace.

    Cells with intervals need a trace of their own: plotly draws a missing interval as a bar of length 0.
    """
    return go.Scatter(
        name=points[0].cell.label,
        x=[short(point.cost) for point in points],
        y=[percent(point.accuracy) for point in points],
        mode="markers",
        marker={
            "color": style.colour,
            "symbol": style.symbol if filled else f"{style.symbol}-open",
            "size": 11 if filled else 8,
        },
        error_y=error_bars(point.cell.interval(metric) for point in points) if filled else None,
        hoverinfo="text",
        hovertext=[
            hover(_named(section, p.cell), estimate_text(p.cell.interval(metric)), f"{p.cost:.3g}") for p in points
        ],
    )


def _named(section: Section, cell: Cell) -> str:
    return ", ".join(filter(None, [cell.label, cell.settings_text(section.varied(cell.label))]))


# --- diagnostics and accuracy ---------------------------------------------------------------------------------------


def spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Pearson's correlation of the ranks, ties at their mean rank (Spearman 1904).

    None below LEAST_TRIALS or without spread.
    """
    if len(pairs) < LEAST_TRIALS:
        return None
    a, b = (stats.rankdata(side).tolist() for side in zip(*pairs, strict=True))
    return None if len(set(a)) == 1 or len(set(b)) == 1 else statistics.correlation(a, b)


def correlations(run: Run, section: Section, metric: str) -> pd.DataFrame:
    """Return one row per method and diagnostic: its rank correlation at the end of training with test accuracy."""
    accuracy = {}
    for cell in (part for one in section.cells for part in one.parts):
        by_seed = cell.by_seed(metric)
        for trial in cell.trials:
            if trial["status"] == "done" and trial["seed"] in by_seed and not cell.is_baseline:
                accuracy[trial["trial_id"]] = (cell.label, by_seed[trial["seed"]])
    curves = run.curves[run.curves["name"].str.startswith(DIAGNOSTICS) & run.curves["trial_id"].isin(accuracy.keys())]
    last = curves.drop_duplicates(["name", "trial_id"], keep="last")  # curves are in the order of their epochs
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for name, trial_id, value in last[["name", "trial_id", "value"]].itertuples(index=False, name=None):
        label, reached = accuracy[trial_id]
        if math.isfinite(value):
            pairs.setdefault((label, name.removeprefix(DIAGNOSTICS)), []).append((value, reached))
    names = sorted({name for _, name in pairs}, key=diagnostic_order)
    found = [
        (label, name, spearman(pairs[label, name]), len(pairs[label, name]))
        for label in section.methods
        for name in names
        if (label, name) in pairs
    ]
    return pd.DataFrame(found, columns=pd.Index(["method", "diagnostic", "spearman", "trials"]), dtype=object)


def display_correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the correlations as printed, such as "−0.82 (n = 12)": one row per method, one column per diagnostic."""
    shown: dict[str, dict[str, str]] = {}
    for label, diagnostic, rho, n in rows(frame, *frame.columns):
        text = NOTHING if rho is None else signed(rho)
        shown.setdefault(label, {})[diagnostic] = f"{text} (n = {n})"
    names = {name: get_metric(name).title for name in dict.fromkeys(frame["diagnostic"])}
    cells = [[label, *(texts.get(name, NOTHING) for name in names)] for label, texts in shown.items()]
    return pd.DataFrame(cells, columns=pd.Index(["Method", *names.values()]), dtype=object)
