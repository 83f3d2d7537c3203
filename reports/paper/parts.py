"""What the tables of a paper are made of, and such a table as a frame."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from twinbench.reports.statistics.intervals import Interval
from twinbench.reports.tables.cells import REPORTED_ON, Cell, Section
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.metrics import metric_names

DATASET = "dataset"


@dataclass(frozen=True)
class Source:
    """A section, and which of the run folders it is from."""

    run: str
    section: Section
    number: int = 1
    variable: str = "DIR"  # of a shell, that the queries take for the run folder

    @property
    def words(self) -> str:
        return f"the run folder of {self.run or 'the sweep'}, protocol {self.section.protocol_id}"

    @property
    def dataset(self) -> str:
        return str(self.section.content.get(DATASET, {}).get("name") or self.section.dataset_fingerprint[:19])

    @property
    def metrics(self) -> list[str]:
        """The metrics that any cell has."""
        found = {key for cell in self.section.cells for key in cell.measured}
        return [metric for metric in metric_names("probe") if (metric, REPORTED_ON) in found]


@dataclass(frozen=True)
class Number:
    """A mean over a cell's seeds with its interval, as a fraction. Without a cell or an interval: nothing was measured.

    `group`: letters or a dagger, explained in the notes. `leads`: told apart from every other row of its column.
    `shade`: from 0 to 1, the place between the least and the greatest of a heat map.
    """

    cell: Cell | None
    metric: str
    source: Source
    group: str = ""
    leads: bool = False
    shade: float | None = None

    @property
    def interval(self) -> Interval | None:
        return self.cell.interval(self.metric, REPORTED_ON) if self.cell else None


@dataclass(frozen=True)
class Row:
    labels: tuple[str, ...]
    numbers: tuple[Number, ...]
    tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperTable:
    """`key` is its file's name and the end of its label. `spanning` stands over all columns of numbers."""

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


def suffix_of(source: Source, sources: int) -> str:
    """What tells a section's files from those of the others, where there are several: run folder, protocol, data."""
    section = source.section
    return (
        "" if sources == 1 else f"-{source.number}-{digest([section.protocol_hash, section.dataset_fingerprint])[:8]}"
    )


def key_of(name: str) -> str:
    """`name` as part of a file's name and of a LaTeX label: nothing that either takes for more than a letter."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name).strip("-.")
    return kept[:100].replace(".", "-") or "unnamed"


def frame(table: PaperTable) -> pd.DataFrame:
    """A row per number, exact: fractions, half of the interval (empty for one seed), n, the group, and the cell."""
    rows = []
    for row in table.rows:
        for column, number in zip(table.columns, row.numbers, strict=True):
            interval = number.interval
            found = (interval.mean, interval.half_width, interval.n) if interval else (None, None, 0)
            cell_id = number.cell.cell_id if number.cell else ""
            place = (number.source.section.protocol_id, number.source.number)
            rows.append((*row.labels, column, number.metric, *found, number.group, cell_id, *place))
    names = ["column", "metric", "mean", "half_width", "n", "group", "cell_id", "protocol", "run_folder"]
    return pd.DataFrame(rows, columns=pd.Index([*table.stub, *names]), dtype=object)


def shown(table: PaperTable, number_text: Callable[[Number], str]) -> pd.DataFrame:
    """The table as it is read, with numbers as `number_text` writes them."""
    columns = [*table.stub, *table.columns, *table.tail]
    rows = [[*row.labels, *map(number_text, row.numbers), *row.tail] for row in table.rows]
    return pd.DataFrame(rows, columns=pd.Index(columns), dtype=object)


def texts(number: Number) -> Mapping[str, str]:
    """Mean and half width in percent with one decimal, empty where there is none."""
    interval = number.interval
    if interval is None:
        return {"mean": "", "half_width": ""}
    half = "" if interval.half_width is None else f"{100 * interval.half_width:.1f}"
    return {"mean": f"{100 * interval.mean:.1f}", "half_width": half}
