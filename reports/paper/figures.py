"""The figures of a paper, each made of panels of the page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from twinbench.reports.figures import cost, curves, grids
from twinbench.reports.figures.panels import Panel, Style, legend
from twinbench.reports.figures.sensitivity import sensitivity, sensitivity_note
from twinbench.reports.paper.parts import chosen_words, seeds_text
from twinbench.reports.statistics.intervals import CONFIDENCE
from twinbench.reports.tables.cells import REPORTED_ON, Section
from twinbench.reports.tables.run import Run
from twinbench.reports.tables.slices import slices_text
from twinbench.sweeps.metrics import KNN, METRICS


@dataclass(frozen=True)
class PaperFigure:
    """Panels under one key. `title` says what they show, `note` how to read them."""

    key: str
    title: str
    panels: list[Panel]
    note: str
    legend: Sequence[tuple[str, Style]] = ()


def paper_figures(run: Run, section: Section) -> list[PaperFigure]:
    """Return every figure of the section that has panels."""
    colours, metric = legend(section), section.selected_by[0]
    heading, seeds = f"{METRICS[metric].heading} on {REPORTED_ON}", seeds_text(section.cells)
    means = f"Means with {CONFIDENCE:.0%} t intervals over {seeds}"
    lines, losses = (" ".join([curves.lines_text(section, others), *chosen_words(section)]) for others in (False, True))
    made = [
        PaperFigure(
            f"sensitivity-{axis}",
            f"{heading} against {axis}{section.own_value(axis)}",
            panels,
            f"{means}, drawn as bands or bars. Small points: seeds. {sensitivity_note(section, axis, panels, metric)}",
        )
        for axis in section.axes
        if (panels := sensitivity(section, axis, metric))
    ]
    unfilled = (
        f"{means} for the chosen cells (filled markers); unfilled: other cells. Dotted: Pareto front of the means."
    )
    if len(devices := cost.devices(section)) > 1:
        unfilled += f" Trials ran on different devices: {', '.join(devices)}."
    unfilled = " ".join([unfilled, *chosen_words(section)])
    drawn = curves.Drawn(run, section)
    made += [
        PaperFigure("cost", f"{heading} against cost", cost.cost_panels(section, metric), unfilled, colours),
        PaperFigure(
            "curves-accuracy", f"{KNN.heading} on validation by epoch", curves.accuracy_curves(drawn), lines, colours
        ),
        PaperFigure("curves-loss", "Training loss by epoch", curves.loss_curves(drawn), losses),
        PaperFigure("diagnostics", "Collapse diagnostics by epoch", curves.diagnostics(drawn), lines, colours),
    ]
    made += heat_maps(section, metric)
    return [figure for figure in made if figure.panels]


def heat_maps(section: Section, metric: str) -> list[PaperFigure]:
    """Return one figure per pair of axes, with a panel per method that crossed them."""
    made = []
    for axes in combinations(section.axes, 2):
        planes = {label: one for label in section.methods if (one := grids.plane(section, label, axes))}
        found = {label: grids.heat_map(section, label, axes, metric) for label in planes}
        panels = [replace(panel, title=label) for label, panel in found.items() if panel]
        by = grids.axes_text(section, axes, [*planes])
        title = f"{METRICS[metric].heading} on {REPORTED_ON} by {by}"
        note = f"Means over {seeds_text(section.cells)}. Each panel has its own colour scale. {slices_text(planes)}"
        made.append(PaperFigure(f"grid-{'-'.join(axes)}", title, panels, note.rstrip()))
    return made
