"""`Report`: what the report and the paper show of a run folder, as pandas frames and plotly figures."""

from functools import cached_property
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from twinbench.reports.paper.figures import paper_figures
from twinbench.reports.paper.parts import frame, key_of
from twinbench.reports.paper.tables import paper_tables
from twinbench.reports.paper.write import read_sources
from twinbench.reports.tables import frames
from twinbench.reports.tables.cells import Section


class Report:
    """The results of run folders, read once after ingesting new records. Keys are file names without suffix.

    `tables`: the report's CSV files, with exact values. `paper_tables`: those of `twinbench paper`, one row per number.
    `figures`: the panels of each figure, as plotly objects to show or change.
    """

    def __init__(self, *folders: Path | str):
        self._sources = read_sources(folders)

    @property
    def sections(self) -> list[Section]:
        """Return the sections, one per protocol and dataset."""
        return [source.section for source in self._sources]

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables methods, cells, failures, missing, provenance and costs."""
        return {
            f"{name}{source.suffix}": table
            for source in self._sources
            for name, table in frames.exact(source.run, source.section).items()
        }

    @cached_property
    def paper_tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of `twinbench paper`."""
        return {table.key: frame(table) for table in paper_tables(self._sources)}

    @cached_property
    def figures(self) -> dict[str, dict[str, go.Figure]]:
        """Return the figures of `twinbench paper`, each as a dictionary of its panels by title."""
        return {
            key_of(f"{figure.key}{source.suffix}"): {panel.title: panel.figure for panel in figure.panels}
            for source in self._sources
            for figure in paper_figures(source.run, source.section)
        }
