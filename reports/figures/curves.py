"""Learning curves and collapse diagnostics by epoch."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from twinbench.reports.figures.panels import Panel, Style, diagnostic_order, hover, layout, looks, safe, short
from twinbench.reports.tables.cells import NOT_DONE, Cell, Section, seeds_of
from twinbench.reports.tables.run import Run, TrialRow
from twinbench.sweeps.errors import counted
from twinbench.sweeps.metrics import DIAGNOSTICS, KNN, VALIDATION_CURVE, get_metric

LOSS_CURVE = "loss"
MANY_TRIALS = 100  # with more, only the chosen cells and failed trials have curves, to keep the page small


class Drawn:
    """The curves that are drawn, read once: those of the chosen cells and of trials that did not complete.

    In a section of at most MANY_TRIALS trials, those of all trials.
    """

    def __init__(self, run: Run, section: Section):
        self.section = section
        few = len(section.trials) <= MANY_TRIALS
        wanted = {
            trial["trial_id"]
            for cell in section.cells
            for trial in shown_trials(section, cell)
            if few or section.is_chosen(cell) or trial["status"] != "done"
        }
        self.by_trial: dict[str, dict[str, list[tuple[float, float]]]] = {}
        columns = run.curves.loc[run.curves["trial_id"].isin(wanted), ["trial_id", "name", "epoch", "value"]]
        for trial_id, name, epoch, value in columns.itertuples(index=False, name=None):
            self.by_trial.setdefault(trial_id, {}).setdefault(name, []).append((epoch, value))

    @property
    def diagnostics(self) -> dict[str, str]:
        """Return the names of the diagnostics by the names of their curves, registered ones first."""
        found = {name for series in self.by_trial.values() for name in series if name.startswith(DIAGNOSTICS)}
        names = sorted((name.removeprefix(DIAGNOSTICS) for name in found), key=diagnostic_order)
        return {DIAGNOSTICS + name: name for name in names}


def shown_trials(section: Section, cell: Cell) -> list[TrialRow]:
    """Return a cell's trials of the seeds that tables report, and those of its other stage that did not complete."""
    shown = section.reported[cell.label] if section.is_chosen(cell) else cell
    return [one for one in cell.all_trials if bool(one["confirms"]) == shown.confirms or one["status"] in NOT_DONE]


def lines_text(section: Section, others: bool = True) -> str:
    """Return which trials the lines are; `others`: whether panels show cells that were not chosen."""
    trained = [cell for cell in section.cells if not cell.is_baseline]
    rest = [cell for cell in trained if not section.is_chosen(cell)]
    chosen = [section.reported[label] for label in section.methods if not section.chosen[label].is_baseline]
    parts = [f"One line per trial of the chosen cells ({seeds_of(chosen)}), with a marker at its end"]
    if others and rest and len(section.trials) <= MANY_TRIALS:
        parts.append(f"faint: other cells ({seeds_of(rest)})")
    if any(trial["status"] in NOT_DONE for cell in trained for trial in shown_trials(section, cell)):
        parts.append("dotted: trials that diverged, collapsed or failed, up to their last epoch")
    return f"{'; '.join(parts)}."


def accuracy_curves(drawn: Drawn) -> list[Panel]:
    """Return validation kNN by epoch with all methods in one panel."""
    title = f"{KNN.title} on validation ({KNN.unit})"
    return _not_empty([_curve_panel(drawn, VALIDATION_CURVE, title, KNN.scale)])


def loss_curves(drawn: Drawn) -> list[Panel]:
    """Return the training loss by epoch, one panel per method: losses of different methods are not comparable."""
    return _not_empty(
        [_curve_panel(drawn, LOSS_CURVE, f"Loss, {label}", only=label) for label in drawn.section.methods]
    )


def diagnostics(drawn: Drawn) -> list[Panel]:
    """Return collapse diagnostics by epoch, one panel per quantity."""
    return _not_empty([_curve_panel(drawn, curve, get_metric(name).title) for curve, name in drawn.diagnostics.items()])


def _not_empty(panels: Sequence[Panel]) -> list[Panel]:
    return [panel for panel in panels if panel.figure.data]


def _curve_panel(drawn: Drawn, name: str, title: str, factor: float = 1.0, only: str | None = None) -> Panel:
    """Return one quantity by epoch, one line per trial: chosen cells strong, others faint, failed trials dotted."""
    section = drawn.section
    styles, traces, descriptions = looks(section), [], []
    for cell in section.cells if only is None else section.methods[only]:
        ends = []
        for trial in shown_trials(section, cell):
            points = drawn.by_trial.get(trial["trial_id"], {}).get(name, [])
            points = [(x, factor * y) for x, y in points if math.isfinite(y)]
            # In a panel of several methods, other cells would hide the comparison.
            if not points or (only is None and not section.is_chosen(cell) and trial["status"] == "done"):
                continue
            traces.append(_curve(section, cell, trial, points, styles[cell.label]))
            ends.append(points[-1][1])
        if ends and section.is_chosen(cell):
            descriptions.append(
                f"{cell.label} ends at {min(ends):.4g} to {max(ends):.4g} over {counted(len(ends), 'trial')}"
            )
    figure = go.Figure(traces, layout("", "epoch"))
    # Faint lines first, so that the chosen cells are on top.
    figure.data = sorted(figure.data, key=lambda trace: (trace.opacity, trace.line.dash == "solid"))
    return Panel(title, figure, f"{title} by epoch. " + "; ".join(descriptions))


def _curve(
    section: Section, cell: Cell, trial: TrialRow, points: Sequence[tuple[float, float]], style: Style
) -> go.Scatter:
    is_chosen, done = section.is_chosen(cell), trial["status"] == "done"
    seed = f"seed {trial['seed']}" + ("" if done else f", {trial['status']}")
    about = (cell.label, cell.settings_text(section.varied(cell.label)), seed)
    return go.Scatter(
        x=[x for x, _ in points],
        y=[short(y) for _, y in points],
        mode="lines+markers",
        name=safe(", ".join(part for part in about if part)),
        opacity=0.9 if is_chosen else 0.6 if not done else 0.35,
        line={"color": style.colour, "width": 1.6 if is_chosen else 1.1, "dash": "solid" if done else "dot"},
        # One marker at the end of each line: the method's, or a cross if the trial did not complete.
        marker={
            "color": style.colour,
            "symbol": [style.symbol if done else "x"] * len(points),
            "size": [0] * (len(points) - 1) + [7],
            "line": {"width": 0},
        },
        # One template per line: a text for each point would be most of the page's size.
        hovertemplate=hover(*about).replace("%", "&#37;") + "<br>epoch %{x}: %{y:.4~g}<extra></extra>",
    )
