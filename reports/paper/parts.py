"""The parts of a paper's tables, and a table as a data frame."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from twinbench.reports.statistics.intervals import Interval
from twinbench.reports.tables.cells import REPORTED_ON, Cell, Section, seeds_of
from twinbench.reports.tables.run import Run
from twinbench.sweeps.metrics import metric_names

DATASET = "dataset"


@dataclass(frozen=True)
class Source:
    """A section, and the run folder it is from."""

    run: Run
    section: Section
    number: int  # of the run folder, from 1
    variable: str  # the shell variable for the run folder in printed queries
    suffix: str  # of the names of its files; empty if there is only one section

    @property
    def words(self) -> str:
        return f"the run folder of {self.run.name or 'the sweep'}, protocol {self.section.ran_as}"

    @property
    def dataset(self) -> str:
        return str(self.section.content.get("dataset", {}).get("name") or self.section.dataset_fingerprint[:19])

    @property
    def metrics(self) -> list[str]:
        """Return the probe metrics that were measured in any cell."""
        found = {key for cell in self.section.cells for key in cell.measured}
        return [metric for metric in metric_names("probe") if (metric, REPORTED_ON) in found]


@dataclass(frozen=True)
class Number:
    """A mean over a cell's seeds with its interval, as a fraction; nothing was measured if there is no interval.

    `group`: letters or a dagger, explained in the notes. `leads`: significantly different from every other row of its
    column. `shade`: from 0 (smallest mean of a heat map) to 1 (largest).
    """

    cell: Cell | None
    metric: str
    source: Source
    group: str = ""
    leads: bool = False
    shade: float | None = None

    @property
    def interval(self) -> Interval | None:
        return self.cell.interval(self.metric) if self.cell else None

    @property
    def by_seed(self) -> dict[int, float]:
        return self.cell.by_seed(self.metric) if self.cell else {}


@dataclass(frozen=True)
class Row:
    """A row of a table: labels, numbers, and texts after the numbers."""

    labels: tuple[str, ...]
    numbers: tuple[Number, ...]
    tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper. `key`: name of its file and end of its label. `spanning`: a head over all number columns."""

    key: str
    caption: str
    stub: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    sources: tuple[Source, ...]
    tail: tuple[str, ...] = ()
    spanning: str = ""
    rule_before: int = 0


def seeds_text(cells: Iterable[Cell]) -> str:
    """Return the seeds that the cells of methods completed: "seeds 0, 1, 2 (n = 3)", or "(n = 2 to 3)"."""
    trained = [cell for cell in cells if cell.done and not cell.is_baseline]
    done = {cell.done for cell in trained} or {0}
    n = f"n = {min(done)}" if len(done) == 1 else f"n = {min(done)} to {max(done)}"
    return f"{seeds_of(trained)} ({n})"


def chosen_words(section: Section) -> list[str]:
    """Return a sentence on the varied settings of each method's chosen cell; nothing where none was varied."""
    chosen = [
        f"{label}: {cell.settings_text(section.varied(label))}"
        for label, cell in section.chosen.items()
        if section.varied(label)
    ]
    return [f"Chosen: {'; '.join(chosen)}."] if chosen else []


def key_of(name: str) -> str:
    """Return `name` in characters that are safe in file names and LaTeX labels."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name).strip("-.")
    return kept[:100].replace(".", "-") or "unnamed"


def frame(table: PaperTable) -> pd.DataFrame:
    """Return one row per number with exact values: mean and half width as fractions (None for one seed), n, cell.

    Where the table has no cell, n is None too.
    """
    rows = []
    for row in table.rows:
        for column, number in zip(table.columns, row.numbers, strict=True):
            interval, cell = number.interval, number.cell
            found = (interval.mean, interval.half_width, interval.n) if interval else (None, None, 0 if cell else None)
            of_cell = (cell.cell_id, cell.seed_numbers, cell.changed_text) if cell else ("", "", "")
            place = (number.source.section.ran_as, number.source.number)
            rows.append((*row.labels, column, number.metric, *found, number.group, *of_cell, *place))
    names = ["column", "metric", "mean", "half_width", "n", "group"]
    names += ["cell_id", "reported_seeds", "differs_from_protocol", "protocol", "run_folder"]
    return pd.DataFrame(rows, columns=pd.Index([*table.stub, *names]), dtype=object)


def texts(number: Number) -> tuple[str, str]:
    """Return mean and half width in percent with one decimal; empty texts where there is none."""
    interval = number.interval
    if interval is None:
        return "", ""
    return f"{100 * interval.mean:.1f}", "" if interval.half_width is None else f"{100 * interval.half_width:.1f}"
