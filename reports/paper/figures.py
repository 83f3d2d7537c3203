"""The figures of a paper, each made of panels of the page."""

from dataclasses import dataclass, replace
from itertools import combinations

from twinbench.reports.figures import cost, curves, grids
from twinbench.reports.figures.panels import Panel, Style, legend
from twinbench.reports.figures.sensitivity import baselines_outside, sensitivity
from twinbench.reports.statistics.intervals import CONFIDENCE
from twinbench.reports.tables.cells import REPORTED_ON, Section
from twinbench.reports.tables.run import Run
from twinbench.sweeps.metrics import METRICS


@dataclass(frozen=True)
class PaperFigure:
    """Panels under one key. `title` says what they show, `note` how to read them."""

    key: str
    title: str
    panels: tuple[Panel, ...]
    note: str
    legend: tuple[tuple[str, Style], ...] = ()

    @property
    def alternative(self) -> str:
        """Return a description of the panels in words."""
        return " ".join(f"{panel.alternative.rstrip('. ')}." for panel in self.panels)


def paper_figures(run: Run, section: Section) -> list[PaperFigure]:
    """Return every figure of the section that has panels."""
    colours, metric = tuple(legend(section)), section.selected_by[0]
    bars = f"Means with {CONFIDENCE:.0%} t intervals over seeds ({_seeds(section)})."
    lines = "One line per trial, with a marker at its end."
    made = [
        PaperFigure(
            f"sensitivity-{axis}",
            f"Accuracy against {axis}",
            tuple(panels),
            f"{bars} Small points: seeds. {baselines_outside(section, panels, metric)}".rstrip(),
        )
        for axis in section.axes
        if (panels := sensitivity(section, axis, metric))
    ]
    made += [
        PaperFigure(
            "cost",
            "Accuracy against cost",
            tuple(cost.cost_panels(section, metric)),
            f"{bars} Unfilled markers, without intervals: other cells. Dotted: the Pareto front of the means."
            f"{_devices(section)}",
            colours,
        )
    ]
    drawn = curves.Drawn(run, section)
    learning = curves.learning_curves(drawn)
    accuracy = [panel for panel in learning if not panel.title.startswith("Loss, ")]
    losses = [panel for panel in learning if panel.title.startswith("Loss, ")]
    made += [
        PaperFigure("curves-accuracy", "Accuracy on validation by epoch", tuple(accuracy), lines, colours),
        PaperFigure("curves-loss", "Training loss by epoch", tuple(losses), lines),
        PaperFigure("diagnostics", "Collapse diagnostics by epoch", tuple(curves.diagnostics(drawn)), lines, colours),
    ]
    made += heat_maps(section, metric)
    return [figure for figure in made if figure.panels]


def heat_maps(section: Section, metric: str) -> list[PaperFigure]:
    """Return one figure per pair of axes, with a panel per method that crossed them."""
    made = []
    for axes in combinations(section.axes, 2):
        labels = [label for label in section.methods if set(axes) <= section.varied(label).keys()]
        found = {label: grids.heat_map(section, label, axes, metric) for label in labels}
        panels = [replace(panel, title=label) for label, panel in found.items() if panel]
        title = f"{METRICS[metric].heading} on {REPORTED_ON} by {axes[0]} and {axes[1]}"
        note = f"Means over seeds ({_seeds(section)}). Each panel has its own colour scale."
        made.append(PaperFigure(f"grid-{'-'.join(axes)}", title, tuple(panels), note))
    return made


# --- pieces ---------------------------------------------------------------------------------------------------------


def _devices(section: Section) -> str:
    devices = cost.devices(section)
    return f" Trials ran on different devices: {', '.join(devices)}." if len(devices) > 1 else ""


def _seeds(section: Section) -> str:
    n = sorted({cell.done for cell in section.cells if cell.done and not cell.is_baseline}) or [0]
    return f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}"
