"""Read a run's sections, the parts of one protocol and dataset each, with their trials grouped into cells."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from twinbench.reports.tables.cells import (
    BASELINES,
    Cell,
    Measured,
    Section,
    Value,
    axes_that_differ,
    by_label,
    value_order,
)
from twinbench.reports.tables.run import Run, TrialRow, measured_by_trial, records, rows
from twinbench.sweeps.own_values import OwnValues


def sections(run: Run) -> list[Section]:
    """Return the run's sections, ordered by protocol name, version, hash and dataset."""
    settings, measured = _settings_by_trial(run), measured_by_trial(run)
    protocols = {row["hash"]: row for row in records(run.protocols)}
    groups: dict[tuple[str, str], list[TrialRow]] = {}
    for trial in records(run.trials):
        groups.setdefault((trial["protocol_hash"] or "", trial["dataset_fingerprint"]), []).append(trial)
    made = []
    for (hash_, fingerprint), trials in groups.items():
        protocol, version = protocols.get(hash_, {}), trials[0]["protocol_version"]
        content, deviations = (json.loads(protocol.get(k) or v) for k, v in (("content", "{}"), ("deviations", "[]")))
        cells = _cells(trials, settings, measured, OwnValues(content, deviations))
        names = sorted({name for cell in cells for name in cell.values}.difference(run.axes))
        varied = {axis for own in by_label(cells).values() for axis in axes_that_differ(own, names)}
        axes = (*run.axes, *(name for name in names if name in varied))
        made.append(
            Section(
                trials[0]["protocol_name"] or "unnamed",
                None if version is None else int(version),
                hash_,
                fingerprint,
                content,
                axes,
                tuple(sorted(cells, key=lambda cell: _place_in_tables(cell, axes))),
                tuple(deviations),
                protocol.get("base_hash") or "",
                run.confirm_seeds,
            )
        )
    return sorted(
        made, key=lambda s: (s.protocol_name, s.protocol_version or 0, s.protocol_hash, s.dataset_fingerprint)
    )


def _cells(
    trials: Iterable[TrialRow],
    settings: Mapping[str, dict[str, Value]],
    measured: Mapping[str, list[tuple[tuple[str, str], float, str]]],
    own: OwnValues,
) -> list[Cell]:
    versions: dict[str, set[int]] = {}
    by_cell: dict[str, list[TrialRow]] = {}
    for trial in trials:
        versions.setdefault(trial["method"], set()).add(trial["method_version"])
        by_cell.setdefault(trial["cell_id"], []).append(trial)
    cells = []
    for cell_id, members in by_cell.items():
        members.sort(key=lambda trial: (trial["seed"], trial["trial_id"]))
        method, version = members[0]["method"], members[0]["method_version"]
        label = method if len(versions[method]) == 1 else f"{method} (version {version})"
        values = settings.get(members[0]["trial_id"], {})
        changed = own.changed(method, version, {name: value.text for name, value in values.items()})
        of_grid, confirming = (
            Cell(cell_id, method, label, values, part, _measured_in(part, measured), changed, confirms=one)
            for one in (False, True)
            for part in [tuple(trial for trial in members if bool(trial["confirms"]) is one)]
        )
        cells.append(replace(of_grid, confirmed=confirming) if confirming.trials else of_grid)
    return cells


def _measured_in(
    trials: Iterable[TrialRow], measured: Mapping[str, list[tuple[tuple[str, str], float, str]]]
) -> dict[tuple[str, str], tuple[Measured, ...]]:
    """Return the measurements of the done trials by (metric, split)."""
    found: dict[tuple[str, str], tuple[Measured, ...]] = {}
    for trial in trials:
        for key, value, variant in measured.get(trial["trial_id"], ()) if trial["status"] == "done" else ():
            found[key] = (*found.get(key, ()), Measured(int(trial["seed"]), value, variant))
    return found


def _place_in_tables(cell: Cell, axes: Iterable[str]) -> tuple[object, ...]:
    baseline = BASELINES.index(cell.method) if cell.is_baseline else len(BASELINES)
    absent = Value("", None)
    return baseline, cell.label, [value_order(cell.values.get(axis, absent)) for axis in axes], cell.cell_id


def _settings_by_trial(run: Run) -> dict[str, dict[str, Value]]:
    found: dict[str, dict[str, Value]] = {}
    given = run.settings[run.settings["source"] != "derived"]
    distinct: dict[tuple[Any, Any], Value] = {}  # seeds share all of their settings, and cells most
    for trial_id, name, text, number in rows(given, "trial_id", "name", "text", "number"):
        value = distinct.get((text, number)) or distinct.setdefault((text, number), Value(str(text), number))
        found.setdefault(trial_id, {})[name] = value
    return found
