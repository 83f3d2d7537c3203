"""The content of a paper's tables, from which LaTeX, Markdown and CSV are written.

Baselines come first and are not tested. Every number keeps its cell, so that a query can be printed for it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain, combinations, count

from twinbench.reports.figures import grids
from twinbench.reports.page.summary import against_baselines, confirm_words
from twinbench.reports.paper.letters import against_chosen, grouped, shaded
from twinbench.reports.paper.parts import DATASET, Number, PaperTable, Row, Source, chosen_words, key_of, seeds_text
from twinbench.reports.statistics.intervals import CONFIDENCE
from twinbench.reports.tables.cells import REPORTED_ON, Section, value_order
from twinbench.reports.tables.slices import shown_slices, slices_text
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.metrics import METRICS, metric_names
from twinbench.sweeps.protocol import PROSE


def paper_tables(sources: Sequence[Source]) -> list[PaperTable]:
    """Return every table of the sections, with unique keys. Different protocols never share a table."""
    made: list[PaperTable] = []
    for source in sources:
        tables = [methods_table(source), *axis_tables(source), *ablation_tables(source), *grid_tables(source)]
        made += [replace(table, key=f"{table.key}{source.suffix}") for table in tables if table.rows]
    for number, group in enumerate(alike(sources), 1):
        made += datasets_tables(group, f"-{number}" if number > 1 else "")
    return _with_unique_keys(made)


# --- shapes ---------------------------------------------------------------------------------------------------------


def methods_table(source: Source) -> PaperTable:
    """Return the chosen cells: one row per method, one column per metric."""
    section, metrics = source.section, source.metrics
    rows = [
        Row(
            (label,),
            tuple(Number(cell, metric, source) for metric in metrics),
            (cell.seeds_text, str(len(section.methods[label]))),
        )
        for label, cell in section.reported.items()
    ]
    return grouped(
        PaperTable(
            "methods",
            _caption(section, f"Accuracy (%) on {REPORTED_ON} by method.", _selection(section, section.methods)),
            ("Method",),
            tuple(METRICS[metric].title for metric in metrics),
            tuple(rows),
            (
                *chosen_words(section),
                *_notes([source], rows),
                *confirm_words(section),
                *filter(None, [against_baselines(section)]),
            ),
            (source,),
            ("Seeds", "Candidates"),
            rule_before=sum(cell.is_baseline for cell in section.chosen.values()),
        ),
        [section],
    )


def datasets_tables(sources: Sequence[Source], suffix: str) -> list[PaperTable]:
    """Return methods by datasets, one table per metric, for sections whose protocols differ only in the dataset."""
    if len(sources) < 2:
        return []
    chosen = {label: cell for source in sources for label, cell in source.section.chosen.items()}
    labels = sorted(chosen, key=lambda label: not chosen[label].is_baseline)
    names = [source.dataset for source in sources]
    titled = [
        (source.dataset if names.count(source.dataset) == 1 else f"{source.dataset} ({source.run.name})", source)
        for source in sources
    ]
    titles = tuple(title for title, _ in titled)
    protocols = dict.fromkeys(f"{title}: protocol {source.section.ran_as}." for title, source in titled)
    chosen_of = [f"{title}: {words}" for title, source in titled for words in chosen_words(source.section)]
    above = [f"{title}: {words}" for title, source in titled if (words := against_baselines(source.section))]
    confirmed = [f"{title}: {words}" for title, source in titled for words in confirm_words(source.section)]
    chosen_by = next(filter(None, (_selection(s.section, s.section.methods) for s in sources)), "")
    protocols_text = f"Protocols: {', '.join(dict.fromkeys(s.section.ran_as for s in sources))}."
    made = []
    for metric in [metric for metric in metric_names("probe") if any(metric in source.metrics for source in sources)]:
        heading = METRICS[metric].heading
        rows = [
            Row((label,), tuple(Number(s.section.reported.get(label), metric, s) for s in sources)) for label in labels
        ]
        table = PaperTable(
            f"datasets-{metric}{suffix}",
            f"{heading} on {REPORTED_ON}, methods by datasets. {' '.join(filter(None, [chosen_by, protocols_text]))}",
            ("Method",),
            titles,
            tuple(rows),
            (*protocols, *chosen_of, *_notes(sources, rows), *_incomplete(rows, titles), *confirmed, *above),
            tuple(sources),
            spanning=f"{heading} by dataset",
            rule_before=sum(cell.is_baseline for cell in chosen.values()),
        )
        made.append(grouped(table, [source.section for source in sources]))
    return made


def axis_tables(source: Source) -> list[PaperTable]:
    """Return methods by the values of an axis, one table per metric and per axis varied for two or more methods."""
    section, made = source.section, []
    for axis in section.axes:
        shown = shown_slices(section, axis)
        if len(shown) < 2:
            continue
        values = sorted({value for one in shown.values() for value in one.values(axis)}, key=value_order)
        titles = tuple(value.text for value in values)
        for metric in source.metrics:
            heading = METRICS[metric].heading
            rows = [
                Row((label,), tuple(Number(one.cells.get((value,)), metric, source) for value in values))
                for label, one in shown.items()
            ]
            table = PaperTable(
                f"by-{axis}-{metric}",
                _caption(
                    section,
                    f"{heading} on {REPORTED_ON}, methods by {axis}{section.own_value(axis)}.",
                    slices_text(shown),
                ),
                ("Method",),
                titles,
                tuple(rows),
                (*_notes([source], rows), *_incomplete(rows, titles)),
                (source,),
                spanning=f"{heading} by {axis}",
            )
            made.append(grouped(table, [section]))
    return made


def ablation_tables(source: Source) -> list[PaperTable]:
    """Return one table per method with a row per cell, each tested against the chosen cell."""
    section, made = source.section, []
    for label, cells in section.methods.items():
        axes, chosen = tuple(section.varied(label)), section.chosen[label]
        if len(cells) < 2:
            continue
        rows = [
            Row(
                tuple(cell.text(axis) for axis in axes),
                tuple(Number(cell, metric, source) for metric in source.metrics),
                (cell.seeds_text, "chosen" if cell is chosen else ""),
            )
            for cell in cells
        ]
        varied = f"Varied: {', '.join(f'{axis}{section.own_value(axis, [label])}' for axis in axes)}."
        table = PaperTable(
            f"ablation-{label}",
            _caption(
                section,
                f"{label}: accuracy (%) on {REPORTED_ON} of every cell.",
                varied,
                _selection(section, [label]),
            ),
            axes,
            tuple(METRICS[metric].title for metric in source.metrics),
            tuple(rows),
            tuple(_notes([source], rows)),
            (source,),
            ("Seeds", ""),
        )
        made.append(against_chosen(table, chosen))
    return made


def grid_tables(source: Source) -> list[PaperTable]:
    """Return heat maps: a method's accuracy by two of its axes, on the slice that the figure shows."""
    section, made = source.section, []
    metric = section.selected_by[0]
    heading = METRICS[metric].heading
    for label in section.methods if metric in source.metrics else ():
        chosen = section.chosen[label]
        for down, across in combinations(section.varied(label), 2):
            grid = grids.plane(section, label, (down, across))
            if grid is None:
                continue
            by, columns = grids.axes_text(section, (down, across), [label]), grid.values(across)
            rows = [
                Row((row.text,), tuple(Number(grid.cells.get((row, c)), metric, source) for c in columns))
                for row in grid.values(down)
            ]
            titles = tuple(column.text for column in columns)
            table = PaperTable(
                f"grid-{label}-{down}-{across}",
                _caption(
                    section,
                    f"{label}: {heading} on {REPORTED_ON} by {by}.",
                    slices_text({label: grid}),
                    _selection(section, [label]),
                ),
                (down,),
                titles,
                tuple(shaded(rows)),
                (*_notes([source], rows), "Shading: darker for larger means.", *_incomplete(rows, titles)),
                (source,),
                spanning=f"{heading} by {across}",
            )
            made.append(against_chosen(table, chosen))
    return made


# --- which sections may share a table -------------------------------------------------------------------------------


def alike(sources: Sequence[Source]) -> list[list[Source]]:
    """Return groups of sources whose protocols are equal except for the dataset, name, version and prose."""
    groups: dict[str, list[Source]] = {}
    for source in sources:
        content = {k: v for k, v in source.section.content.items() if k not in (*PROSE, DATASET, "name", "version")}
        if content:  # an unknown protocol could differ in anything
            groups.setdefault(digest(content), []).append(source)
    return list(groups.values())


# --- words ----------------------------------------------------------------------------------------------------------


def _selection(section: Section, labels: Collection[str]) -> str:
    """Return how the cells of these methods were chosen; empty if each of them has one."""
    if all(len(section.methods[label]) == 1 for label in labels):
        return ""
    metric, split = section.selected_by
    opening = "For each method, the" if len(labels) > 1 else "The"
    return f"{opening} cell with the highest mean {METRICS[metric].phrase} on {split} was chosen."


def _caption(section: Section, *sentences: str) -> str:
    return " ".join([*filter(None, sentences), f"Protocol {section.ran_as}."])


def _notes(sources: Sequence[Source], rows: Sequence[Row]) -> list[str]:
    """Return what the numbers of the rows are."""
    numbers = [number for row in rows for number in row.numbers]
    cells = [number.cell for number in numbers if number.cell]
    few = any(number.interval and number.interval.half_width is None for number in numbers)
    of_one_seed = "; without ±: one seed" if few else ""
    notes = [
        f"Mean ± half the width of the {CONFIDENCE:.0%} t interval over {seeds_text(cells)}, which covers the "
        f"variation between seeds only, not the sampling of the {REPORTED_ON} images{of_one_seed}."
    ]
    if any(source.section.selected_by[1] == REPORTED_ON for source in sources):
        notes.append(f"The protocol selects on {REPORTED_ON}: accuracy is on the images used for selection.")
    confirmed = any(cell.confirms for source in sources for cell in source.section.reported.values())
    if confirmed and not any(cell.confirms for cell in cells):
        notes.append("Cells were chosen on these seeds; the table of methods has the chosen cells on new seeds.")
    return notes


def _incomplete(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return a note on numbers with unfinished seeds, for tables without a column of seeds."""
    incomplete = [
        f"{row.labels[0]} at {column}: {number.cell.seeds_text}"
        for row in rows
        for column, number in zip(columns, row.numbers, strict=True)
        if number.cell and not number.cell.is_complete
    ]
    return [f"Completed seeds: {'; '.join(incomplete)}; all other cells are complete."] if incomplete else []


# --- pieces ---------------------------------------------------------------------------------------------------------


def _with_unique_keys(tables: Iterable[PaperTable]) -> list[PaperTable]:
    """Return the tables with unique keys of letters, digits, hyphens and underscores; equal keys are numbered."""
    made: dict[str, PaperTable] = {}
    for table in tables:
        key = key_of(table.key)
        free = next(name for name in chain([key], (f"{key}-{n}" for n in count(2))) if name not in made)
        made[free] = replace(table, key=free)
    return list(made.values())
