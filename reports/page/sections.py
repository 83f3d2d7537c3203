"""The values that the page's templates take for a run and for each of its sections, in the order of the page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from twinbench.reports.figures import cost, curves, grids
from twinbench.reports.figures.panels import Panel, Style, styles
from twinbench.reports.figures.sensitivity import baselines_outside, sensitivity
from twinbench.reports.page import prose, published, summary
from twinbench.reports.page.claims import Claims, entries, rows
from twinbench.reports.page.summary import Grouping, grouping
from twinbench.reports.page.trials import trials_data
from twinbench.reports.tables import frames, queries
from twinbench.reports.tables.cells import NOT_DONE, REPORTED_ON, Run, Section, records
from twinbench.reports.tables.csv_text import csv_text
from twinbench.results.code_hash import NOT_COMPARABLE
from twinbench.sweeps.metrics import METRICS, VALIDATION_CURVE


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
    title: str
    note: str
    panels: list[Panel]
    query: str
    legend: list[tuple[str, Style]] = field(default_factory=list)


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
    heading = shown.run.name or f"run {number}"
    frame = pd.DataFrame(rows(claims), dtype=object)
    return {
        "id": f"{prefix}run" if several else "run",
        "key": prefix or "",
        "name": heading,
        "question": shown.run.question,
        "answer": _answer(shown),
        "claims": entries(claims),
        "claims_csv": csv_text(frame),
        "claims_commands": [f"twinbench check {name} DIR" for name in claims.files],
        "problems": list(claims.problems),
        "without_file": list(claims.without_file),
        "set_aside": _plain_table(
            f"{prefix}set-aside-table",
            "Files in the run folder that could not be read; their numbers are not in this report",
            shown.run.set_aside,
            queries.SET_ASIDE,
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
        return found[0] if found else []
    sentences = found[0][:1]  # that no claims were declared, which all sections begin with
    for section, one in zip(shown.sections, found, strict=True):
        sentences += [f"Under protocol {section.protocol_id}:", *one[1:]]
    return sentences


def section_part(shown: ShownRun, section: Section, key: str) -> dict[str, object]:
    """Return the values for one protocol and dataset."""
    return {
        "id": key,
        "heading": section.protocol_id,
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
    return {
        "methods": methods_table(section, groups, key),
        "groups": [_groups_text(groups[name]) for name in section.metrics if groups[name].order],
        "metric": METRICS[metric].phrase,
        "selected_on": section.selected_by[1],
        "measured_on": "validation" if _holds_out(section) else "training",
        "sensitivity": _keyed(key, _sensitivity(section, metric)),
        "heat_maps": _keyed(key, _heat_maps(section, metric)),
        "importance": _importance(section, metric, key),
        "cost": _keyed(key, [_cost(section, metric)]),
        "devices": cost.devices(section),
        "costs": _table(
            f"{key}-costs",
            "Cost of the recorded trials, including failed ones",
            frames.display_costs(frames.costs(section)),
            frames.costs(section),
            queries.costs(section),
        ),
        "learning": _keyed(key, [_learning(section, drawn)]),
        "diagnostics": _keyed(key, [_diagnostics(section, drawn)]),
        "correlations": _correlations(run, section, metric, key),
        "least_trials": cost.LEAST_TRIALS,
        "cells": cells_table(section, key),
    }


def _trials_part(shown: ShownRun, section: Section, key: str) -> dict[str, object]:
    """Return the table of all trials, and those that failed or have no record."""
    share = len(section.trials) / max(1, len(shown.run.trials))
    return {
        "trials": trials_data(shown.run, section, shown.logs, share),
        "colours": {label: style.colour for label, style in _looks(section).items()},
        "trials_query": queries.command(queries.trials(section)),
        "failures": records(frames.failures(section)),
        "failures_csv": csv_text(frames.failures(section)),
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
    return {
        "deviations": _deviations(section, key),
        "reported": _reported(section, key),
        "measurements": _plain_table(
            f"{key}-measurements",
            "Metrics, their variants, and the splits they were selected on",
            frames.measurements(run, section),
            queries.measurements(section),
        ),
        "words": prose.protocol_in_words(section.content),
        "protocol": _plain_table(
            f"{key}-protocol-table",
            "Content of the protocol",
            frames.protocol_values(section),
            queries.protocol(section),
        ),
        "provenance": records(provenance),
        "provenance_csv": csv_text(provenance),
        "provenance_query": queries.command(queries.provenance(section)),
        "differing": list(dict.fromkeys(row["what"] for row in records(provenance) if row["differs"] == "differs")),
        "code_is_unknown": any(row["differs"] == NOT_COMPARABLE for row in records(provenance)),
        "citation": prose.citation(run.name, section),
        "commands": prose.commands(run.commands, section),
    }


def _holds_out(section: Section) -> bool:
    """Return whether the protocol holds out validation images; an unknown protocol is assumed to do so."""
    return bool(section.content.get("dataset", {}).get("validation_fraction", True))


# --- tables ---------------------------------------------------------------------------------------------------------


def methods_table(section: Section, groups: Mapping[str, Grouping], key: str) -> dict[str, object]:
    """Return the table of methods: baselines separate, letters of the groups, bold for a significant leader."""
    frame = frames.methods_table(section)
    shown = frames.display(frame)
    of_column = {METRICS[name].heading: one for name, one in groups.items() if len(one.order) > 1}
    rows = []
    for kind, row in zip(frame["kind"], records(shown), strict=True):
        label = row["Method"]
        cells = [
            {
                "text": text,
                "letters": of_column[name].letters.get(label, "") if name in of_column else "",
                "leads": name in of_column and of_column[name].leader == label,
            }
            for name, text in row.items()
        ]
        rows.append((kind, label, cells))
    return {
        "id": f"{key}-methods-table",
        "columns": list(shown.columns),
        "baselines": [cells for kind, _, cells in rows if kind == "baseline"],
        "methods": [cells for kind, _, cells in rows if kind != "baseline"],
        "looks": _looks(section),
        "csv": csv_text(frame.assign(protocol=section.protocol_id)),
        "query": queries.command(queries.accuracy(section, section.chosen.values())),
    }


def cells_table(section: Section, key: str) -> dict[str, object]:
    """Return the table of all cells, with the baselines in a group of their own."""
    splits = sorted({section.selected_by[1], REPORTED_ON})
    frame = frames.cells_table(section)
    shown = frames.display(frame)
    rows = [
        (kind, [{"text": text, "letters": "", "leads": False} for text in row])
        for kind, row in zip(frame["kind"], shown.itertuples(index=False, name=None), strict=True)
    ]
    return {
        "id": f"{key}-cells-table",
        "columns": list(shown.columns),
        "baselines": [row for kind, row in rows if kind == "baseline"],
        "methods": [row for kind, row in rows if kind != "baseline"],
        "looks": {},
        "csv": csv_text(frame.assign(protocol=section.protocol_id)),
        "query": queries.command(queries.accuracy(section, splits=splits)),
    }


def _groups_text(groups: Grouping) -> str:
    """Return "Linear top-1: simclr is significantly above every other; a and b are not significantly different." """
    name = METRICS[groups.metric].title
    if len(groups.order) < 2:
        return f"{name}: one method, nothing to compare."
    found = [f"{groups.leader} is significantly above every other"] if groups.leader else []
    found += [f"{summary.and_(group)} are not significantly different" for group in groups.groups]
    untested = " (methods with one seed cannot be tested)" if groups.fewest_seeds == 1 else ""
    return f"{name}: {'; '.join(found) or 'every pair is significantly different'}{untested}."


def _importance(section: Section, metric: str, key: str) -> Table | None:
    frame = grids.importance(section, metric)
    if frame.empty:
        return None
    axes = [axis for axis in section.axes if any(axis in section.varied(label) for label in section.methods)]
    return _table(
        f"{key}-importance-table",
        f"Importance of each axis for {METRICS[metric].phrase} on {REPORTED_ON}",
        grids.display_importance(frame),
        frame,
        queries.against_axis(section, axes, metric),
    )


def _correlations(run: Run, section: Section, metric: str, key: str) -> Table | None:
    frame = cost.correlations(run, section, metric)
    if frame.empty:
        return None
    return _table(
        f"{key}-correlations-table",
        f"Spearman rank correlation of each diagnostic at the end of training with {METRICS[metric].phrase} on "
        f"{REPORTED_ON}, over the trials of a method",
        cost.display_correlations(frame),
        frame,
        queries.last_diagnostics(section, metric),
    )


def _reported(section: Section, key: str) -> Table | None:
    frame = published.reported(section)
    if frame.empty:
        return None
    caption = "Published numbers for this dataset, measured elsewhere under other protocols"
    table = _table(f"{key}-reported-table", caption, frame, frame, "")
    return replace(table, query=published.files(frame), source="Files")


def _deviations(section: Section, key: str) -> Table:
    names = ["key", "value", "protocol_value", "reason"]
    values = [(one["key"], one["value"], one["protocol_value"], one["reason"]) for one in section.deviations]
    rows = [[frames.plain_text(value) for value in row] for row in values]
    frame = pd.DataFrame(rows, columns=pd.Index(names), dtype=object)
    caption = "Deviations from the protocol, which apply to every number above"
    return _plain_table(f"{key}-deviations-table", caption, frame, queries.deviations(section))


def _table(key: str, caption: str, shown: pd.DataFrame, exact: pd.DataFrame, sql: str) -> Table:
    rows = [list(row) for row in shown.itertuples(index=False, name=None)]
    query = queries.command(sql) if sql else ""
    return Table(key, caption, [str(name) for name in shown.columns], rows, csv_text(exact), query)


def _plain_table(key: str, caption: str, frame: pd.DataFrame, sql: str) -> Table:
    texts = frame.map(lambda value: frames.NOTHING if value is None or value == "" else str(value))
    return _table(key, caption, texts.rename(columns=lambda name: _HEADINGS.get(name, name)), frame, sql)


_HEADINGS = {
    "method": "Method",
    "seed": "Seed",
    "trial_id": "Trial",
    "metric": "Metric",
    "variant": "Variant",
    "measured_on": "Measured on",
    "n_examples": "Examples",
    "selected_on": "Selected on",
    "candidates": "Candidates",
    "trials": "Trials",
    "key": "Key",
    "value": "Value",
    "protocol_value": "Protocol's value",
    "reason": "Reason",
    "file": "File",
}


# --- figures --------------------------------------------------------------------------------------------------------


def _sensitivity(section: Section, metric: str) -> list[Group]:
    groups = []
    for number, axis in enumerate(section.axes, 1):
        panels = sensitivity(section, axis, metric)
        note = baselines_outside(section, panels, metric)
        query = queries.command(queries.against_axis(section, [axis], metric))
        groups.append(Group(f"axis-{number}", axis, note, panels, query))
    return [group for group in groups if group.panels]


def _heat_maps(section: Section, metric: str) -> list[Group]:
    panels = grids.heat_maps(section, metric)
    query = queries.command(queries.accuracy(section))
    return [Group("pairs", "", "", panels, query)] if panels else []


def _cost(section: Section, metric: str) -> Group:
    query = queries.command(queries.against_cost(section, metric))
    return Group("cost-figure", "", "", cost.cost_panels(section, metric), query, _legend(section))


def _learning(section: Section, drawn: curves.Drawn) -> Group:
    names = (VALIDATION_CURVE, curves.LOSS_CURVE)
    query = queries.command(queries.curves(section, names))
    panels = curves.learning_curves(drawn)
    return Group("curves", "", _curve_note(section), panels, query, _legend(section))


def _diagnostics(section: Section, drawn: curves.Drawn) -> Group:
    panels = curves.diagnostics(drawn)
    query = queries.command(queries.curves(section, drawn.diagnostic_names))
    return Group("collapse", "", "", panels, query, _legend(section))


def _legend(section: Section) -> list[tuple[str, Style]]:
    """Return label and style of every trained method; baselines have no curves."""
    return [(label, style) for label, style in _looks(section).items() if not section.chosen[label].is_baseline]


def _looks(section: Section) -> dict[str, Style]:
    looks = styles(cell.method for cell in section.cells)
    return {label: looks[cell.method] for label, cell in section.chosen.items()}


def _curve_note(section: Section) -> str:
    shown = "all trials, with those of other cells faint"
    if len(section.trials) > curves.MANY_TRIALS:
        shown = "the trials of the chosen cells"
    return f"One line per trial. The panel of all methods shows the chosen cells; the panels of losses show {shown}."


def _keyed(key: str, groups: Iterable[Group]) -> list[Group]:
    """Return the groups with an id for every panel, numbered by position so that no name can enter an id."""
    return [
        replace(
            group,
            key=f"{key}-{group.key}",
            panels=[replace(panel, key=f"{key}-{group.key}-{place}") for place, panel in enumerate(group.panels, 1)],
        )
        for group in groups
    ]
