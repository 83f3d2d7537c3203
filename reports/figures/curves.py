"""Learning curves and collapse diagnostics by epoch."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from twinbench.reports.figures.panels import (
    Panel,
    Style,
    hover,
    layout,
    safe,
    short,
    styles,
)
from twinbench.reports.tables.cells import Cell, Record, Run, Section
from twinbench.sweeps.metrics import DIAGNOSTICS, KNN, VALIDATION_CURVE, get_metric, metric_names

LOSS_CURVE = "loss"
MANY_TRIALS = 100  # with more, only the chosen cells and failed trials have curves, to keep the page small


class Drawn:
    """The curves that are drawn, read once: those of the chosen cells and of trials that did not complete.

    In a section of at most MANY_TRIALS trials, those of all trials.
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
        """Return the names of the diagnostics' curves, registered ones first."""
        found = {name for series in self.by_trial.values() for name in series if name.startswith(DIAGNOSTICS)}
        order = [DIAGNOSTICS + name for name in metric_names("diagnostic")]
        return sorted(found, key=lambda name: (order.index(name) if name in order else len(order), name))


def learning_curves(drawn: Drawn) -> list[Panel]:
    """Return validation kNN by epoch with all methods in one panel, then the training loss, one panel per method."""
    panels = [_curve_panel(drawn, VALIDATION_CURVE, f"{KNN.title} on validation ({KNN.unit})", KNN.scale)]
    for label in drawn.section.methods:
        panels.append(_curve_panel(drawn, LOSS_CURVE, f"Loss, {label}", 1.0, only=label))
    return [panel for panel in panels if panel.figure.data]


def diagnostics(drawn: Drawn) -> list[Panel]:
    """Return collapse diagnostics by epoch, one panel per quantity."""
    bare = {name: name.removeprefix(DIAGNOSTICS) for name in drawn.diagnostic_names}
    panels = [_curve_panel(drawn, name, get_metric(short_name).title, 1.0) for name, short_name in bare.items()]
    return [panel for panel in panels if panel.figure.data]


def _curve_panel(drawn: Drawn, name: str, title: str, factor: float, only: str | None = None) -> Panel:
    """Return one quantity by epoch, one line per trial: chosen cells strong, others faint, failed trials dotted."""
    section = drawn.section
    looks = styles(cell.method for cell in section.cells)
    chosen = {cell.cell_id for cell in section.chosen.values()}
    traces, descriptions = [], []
    for cell in section.cells:
        if only is not None and cell.label != only:
            continue
        ends = []
        for trial in cell.trials:
            points = [(x, y) for x, y in drawn.by_trial.get(trial["trial_id"], {}).get(name, []) if math.isfinite(y)]
            # In a panel of several methods, other cells would hide the comparison.
            if not points or (only is None and cell.cell_id not in chosen and trial["status"] == "done"):
                continue
            is_chosen = cell.cell_id in chosen
            traces.append(_curve(section, cell, trial, points, factor, looks[cell.method], is_chosen))
            ends.append(factor * points[-1][1])
        if ends and cell.cell_id in chosen:
            descriptions.append(f"{cell.label} ends at {min(ends):.4g} to {max(ends):.4g} over {len(ends)} trials")
    figure = go.Figure(traces, layout("", "epoch"))
    # Faint lines first, so that the chosen cells are on top.
    figure.data = sorted(figure.data, key=lambda trace: (trace.opacity, trace.line.dash == "solid"))
    return Panel("", title, figure, f"{title} by epoch. " + "; ".join(descriptions))


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
    varied = [f"{axis} = {cell.values[axis].text}" for axis in section.varied(cell.label) if axis in cell.values]
    about = (cell.label, ", ".join(varied), f"seed {trial['seed']}" + ("" if done else f", {trial['status']}"))
    # One marker at the end of each line: the method's, or a cross if the trial did not complete.
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
        # One template per line: a text for each point would be most of the page's size.
        hovertemplate=hover(*about).replace("%", "&#37;") + "<br>epoch %{x}: %{y:.4~g}<extra></extra>",
    )
