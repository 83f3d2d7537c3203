"""What the page's template needs of a run and of each of its sections: plain values, in the order of the page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

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
            "Files in the run folder that could not be taken in; their numbers are not in this report",
            shown.run.set_aside,
            queries.SET_ASIDE,
        ),
        "sections": [
            section_part(shown, section, f"{prefix}s{place}") for place, section in enumerate(shown.sections, 1)
        ],
    }


def _answer(shown: ShownRun) -> list[str]:
    """One paragraph. With claims their verdicts and nothing else; without, what the seeds of each protocol tell."""
    if shown.claims.verdicts:
        return summary.from_verdicts(shown.claims.verdicts)
    told = [summary.from_seeds(section) for section in shown.sections]
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
    provenance = frames.provenance(run, section)
    drawn = curves.Drawn(run, section)
    room = len(section.trials) / max(1, len(run.trials))
    return {
        "id": key,
        "heading": section.protocol_id,
        "fingerprint": section.dataset_fingerprint,
        "facts": summary.facts(section),
        "selection": summary.selection_words(section),
        "notes": summary.notes(section),
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
        "learning": _keyed(key, [_learning(section, drawn)]),
        "diagnostics": _keyed(key, [_diagnostics(section, drawn)]),
        "correlations": _correlations(run, section, metric, key),
        "least_trials": cost.LEAST_TRIALS,
        "cells": cells_table(section, key),
        "trials": trials_data(run, section, shown.logs, room),
        "colours": {label: style.colour for label, style in _looks(section).items()},
        "trials_query": queries.command(queries.trials(section)),
        "failures": records(frames.failures(section)),
        "failures_csv": csv_text(frames.failures(section)),
        "failures_query": queries.command(queries.ended(section, NOT_DONE)),
        "missing": _plain_table(
            f"{key}-missing-table",
            "Trials that were planned and have no record",
            frames.missing(section),
            queries.ended(section, ("missing",)),
        ),
        "deviations": _deviations(section, key),
        "reported": _reported(section, key),
        "measurements": _plain_table(
            f"{key}-measurements",
            "What was measured, how, and what selected it",
            frames.measurements(run, section),
            queries.measurements(section),
        ),
        "words": prose.protocol_in_words(section.content),
        "protocol": _plain_table(
            f"{key}-protocol-table",
            "The protocol's content",
            frames.protocol_values(section),
            queries.protocol(section),
        ),
        "provenance": records(provenance),
        "provenance_csv": csv_text(provenance),
        "provenance_query": queries.command(queries.provenance(section)),
        "differing": list(dict.fromkeys(row["what"] for row in records(provenance) if row["differs"] == "differs")),
        "code_is_unknown": any(row["differs"] == NOT_COMPARABLE for row in records(provenance)),
        "costs": _table(
            f"{key}-costs",
            "What the recorded trials cost, failed ones included",
            frames.display_costs(frames.costs(section)),
            frames.costs(section),
            queries.costs(section),
        ),
        "citation": prose.citation(run.name, section),
        "commands": prose.commands(run.commands, section),
        "axes": list(section.axes),
    }


def _holds_out(section: Section) -> bool:
    """Whether there are validation images; a protocol of which nothing is known is taken to have some."""
    return bool(section.content.get("dataset", {}).get("validation_fraction", True))


# --- tables ---------------------------------------------------------------------------------------------------------


def methods_table(section: Section, groups: Mapping[str, Grouping], key: str) -> dict[str, Any]:
    """The methods, baselines apart; beside each value the letters of its groups, bold where the seeds separate it."""
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


def cells_table(section: Section, key: str) -> dict[str, Any]:
    """Every cell, baselines apart."""
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
    """ "Linear top-1: simclr lies above every other; a and b cannot be told apart." """
    name = METRICS[groups.metric].title
    if len(groups.order) < 2:
        return f"{name}: one method, nothing to compare."
    told = [f"{groups.leader} lies above every other"] if groups.leader else []
    told += [f"{summary.and_(group)} cannot be told apart" for group in groups.groups]
    return f"{name}: {'; '.join(told) or 'every pair is told apart'}."


def _importance(section: Section, metric: str, key: str) -> Table | None:
    frame = grids.importance(section, metric)
    if frame.empty:
        return None
    axes = [axis for axis in section.axes if any(axis in section.moved(label) for label in section.methods)]
    return _table(
        f"{key}-importance-table",
        f"How much each axis matters to {METRICS[metric].phrase} on {REPORTED_ON}",
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
        f"Spearman's rank correlation of each diagnostic at the end of training with {METRICS[metric].phrase} on "
        f"{REPORTED_ON}, over the trials of a method",
        cost.display_correlations(frame),
        frame,
        queries.last_diagnostics(section, metric),
    )


def _reported(section: Section, key: str) -> Table | None:
    frame = published.reported(section)
    if frame.empty:
        return None
    caption = "Reported by others, not measured here: one dataset and metric, other protocols"
    table = _table(f"{key}-reported-table", caption, frame, frame, "")
    return replace(table, query=published.files(frame), behind="Files")


def _deviations(section: Section, key: str) -> Table:
    names = ["key", "value", "protocol_value", "reason"]
    rows = [[frames.plain_text(one[name]) for name in names] for one in section.deviations]
    frame = pd.DataFrame(rows, columns=pd.Index(names), dtype=object)
    caption = "Every number above carries these deviations from the protocol"
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
    """Label and look of every method that trains; baselines have no curves."""
    return [(label, style) for label, style in _looks(section).items() if not section.chosen[label].is_baseline]


def _looks(section: Section) -> dict[str, Style]:
    looks = styles(cell.method for cell in section.cells)
    return {label: looks[cell.method] for label, cell in section.chosen.items()}


def _curve_note(section: Section) -> str:
    shown = "all trials; those of cells that were not chosen are faint"
    if len(section.trials) > curves.MANY_TRIALS:
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
