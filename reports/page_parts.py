"""What the page's template needs of a run and of each of its sections: plain values, in the order of the page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from twinbench.reports import (
    cost_figures,
    figures,
    grid_figures,
    page_answer,
    page_claims,
    page_queries,
    page_reported,
    page_words,
    tables,
)
from twinbench.reports.cells import NOT_DONE, REPORTED_ON, Run, Section, records
from twinbench.reports.csv_form import csv_text
from twinbench.reports.figures import Panel, Style
from twinbench.reports.page_answer import Grouping, grouping, metric_words
from twinbench.reports.page_claims import Claims
from twinbench.reports.page_trials import trials_data


@dataclass(frozen=True)
class ShownRun:
    """One run folder as the page takes it in. `logs`: the end of each trial's log, by trial."""

    run: Run
    sections: tuple[Section, ...]
    claims: Claims
    logs: Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """Panels under one heading, and the query that gives their numbers."""

    key: str
    title: str
    note: str
    panels: list[Panel]
    query: str
    legend: list[tuple[str, Style]] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A table of texts, with the same as CSV and what is behind it: the query, or else what `behind` names."""

    key: str
    caption: str
    columns: list[str]
    rows: list[list[Any]]
    csv: str
    query: str
    behind: str = "Query"


def run_part(shown: ShownRun, number: int, several: bool) -> dict[str, Any]:
    """One run: its question, answer, claims and sections."""
    prefix = f"r{number}" if several else ""
    claims = shown.claims
    heading = shown.run.name or f"run {number}"
    frame = pd.DataFrame(page_claims.rows(claims), dtype=object)
    return {
        "id": f"{prefix}run" if several else "run",
        "key": prefix or "",
        "name": heading,
        "question": shown.run.question,
        "answer": _answer(shown),
        "claims": page_claims.entries(claims),
        "claims_csv": csv_text(frame),
        "claims_commands": [f"twinbench check {name} DIR" for name in claims.files],
        "problems": list(claims.problems),
        "without_file": list(claims.without_file),
        "set_aside": _plain_table(
            f"{prefix}set-aside-table",
            "Files in the run folder that could not be taken in; their numbers are not in this report",
            shown.run.set_aside,
            page_queries.SET_ASIDE,
        ),
        "sections": [
            section_part(shown, section, f"{prefix}s{place}") for place, section in enumerate(shown.sections, 1)
        ],
    }


def _answer(shown: ShownRun) -> list[str]:
    """One paragraph. With claims their verdicts and nothing else; without, what the seeds of each protocol tell."""
    if shown.claims.verdicts:
        return page_answer.from_verdicts(shown.claims.verdicts)
    told = [page_answer.from_seeds(section) for section in shown.sections]
    if len(told) < 2:
        return told[0] if told else []
    sentences = told[0][:1]  # that no claim was declared; it is said once
    for section, one in zip(shown.sections, told, strict=True):
        sentences += [f"Under protocol {section.protocol_id}:", *one[1:]]
    return sentences


def section_part(shown: ShownRun, section: Section, key: str) -> dict[str, Any]:
    """One protocol and dataset: every part of the page in its order."""
    run, metric = shown.run, section.selected_by[0]
    groups = {name: grouping(section, name) for name in section.metrics}
    provenance = tables.provenance(run, section)
    curves = figures.Drawn(run, section)
    room = len(section.trials) / max(1, len(run.trials))
    return {
        "id": key,
        "heading": section.protocol_id,
        "fingerprint": section.dataset_fingerprint,
        "facts": page_answer.facts(section),
        "selection": page_answer.selection_words(section),
        "notes": page_answer.notes(section),
        "methods": methods_table(section, groups, key),
        "groups": [_groups_text(groups[name]) for name in section.metrics if groups[name].order],
        "metric": metric_words(metric),
        "selected_on": section.selected_by[1],
        "measured_on": "validation" if _holds_out(section) else "training",
        "sensitivity": _keyed(key, _sensitivity(section, metric)),
        "heat_maps": _keyed(key, _heat_maps(section, metric)),
        "importance": _importance(section, metric, key),
        "cost": _keyed(key, [_cost(section, metric)]),
        "devices": cost_figures.devices(section),
        "learning": _keyed(key, [_learning(section, curves)]),
        "diagnostics": _keyed(key, [_diagnostics(section, curves)]),
        "correlations": _correlations(run, section, metric, key),
        "least_trials": cost_figures.LEAST_TRIALS,
        "cells": cells_table(section, key),
        "trials": trials_data(run, section, shown.logs, room),
        "colours": {label: style.colour for label, style in _looks(section).items()},
        "trials_query": page_queries.command(page_queries.trials(section)),
        "failures": records(tables.failures(section)),
        "failures_csv": csv_text(tables.failures(section)),
        "failures_query": page_queries.command(page_queries.ended(section, NOT_DONE)),
        "missing": _plain_table(
            f"{key}-missing-table",
            "Trials that were planned and have no record",
            tables.missing(section),
            page_queries.ended(section, ("missing",)),
        ),
        "deviations": _deviations(section, key),
        "reported": _reported(section, key),
        "measurements": _plain_table(
            f"{key}-measurements",
            "What was measured, how, and what selected it",
            tables.measurements(run, section),
            page_queries.measurements(section),
        ),
        "words": page_words.protocol_in_words(section.content),
        "protocol": _plain_table(
            f"{key}-protocol-table",
            "The protocol's content",
            tables.protocol_values(section),
            page_queries.protocol(section),
        ),
        "provenance": records(provenance),
        "provenance_csv": csv_text(provenance),
        "provenance_query": page_queries.command(page_queries.provenance(section)),
        "differing": list(dict.fromkeys(row["what"] for row in records(provenance) if row["differs"])),
        "costs": _table(
            f"{key}-costs",
            "What the recorded trials cost, failed ones included",
            tables.display_costs(tables.costs(section)),
            tables.costs(section),
            page_queries.costs(section),
        ),
        "citation": page_words.citation(run.name, section),
        "commands": page_words.commands(run.commands, section),
        "axes": list(section.axes),
    }


def _holds_out(section: Section) -> bool:
    """Whether there are validation images; a protocol of which nothing is known is taken to have some."""
    return bool(section.content.get("dataset", {}).get("validation_fraction", True))


# --- tables ---------------------------------------------------------------------------------------------------------


def methods_table(section: Section, groups: Mapping[str, Grouping], key: str) -> dict[str, Any]:
    """The methods, baselines apart; beside each value the letters of its groups, bold where the seeds separate it."""
    frame = tables.methods_table(section)
    shown = tables.display(frame)
    of_column = {tables.METRIC_NAMES[name]: one for name, one in groups.items() if len(one.order) > 1}
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
        "query": page_queries.command(page_queries.accuracy(section, section.chosen.values())),
    }


def cells_table(section: Section, key: str) -> dict[str, Any]:
    """Every cell, baselines apart."""
    splits = sorted({section.selected_by[1], REPORTED_ON})
    frame = tables.cells_table(section)
    shown = tables.display(frame)
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
        "query": page_queries.command(page_queries.accuracy(section, splits=splits)),
    }


def _groups_text(groups: Grouping) -> str:
    """ "Linear top-1: simclr lies above every other; a and b cannot be told apart." """
    name = metric_words(groups.metric)
    name = name[:1].upper() + name[1:] if name.startswith(("linear", "ridge")) else name
    if len(groups.order) < 2:
        return f"{name}: one method, nothing to compare."
    told = [f"{groups.leader} lies above every other"] if groups.leader else []
    told += [f"{page_answer.and_(group)} cannot be told apart" for group in groups.groups]
    return f"{name}: {'; '.join(told) or 'every pair is told apart'}."


def _importance(section: Section, metric: str, key: str) -> Table | None:
    frame = grid_figures.importance(section, metric)
    if frame.empty:
        return None
    axes = [axis for axis in section.axes if any(axis in section.moved(label) for label in section.methods)]
    return _table(
        f"{key}-importance-table",
        f"How much each axis matters to {metric_words(metric)} on {REPORTED_ON}",
        grid_figures.display_importance(frame),
        frame,
        page_queries.against_axis(section, axes, metric),
    )


def _correlations(run: Run, section: Section, metric: str, key: str) -> Table | None:
    frame = cost_figures.correlations(run, section, metric)
    if frame.empty:
        return None
    return _table(
        f"{key}-correlations-table",
        f"Spearman's rank correlation of each diagnostic at the end of training with {metric_words(metric)} on "
        f"{REPORTED_ON}, over the trials of a method",
        cost_figures.display_correlations(frame),
        frame,
        page_queries.last_diagnostics(section, metric),
    )


def _reported(section: Section, key: str) -> Table | None:
    frame = page_reported.reported(section)
    if frame.empty:
        return None
    caption = "Reported by others, not measured here: one dataset and metric, other protocols"
    table = _table(f"{key}-reported-table", caption, frame, frame, "")
    return replace(table, query=page_reported.files(frame), behind="Files")


def _deviations(section: Section, key: str) -> Table:
    names = ["key", "value", "protocol_value", "reason"]
    rows = [[tables.plain_text(one[name]) for name in names] for one in section.deviations]
    frame = pd.DataFrame(rows, columns=pd.Index(names), dtype=object)
    caption = "Every number above carries these deviations from the protocol"
    return _plain_table(f"{key}-deviations-table", caption, frame, page_queries.deviations(section))


def _table(key: str, caption: str, shown: pd.DataFrame, exact: pd.DataFrame, sql: str) -> Table:
    rows = [list(row) for row in shown.itertuples(index=False, name=None)]
    query = page_queries.command(sql) if sql else ""
    return Table(key, caption, [str(name) for name in shown.columns], rows, csv_text(exact), query)


def _plain_table(key: str, caption: str, frame: pd.DataFrame, sql: str) -> Table:
    texts = frame.map(lambda value: tables.NOTHING if value is None or value == "" else str(value))
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
        panels = figures.sensitivity(section, axis, metric)
        note = figures.baselines_outside(section, panels, metric)
        query = page_queries.command(page_queries.against_axis(section, [axis], metric))
        groups.append(Group(f"axis-{number}", axis, note, panels, query))
    return [group for group in groups if group.panels]


def _heat_maps(section: Section, metric: str) -> list[Group]:
    panels = grid_figures.heat_maps(section, metric)
    query = page_queries.command(page_queries.accuracy(section))
    return [Group("pairs", "", "", panels, query)] if panels else []


def _cost(section: Section, metric: str) -> Group:
    query = page_queries.command(page_queries.against_cost(section, metric))
    return Group("cost-figure", "", "", cost_figures.cost_panels(section, metric), query, _legend(section))


def _learning(section: Section, curves: figures.Drawn) -> Group:
    names = (figures.VALIDATION_CURVE, figures.LOSS_CURVE)
    query = page_queries.command(page_queries.curves(section, names))
    panels = figures.learning_curves(curves)
    return Group("curves", "", _curve_note(section), panels, query, _legend(section))


def _diagnostics(section: Section, curves: figures.Drawn) -> Group:
    panels = figures.diagnostics(curves)
    query = page_queries.command(page_queries.curves(section, curves.diagnostic_names))
    return Group("collapse", "", "", panels, query, _legend(section))


def _legend(section: Section) -> list[tuple[str, Style]]:
    """Label and look of every method that trains; baselines have no curves."""
    return [(label, style) for label, style in _looks(section).items() if not section.chosen[label].is_baseline]


def _looks(section: Section) -> dict[str, Style]:
    looks = figures.styles(cell.method for cell in section.cells)
    return {label: looks[cell.method] for label, cell in section.chosen.items()}


def _curve_note(section: Section) -> str:
    shown = "all trials; those of cells that were not chosen are faint"
    if len(section.trials) > figures.MANY_TRIALS:
        shown = "the trials of the chosen cells"
    return f"A line per trial, one per seed. The losses show {shown}; the panel of all methods shows the chosen cells."


def _keyed(key: str, groups: Iterable[Group]) -> list[Group]:
    """The groups with an id for every panel: by place, so that no name gets into one."""
    return [
        replace(
            group,
            key=f"{key}-{group.key}",
            panels=[replace(panel, key=f"{key}-{group.key}-{place}") for place, panel in enumerate(group.panels, 1)],
        )
        for group in groups
    ]
