"""Bring the database of a run folder up to date: find what changed in the folder, then replace the rows of that."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import from_json

from twinbench.results.plain_files import read_problem
from twinbench.results.plan import BrokenPlan, PlanFile, parse_plan
from twinbench.results.record import (
    PLAN,
    RECORDS,
    BrokenArtefact,
    Record,
    Reference,
    TornRecord,
    parse_record,
    read_artefact,
    record_files,
)
from twinbench.results.rows import (
    TEXT,
    Batch,
    Row,
    Series,
    arrow_table,
    columns,
    metric_row,
    missing_row,
    protocol_row,
    series_of,
    setting_rows,
    to_text,
    trial_row,
)
from twinbench.sweeps.file_reader import as_mapping, read_regular
from twinbench.sweeps.hashing import to_json

RECORDS_AT_ONCE = 500  # limits memory: only so many records, with their curves, are held as Python lists


@dataclass(frozen=True)
class Ingested:
    """What an ingestion did: the number of records of each kind, and (file, reason) of every file set aside."""

    new: int
    unchanged: int
    replaced: int
    removed: int
    set_aside: list[tuple[str, str]]


@dataclass
class _Known:
    """A record file as it was when it was last ingested."""

    digest: str
    signature: str
    trial_id: str
    curves_file: str | None
    outputs_file: str | None


@dataclass
class _Changes:
    """What differs between the folder and the database, found before anything is written."""

    fresh: list[dict[str, pa.Table]] = field(default_factory=list)  # rows of new and changed records, by table
    gone: list[str] = field(default_factory=list)  # ids of trials whose rows are replaced or removed
    set_aside: list[tuple[str, str, str]] = field(default_factory=list)  # file, reason, record
    counts: Counter[str] = field(default_factory=Counter)  # of records, by the names of the fields of Ingested


def ingest(run_folder: Path, connection: duckdb.DuckDBPyConnection) -> Ingested:
    """Bring the database up to date with the folder in one transaction; see `ResultStore.ingest`."""
    known = _known_files(connection)
    kept_problems = select(connection, "SELECT file, reason, record FROM set_aside")
    changes = _compare(run_folder, known, kept_problems)
    ((plan_before,),) = select(connection, "SELECT plan_digest FROM run")
    changed = bool(changes.fresh or changes.gone)
    plan, plan_digest = _read_plan(run_folder, changes, None if changed else plan_before)
    changed = changed or plan_digest != plan_before
    connection.execute("BEGIN")
    if changed:
        _delete(connection, changes.gone)
        _delete_missing(connection)
    for tables in changes.fresh:
        _insert_records(connection, tables)
    if changed:
        _insert_plan(connection, plan, plan_digest)
    set_aside = sorted(set(changes.set_aside))
    if set_aside != sorted(kept_problems):
        connection.execute("DELETE FROM set_aside")
        _insert(connection, "set_aside", arrow_table("set_aside", set_aside))
    connection.execute("COMMIT")
    named = [(file, reason) for file, reason, _ in set_aside]
    counts = {name: changes.counts[name] for name in ("new", "unchanged", "replaced", "removed")}
    return Ingested(**counts, set_aside=named)


def select(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[str, ...]]:
    """Return all rows that a query gives. Columns are texts in all queries made here."""
    rows: list[tuple[str, ...]] = connection.execute(sql).fetchall()
    return rows


def _known_files(connection: duckdb.DuckDBPyConnection) -> dict[str, _Known]:
    sql = "SELECT file, digest, signature, trial_id, curves_file, outputs_file FROM files"
    return {file: _Known(*rest) for file, *rest in select(connection, sql)}


# --- what changed in the folder -------------------------------------------------------------------------------------


def _compare(run_folder: Path, known: Mapping[str, _Known], kept_problems: Sequence[tuple[str, ...]]) -> _Changes:
    """Read the records that are new or changed. Problems of unchanged ones are taken from `kept_problems`."""
    changes, batch = _Changes(), Batch()
    same, taken = set(), set()
    for path in record_files(run_folder):
        file = f"{RECORDS}/{path.name}"
        before = known.get(file)
        if before and _signature(run_folder, path, before.curves_file, before.outputs_file) == before.signature:
            same.add(file)
            continue
        try:
            data = read_regular(path)
            record = parse_record(path.name, data)
        except (TornRecord, OSError) as error:
            changes.set_aside.append((file, read_problem(error, path.name), file))
            continue
        taken.add(file)
        digest = hashlib.sha256(data).hexdigest()
        _take(run_folder, path, digest, record, batch, changes)
        if len(batch.rows["files"]) == RECORDS_AT_ONCE:
            changes.fresh.append(batch.tables())
            batch = Batch()
        if before is None:
            changes.counts["new"] += 1
        else:
            changes.gone.append(before.trial_id)
            changes.counts["unchanged" if digest == before.digest else "replaced"] += 1
    removed = known.keys() - same - taken
    changes.gone += [known[file].trial_id for file in removed]
    changes.counts.update(removed=len(removed), unchanged=len(same))
    changes.set_aside += [(file, reason, record) for file, reason, record in kept_problems if record in same]
    if batch.rows["files"]:
        changes.fresh.append(batch.tables())
    return changes


def _signature(run_folder: Path, path: Path, curves_file: str | None, outputs_file: str | None) -> str:
    """Return the size and times of a record and its artefacts, which differ after they were rewritten.

    A program can set the time of modification back, as rsync does, but not that of the last change (st_ctime).
    """
    parts = []
    for file in (str(path), *(f"{run_folder}/{name}" for name in (curves_file, outputs_file) if name)):
        try:
            state = os.stat(file)
        except OSError:
            parts.append("absent")
        else:
            parts.append(f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}")
    return " ".join(parts)


def _take(run_folder: Path, path: Path, digest: str, record: Record, batch: Batch, changes: _Changes) -> None:
    """Add one record's rows to the batch; set its artefacts aside where something is wrong with them."""
    file, result, rows = f"{RECORDS}/{path.name}", record["result"], batch.rows
    trial_id, trial = result["trial_id"], result["trial"]
    curves, outputs = result.get("curves"), result.get("outputs")
    names = [reference["file"] if reference else None for reference in (curves, outputs)]
    # The signature is taken before the artefacts are read, so that the next ingestion sees a change in between.
    rows["files"].append((file, trial_id, digest, _signature(run_folder, path, *names), *names))
    for reference, series in ((curves, batch.curves), (outputs, None)):
        if problem := _take_artefact(run_folder, trial_id, reference, series):
            changes.set_aside.append((*problem, file))
    rows["trials"].append(trial_row(record))
    values = {"settings": trial["settings"], "training": trial["training"], "derived": result.get("derived")}
    rows["settings"] += setting_rows(trial_id, values)
    rows["metrics"] += [metric_row(trial_id, metric) for metric in result["metrics"]]
    versions = as_mapping(record["circumstance"].get("versions"))
    rows["versions"] += [(trial_id, name, to_text(version)) for name, version in sorted(versions.items())]
    batch.protocols[trial["protocol"]["hash"]] = trial["protocol"]


def _take_artefact(
    run_folder: Path, trial_id: str, reference: Reference | None, curves: list[Series] | None
) -> tuple[str, str] | None:
    """Check one artefact, and add it to `curves` if given. Return (file, reason) if something is wrong with it."""
    if reference is None:
        return None
    try:
        data = read_artefact(run_folder, reference)
    except BrokenArtefact as error:
        return reference["file"], f"of trial {trial_id}: {read_problem(error, reference['file'])}"
    if curves is not None:
        try:
            curves += series_of(trial_id, from_json(data))  # takes an eighth of json's time and gives the same bits
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            return reference["file"], f"of trial {trial_id}: not curves ({type(error).__name__}: {error})"
    return None


def _read_plan(run_folder: Path, changes: _Changes, known: str | None) -> tuple[PlanFile | None, str]:
    """Return the plan and its digest. A plan of the digest `known`, which the database holds, is not parsed again."""
    try:
        data = read_regular(run_folder / PLAN)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        changes.set_aside.append((PLAN, read_problem(error), PLAN))
        return None, ""
    found = hashlib.sha256(data).hexdigest()
    if found == known:
        return None, found
    try:
        return parse_plan(data), found
    except BrokenPlan as error:
        changes.set_aside.append((PLAN, f"not a plan ({error})", PLAN))
        return None, ""


# --- rows out and in ------------------------------------------------------------------------------------------------


def _delete(connection: duckdb.DuckDBPyConnection, trial_ids: list[str]) -> None:
    if not trial_ids:
        return
    for name in (table for table, kinds in columns().items() if "trial_id" in kinds):
        connection.execute(f"DELETE FROM {name} WHERE trial_id IN (SELECT unnest(?))", [trial_ids])


def _delete_missing(connection: duckdb.DuckDBPyConnection) -> None:
    """Delete the rows of planned trials without a record; `_insert_plan` adds those that are still missing."""
    missing = "(SELECT trial_id FROM trials WHERE status = 'missing')"
    connection.execute(f"DELETE FROM settings WHERE trial_id IN {missing}")
    connection.execute("DELETE FROM trials WHERE status = 'missing'")


def _insert(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    if table.num_rows == 0:
        return
    connection.register("incoming", table)
    connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM incoming")
    connection.unregister("incoming")


def _insert_records(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table]) -> None:
    """Insert the rows of one batch, and those of its protocols that the database does not hold yet."""
    for name, table in tables.items():
        if name == "protocols":
            known = pa.array([hash_ for (hash_,) in select(connection, "SELECT hash FROM protocols")], TEXT)
            table = table.filter(pc.invert(pc.is_in(table["hash"], known)))
        _insert(connection, name, table)


def _insert_plan(connection: duckdb.DuckDBPyConnection, plan: PlanFile | None, plan_digest: str) -> None:
    """Mark the planned trials, and give each without a record a row of status "missing"."""
    names = ("plan_digest", "name", "question", "protocol", "axes", "commands", "left_out", "confirm_seeds")
    texts = (plan.name, plan.question, to_json(plan.protocol)) if plan else ("", "", "{}")
    lists = (plan.axes, plan.commands, plan.left_out) if plan else ((), (), ())
    confirm = list(plan.confirm.seeds) if plan else []
    values = [plan_digest, *map(to_text, texts), *(list(map(to_text, one)) for one in lists), confirm]
    connection.execute(f"UPDATE run SET {', '.join(f'{name} = ?' for name in names)}", values)
    planned = {trial.trial_id: trial for trial in plan.trials} if plan else {}
    connection.execute("UPDATE trials SET planned = trial_id IN (SELECT unnest(?))", [list(planned)])
    if plan:
        recorded = {trial_id for (trial_id,) in select(connection, "SELECT trial_id FROM trials")}
        missing = [trial for trial_id, trial in planned.items() if trial_id not in recorded]
        settings: list[Row] = []
        for trial in missing:
            settings += setting_rows(trial.trial_id, {"settings": trial.settings, "training": trial.training})
        _insert(connection, "trials", arrow_table("trials", [missing_row(trial, plan.protocol) for trial in missing]))
        _insert(connection, "settings", arrow_table("settings", settings))
        # The protocol is also inserted if only missing trials have it.
        _insert_records(connection, {"protocols": arrow_table("protocols", [protocol_row(plan.protocol)])})
    connection.execute("UPDATE trials SET confirms = seed IN (SELECT unnest(?))", [confirm])
    connection.execute("DELETE FROM protocols WHERE hash NOT IN (SELECT protocol_hash FROM trials)")
