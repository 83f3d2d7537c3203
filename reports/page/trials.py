"""The trials of a section for the page's script: the columns of its table, and the details of each trial.

Columns are stored as their distinct values and one index per trial, so that a thousand trials stay small. Curves are
thinned to fit the page; the database has every point.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinbench.reports.figures.panels import short
from twinbench.reports.tables.cells import Cell, Section
from twinbench.reports.tables.frames import PROVENANCE
from twinbench.reports.tables.run import Run, TrialRow, is_packed, rows
from twinbench.results.attempts import end_of_log
from twinbench.results.bundles.redaction import redacted
from twinbench.sweeps.metrics import DIAGNOSTICS, METRICS

CURVE_POINTS = 200_000  # in all curves of a page together, about 2 MB at most
FEWEST_POINTS = 5  # if curves must be thinned to fewer, the page has none
MOST_LOGS = 1_000  # with more trials, the page shows no logs
LOG_LINES, LOG_BYTES = 12, 1_500

Column = dict[str, Any]


def read_log_tails(run_folder: Path, trial_ids: Sequence[str]) -> dict[str, str]:
    """Return the end of the log of each trial's last attempt, by trial id; empty if there are more than MOST_LOGS."""
    if len(trial_ids) > MOST_LOGS:
        return {}
    tails = {trial_id: _log_tail(run_folder, trial_id) for trial_id in trial_ids}
    return {trial_id: text for trial_id, text in tails.items() if text}


def _log_tail(run_folder: Path, trial_id: str) -> str:
    lines = end_of_log(run_folder, trial_id, LOG_BYTES).splitlines()[-LOG_LINES:]
    return redacted("\n".join(lines))  # pages are shared more freely than logs


def trials_data(run: Run, section: Section, logs: Mapping[str, str], share: float = 1.0) -> dict[str, Any]:
    """Return the data for the page's script as JSON types. `share`: the section's fraction of CURVE_POINTS."""
    trials = [(part, trial) for cell in section.cells for part in cell.parts for trial in part.trials]
    ids = [trial["trial_id"] for _, trial in trials]
    return {
        "ids": ids,
        "main": _main(section, trials),
        "details": {
            "Settings": _settings(run, section, trials),
            "Measured": _measured(run, ids),
            "Cost": _cost(trials),
            "Provenance": _provenance(trials),
        },
        "texts": {
            "Traceback": {trial["trial_id"]: trial["traceback"] for _, trial in trials if trial["traceback"]},
            "End of the log": {trial_id: logs[trial_id] for trial_id in ids if trial_id in logs},
        },
        "curves": _curves(run, ids, int(CURVE_POINTS * share)),
    }


def column(name: str, values: Sequence[Any], filtered: bool = False, digits: int | None = None) -> Column:
    """Return a column in its shortest form: `all` (one value), `of` and `at` (distinct values, indices), or `each`.

    `digits`: the number of decimals shown.
    """
    distinct = list(dict.fromkeys(values))
    head: Column = {"name": name} | ({"filter": True} if filtered else {})
    head |= {} if digits is None else {"digits": digits}
    if len(distinct) == 1:
        return head | {"all": distinct[0]}
    if 2 * len(distinct) > len(values):
        return head | {"each": list(values)}
    places = {value: place for place, value in enumerate(distinct)}
    return head | {"of": distinct, "at": [places[value] for value in values]}


# --- columns --------------------------------------------------------------------------------------------------------

Trials = Sequence[tuple[Cell, TrialRow]]


def _main(section: Section, trials: Trials) -> list[Column]:
    columns = [column("Method", [cell.label for cell, _ in trials], filtered=True)]
    columns += [column(axis, [_value(cell, axis) for cell, _ in trials], filtered=True) for axis in section.varied_axes]
    columns.append(column("Seed", [trial["seed"] for _, trial in trials]))
    columns.append(column("Status", [trial["status"] for _, trial in trials], filtered=True))
    for metric in section.metrics:
        name = METRICS[metric].heading
        columns.append(column(name, [_percent(cell, trial["seed"], metric) for cell, trial in trials], digits=2))
    minutes = [None if is_packed(trial) else _rounded(trial["train_seconds"], 60, 1) for _, trial in trials]
    chosen = ["chosen" if section.is_chosen(cell) else "" for cell, _ in trials]
    return [*columns, column("Training (min)", minutes, digits=1), column("Cell", chosen, filtered=True)]


def _value(cell: Cell, axis: str) -> float | str | None:
    """Return the value of an axis, as a number where it is one, so that it sorts by size."""
    value = cell.values.get(axis)
    if value is None:
        return None
    return value.text if value.number is None or str(value.number) in ("nan", "inf", "-inf") else value.number


def _percent(cell: Cell, seed: int, metric: str) -> float | None:
    value = cell.by_seed(metric).get(seed)
    return None if value is None else round(100 * value, 2)


def _settings(run: Run, section: Section, trials: Trials) -> list[Column]:
    derived: dict[str, dict[str, str]] = {}
    for name, trial_id, text in rows(run.settings[run.settings["source"] == "derived"], "name", "trial_id", "text"):
        derived.setdefault(name, {})[trial_id] = text
    names = sorted({name for cell in section.cells for name in cell.values})
    columns = [column("differs from the protocol", [cell.changed_text or None for cell, _ in trials])]
    columns += [
        column(name, [v.text if (v := cell.values.get(name)) else None for cell, _ in trials]) for name in names
    ]
    ids = [trial["trial_id"] for _, trial in trials]
    for name, values in sorted(derived.items()):
        columns.append(column(f"{name} (derived)", [values.get(trial_id) for trial_id in ids]))
    return [one for one in columns if one.get("all", "") is not None]


def _measured(run: Run, ids: Sequence[str]) -> list[Column]:
    found: dict[str, dict[str, str]] = {}
    names = ("trial_id", "name", "variant", "split", "value", "selected_on", "candidates", "selected")
    of_section = run.metrics[run.metrics["trial_id"].isin(ids)]
    for trial_id, name, variant, split, value, on, candidates, selected in rows(of_section, *names):
        how = f"; {selected}, selected on {on} from {candidates} candidates" if on else ""
        found.setdefault(f"{name}, {split}", {})[trial_id] = f"{value:.4f}, {variant}{how}"
    return [column(name, [values.get(trial_id) for trial_id in ids]) for name, values in sorted(found.items())]


def _cost(trials: Trials) -> list[Column]:
    return [
        column("training (s)", [_rounded(trial["train_seconds"], 1, 1) for _, trial in trials]),
        column("one update alone (ms)", [_rounded(trial["solo_step_seconds"], 1e-3, 3) for _, trial in trials]),
        column("trials in the same process", [trial["pack"] for _, trial in trials]),
        column("evaluation (s)", [_rounded(trial["evaluation_seconds"], 1, 1) for _, trial in trials]),
        column("images seen", [trial["images_seen"] for _, trial in trials]),
        column("peak memory (GiB)", [_rounded(trial["peak_memory_bytes"], 2**30, 3) for _, trial in trials]),
    ]


def _provenance(trials: Trials) -> list[Column]:
    columns = [
        column("cell", [cell.cell_id for cell, _ in trials]),
        column("record digest", [trial["result_digest"] for _, trial in trials]),
        column("reason", [trial["reason"] or None for _, trial in trials]),
        column("attempts", [trial["attempts"] for _, trial in trials]),
        column("started (UTC)", [_time(trial["started"]) for _, trial in trials]),
        column("finished (UTC)", [_time(trial["finished"]) for _, trial in trials]),
    ]
    return columns + [column(name, [trial.get(name) for _, trial in trials]) for name in PROVENANCE]


def _time(value: Any) -> str | None:
    return None if value is None else str(value)[:19]


def _rounded(value: float | None, divisor: float, digits: int) -> float | None:
    return None if value is None else round(value / divisor, digits)


# --- curves ---------------------------------------------------------------------------------------------------------


def _curves(run: Run, ids: Sequence[str], room: int) -> dict[str, Any]:
    """Return curves by name as triples: the trial's index in `ids`, the index of its epochs in `epochs`, its values.

    `thinned` says whether points were left out, `left_out` that there are no curves for lack of room.
    """
    columns = ["trial_id", "name", "epoch", "value"]
    frame = run.curves.loc[run.curves["trial_id"].isin(ids), columns]
    names = sorted(set(frame["name"]), key=lambda name: (name.startswith(DIAGNOSTICS), name))
    series = frame.groupby(["trial_id", "name"]).ngroups
    most = len(frame) if len(frame) <= room else room // max(series, 1)
    if series and most < FEWEST_POINTS:
        return {"names": names, "epochs": [], "series": {}, "left_out": True}
    place = {trial_id: number for number, trial_id in enumerate(ids)}
    found: dict[str, list[Any]] = {name: [] for name in names}
    points: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for trial_id, name, epoch, value in frame.itertuples(index=False, name=None):
        if math.isfinite(value):
            x, y = points.setdefault((trial_id, name), ([], []))
            x.append(int(epoch) if epoch == int(epoch) else short(epoch))
            y.append(float(f"{value:.5g}"))
    thinned = any(len(x) > most for x, _ in points.values())
    epochs: dict[tuple[float, ...], int] = {}
    for (trial_id, name), (x, y) in points.items():
        if len(x) > most:
            kept = [round(at * (len(x) - 1) / (most - 1)) for at in range(most)]
            x, y = [x[at] for at in kept], [y[at] for at in kept]
        found[name].append([place[trial_id], epochs.setdefault(tuple(x), len(epochs)), y])
    return {"names": names, "epochs": [list(grid) for grid in epochs], "series": found, "thinned": thinned}
