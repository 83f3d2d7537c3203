"""The tables of a report as pandas frames: exact values for CSV files, and `display` for readers."""

import json
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from twinbench.reports.statistics.intervals import Interval
from twinbench.reports.tables.cells import (
    NOT_DONE,
    REPORTED_ON,
    SELECTED_BY,
    Cell,
    Record,
    Run,
    Section,
    has_own_seconds,
    is_packed,
)
from twinbench.reports.tables.cells import records as rows_of
from twinbench.results.code_hash import NOT_COMPARABLE, is_same_code
from twinbench.results.record import COMPUTED_WITH
from twinbench.sweeps.metrics import KNN, METRICS

NOTHING = "–"

# What the trials of a run should have in common; differences are shown.
PROVENANCE = ("commit", "code_hash", *COMPUTED_WITH, "host")


# --- exact ----------------------------------------------------------------------------------------------------------


def exact(run: Run, section: Section) -> dict[str, pd.DataFrame]:
    """Return the section's tables by file name."""
    return {
        "methods": methods_table(section).assign(
            protocol=section.protocol_id
        ),  # includes deviations, since a CSV file has no caption
        "cells": cells_table(section).assign(protocol=section.protocol_id),
        "failures": failures(section),
        "missing": missing(section),
        "provenance": provenance(run, section),
        "costs": costs(section),
    }


def methods_table(section: Section) -> pd.DataFrame:
    """Return one row per method, baselines first: its chosen cell, with the results on test.

    Accuracies are fractions; `_half_width` is half the width of the 95 % t interval over seeds, None for one seed.
    """
    rows: list[Record] = []
    for label, cell in section.chosen.items():
        varied = section.varied(label)
        rows.append(
            {"method": label, "kind": _kind(cell), "cell_id": cell.cell_id}
            | _intervals(section, cell, REPORTED_ON)
            | {
                "seeds_done": cell.done,
                "seeds_planned": cell.planned,
                "seeds": cell.seeds_text,
                "chosen": ", ".join(f"{axis} = {_text(cell, axis)}" for axis in varied),
                "candidates": len(section.methods[label]),
                "varied": ", ".join(f"{axis} ({len(values)} values)" for axis, values in varied.items()),
            }
        )
    return _frame(rows, ["method", "kind", "cell_id", "seeds_done", "seeds_planned", "seeds"])


def cells_table(section: Section) -> pd.DataFrame:
    """Return one row per cell: values of the axes, seeds, test accuracy, and validation accuracy if it selects."""
    chosen = {cell.cell_id for cell in section.chosen.values()}
    rows = [
        {"method": cell.label, "kind": _kind(cell), "cell_id": cell.cell_id}
        | {axis: _text(cell, axis) for axis in section.axes}
        | {"seeds_done": cell.done, "seeds_planned": cell.planned, "seeds": cell.seeds_text}
        | (_intervals(section, cell, SELECTED_BY[1]) if section.selected_by[1] == SELECTED_BY[1] else {})
        | _intervals(section, cell, REPORTED_ON)
        | {"chosen": "chosen" if cell.cell_id in chosen and not cell.is_baseline else ""}
        for cell in section.cells
    ]
    return _frame(rows, ["method", "kind", "cell_id", *section.axes, "seeds_done", "seeds_planned", "seeds", "chosen"])


def failures(section: Section) -> pd.DataFrame:
    """Return the trials that diverged, collapsed or failed, with the reason."""
    return _trials(section, NOT_DONE, ["status", "reason", "traceback"])


def missing(section: Section) -> pd.DataFrame:
    """Return the planned trials without a record."""
    return _trials(section, ("missing",), [])


def provenance(run: Run, section: Section) -> pd.DataFrame:
    """What code, versions and machines the section's recorded trials ran with: each distinct value, and how often."""
    recorded = [trial for trial in section.trials if trial["status"] != "missing"]
    rows: list[Record] = []
    for name in PROVENANCE:
        rows += _distinct(name, [trial[name] for trial in recorded])
    made_by = [(trial["code_hash"], trial["commit"]) for trial in recorded]
    if (
        any(row["what"] == "code_hash" and row["differs"] for row in rows)
        and (same := is_same_code(made_by)) is not False
    ):
        rows = [
            row | {"differs": "" if same else NOT_COMPARABLE} if row["what"] == "code_hash" else row for row in rows
        ]
    ids = {trial["trial_id"] for trial in recorded}
    packages: dict[str, list[object]] = {}
    for row in rows_of(run.versions):
        if row["trial_id"] in ids:
            packages.setdefault(row["package"], []).append(row["version"])
    for package, versions in sorted(packages.items()):
        rows += _distinct(package, versions)
    return _frame(rows, ["what", "value", "trials", "differs"])


def costs(section: Section) -> pd.DataFrame:
    """Return the total cost of each method's recorded trials, including failed ones."""
    rows: list[Record] = []
    for label, cells in section.methods.items():
        trials = [trial for cell in cells for trial in cell.trials if trial["status"] != "missing"]
        rows.append(
            {
                "method": label,
                "trials": len(trials),
                "train_seconds": train_seconds(trials),
                "evaluation_seconds": sum(trial["evaluation_seconds"] or 0.0 for trial in trials),
                "images_seen": sum(trial["images_seen"] or 0 for trial in trials),
                "images_per_second": images_per_second(trials),
                "peak_memory_bytes": max((trial["peak_memory_bytes"] or 0 for trial in trials), default=0),
            }
        )
    return _frame(rows, ["method", "trials"])


TRAIN_SECONDS = "CASE WHEN bool_and(coalesce(pack, 1) = 1 OR device = 'cpu') THEN sum(train_seconds) END"  # in SQL


def train_seconds(trials: Iterable[Record]) -> float | None:
    """Return the training time of all trials; None if that of a packed trial is not known."""
    counted = list(trials)
    if not all(map(has_own_seconds, counted)):
        return None
    return sum(trial["train_seconds"] or 0.0 for trial in counted)


def images_per_second(trials: Iterable[Record]) -> float | None:
    """Return the throughput of the trials that ran alone in their process; None without any."""
    alone = [trial for trial in trials if not is_packed(trial)]
    seconds = sum(trial["train_seconds"] or 0.0 for trial in alone)
    return sum(trial["images_seen"] or 0 for trial in alone) / seconds if seconds else None


def measurements(run: Run, section: Section) -> pd.DataFrame:
    """Return how each metric was measured: variant, split, examples, selection split and number of candidates."""
    ids = {trial["trial_id"] for trial in section.trials}
    counts: dict[tuple[object, ...], int] = {}
    for row in rows_of(run.metrics):
        if row["trial_id"] in ids:
            keys = ("name", "variant", "split", "n_examples", "selected_on", "candidates")
            found = tuple(row[key] for key in keys)
            counts[found] = counts.get(found, 0) + 1
    names = ["metric", "variant", "measured_on", "n_examples", "selected_on", "candidates", "trials"]
    ordered = sorted(counts.items(), key=lambda item: [str(part) for part in item[0]])
    return pd.DataFrame([(*key, count) for key, count in ordered], columns=pd.Index(names), dtype=object)


def protocol_values(section: Section) -> pd.DataFrame:
    """Return the protocol's content as keys and values, with nested keys joined by dots."""
    rows = [{"key": key, "value": value} for key, value in _flat(section.content)]
    return _frame(rows, ["key", "value"])


# --- for people -----------------------------------------------------------------------------------------------------


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of methods or cells as printed: accuracies in percent with one decimal, as mean ± half width."""
    shown: dict[str, list[str]] = {}
    splits = [split for split in (SELECTED_BY[1], REPORTED_ON) if f"{KNN.name}_{split}_mean" in frame]
    rows = rows_of(frame)
    for column in map(str, frame.columns):
        if column.endswith("_mean"):
            metric, split = column.removesuffix("_mean").rsplit("_", 1)
            name = METRICS[metric].heading if len(splits) == 1 else f"{METRICS[metric].title}, {split} (%)"
            shown[name] = [_estimate(row, f"{metric}_{split}") for row in rows]
        elif column in ("method", "seeds", "chosen", "candidates", "varied"):
            blank = column == "chosen"
            shown[column.capitalize()] = ["" if blank and not row[column] else _plain(row[column]) for row in rows]
        elif not column.endswith(("_half_width", "_n")) and column not in _HIDDEN:
            shown[column] = [_plain(row[column]) for row in rows]
    return pd.DataFrame(shown, dtype=object)


_HIDDEN = ("kind", "cell_id", "seeds_done", "seeds_planned")


def display_costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table of costs as printed, in minutes and GiB."""
    rows = rows_of(frame)
    return pd.DataFrame(
        {
            "Method": [row["method"] for row in rows],
            "Trials": [str(row["trials"]) for row in rows],
            "Training (min)": [
                NOTHING if row["train_seconds"] is None else f"{row['train_seconds'] / 60:.1f}" for row in rows
            ],
            "Evaluation (min)": [f"{row['evaluation_seconds'] / 60:.1f}" for row in rows],
            "Images seen": [f"{row['images_seen']:,}" if row["images_seen"] else NOTHING for row in rows],
            "Images per second": [
                f"{row['images_per_second']:,.0f}" if row["images_per_second"] else NOTHING for row in rows
            ],
            "Peak memory (GiB)": [
                f"{row['peak_memory_bytes'] / 2**30:.2f}" if row["peak_memory_bytes"] else NOTHING for row in rows
            ],
        },
        dtype=object,
    )


def estimate_text(interval: Interval | None) -> str:
    """Return mean and half width in percent: "93.2 ± 1.4", or "93.2 (1 seed)"."""
    if interval is None:
        return NOTHING
    mean = f"{100 * interval.mean:.1f}"
    return f"{mean} (1 seed)" if interval.half_width is None else f"{mean} ± {100 * interval.half_width:.1f}"


# --- pieces ---------------------------------------------------------------------------------------------------------


def _intervals(section: Section, cell: Cell, split: str) -> Record:
    row: Record = {}
    for metric in section.metrics:
        interval = cell.interval(metric, split)
        row[f"{metric}_{split}_mean"] = interval.mean if interval else None
        row[f"{metric}_{split}_half_width"] = interval.half_width if interval else None
        row[f"{metric}_{split}_n"] = interval.n if interval else 0
    return row


def _estimate(row: Record, prefix: str) -> str:
    mean, n = row[f"{prefix}_mean"], row[f"{prefix}_n"]
    if mean is None:
        return NOTHING
    # A completed trial can lack a metric; then n differs from the column of seeds.
    few = "" if n == row["seeds_done"] else f" (n = {n})"
    return estimate_text(Interval(mean, row[f"{prefix}_half_width"], n)) + few


def _trials(section: Section, statuses: tuple[str, ...], columns: list[str]) -> pd.DataFrame:
    rows = [
        {"method": cell.label}
        | {axis: _text(cell, axis) for axis in section.axes}
        | {"seed": trial["seed"], "trial_id": trial["trial_id"]}
        | {name: trial[name] or "" for name in columns}
        for cell in section.cells
        for trial in cell.trials
        if trial["status"] in statuses
    ]
    return _frame(rows, ["method", *section.axes, "seed", "trial_id", *columns])


def _distinct(what: str, values: Sequence[object]) -> list[Record]:
    texts = [NOTHING if value is None or value == "" else _plain(value) for value in values]
    counts = {text: texts.count(text) for text in sorted(set(texts))}
    return [
        {"what": what, "value": text, "trials": count, "differs": "differs" if len(counts) > 1 else ""}
        for text, count in counts.items()
    ]


def _flat(value: object, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        return [pair for key in sorted(value) for pair in _flat(value[key], f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [pair for index, item in enumerate(value, 1) for pair in _flat(item, f"{prefix}.{index}")]
    return [(prefix, plain_text(value))] if prefix else []


def plain_text(value: object) -> str:
    """Return a text unchanged, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _frame(rows: list[Record], columns: list[str]) -> pd.DataFrame:
    """Return a frame of object columns, which keep integers beside missing values. `columns`: for an empty table."""
    return pd.DataFrame(rows, columns=None if rows else pd.Index(columns), dtype=object)


def _text(cell: Cell, axis: str) -> str:
    return cell.values[axis].text if axis in cell.values else NOTHING


def _kind(cell: Cell) -> str:
    return "baseline" if cell.is_baseline else "method"


def _plain(value: object) -> str:
    if value is None or value == "":
        return NOTHING
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
