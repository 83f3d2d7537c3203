"""The tables of one run folder's database as frames and typed rows, with None for every missing value."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from twinbench.results.store import ResultStore


class TrialRow(TypedDict):
    """A row of the table `trials`; results/schema.sql describes the columns. Missing trials have no circumstance."""

    trial_id: str
    cell_id: str
    method: str
    method_version: int
    seed: int
    status: str
    reason: str
    planned: bool
    confirms: bool
    protocol_name: str | None
    protocol_version: float | None
    protocol_hash: str | None
    dataset_fingerprint: str
    result_digest: str | None
    started: datetime | None
    finished: datetime | None
    attempts: float | None
    declared: float | None
    declared_head: str | None
    train_seconds: float | None
    shared_seconds: float | None
    solo_step_seconds: float | None
    evaluation_seconds: float | None
    images_seen: float | None
    peak_memory_bytes: float | None
    commit: str | None
    code_hash: str | None
    device: str | None
    precision: str | None
    mode: str | None
    threads: float | None
    ranks: float | None
    pack: float | None
    cuda_graph: bool | None
    host: str | None
    traceback: str | None


class MetricRow(TypedDict):
    """A row of the table `metrics`."""

    trial_id: str
    name: str
    variant: str
    split: str
    value: float
    n_examples: float | None
    selected_on: str | None
    candidates: float | None
    selected: str | None


def is_packed(trial: TrialRow) -> bool:
    """Return whether the trial shared its process with others, so that its seconds say nothing about its method."""
    return (trial.get("pack") or 1) > 1


def has_own_seconds(trial: TrialRow) -> bool:
    """Return whether the trial's seconds are its own. On a CPU trials of a pack run in turn; on a GPU they overlap."""
    return not is_packed(trial) or trial.get("device") == "cpu"


@dataclass(frozen=True)
class Run:
    """The tables of one run folder's database, each in a stable order."""

    name: str
    question: str
    axes: tuple[str, ...]
    commands: tuple[str, ...]  # that made the run, in order; empty if the plan does not record them
    left_out: tuple[str, ...]  # of the dataset's folder, by reason, with numbers
    confirm_seeds: tuple[int, ...]  # empty without a confirm stage
    trials: pd.DataFrame
    settings: pd.DataFrame
    metrics: pd.DataFrame
    curves: pd.DataFrame
    versions: pd.DataFrame
    protocols: pd.DataFrame
    set_aside: pd.DataFrame


TABLES = {
    "trials": "SELECT * FROM trials ORDER BY trial_id",
    "settings": "SELECT * FROM settings ORDER BY trial_id, source, name",
    "metrics": "SELECT * FROM metrics ORDER BY trial_id, name, split, variant",
    "curves": "SELECT * FROM curves ORDER BY trial_id, name, epoch",
    "versions": "SELECT * FROM versions ORDER BY package, version, trial_id",
    "protocols": "SELECT * FROM protocols ORDER BY name, version, hash",
    "set_aside": "SELECT file, reason FROM set_aside ORDER BY file, reason",
}


def read_run(run_folder: Path | str, curves: str = TABLES["curves"]) -> Run:
    """Ingest new records and return the frames. `curves`: a query for the curves, if only some are needed."""
    plan = {"run": "SELECT name, question, axes, commands, left_out, confirm_seeds FROM run"}
    with ResultStore(run_folder) as store:
        frames = store.queries(plan | TABLES | {"curves": curves})
    head = frames.pop("run")
    axes, commands, left_out = (tuple(map(str, head[name][0])) for name in ("axes", "commands", "left_out"))
    confirm = tuple(map(int, head["confirm_seeds"][0]))
    return Run(str(head["name"][0]), str(head["question"][0]), axes, commands, left_out, confirm, **frames)


def records(frame: pd.DataFrame) -> list[Any]:
    """Return the rows of a frame as dictionaries (TrialRow, MetricRow), with None for every kind of missing value."""
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in rows(frame, *frame.columns)]


def rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Return the rows of some columns as tuples, with None for every kind of missing value."""
    plain = frame[list(columns)].astype(object)
    return plain.where(plain.notna(), None).itertuples(index=False, name=None)


def measured_by_trial(run: Run) -> dict[str, list[tuple[tuple[str, str], float, str]]]:
    """Return (metric, split), value and variant of every measurement, by trial."""
    found: dict[str, list[tuple[tuple[str, str], float, str]]] = {}
    for trial_id, name, split, value, variant in rows(run.metrics, "trial_id", "name", "split", "value", "variant"):
        found.setdefault(trial_id, []).append(((name, split), value, variant))
    return found
