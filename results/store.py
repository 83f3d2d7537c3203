"""ResultStore: the records of one run folder as tables in DuckDB.

The database is derived: delete `results.duckdb` and the next ingestion builds the same rows again. One process writes
it, for as long as an ingestion takes; readers open it read-only, one query at a time, with the file system closed to
them.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import from_json

from twinbench.results.ingest import (
    _COLUMNS,
    _S,
    _SET_ASIDE,
    _SETTINGS,
    _TRIALS,
    _Batch,
    _Curves,
    _json,
    _metric_row,
    _missing_row,
    _protocol_row,
    _setting_rows,
    _table,
    _table_of,
    _text,
    _trial_row,
)
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
from twinbench.sweeps.errors import InvalidInput, Mistake

DATABASE = "results.duckdb"
SCHEMA_NUMBER = 7
STORAGE_VERSION = "v1.4.0"  # the oldest DuckDB that is to open the file
LONGEST_WAIT_SECONDS = 60.0  # for another process that ingests
RECORDS_AT_ONCE = 500  # holds memory down: this many records with their curves stand in Python lists at a time

# The tables that hold what records say; all have a trial_id.
_RECORD_TABLES = ("trials", "settings", "metrics", "curves", "versions")

_READ_ONLY = {
    "enable_external_access": "false",  # no files, no network, no extensions, no ATTACH
    "python_enable_replacements": "false",  # a table name never means a Python variable
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}


class StoreError(InvalidInput):
    """The database cannot be read as asked; the text says what to do. The command line ends with exit code 2."""

    def __init__(self, text: str):
        super().__init__([Mistake("database", "", text.strip())])


@dataclass(frozen=True)
class Ingested:
    """What an ingestion did: records counted by what happened to them, and (file, reason) of all that is set aside."""

    new: int
    unchanged: int
    replaced: int
    removed: int
    set_aside: list[tuple[str, str]]


@dataclass
class _Known:
    digest: str
    signature: str
    trial_id: str
    curves_file: str | None
    outputs_file: str | None


@dataclass
class _Changes:
    """What differs between the folder and the database, found before anything is written."""

    fresh: list[dict[str, pa.Table]] = field(default_factory=list)  # rows of new and changed records, by table
    gone: list[str] = field(default_factory=list)  # trial ids whose rows go, because they are replaced or removed
    set_aside: list[tuple[str, str, str]] = field(default_factory=list)
    new: int = 0
    unchanged: int = 0
    replaced: int = 0
    removed: int = 0


class ResultStore:
    """The results of one run folder: `ingest` reads records in, `query` reads tables out."""

    def __init__(self, run_folder: Path | str):
        self.run_folder = Path(run_folder)
        self.path = self.run_folder / DATABASE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held between calls, so that a notebook left open never keeps a sweep from writing."""

    # --- reading in ---------------------------------------------------------------------------------------------

    def ingest(self) -> Ingested:
        """Bring the database up to date with the folder, in one transaction. Doing it twice changes nothing.

        Files that are torn, foreign or damaged stay where they are and are named, in the answer and in `set_aside`.
        """
        with self._writing() as connection:
            known = _known_files(connection)
            kept_problems = _rows(connection, "SELECT file, reason, record FROM set_aside")
            changes = self._compare(known, kept_problems)
            plan_before, changed = _plan_digest(connection), bool(changes.fresh or changes.gone)
            plan, plan_digest = self._read_plan(changes, None if changed else plan_before)
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
                _insert(connection, "set_aside", _table(_SET_ASIDE, set_aside))
            connection.execute("COMMIT")
        return Ingested(
            changes.new,
            changes.unchanged,
            changes.replaced,
            changes.removed,
            [(file, reason) for file, reason, _ in set_aside],
        )

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A connection that may write, with the tables there. The file's lock keeps a second writer out."""
        try:
            connection = _when_free(lambda: _open_or_replace(self.path))
        except duckdb.IOException as error:
            raise StoreError(f"{self.path}: another process uses it; try again when it is done ({error})") from error
        try:
            if _schema_number(connection) != SCHEMA_NUMBER:
                _make_tables(connection)
            yield connection
        finally:
            connection.close()

    def _compare(self, known: dict[str, _Known], kept_problems: list[tuple[str, str, str]]) -> _Changes:
        changes, batch = _Changes(), _Batch()
        present = set()
        kept: dict[str, list[tuple[str, str, str]]] = {}
        for problem in kept_problems:
            kept.setdefault(problem[2], []).append(problem)
        for path in record_files(self.run_folder):
            file = _relative(path)
            before = known.get(file)
            if before and self._signature(path, before.curves_file, before.outputs_file) == before.signature:
                present.add(file)
                changes.unchanged += 1
                changes.set_aside += kept.get(file, [])
                continue
            try:
                data = path.read_bytes()
                record = parse_record(path.name, data)
            except TornRecord as error:
                changes.set_aside.append((file, _reason(path.name, error), file))
                continue
            except OSError as error:
                changes.set_aside.append((file, f"cannot be read ({error.strerror})", file))
                continue
            present.add(file)
            self._take(path, data, record, batch, changes)
            if len(batch.rows["files"]) == RECORDS_AT_ONCE:
                changes.fresh.append(batch.tables())
                batch = _Batch()
            if before is None:
                changes.new += 1
            else:
                changes.gone.append(before.trial_id)
                changes.replaced += hashlib.sha256(data).hexdigest() != before.digest
                changes.unchanged += hashlib.sha256(data).hexdigest() == before.digest
        for file in known.keys() - present:
            changes.gone.append(known[file].trial_id)
            changes.removed += 1
        if batch.rows["files"]:
            changes.fresh.append(batch.tables())
        return changes

    def _signature(self, path: Path, curves_file: str | None, outputs_file: str | None) -> str:
        parts = []
        for file in (str(path), *(f"{self.run_folder}/{name}" for name in (curves_file, outputs_file) if name)):
            try:
                state = os.stat(file)
            except OSError:
                parts.append("absent")
            else:
                parts.append(f"{state.st_size}:{state.st_mtime_ns}")
        return " ".join(parts)

    def _read_plan(self, changes: _Changes, known: str | None) -> tuple[PlanFile | None, str]:
        """The plan and its digest. The one that is `known`, and in the database, is not parsed again."""
        path = self.run_folder / PLAN
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None, ""
        found = hashlib.sha256(data).hexdigest()
        if found == known:
            return None, found
        try:
            return parse_plan(data), found
        except BrokenPlan as error:
            changes.set_aside.append((PLAN, f"not a plan ({error})", PLAN))
            return None, ""

    def _take(self, path: Path, data: bytes, record: Record, batch: "_Batch", changes: _Changes) -> None:
        """One record's rows into the batch; what is wrong with its artefacts is set aside."""
        file, result = _relative(path), record["result"]
        trial_id, rows, protocol = result["trial_id"], batch.rows, result["trial"]["protocol"]
        curves, outputs = result.get("curves"), result.get("outputs")
        names = [reference["file"] if reference else None for reference in (curves, outputs)]
        # The signature is taken before the artefacts are read: a change in between shows at the next ingestion.
        rows["files"].append((file, trial_id, hashlib.sha256(data).hexdigest(), self._signature(path, *names), *names))
        for reference, series in ((curves, batch.curves), (outputs, None)):
            if problem := self._take_artefact(trial_id, reference, series):
                changes.set_aside.append((*problem, file))
        rows["trials"].append(_trial_row(record))
        trial = result["trial"]
        values = {"settings": trial["settings"], "training": trial["training"], "derived": result.get("derived")}
        rows["settings"] += _setting_rows(trial_id, values)
        rows["metrics"] += [_metric_row(trial_id, metric) for metric in result["metrics"]]
        versions = _table_of(record["circumstance"].get("versions"))
        rows["versions"] += [(trial_id, name, _text(version)) for name, version in sorted(versions.items())]
        batch.protocols[protocol["hash"]] = protocol

    def _take_artefact(
        self, trial_id: str, reference: Reference | None, curves: "_Curves | None"
    ) -> tuple[str, str] | None:
        """Check one artefact, and take the curves in; (file, reason) if it is not what it should be."""
        if reference is None:
            return None
        try:
            data = read_artefact(self.run_folder, reference)
        except BrokenArtefact as error:
            return reference["file"], f"of trial {trial_id}: {_reason(reference['file'], error)}"
        if curves is not None:
            try:
                curves.add(trial_id, from_json(data))  # an eighth of json's time, and the same bits
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                return reference["file"], f"of trial {trial_id}: not curves ({type(error).__name__}: {error})"
        return None

    # --- reading out --------------------------------------------------------------------------------------------

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pd.DataFrame:
        """The answer to one SQL query, with `?` or `$name` in it bound to `parameters`.

        Nothing can be written, and no file or address read: the connection is read-only and closed to the outside.
        Raises StoreError, with DuckDB's own words, for a query that is wrong or not allowed.
        """
        with self._reading() as connection:
            frame: pd.DataFrame = connection.execute(sql, parameters or None).df()
        return frame

    def queries(self, sqls: Mapping[str, str]) -> dict[str, pd.DataFrame]:
        """The answers to several queries by name, all from one state of the database."""
        with self._reading() as connection:
            return {name: connection.execute(sql).df() for name, sql in sqls.items()}

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        if not self.path.exists():
            raise StoreError(f"{self.path}: there is no database yet; ingest (or `twinbench collect`) makes it")
        try:
            connection = _when_free(lambda: duckdb.connect(str(self.path), read_only=True, config=_READ_ONLY))
        except duckdb.IOException as error:
            raise StoreError(f"{self.path}: cannot be opened now, perhaps another process writes ({error})") from error
        try:
            yield connection
        except duckdb.Error as error:
            raise StoreError(str(error)) from error
        finally:
            connection.close()


# --- the database file ----------------------------------------------------------------------------------------------


def _when_free(connect: Callable[[], Any]) -> Any:
    """What `connect` gives, once no other process holds the file: two commands may end on one run folder together."""
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        try:
            return connect()
        except duckdb.IOException as error:
            if "lock" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _open(path: Path) -> Any:
    """A writing connection to `path`, in a storage format that DuckDB 1.4 reads as well."""
    connection = duckdb.connect(":memory:")
    try:
        name = str(path).replace("'", "''")  # ATTACH takes no bound parameter
        # Only for a new file: an existing one keeps its version, and DuckDB refuses to be asked for a lower one.
        version = "" if path.exists() else f", STORAGE_VERSION '{STORAGE_VERSION}'"
        connection.execute(f"ATTACH '{name}' AS store (TYPE duckdb{version})")
        connection.execute("USE store")
    except BaseException:
        connection.close()
        raise
    return connection


def _open_or_replace(path: Path) -> Any:
    """A writing connection; a file that is no DuckDB database gives way to one, since the records are what counts."""
    try:
        return _open(path)
    except duckdb.IOException as error:
        if "lock" in str(error) or _is_ours(path):
            raise
    path.unlink(missing_ok=True)
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
    return _open(path)


def _is_ours(path: Path) -> bool:
    """Whether `path` is a DuckDB file at all: bytes 8 to 12 of one say so."""
    with path.open("rb") as file:
        return file.read(12)[8:] == b"DUCK"


def _make_tables(connection: Any) -> None:
    """Empty tables of this schema instead of what is there, under the lock that the connection holds.

    Deleting the file instead would let go of it for a moment, in which another command that starts can take it.
    """
    connection.execute("BEGIN")
    for (name,) in _rows(connection, "SELECT table_name FROM duckdb_tables() WHERE database_name = 'store'"):
        connection.execute('DROP TABLE "' + name.replace('"', '""') + '"')
    connection.execute(resources.files("twinbench.results").joinpath("schema.sql").read_text("utf-8"))
    connection.execute("INSERT INTO run VALUES (?, NULL, '', '', '{}', [], [])", [SCHEMA_NUMBER])
    connection.execute("COMMIT")


def _schema_number(connection: Any) -> int:
    there = _rows(connection, "SELECT 1 FROM duckdb_tables() WHERE database_name = 'store' AND table_name = 'run'")
    if not there:
        return 0
    try:
        found = _rows(connection, "SELECT schema_number FROM run")
    except duckdb.Error:
        return 0
    return int(found[0][0]) if found else 0


def _rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    return rows


def _known_files(connection: Any) -> dict[str, _Known]:
    sql = "SELECT file, digest, signature, trial_id, curves_file, outputs_file FROM files"
    return {file: _Known(*rest) for file, *rest in _rows(connection, sql)}


def _plan_digest(connection: Any) -> str | None:
    digest: str | None = _rows(connection, "SELECT plan_digest FROM run")[0][0]
    return digest


def _delete(connection: Any, trial_ids: list[str]) -> None:
    if not trial_ids:
        return
    for name in (*_RECORD_TABLES, "files"):
        connection.execute(f"DELETE FROM {name} WHERE trial_id IN (SELECT unnest(?))", [trial_ids])


def _delete_missing(connection: Any) -> None:
    """Drop the rows that stand for planned trials without a record; `_insert_plan` makes those that are still due."""
    missing = "(SELECT trial_id FROM trials WHERE status = 'missing')"
    connection.execute(f"DELETE FROM settings WHERE trial_id IN {missing}")
    connection.execute("DELETE FROM trials WHERE status = 'missing'")


def _insert(connection: Any, name: str, table: pa.Table) -> None:
    if table.num_rows == 0:
        return
    connection.register("incoming", table)
    connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM incoming")
    connection.unregister("incoming")


def _insert_records(connection: Any, tables: Mapping[str, pa.Table]) -> None:
    """The rows of one batch; of its protocols those that are not there yet."""
    for name, table in tables.items():
        if name == "protocols":
            known = pa.array([hash_ for (hash_,) in _rows(connection, "SELECT hash FROM protocols")], _S)
            table = table.filter(pc.invert(pc.is_in(table["hash"], known)))
        _insert(connection, name, table)


def _insert_plan(connection: Any, plan: PlanFile | None, plan_digest: str) -> None:
    """Mark what was planned, and give every planned trial without a record a row that says so."""
    trials = plan.trials if plan else ()
    values = (
        [_text(plan.name), _text(plan.question), _text(_json(plan.protocol)), list(map(_text, plan.axes))]
        if plan
        else ["", "", "{}", []]
    )
    commands = list(map(_text, plan.commands)) if plan else []
    connection.execute(
        "UPDATE run SET plan_digest = ?, name = ?, question = ?, protocol = ?, axes = ?, commands = ?",
        [plan_digest, *values, commands],
    )
    planned = [trial.trial_id for trial in trials]
    connection.execute("UPDATE trials SET planned = trial_id IN (SELECT unnest(?))", [planned])
    recorded = {trial_id for (trial_id,) in _rows(connection, "SELECT trial_id FROM trials")}
    absent = {trial.trial_id: trial for trial in trials if trial.trial_id not in recorded}
    if plan and absent:
        protocol = plan.protocol
        _insert(connection, "trials", _table(_TRIALS, [_missing_row(trial, protocol) for trial in absent.values()]))
        settings = [
            row
            for trial in absent.values()
            for row in _setting_rows(trial.trial_id, {"settings": trial.settings, "training": trial.training})
        ]
        _insert(connection, "settings", _table(_SETTINGS, settings))
        # A protocol that only missing trials refer to is shown all the same; one that nothing refers to is not.
        _insert_records(connection, {"protocols": _table(_COLUMNS["protocols"], [_protocol_row(protocol)])})
    connection.execute("DELETE FROM protocols WHERE hash NOT IN (SELECT protocol_hash FROM trials)")


# --- from JSON to rows ----------------------------------------------------------------------------------------------


def _relative(path: Path) -> str:
    return f"{RECORDS}/{path.name}"


def _reason(file: str, error: Exception) -> str:
    return str(error).removeprefix(f"{file}: ")
