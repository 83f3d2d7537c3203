"""The tables of a paper, in the shapes that authors need: what stands in them, before it is LaTeX, Markdown or CSV.

Baselines stand first, and are compared with nothing. A number keeps the cell it came from, so that each can be asked of
the database again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, count
from typing import Any

import pandas as pd

from twinbench.reports import separation
from twinbench.reports.cells import METRICS, REPORTED_ON, Cell, Section, Value, choose, value_order
from twinbench.reports.statistics import CONFIDENCE, Interval
from twinbench.reports.tables import NOTHING
from twinbench.sweeps.identity import digest
from twinbench.sweeps.protocol import PROSE

TITLES = {"knn_top1": "kNN top-1", "linear_top1": "Linear top-1"}
MOST_COMPARED = 26  # rows with letters of their own: a table of more says nothing by them
DATASET = "dataset"


@dataclass(frozen=True)
class Number:
    """A mean over a cell's seeds with its interval, as a fraction. Without a cell or an interval: nothing was measured.

    `group`: letters or a dagger, explained in the notes. `leads`: told apart from every other row of its column.
    `shade`: from 0 to 1, the place between the least and the greatest of a heat map.
    """

    cell: Cell | None
    metric: str
    source: int = 1  # which of several run folders it is from, counted from 1
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
    sources: tuple[str, ...]  # of each run folder: which run it is, in words
    tail: tuple[str, ...] = ()
    spanning: str = ""
    rule_before: int = 0


@dataclass(frozen=True)
class Source:
    """A section, and which of the run folders it is from."""

    run: str
    section: Section
    number: int = 1

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
        return [metric for metric in METRICS if (metric, REPORTED_ON) in found]


def paper_tables(sources: Sequence[Source]) -> list[PaperTable]:
    """Every table that the sections give, each with a key of its own. Protocols that differ share none."""
    made: list[PaperTable] = []
    for source in sources:
        tables = [methods_table(source), *axis_tables(source), *ablation_tables(source), *grid_tables(source)]
        suffix = suffix_of(source, len(sources))
        made += [replace(table, key=f"{table.key}{suffix}") for table in tables if table.rows]
    for number, group in enumerate(alike(sources), 1):
        made += datasets_tables(group, f"-{number}" if number > 1 else "")
    return _with_keys_of_their_own(made)


def suffix_of(source: Source, sources: int) -> str:
    """What tells a section's files from those of the others, where there are several: run folder, protocol, data."""
    section = source.section
    return (
        "" if sources == 1 else f"-{source.number}-{digest([section.protocol_hash, section.dataset_fingerprint])[:8]}"
    )


# --- shapes ---------------------------------------------------------------------------------------------------------


def methods_table(source: Source) -> PaperTable:
    """A row per method, a column per metric: the cell that the protocol's selection chose."""
    section, metrics = source.section, source.metrics
    rows = [
        Row(
            (label,),
            tuple(Number(cell, metric, source.number) for metric in metrics),
            (cell.seeds_text, str(len(section.methods[label]))),
        )
        for label, cell in section.chosen.items()
    ]
    return _grouped(
        PaperTable(
            "methods",
            f"Accuracy (%) on {REPORTED_ON} by method. {_selection(section)} Protocol {section.protocol_id}.",
            ("Method",),
            tuple(TITLES[metric] for metric in metrics),
            tuple(rows),
            (*_chosen_words(section), *_notes([source])),
            (source.words,),
            ("Seeds", "Candidates"),
            rule_before=_baselines(rows, section),
        ),
        [section],
    )


def datasets_tables(sources: Sequence[Source], suffix: str) -> list[PaperTable]:
    """Methods by datasets, a table per metric, of sections whose protocols differ in the dataset alone."""
    if len(sources) < 2:
        return []
    labels = list(dict.fromkeys(label for source in sources for label in source.section.chosen))
    names = [source.dataset for source in sources]
    titles = [name if names.count(name) == 1 else f"{name} ({s.run})" for name, s in zip(names, sources, strict=True)]
    made = []
    for metric in [metric for metric in METRICS if any(metric in source.metrics for source in sources)]:
        rows = [
            Row((label,), tuple(Number(s.section.chosen.get(label), metric, s.number) for s in sources))
            for label in _baselines_first(labels, [source.section for source in sources])
        ]
        protocols = dict.fromkeys(
            f"{t}: protocol {s.section.protocol_id}." for t, s in zip(titles, sources, strict=True)
        )
        table = PaperTable(
            f"datasets-{metric}{suffix}",
            f"{TITLES[metric]} (%) on {REPORTED_ON}, methods by datasets. {_selection(sources[0].section)} "
            f"Protocols: {', '.join(dict.fromkeys(s.section.protocol_id for s in sources))}.",
            ("Method",),
            tuple(titles),
            tuple(rows),
            (*protocols, *_notes(sources), *_lacking(rows, titles)),
            tuple(source.words for source in sources),
            spanning=f"{TITLES[metric]} (%) by dataset",
            rule_before=_baselines(rows, *(source.section for source in sources)),
        )
        made.append(_grouped(table, [source.section for source in sources]))
    return made


def axis_tables(source: Source) -> list[PaperTable]:
    """Methods by the values of an axis, a table per metric and per axis that two methods or more have moved."""
    section, made = source.section, []
    for axis in section.axes:
        moved = [label for label in section.methods if axis in section.moved(label)]
        if len(moved) < 2:
            continue
        values = sorted({value for label in moved for value in section.moved(label)[axis]}, key=value_order)
        titles = tuple(value.text for value in values)
        for metric in source.metrics:
            rows = [
                Row((label,), tuple(Number(_at(section, label, axis, v), metric, source.number) for v in values))
                for label in moved
            ]
            table = PaperTable(
                f"by-{axis}-{metric}",
                f"{TITLES[metric]} (%) on {REPORTED_ON}, methods by {axis}. {_selection(section, f' at each {axis}')} "
                f"Protocol {section.protocol_id}.",
                ("Method",),
                titles,
                tuple(rows),
                (*_notes([source]), *_lacking(rows, titles)),
                (source.words,),
                spanning=f"{TITLES[metric]} (%) by {axis}",
            )
            made.append(_grouped(table, [section]))
    return made


def ablation_tables(source: Source) -> list[PaperTable]:
    """One method's cells, a row each, held against the chosen one."""
    section, made = source.section, []
    for label, cells in section.methods.items():
        axes, chosen = tuple(section.moved(label)), section.chosen[label]
        if len(cells) < 2:
            continue
        rows = [
            Row(
                tuple(_text(cell, axis) for axis in axes),
                tuple(Number(cell, metric, source.number) for metric in source.metrics),
                (cell.seeds_text, "chosen" if cell is chosen else ""),
            )
            for cell in cells
        ]
        table = PaperTable(
            f"ablation-{label}",
            f"{label}: accuracy (%) on {REPORTED_ON} of every cell. {_selection(section)} "
            f"Protocol {section.protocol_id}.",
            axes,
            tuple(TITLES[metric] for metric in source.metrics),
            tuple(rows),
            tuple(_notes([source])),
            (source.words,),
            ("Seeds", ""),
        )
        made.append(_against_chosen(table, chosen))
    return made


def grid_tables(source: Source) -> list[PaperTable]:
    """Heat maps: one method's accuracy by two of its axes, the others as in the chosen cell."""
    section, made = source.section, []
    metric = section.selected_by[0]
    for label in section.methods if metric in source.metrics else ():
        chosen = section.chosen[label]
        for down, across in combinations(section.moved(label), 2):
            grid = grid_of(section, label, down, across)
            if len(grid.cells) < 4 or len(grid.rows) < 2 or len(grid.columns) < 2:
                continue
            rows = [
                Row((row.text,), tuple(Number(grid.cells.get((row, c)), metric, source.number) for c in grid.columns))
                for row in grid.rows
            ]
            others = ", ".join(f"{axis} = {_text(chosen, axis)}" for axis in grid.others)
            titles = tuple(column.text for column in grid.columns)
            table = PaperTable(
                f"grid-{label}-{down}-{across}",
                f"{label}: {TITLES[metric]} (%) on {REPORTED_ON} by {down} and {across}"
                f"{f', at {others}' if others else ''}. {_selection(section)} Protocol {section.protocol_id}.",
                (down,),
                titles,
                tuple(_shaded(rows)),
                (*_notes([source]), "Shading: darker from the least mean to the greatest.", *_lacking(rows, titles)),
                (source.words,),
                spanning=f"{TITLES[metric]} (%) by {across}",
            )
            made.append(_against_chosen(table, chosen))
    return made


@dataclass(frozen=True)
class Grid:
    """The cells of a method by two axes, all other axes as in the chosen cell."""

    rows: tuple[Value, ...]
    columns: tuple[Value, ...]
    cells: dict[tuple[Value, Value], Cell]
    others: tuple[str, ...]


def grid_of(section: Section, label: str, down: str, across: str) -> Grid:
    """See Grid. Values at which no such cell is have no row or column."""
    moved, chosen = section.moved(label), section.chosen[label]
    others = tuple(axis for axis in moved if axis not in (down, across) and axis in chosen.values)
    cells = {
        (cell.values[down], cell.values[across]): cell
        for cell in section.methods[label]
        if down in cell.values and across in cell.values
        if all(cell.values.get(axis) == chosen.values[axis] for axis in others)
    }
    rows = tuple(value for value in moved[down] if any(value == row for row, _ in cells))
    columns = tuple(value for value in moved[across] if any(value == column for _, column in cells))
    return Grid(rows, columns, cells, others)


# --- which sections may share a table -------------------------------------------------------------------------------


def alike(sources: Sequence[Source]) -> list[list[Source]]:
    """The sources in groups whose protocols are equal but for the dataset, its name and other prose."""
    groups: list[tuple[Any, list[Source]]] = []
    for source in sources:
        content = {k: v for k, v in source.section.content.items() if k not in (*PROSE, DATASET, "name", "version")}
        if not content:
            continue  # a protocol that is not known may differ in anything
        for other, members in groups:
            if other == content:
                members.append(source)
                break
        else:
            groups.append((content, [source]))
    return [members for _, members in groups]


# --- groups ---------------------------------------------------------------------------------------------------------


def _grouped(table: PaperTable, sections: Sequence[Section]) -> PaperTable:
    """Letters in each column for methods that were not told apart; bold for one that leads them all."""
    baselines = {label for section in sections for label, cell in section.chosen.items() if cell.is_baseline}
    rows = [list(row.numbers) for row in table.rows]
    found = False
    for column in range(len(table.columns)):
        places = {
            str(place): number
            for place, row in enumerate(table.rows)
            if row.labels[0] not in baselines and (number := row.numbers[column]).interval is not None
        }
        if not 1 < len(places) <= MOST_COMPARED:
            continue
        found = True
        order = separation.by_mean((name, number.interval.mean) for name, number in places.items() if number.interval)
        apart = separation.told_apart({name: _by_seed(number) for name, number in places.items()})
        for name, group in separation.letters(apart, order).items():
            leads = separation.leads(apart, order) and name == order[0]
            rows[int(name)][column] = replace(places[name], group=group, leads=leads)
    return _renumbered(table, rows, _LETTERS_NOTE if found else "")


def _against_chosen(table: PaperTable, chosen: Cell) -> PaperTable:
    """A dagger at each cell that was not told apart from the chosen one, in each metric."""
    rows = [list(row.numbers) for row in table.rows]
    for metric in {number.metric for row in table.rows for number in row.numbers}:
        places = {
            (r, c): number
            for r, row in enumerate(table.rows)
            for c, number in enumerate(row.numbers)
            if number.metric == metric and number.interval is not None
        }
        names = {"chosen" if number.cell is chosen else f"{r},{c}": (r, c) for (r, c), number in places.items()}
        if "chosen" not in names:
            continue
        apart = separation.told_apart({name: _by_seed(places[at]) for name, at in names.items()}, "chosen")
        for name, (r, c) in names.items():
            if name != "chosen" and not apart[frozenset(("chosen", name))]:
                rows[r][c] = replace(rows[r][c], group="†")
            elif name == "chosen":
                rows[r][c] = replace(rows[r][c], group="*" if not table.tail else "")
    return _renumbered(table, rows, _DAGGER_NOTE if table.tail else f"* The chosen cell. {_DAGGER_NOTE}")


_LETTERS_NOTE = (
    f"Methods that share a letter were not told apart at {1 - CONFIDENCE:.0%}: t tests of all pairs of methods of a "
    "column, paired by seed where they share seeds, Holm-adjusted. Bold: told apart from every other method."
)
_DAGGER_NOTE = (
    f"† Not told apart from the chosen cell at {1 - CONFIDENCE:.0%}: t tests of it against every other cell, paired by "
    "seed, Holm-adjusted."
)


def _renumbered(table: PaperTable, rows: Sequence[Sequence[Number]], note: str) -> PaperTable:
    made = tuple(replace(row, numbers=tuple(numbers)) for row, numbers in zip(table.rows, rows, strict=True))
    return replace(table, rows=made, notes=(*table.notes, note) if note else table.notes)


def _by_seed(number: Number) -> dict[int, float]:
    measured = number.cell.measured.get((number.metric, REPORTED_ON), ()) if number.cell else ()
    return {one.seed: one.value for one in measured}


def _shaded(rows: Sequence[Row]) -> Iterable[Row]:
    means = [number.interval.mean for row in rows for number in row.numbers if number.interval]
    low, spread = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    for row in rows:
        yield replace(
            row,
            numbers=tuple(
                replace(n, shade=(n.interval.mean - low) / spread if spread else 0.0) if n.interval else n
                for n in row.numbers
            ),
        )


# --- words ----------------------------------------------------------------------------------------------------------


def _selection(section: Section, where: str = "") -> str:
    metric, split = section.selected_by
    return f"Of each method{where}, the cell with the highest mean {TITLES[metric]} on {split} was chosen."


def _notes(sources: Sequence[Source]) -> list[str]:
    cells = [cell for source in sources for cell in source.section.cells if not cell.is_baseline]
    seeds = sorted({cell.done for cell in cells if cell.done})
    n = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}" if seeds else "0"
    said = [
        f"Mean over seeds ± half of the {CONFIDENCE:.0%} t interval over seeds (n = {n}), which covers the variation "
        f"between seeds only, not that of the {REPORTED_ON} sample; without ±: one seed."
    ]
    if any(source.section.selected_by[1] == REPORTED_ON for source in sources):
        said.append(f"The protocol selects on {REPORTED_ON}: the numbers are those of the very images that chose.")
    return said


def _chosen_words(section: Section) -> list[str]:
    told = [
        f"{label}: {', '.join(f'{axis} = {_text(cell, axis)}' for axis in section.moved(label))}"
        for label, cell in section.chosen.items()
        if section.moved(label)
    ]
    return [f"Chosen: {'; '.join(told)}."] if told else []


def _lacking(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """The numbers whose seeds are not all done, where no column of the table says so."""
    told = [
        f"{row.labels[0]} at {column}: {number.cell.seeds_text}"
        for row in rows
        for column, number in zip(columns, row.numbers, strict=True)
        if number.cell and not number.cell.is_complete
    ]
    return [f"Seeds done of those planned: {'; '.join(told)}; all others have all of theirs."] if told else []


# --- pieces ---------------------------------------------------------------------------------------------------------


def _at(section: Section, label: str, axis: str, value: Value) -> Cell | None:
    cells = [cell for cell in section.methods[label] if cell.values.get(axis) == value]
    return choose(cells, section.selected_by) if cells else None


def _text(cell: Cell, axis: str) -> str:
    return cell.values[axis].text if axis in cell.values else NOTHING


def _is_baseline(label: str, sections: Iterable[Section]) -> bool:
    return any(label in section.chosen and section.chosen[label].is_baseline for section in sections)


def _baselines_first(labels: Sequence[str], sections: Sequence[Section]) -> list[str]:
    return sorted(labels, key=lambda label: not _is_baseline(label, sections))


def _baselines(rows: Sequence[Row], *sections: Section) -> int:
    return sum(_is_baseline(row.labels[0], sections) for row in rows)


def _with_keys_of_their_own(tables: Iterable[PaperTable]) -> list[PaperTable]:
    """Keys of letters, digits, hyphens and underscores; names that come to the same are counted."""
    made: dict[str, PaperTable] = {}
    for table in tables:
        key = key_of(table.key)
        free = next(name for name in chain([key], (f"{key}-{n}" for n in count(2))) if name not in made)
        made[free] = replace(table, key=free)
    return list(made.values())


def key_of(name: str) -> str:
    """`name` as part of a file's name and of a LaTeX label: nothing that either takes for more than a letter."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name).strip("-.")
    return kept[:100].replace(".", "-") or "unnamed"


# --- as frames ------------------------------------------------------------------------------------------------------


def frame(table: PaperTable) -> pd.DataFrame:
    """A row per number, exact: fractions, half of the interval (empty for one seed), n, the group, and the cell."""
    rows = []
    for row in table.rows:
        for column, number in zip(table.columns, row.numbers, strict=True):
            interval = number.interval
            found = (interval.mean, interval.half_width, interval.n) if interval else (None, None, 0)
            cell_id = number.cell.cell_id if number.cell else ""
            rows.append((*row.labels, column, number.metric, *found, number.group, cell_id, number.source))
    names = ["column", "metric", "mean", "half_width", "n", "group", "cell_id", "run_folder"]
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
