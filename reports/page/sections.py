"""The values that the page's templates take for a run and for each of its sections, in the order of the page."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from twinbench.reports.figures import cost, curves, grids
from twinbench.reports.figures.panels import Panel, Style, legend, looks
from twinbench.reports.figures.sensitivity import sensitivity, sensitivity_note
from twinbench.reports.page import prose, published, summary
from twinbench.reports.page.claims import Claims, verdicts_frame
from twinbench.reports.page.summary import Grouping, grouping
from twinbench.reports.page.trials import trials_data
from twinbench.reports.tables import frames, queries
from twinbench.reports.tables.cells import NOT_DONE, NOTHING, REPORTED_ON, Cell, Section, seeds_of
from twinbench.reports.tables.csv_text import csv_text
from twinbench.reports.tables.run import TABLES, Run, records
from twinbench.reports.verdicts.formats.html import css_class
from twinbench.reports.verdicts.formats.text import remarks
from twinbench.results.code_hash import NOT_COMPARABLE
from twinbench.sweeps.metrics import METRICS, VALIDATION_CURVE
from twinbench.sweeps.own_values import fixed_text


@dataclass(frozen=True)
class ShownRun:
    """One run folder as read for the page. `logs`: the last lines of each trial's log, by trial id."""

    run: Run
    sections: tuple[Section, ...]
    claims: Claims
    logs: Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """Panels under one heading, with the query that gives their numbers."""

    key: str
    panels: list[Panel]
    sql: str
    title: str = ""
    note: str = ""
    legend: Sequence[tuple[str, Style]] = ()

    @property
    def query(self) -> str:
        return queries.command(self.sql)


@dataclass(frozen=True)
class Table:
    """A table of texts, the same table as CSV, and the query that gives it. `source` is the label of `query`."""

    key: str
    caption: str
    columns: list[str]
    rows: list[list[object]]
    csv: str
    query: str
    source: str = "Query"


def run_part(shown: ShownRun, number: int, several: bool) -> dict[str, object]:
    """Return the values for one run: its question, summary, claims and sections."""
    prefix = f"r{number}" if several else ""
    claims = shown.claims
    return {
        "id": f"{prefix}run",
        "key": prefix,
        "name": shown.run.name or f"run {number}",
        "question": shown.run.question,
        "answer": _answer(shown),
        "claims": claims,
        "verdicts": [(verdict, css_class(verdict), remarks(verdict)) for verdict in claims.verdicts],
        "claims_csv": csv_text(verdicts_frame(claims)),
        "claims_commands": [f"twinbench check {name} DIR" for name in claims.files],
        "set_aside": _plain_table(
            f"{prefix}set-aside-table",
            "Files in the run folder that could not be read; their numbers are not in this report",
            shown.run.set_aside,
            TABLES["set_aside"],
        ),
        "sections": [
            section_part(shown, section, f"{prefix}s{place}") for place, section in enumerate(shown.sections, 1)
        ],
    }


def _answer(shown: ShownRun) -> list[str]:
    """Return the sentences of the summary: the verdicts of claims, or else what the seeds of each protocol show."""
    if shown.claims.verdicts:
        return summary.from_verdicts(shown.claims.verdicts)
    found = [summary.from_seeds(section) for section in shown.sections]
    if len(found) < 2:
        fixed = [f"Not as in the protocol: {text}." for one in shown.sections if (text := fixed_text(one.fixed))]
        return [*found[0], *fixed] if found else []
    sentences = found[0][:1]  # that no claims were declared, which all sections begin with
    for section, one in zip(shown.sections, found, strict=True):
        sentences += [f"Under protocol {section.ran_as}:", *one[1:]]
    return sentences


def section_part(shown: ShownRun, section: Section, key: str) -> dict[str, object]:
    """Return the values for one protocol and dataset."""
    return {
        "id": key,
        "heading": section.ran_as,
        "fingerprint": section.dataset_fingerprint,
        "axes": list(section.axes),
        "facts": summary.facts(section),
        "selection": summary.selection_words(section),
        "notes": summary.notes(section),
        **_accuracy_part(shown.run, section, key),
        **_trials_part(shown, section, key),
        **_protocol_part(shown.run, section, key),
    }


def _accuracy_part(run: Run, section: Section, key: str) -> dict[str, object]:
    """Return the tables and figures of accuracy, cost and diagnostics."""
    metric = section.selected_by[0]
    groups = {name: grouping(section, name) for name in section.metrics}
    drawn = curves.Drawn(run, section)
    methods = queries.accuracy(section, section.reported.values())
    cells = queries.accuracy(section, splits=sorted({section.selected_by[1], REPORTED_ON}))
    costs = frames.costs(section)
    return {
        "methods": _grouped_table(f"{key}-methods-table", section, frames.methods_table(section), methods, groups),
        "looks": looks(section),
        "reported_seeds": _trained_seeds(section.reported.values()),
        "grid_seeds": _trained_seeds(section.cells),
        "lines": curves.lines_text(section, others=False),
        "groups": [_groups_text(groups[name]) for name in section.metrics if len(groups[name].order) > 1],
        "metric": METRICS[metric].phrase,
        "selected_on": section.selected_by[1],
        "measured_on": "validation" if _holds_out(section) else "training",
        "sensitivity": _sensitivity(section, metric, key),
        "heat_maps": Group(f"{key}-pairs", grids.heat_maps(section, metric), queries.accuracy(section)),
        "importance": _importance(section, metric, key),
        "cost": Group(
            f"{key}-cost-figure",
            cost.cost_panels(section, metric),
            queries.against_cost(section, metric),
            legend=legend(section),
        ),
        "devices": cost.devices(section),
        "costs": _table(
            f"{key}-costs",
            "Cost of the recorded trials, including failed ones",
            frames.display_costs(costs),
            costs,
            queries.costs(section),
        ),
        "learning": Group(
            f"{key}-curves",
            [*curves.accuracy_curves(drawn), *curves.loss_curves(drawn)],
            queries.curves(section, (VALIDATION_CURVE, curves.LOSS_CURVE)),
            note=f"{curves.lines_text(section)} The panel of all methods shows the chosen cells alone.",
            legend=legend(section),
        ),
        "diagnostics": Group(
            f"{key}-collapse",
            curves.diagnostics(drawn),
            queries.curves(section, drawn.diagnostics),
            legend=legend(section),
        ),
        "correlations": _correlations(run, section, metric, key),
        "least_trials": cost.LEAST_TRIALS,
        "cells": _grouped_table(f"{key}-cells-table", section, frames.cells_table(section), cells),
    }


def _trials_part(shown: ShownRun, section: Section, key: str) -> dict[str, object]:
    """Return the table of all trials, and those that failed or have no record."""
    share = len(section.trials) / max(1, len(shown.run.trials))
    failures = frames.failures(section)
    return {
        "trials": trials_data(shown.run, section, shown.logs, share),
        "colours": {label: style.colour for label, style in looks(section).items()},
        "trials_query": queries.command(queries.trials(section)),
        "failures": records(failures),
        "failures_csv": csv_text(failures),
        "failures_query": queries.command(queries.ended(section, NOT_DONE)),
        "missing": _plain_table(
            f"{key}-missing-table",
            "Planned trials without a record",
            frames.missing(section),
            queries.ended(section, ("missing",)),
        ),
    }


def _protocol_part(run: Run, section: Section, key: str) -> dict[str, object]:
    """Return how the numbers were made: protocol, deviations, selection, environment, and how to reproduce them."""
    provenance = frames.provenance(run, section)
    rows = records(provenance)
    return {
        "deviations": _deviations(section, key),
        "changed": _changed(section, key),
        "reported": _reported(section, key),
        "measurements": _plain_table(
            f"{key}-measurements",
            "Metrics, their variants, and the splits they were selected on",
            frames.measurements(run, section),
            queries.measurements(section),
        ),
        "words": [
            *prose.protocol_in_words(section.content, section.fixed),
            *prose.left_out_in_words(run.left_out, section),
        ],
        "protocol": _plain_table(
            f"{key}-protocol-table",
            "Content of the protocol",
            frames.protocol_values(section),
            queries.protocol(section),
        ),
        "provenance": rows,
        "provenance_csv": csv_text(provenance),
        "provenance_query": queries.command(queries.provenance(section)),
        "differing": list(dict.fromkeys(row["what"] for row in rows if row["differs"] == "differs")),
        "code_is_unknown": any(row["differs"] == NOT_COMPARABLE for row in rows),
        "citation": prose.citation(run.name, section),
        "commands": prose.commands(run.commands, section),
    }


def _trained_seeds(cells: Iterable[Cell]) -> str:
    return seeds_of(cell for cell in cells if not cell.is_baseline)


def _holds_out(section: Section) -> bool:
    """Return whether the protocol holds out validation images; an unknown protocol is assumed to do so."""
    return bool(section.content.get("dataset", {}).get("validation_fraction", True))


# --- tables ---------------------------------------------------------------------------------------------------------


def _grouped_table(
    key: str, section: Section, frame: pd.DataFrame, sql: str, groups: Mapping[str, Grouping] | None = None
) -> dict[str, object]:
    """Return a table with the baselines apart, letters of the groups, and bold for a significant leader."""
    cells = {cell.cell_id: cell for cell in section.cells}
    differing = [section.varied_text(cells[cell_id]) for cell_id in frame["cell_id"]]
    shown = frames.display(frame.assign(differs_from_protocol=differing))
    of_column = {METRICS[name].heading: one for name, one in (groups or {}).items() if len(one.order) > 1}
    found: dict[str, list[list[dict[str, object]]]] = {"baseline": [], "method": []}
    for kind, row in zip(frame["kind"], records(shown), strict=True):
        label = row["Method"]
        letters = {name: one.letters.get(label, "") for name, one in of_column.items()}
        leading = [name for name, one in of_column.items() if one.leader == label]
        found[kind].append(
            [{"text": text, "letters": letters.get(name, ""), "leads": name in leading} for name, text in row.items()]
        )
    return {
        "id": key,
        "columns": list(shown.columns),
        "baselines": found["baseline"],
        "methods": found["method"],
        "csv": csv_text(frame.assign(protocol=section.ran_as)),
        "query": queries.command(sql),
    }


def _groups_text(groups: Grouping) -> str:
    """Return "Linear top-1: simclr is significantly above every other; a and b are not significantly different." """
    name = METRICS[groups.metric].title
    found = [f"{groups.leader} is significantly above every other"] if groups.leader else []
    found += [f"{summary.and_(group)} are not significantly different" for group in groups.groups]
    untested = " (methods with one seed cannot be tested)" if groups.fewest_seeds == 1 else ""
    return f"{name}: {'; '.join(found) or 'every pair is significantly different'}{untested}."


def _importance(section: Section, metric: str, key: str) -> Table:
    frame = grids.importance(section, metric)
    return _table(
        f"{key}-importance-table",
        f"Importance of each axis for {METRICS[metric].phrase} on {REPORTED_ON}",
        grids.display_importance(frame),
        frame,
        queries.against_axis(section, section.varied_axes, metric),
    )


def _correlations(run: Run, section: Section, metric: str, key: str) -> Table:
    frame = cost.correlations(run, section, metric)
    return _table(
        f"{key}-correlations-table",
        f"Spearman rank correlation of each diagnostic at the end of training with {METRICS[metric].phrase} on "
        f"{REPORTED_ON}, over the trials of a method",
        cost.display_correlations(frame),
        frame,
        queries.last_diagnostics(section, metric),
    )


def _reported(section: Section, key: str) -> Table:
    frame = published.reported(section)
    caption = "Published numbers for this dataset, measured elsewhere under other protocols"
    rows = frame.to_numpy().tolist()
    return Table(
        f"{key}-reported-table", caption, list(frame.columns), rows, csv_text(frame), published.files(frame), "Files"
    )


def _deviations(section: Section, key: str) -> Table:
    names = ("key", "value", "protocol_value", "reason")
    rows = [[frames.plain_text(one.get(name)) for name in names] for one in section.deviations]
    frame = pd.DataFrame(rows, columns=pd.Index(names), dtype=object)
    caption = "Deviations from the protocol, which apply to every number above"
    return _plain_table(f"{key}-deviations-table", caption, frame, queries.deviations(section))


def _changed(section: Section, key: str) -> Table:
    counted = Counter((cell.label, one) for cell in section.cells for one in cell.changed)
    rows = [
        (label, *one, f"{count} of {len(section.methods[label])}") for (label, one), count in sorted(counted.items())
    ]
    names = ("method", "setting", "value", "protocol_value", "cells")
    frame = pd.DataFrame(rows, columns=pd.Index(names), dtype=object)
    caption = "Settings that differ from the protocol's own values: in all cells if the sweep fixes them, else in some"
    sql = queries.settings(section, sorted({one.name for _, one in counted}))
    return _plain_table(f"{key}-changed-table", caption, frame, sql)


def _table(key: str, caption: str, shown: pd.DataFrame, exact: pd.DataFrame, sql: str) -> Table:
    rows = [list(row) for row in shown.itertuples(index=False, name=None)]
    return Table(key, caption, list(shown.columns), rows, csv_text(exact), queries.command(sql))


def _plain_table(key: str, caption: str, frame: pd.DataFrame, sql: str) -> Table:
    texts = frame.map(lambda value: NOTHING if value is None or value == "" else str(value))
    return _table(key, caption, texts.rename(columns=lambda name: _HEADINGS.get(name, name)), frame, sql)


_NAMED = ("method", "seed", "metric", "variant", "measured_on", "selected_on", "candidates", "trials", "reason", "file")
_HEADINGS = {name: name.replace("_", " ").capitalize() for name in (*_NAMED, "key", "value", "setting", "cells")}
_HEADINGS |= {"trial_id": "Trial", "n_examples": "Examples", "protocol_value": "Protocol's value"}


# --- figures --------------------------------------------------------------------------------------------------------


def _sensitivity(section: Section, metric: str, key: str) -> list[Group]:
    groups = []
    for number, axis in enumerate(section.axes, 1):
        if panels := sensitivity(section, axis, metric):
            note = sensitivity_note(section, axis, panels, metric)
            # Numbered by position, so that no name can enter an id.
            sql = queries.against_axis(section, [axis], metric)
            groups.append(Group(f"{key}-axis-{number}", panels, sql, f"{axis}{section.own_value(axis)}", note))
    return groups
