"""`write_report`: one page that opens from a disk, tables for LaTeX and spreadsheets. Equal records, equal bytes."""

import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.io
import plotly.offline

from twinbench.reports import figures, latex, tables
from twinbench.reports.cells import (
    BASELINES,
    NOT_DONE,
    REPORTED_ON,
    Run,
    Section,
    read_run,
    records,
    sections,
)
from twinbench.reports.figures import Panel, Style
from twinbench.reports.statistics import CONFIDENCE
from twinbench.results.record import write_bytes_atomically
from twinbench.results.store import ResultStore
from twinbench.sweeps.identity import digest

REPORT = "report"

# Nothing on the page may ask anything of anyone: no logo that links out, no button that uploads the data.
PLOTLY_CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "showLink": False,
    "typesetMath": False,
    "responsive": True,
    "displayModeBar": False,
}

_OURS = re.compile(r"(methods|cells|failures|missing|provenance|costs)(-[0-9a-f]{8})?\.(csv|tex)")


def write_report(run_folder: Path | str) -> Path:
    """Ingest what is new, write report/index.html and report/tables/, and return the page's path."""
    run_folder = Path(run_folder)
    with ResultStore(run_folder) as store:
        store.ingest()
        run = read_run(store)
    parts = sections(run)
    folder = run_folder / REPORT
    written = set()
    for section in parts:
        suffix = "" if len(parts) == 1 else f"-{_short_id(section)}"
        for name, text in table_files(run, section, suffix).items():
            write_bytes_atomically(folder / "tables" / name, text.encode("utf-8"))
            written.add(name)
    for path in (folder / "tables").glob("*"):
        if _OURS.fullmatch(path.name) and path.name not in written:
            path.unlink()  # of a protocol that is no longer in the folder: stale numbers get pasted into papers
    return write_bytes_atomically(folder / "index.html", page(run, parts).encode("utf-8"))


# --- files beside the page ------------------------------------------------------------------------------------------


def table_files(run: Run, section: Section, suffix: str = "") -> dict[str, str]:
    """The contents of the CSV and LaTeX files of one section, by file name."""
    methods, cells = tables.methods_table(section), tables.cells_table(section)
    exact = tables.exact(run, section)
    files = {f"{name}{suffix}.csv": csv_text(frame) for name, frame in exact.items()}
    baselines = [label for label, of in section.methods.items() if of[0].is_baseline]
    files[f"methods{suffix}.tex"] = latex.table(
        tables.display(methods),
        f"{run.name or 'Methods'}: accuracy on {REPORTED_ON}, protocol {section.protocol_id}.",
        f"tab:methods{suffix}",
        notes(section),
        rule_before=[len(baselines)],
    )
    first_method = sum(len(section.methods[label]) for label in baselines)
    files[f"cells{suffix}.tex"] = latex.table(
        tables.display(cells),
        f"{run.name or 'Cells'}: every cell, protocol {section.protocol_id}.",
        f"tab:cells{suffix}",
        notes(section),
        rule_before=[first_method],
    )
    return files


def csv_text(frame: pd.DataFrame) -> str:
    """CSV whose texts no spreadsheet takes for a formula: those that begin like one get an apostrophe before."""
    guarded = frame.map(_guard).rename(columns=lambda column: _guard(str(column)))
    return guarded.to_csv(index=False, lineterminator="\n")


def _guard(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    guarded = f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return guarded.replace("\r", "\n")  # which pandas puts in quotes; a bare \r would end the row for some readers


# --- sentences ------------------------------------------------------------------------------------------------------


def notes(section: Section) -> list[str]:
    """What stands under every table of accuracies."""
    deviations = [f"{one['key']}: {one['reason']}" for one in section.deviations]
    return [
        f"Mean over seeds ± half of the {CONFIDENCE:.0%} t interval over seeds. The interval covers the variation "
        f"between seeds only, not that of the {REPORTED_ON} sample.",
        f"The cell of each method was selected by the highest mean {_metric_words(section)}; cells that lack seeds "
        f"stand back. {_selection(section)}",
        f"Protocol {section.protocol_id}. {counts(section)}",
        *([f"Why it deviates from the protocol: {'; '.join(deviations)}."] if deviations else []),
    ]


def _selection(section: Section) -> str:
    """Whether the images that numbers are reported on had a part in choosing them."""
    if section.selected_by[1] != REPORTED_ON:
        return f"{REPORTED_ON.capitalize()} data selected nothing."
    best = section.content.get("checkpoint") == "best_on_test"
    epochs = ", and each value is that of the best epoch on them" if best else ""
    return f"These are the very images that it is reported on{epochs}: a look at the answers, which flatters."


def counts(section: Section) -> str:
    """ "12 trials: 10 done, 1 diverged, 1 missing." """
    statuses = [str(trial["status"]) for trial in section.trials]
    order = ("done", *NOT_DONE, "missing")
    found = [f"{statuses.count(status)} {status}" for status in order if status in statuses or status == "done"]
    return f"{len(statuses)} {_plural('trial', len(statuses))}: {', '.join(found)}."


def against_baselines(section: Section) -> str:
    """Which methods' mean kNN on test lies above both baselines. Means only; whether that is sure is another matter."""
    means = {label: cell.interval("knn_top1", REPORTED_ON) for label, cell in section.chosen.items()}
    baselines = {
        label: mean for label, mean in means.items() if mean is not None and section.chosen[label].method in BASELINES
    }
    methods = {label: mean for label, mean in means.items() if not section.chosen[label].is_baseline}
    if not methods:
        return ""
    absent = [name for name in BASELINES if name not in {section.chosen[label].method for label in baselines}]
    if absent:
        return f"No comparison with the baselines: {_and(absent)} {'has' if len(absent) == 1 else 'have'} no result."
    below, unknown = [], []
    for label, mean in methods.items():
        if mean is None:
            unknown.append(label)
            continue
        beaten_by = [name for name, other in baselines.items() if other.mean >= mean.mean]
        if beaten_by:
            below.append(f"{label} (not above {_and(beaten_by)})")
    levels = ", ".join(f"{label} {tables.estimate_text(mean)}" for label, mean in baselines.items())
    if not below and not unknown:
        return f"Every method's mean kNN top-1 on {REPORTED_ON} is above both baselines ({levels}, in percent)."
    said = (
        [f"Not above both baselines in mean kNN top-1 on {REPORTED_ON} ({levels}, in percent): {_and(below)}."]
        if below
        else []
    )
    return " ".join(said + ([f"Without a mean to compare: {_and(unknown)}."] if unknown else []))


def facts(section: Section) -> list[str]:
    """The page's opening: counts and facts, no judgement."""
    methods = [label for label, cells in section.methods.items() if not cells[0].is_baseline]
    moved = [axis for axis in section.axes if any(axis in section.moved(label) for label in section.methods)]
    opening = f"{len(methods)} {_plural('method', len(methods))}"
    opening += f" ({', '.join(methods)})" if methods else ""
    opening += f" under protocol {section.protocol_id}"
    opening += f"; moved: {', '.join(moved)}" if moved else "; no axis was moved"
    return [sentence for sentence in (f"{opening}.", counts(section), against_baselines(section)) if sentence]


def _metric_words(section: Section) -> str:
    metric, split = section.selected_by
    return (
        f"{split} {tables.METRIC_NAMES[metric].removesuffix(' (%)').replace('Linear', 'linear')} (ties: the cell's id)"
    )


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


# --- the page -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Panels under one heading."""

    key: str
    title: str
    note: str
    panels: list[Panel]
    legend: list[tuple[str, Style]] = field(default_factory=list)


def page(run: Run, parts: Sequence[Section]) -> str:
    """The whole page as text."""
    return _template().render(
        run=run,
        title=run.question or run.name or "twinbench report",
        sections=[_section(run, section, number) for number, section in enumerate(parts, 1)],
        set_aside=records(run.set_aside),
        plotly_js=plotly.offline.get_plotlyjs(),
        config=_for_script(json.dumps(PLOTLY_CONFIG, sort_keys=True)),
        figure_json=_figure_json,
    )


def _section(run: Run, section: Section, number: int) -> dict[str, Any]:
    """What the template needs of one section."""
    methods, cells = tables.methods_table(section), tables.cells_table(section)
    provenance = tables.provenance(run, section)
    return {
        "id": f"s{number}",
        "heading": section.protocol_id,
        "fingerprint": section.dataset_fingerprint,
        "facts": facts(section),
        "notes": notes(section),
        "selected_on": section.selected_by[1],
        "measured_on": "validation" if _holds_out(section) else "training",
        "methods": _groups_of_rows(methods),
        "cells": _groups_of_rows(cells),
        "sensitivity": _keyed(number, _sensitivity(section)),
        "learning": _keyed(number, [_learning(run, section)]),
        "diagnostics": _keyed(number, [_diagnostics(run, section)]),
        "failures": records(tables.failures(section)),
        "missing": _display_rows(tables.missing(section)),
        "measurements": _display_rows(tables.measurements(run, section)),
        "protocol": records(tables.protocol_values(section)),
        "provenance": records(provenance),
        "differing": list(dict.fromkeys(row["what"] for row in records(provenance) if row["differs"])),
        "costs": _rows(tables.display_costs(tables.costs(section))),
        "axes": list(section.axes),
    }


def _holds_out(section: Section) -> bool:
    """Whether there are validation images; a protocol of which nothing is known is taken to have some."""
    return bool(section.content.get("dataset", {}).get("validation_fraction", True))


def _sensitivity(section: Section) -> list[_Group]:
    groups = []
    for number, axis in enumerate(section.axes, 1):
        panels = figures.sensitivity(section, axis)
        groups.append(_Group(f"axis-{number}", axis, figures.baselines_outside(section, panels), panels))
    return [group for group in groups if group.panels]


def _learning(run: Run, section: Section) -> _Group:
    return _Group("curves", "", _curve_note(section), figures.learning_curves(run, section), _legend(section))


def _diagnostics(run: Run, section: Section) -> _Group:
    return _Group("diagnostics", "", "", figures.diagnostics(run, section), _legend(section))


def _legend(section: Section) -> list[tuple[str, Style]]:
    """Label and look of every method that trains; baselines have no curves."""
    looks = figures.styles(cell.method for cell in section.cells)
    return [(label, looks[cell.method]) for label, cell in section.chosen.items() if not cell.is_baseline]


def _curve_note(section: Section) -> str:
    shown = "all trials; those of cells that were not chosen are faint"
    if len(section.trials) > figures.MANY_TRIALS:
        shown = "the trials of the chosen cells"
    return f"A line per trial, one per seed. The losses show {shown}; the panel of all methods shows the chosen cells."


def _keyed(number: int, groups: Iterable[_Group]) -> list[_Group]:
    """The groups with an id for every panel: by place, so that no name gets into one."""
    return [
        replace(
            group,
            key=f"s{number}-{group.key}",
            panels=[
                replace(panel, key=f"s{number}-{group.key}-{place}") for place, panel in enumerate(group.panels, 1)
            ],
        )
        for group in groups
    ]


def _groups_of_rows(frame: pd.DataFrame) -> dict[str, Any]:
    """A methods or cells table for people: its columns, and its rows with the baselines apart."""
    shown = tables.display(frame)
    is_baseline = [kind == "baseline" for kind in frame["kind"]]
    rows = list(shown.itertuples(index=False, name=None))
    return {
        "columns": list(shown.columns),
        "baselines": [row for row, baseline in zip(rows, is_baseline, strict=True) if baseline],
        "methods": [row for row, baseline in zip(rows, is_baseline, strict=True) if not baseline],
    }


def _display_rows(frame: pd.DataFrame) -> dict[str, Any]:
    texts = frame.map(lambda value: tables.NOTHING if value is None or value == "" else str(value))
    return _rows(texts.rename(columns=lambda name: _HEADINGS.get(name, name)))


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
}


def _rows(frame: pd.DataFrame) -> dict[str, Any]:
    return {"columns": list(frame.columns), "rows": list(frame.itertuples(index=False, name=None))}


def _figure_json(panel: Panel) -> str:
    # engine="json": plotly takes orjson where it is installed, whose bytes differ.
    return _for_script(plotly.io.to_json(panel.figure, validate=False, engine="json"))


def _for_script(text: str) -> str:
    """JSON that may stand inside a <script> element: nothing in it can end that element or begin another."""
    escaped = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return escaped.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _short_id(section: Section) -> str:
    """Eight hex digits that tell sections apart by protocol and dataset."""
    return digest([section.protocol_hash, section.dataset_fingerprint])[:8]


@functools.cache  # compiling it takes longer than filling it in
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = resources.files("twinbench.reports").joinpath("templates", "report.html.j2").read_text("utf-8")
    return environment.from_string(source)
