"""The tables of a report as pandas frames: exact values for CSV files, and `display` for readers."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from twinbench.reports.statistics.intervals import Interval
from twinbench.reports.tables.cells import NOT_DONE, NOTHING, REPORTED_ON, SELECTED_BY, Cell, Section
from twinbench.reports.tables.run import Run, TrialRow, has_own_seconds, is_packed, records, rows
from twinbench.results.code_hash import NOT_COMPARABLE, is_same_code
from twinbench.results.record import COMPUTED_WITH
from twinbench.sweeps.metrics import KNN, METRICS

# What the trials of a run should have in common; differences are shown.
PROVENANCE = ("commit", "code_hash", *COMPUTED_WITH, "host")


# --- exact ----------------------------------------------------------------------------------------------------------


def exact(run: Run, section: Section) -> dict[str, pd.DataFrame]:
    """Return the section's tables by file name."""
    return {
        # The protocol's id includes deviations: a CSV file has no caption.
        "methods": methods_table(section).assign(protocol=section.ran_as),
        "cells": cells_table(section).assign(protocol=section.ran_as),
        "failures": failures(section),
        "missing": missing(section),
        "provenance": provenance(run, section),
        "costs": costs(section),
    }


def methods_table(section: Section) -> pd.DataFrame:
    """Return one row per method, baselines first: its chosen cell, with the results on test of the reported seeds.

    Accuracies are fractions; `_half_width` is half the width of the 95 % t interval over seeds, None for one seed.
    """
    found = []
    for label, cell in section.reported.items():
        varied = section.varied(label)
        row = _identity(cell) | _intervals(section, cell, REPORTED_ON) | _seeds(cell)
        if section.confirm_seeds:  # in CSV files, which have no notes
            row["reported_seeds"] = cell.seed_numbers
        row["chosen"] = ", ".join(f"{axis} = {cell.text(axis)}" for axis in varied)
        row["candidates"] = len(section.methods[label])
        row["varied"] = ", ".join(f"{axis} ({len(values)} values)" for axis, values in varied.items())
        row["differs_from_protocol"] = cell.changed_text
        found.append(row)
    return _frame(found, ["method", "kind", "cell_id", "seeds_done", "seeds_planned", "seeds"])


def cells_table(section: Section) -> pd.DataFrame:
    """Return one row per cell: values of the axes, seeds, test accuracy, and validation accuracy if it selects.

    On the seeds of the grid, also for cells that were trained on those of the confirm stage.
    """
    chosen = {cell.cell_id for cell in section.chosen.values()}
    found = [
        _identity(cell)
        | {axis: cell.text(axis) for axis in section.axes}
        | _seeds(cell)
        | (_intervals(section, cell, SELECTED_BY[1]) if section.selected_by[1] == SELECTED_BY[1] else {})
        | _intervals(section, cell, REPORTED_ON)
        | {"chosen": "chosen" if cell.cell_id in chosen and not cell.is_baseline else ""}
        | {"differs_from_protocol": cell.changed_text}
        for cell in section.cells
    ]
    return _frame(found, ["method", "kind", "cell_id", *section.axes, "seeds_done", "seeds_planned", "seeds", "chosen"])


def failures(section: Section) -> pd.DataFrame:
    """Return the trials that diverged, collapsed or failed, with the reason."""
    return _trials(section, NOT_DONE, ["status", "reason", "traceback"])


def missing(section: Section) -> pd.DataFrame:
    """Return the planned trials without a record."""
    return _trials(section, ("missing",), [])


def provenance(run: Run, section: Section) -> pd.DataFrame:
    """Return each distinct code, version and machine of the section's recorded trials, and its number of trials."""
    recorded = [trial for trial in section.trials if trial["status"] != "missing"]
    same = is_same_code((trial["code_hash"], trial["commit"]) for trial in recorded)
    found = []
    for name in PROVENANCE:
        differs = {True: "", None: NOT_COMPARABLE, False: "differs"}[same] if name == "code_hash" else "differs"
        found += _distinct(name, [trial.get(name) for trial in recorded], differs)
    ids = {trial["trial_id"] for trial in recorded}
    packages: dict[str, list[object]] = {}
    for trial_id, package, version in rows(run.versions, "trial_id", "package", "version"):
        if trial_id in ids:
            packages.setdefault(package, []).append(version)
    for package, versions in sorted(packages.items()):
        found += _distinct(package, versions)
    return _frame(found, ["what", "value", "trials", "differs"])


def costs(section: Section) -> pd.DataFrame:
    """Return the total cost of each method's recorded trials, including failed ones."""
    found = []
    for label, cells in section.methods.items():
        trials = [trial for cell in cells for trial in cell.all_trials if trial["status"] != "missing"]
        found.append(
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
    return _frame(found, ["method", "trials"])


TRAIN_SECONDS = "CASE WHEN bool_and(coalesce(pack, 1) = 1 OR device = 'cpu') THEN sum(train_seconds) END"  # in SQL


def train_seconds(trials: Sequence[TrialRow]) -> float | None:
    """Return the training time of all trials; None if that of a packed trial is not known."""
    return sum(trial["train_seconds"] or 0.0 for trial in trials) if all(map(has_own_seconds, trials)) else None


def images_per_second(trials: Iterable[TrialRow]) -> float | None:
    """Return the throughput of the trials that ran alone in their process; None without any."""
    alone = [trial for trial in trials if not is_packed(trial)]
    seconds = sum(trial["train_seconds"] or 0.0 for trial in alone)
    return sum(trial["images_seen"] or 0 for trial in alone) / seconds if seconds else None


def measurements(run: Run, section: Section) -> pd.DataFrame:
    """Return how each metric was measured: variant, split, examples, selection split and number of candidates."""
    of_section = run.metrics[run.metrics["trial_id"].isin({trial["trial_id"] for trial in section.trials})]
    counts = Counter(rows(of_section, "name", "variant", "split", "n_examples", "selected_on", "candidates"))
    names = ["metric", "variant", "measured_on", "n_examples", "selected_on", "candidates", "trials"]
    ordered = sorted(counts.items(), key=lambda item: [str(part) for part in item[0]])
    return pd.DataFrame([(*key, count) for key, count in ordered], columns=pd.Index(names), dtype=object)


def protocol_values(section: Section) -> pd.DataFrame:
    """Return the protocol's content as keys and values, with nested keys joined by dots."""
    return pd.DataFrame(_flat(section.content), columns=pd.Index(["key", "value"]), dtype=object)


# --- for people -----------------------------------------------------------------------------------------------------


def display(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of methods or cells as printed: accuracies in percent with one decimal, as mean ± half width."""
    shown: dict[str, list[str]] = {}
    splits = [split for split in (SELECTED_BY[1], REPORTED_ON) if f"{KNN.name}_{split}_mean" in frame]
    found = records(frame)
    for column in map(str, frame.columns):
        if column.endswith("_mean"):
            metric, split = column.removesuffix("_mean").rsplit("_", 1)
            name = METRICS[metric].heading if len(splits) == 1 else f"{METRICS[metric].title}, {split} (%)"
            shown[name] = [_estimate(row, f"{metric}_{split}") for row in found]
        elif column == "chosen":
            shown["Chosen"] = [str(row["chosen"]) for row in found]
        elif column == "differs_from_protocol":
            if any(frame[column]):
                shown["Differs from the protocol"] = [str(row[column]) for row in found]
        elif not column.endswith(("_half_width", "_n")) and column not in _HIDDEN:
            title = column.capitalize() if column in ("method", "seeds", "candidates", "varied") else column
            shown[title] = [_plain(row[column]) for row in found]
    return pd.DataFrame(shown, dtype=object)


_HIDDEN = ("kind", "cell_id", "seeds_done", "seeds_planned", "reported_seeds")


def display_costs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table of costs as printed, in minutes and GiB."""
    minutes = [
        [NOTHING if seconds is None else f"{seconds / 60:.1f}" for seconds in frame[name]]
        for name in ("train_seconds", "evaluation_seconds")
    ]
    return pd.DataFrame(
        {
            "Method": frame["method"],
            "Trials": [str(count) for count in frame["trials"]],
            "Training (min)": minutes[0],
            "Evaluation (min)": minutes[1],
            "Images seen": [f"{seen:,}" if seen else NOTHING for seen in frame["images_seen"]],
            "Images per second": [f"{rate:,.0f}" if rate else NOTHING for rate in frame["images_per_second"]],
            "Peak memory (GiB)": [f"{peak / 2**30:.2f}" if peak else NOTHING for peak in frame["peak_memory_bytes"]],
        },
        dtype=object,
    )


def estimate_text(interval: Interval | None) -> str:
    """Return mean and half width in percent: "93.2 ± 1.4", or "93.2 (1 seed)"."""
    if interval is None:
        return NOTHING
    mean = f"{100 * interval.mean:.1f}"
    return f"{mean} (1 seed)" if interval.half_width is None else f"{mean} ± {100 * interval.half_width:.1f}"


def signed(correlation: float) -> str:
    """Return a correlation with two decimals and a minus sign as in other tables: "−0.82"."""
    return f"{'−' if correlation < -0.005 else ''}{abs(correlation):.2f}"


# --- pieces ---------------------------------------------------------------------------------------------------------


def _identity(cell: Cell) -> dict[str, object]:
    kind = "baseline" if cell.is_baseline else "method"
    return {"method": cell.label, "kind": kind, "cell_id": cell.cell_id}


def _seeds(cell: Cell) -> dict[str, object]:
    return {"seeds_done": cell.done, "seeds_planned": cell.planned, "seeds": cell.seeds_text}


def _intervals(section: Section, cell: Cell, split: str) -> dict[str, object]:
    row: dict[str, object] = {}
    for metric in section.metrics:
        interval = cell.interval(metric, split)
        row[f"{metric}_{split}_mean"] = interval.mean if interval else None
        row[f"{metric}_{split}_half_width"] = interval.half_width if interval else None
        row[f"{metric}_{split}_n"] = interval.n if interval else 0
    return row


def _estimate(row: Mapping[str, Any], prefix: str) -> str:
    mean, n = row[f"{prefix}_mean"], row[f"{prefix}_n"]
    if mean is None:
        return NOTHING
    # A completed trial can lack a metric; then n differs from the column of seeds.
    few = "" if n == row["seeds_done"] else f" (n = {n})"
    return estimate_text(Interval(mean, row[f"{prefix}_half_width"], n)) + few


def _trials(section: Section, statuses: tuple[str, ...], columns: list[str]) -> pd.DataFrame:
    found = [
        {"method": cell.label}
        | {axis: cell.text(axis) for axis in section.axes}
        | {"seed": trial["seed"], "trial_id": trial["trial_id"]}
        | {name: trial.get(name) or "" for name in columns}
        for cell in section.cells
        for trial in cell.all_trials
        if trial["status"] in statuses
    ]
    return _frame(found, ["method", *section.axes, "seed", "trial_id", *columns])


def _distinct(what: str, values: Iterable[object], differs: str = "differs") -> list[dict[str, object]]:
    """Return one row per distinct value; `differs` is what they say if there are several."""
    counts = Counter(map(_plain, values))
    return [
        {"what": what, "value": text, "trials": count, "differs": differs if len(counts) > 1 else ""}
        for text, count in sorted(counts.items())
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


def _frame(found: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Return a frame of object columns, which keep integers beside missing values. `columns`: for an empty table."""
    return pd.DataFrame(found, columns=None if found else pd.Index(columns), dtype=object)


def _plain(value: object) -> str:
    if value is None or value == "":
        return NOTHING
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
