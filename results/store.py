"""ResultStore: the records of one run folder as tables in DuckDB.

The records are the truth and the database is derived: delete `results.duckdb` and the next ingestion builds the same
rows again. An ingestion works on a private copy and puts it into the run folder whole, with a mark beside it: its
sha256, and what no copy of the file shares. A database that is not as its mark says, or that another user wrote, is not
opened: somebody changed, copied or damaged it, and its rows may not be what the records say.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

import duckdb
import pandas as pd

from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.results.ingest import Ingested, ingest, select
from twinbench.results.record import LARGEST_ARTEFACT
from twinbench.results.rows import SCHEMA
from twinbench.sweeps.errors import InvalidInput, Mistake, counted, lines_of, printable
from twinbench.sweeps.file_reader import read_regular

DATABASE = "results.duckdb"
DIGEST = f"{DATABASE}.sha256"  # holds the mark
SCHEMA_NUMBER = 10
STORAGE_VERSION = "v1.4.0"  # the oldest DuckDB that can open the file
ROWS_AT_ONCE = 10_000
SHOWN = 3  # of the files that are set aside

Row = tuple[object, ...]

_READ_ONLY = {
    "enable_external_access": "false",  # no files, no network, no extensions, no ATTACH
    "python_enable_replacements": "false",  # a table name never means a Python variable
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}

_WITHOUT_FILE = "SELECT trial_id FROM trials WHERE status != 'missing' EXCEPT SELECT trial_id FROM files"


class StoreError(InvalidInput):
    """A query is wrong or not allowed; the text says why. The command line ends with exit code 2."""

    def __init__(self, text: str):
        lines = [line.strip() for line in text.splitlines() if line.strip(" ^")]  # DuckDB marks places by lines of ^
        super().__init__([Mistake("database", "", "; ".join(lines))])


class _NotAsWritten(Exception):
    """The run folder's database is not the one that an ingestion wrote; the text says what is wrong."""


class ResultStore:
    """The results of one run folder. `ingest` reads the records into the database, `query` reads tables from it.

    Queries see the records as they were at the last `ingest` of this store, also if the run folder cannot be written. A
    query before any `ingest` makes one first, and names on stderr what that sets aside.
    """

    def __init__(self, run_folder: Path | str):
        self.run_folder = Path(run_folder)
        self.path = self.run_folder / DATABASE
        self.is_saved = False  # whether the run folder has what the last ingestion read
        self._copy: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the private copy. A later query makes a new one."""
        if self._copy:
            shutil.rmtree(self._copy.parent, ignore_errors=True)
            self._copy = None

    def ingest(self) -> Ingested:
        """Bring the database up to date with the folder. A second call changes nothing.

        Torn, foreign or damaged files stay where they are. They are listed in the answer and in the table `set_aside`.
        A line on stderr says if the database was not as the last ingestion left it, or cannot be written.
        """
        self.close()
        self._copy = Path(tempfile.mkdtemp(prefix="twinbench-")) / DATABASE
        weakref.finalize(self, shutil.rmtree, self._copy.parent, ignore_errors=True)
        before = self._take_over(self._copy)
        try:
            ingested = _bring_up_to_date(self.run_folder, self._copy)
        except (duckdb.Error, _NotAsWritten) as error:
            if not before:
                raise
            first = lines_of(error)[0]
            problem = first if isinstance(error, _NotAsWritten) else f"cannot be brought up to date ({first})"
            self._say(f"{problem}; it is rebuilt from the records")
            self._copy.unlink()
            ingested = _bring_up_to_date(self.run_folder, self._copy)
        self.is_saved = self._save(self._copy, before)
        return ingested

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pd.DataFrame:
        """Return the answer to one SQL query, with `?` or `$name` in it bound to `parameters`.

        The connection is read-only and cannot reach files or addresses. Raises StoreError, with DuckDB's own text, for
        a query that is wrong or not allowed.
        """
        with self._reading() as connection:
            return _frame(connection, sql, parameters)

    @contextmanager
    def rows(self, sql: str) -> Iterator[tuple[list[str], Iterator[Row]]]:
        """Yield the names of the columns of the answer to one SQL query, and its rows, read as they are taken.

        Values are Python's, which have all digits of DuckDB's 128-bit integers and decimals; NULL is None. Raises as
        `query` does, also while rows are taken.
        """
        with self._reading() as connection:
            try:
                _execute(connection, sql)
                yield [column[0] for column in connection.description or ()], _fetched(connection)
            except duckdb.Error as error:
                raise StoreError(str(error)) from error

    def queries(self, sqls: Mapping[str, str]) -> dict[str, pd.DataFrame]:
        """Return the answers to several queries by name, all from one state of the database."""
        with self._reading() as connection:
            return {name: _frame(connection, sql) for name, sql in sqls.items()}

    def _reading(self) -> closing[duckdb.DuckDBPyConnection]:
        if self._copy is None and (aside := self.ingest().set_aside):
            first = "; ".join(f"{file}: {reason}" for file, reason in aside[:SHOWN])
            more = f" and {len(aside) - SHOWN} more, which `twinbench collect` lists" if len(aside) > SHOWN else ""
            self._say(f"not in its tables: {first}{more}")
        return closing(duckdb.connect(str(self._copy), read_only=True, config=_READ_ONLY))

    def _take_over(self, copy: Path) -> str:
        """Copy the run folder's database if an ingestion wrote it, and return its sha256; an empty text if not."""
        try:
            data, digest = _as_written(self.path)
        except _NotAsWritten as error:
            self._say(f"{error}; it is rebuilt from the records")
            return ""
        if data:
            copy.write_bytes(data)
        return digest

    def _save(self, copy: Path, before: str) -> bool:
        """Put the copy into the run folder unless the file there, with sha256 `before`, equals it."""
        data = copy.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest == before:
            return True
        try:
            _write(self.path, data, digest)
            # What another program wrote to an earlier database and did not bring to an end is not part of this one.
            self.path.with_name(f"{DATABASE}.wal").unlink(missing_ok=True)
        except OSError as error:
            self._say(f"cannot be written ({error.strerror}); a temporary database is used")
            return False
        return True

    def _say(self, text: str) -> None:
        print(printable(f"{self.path}: {text}"), file=sys.stderr)


def _as_written(path: Path) -> tuple[bytes, str]:
    """Return the bytes of the database at `path` and their sha256, both empty without a file. Raises _NotAsWritten."""
    try:
        return _agreeing(path)
    except _NotAsWritten:
        time.sleep(0.1)  # another process may have replaced one file and not yet the other
        return _agreeing(path)


def _agreeing(path: Path) -> tuple[bytes, str]:
    try:
        data = read_regular(path, LARGEST_ARTEFACT)
    except FileNotFoundError:
        if path.is_symlink():
            raise _NotAsWritten("is a link to a file that does not exist") from None
        return b"", ""
    except OSError as error:
        raise _NotAsWritten(f"cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(data).hexdigest()
    try:
        is_marked = read_regular(path.with_name(DIGEST), 1024) == mark(path, digest)
        is_own = not hasattr(os, "geteuid") or path.stat().st_uid == os.geteuid()
    except OSError as error:
        raise _NotAsWritten(f"{DIGEST} beside it cannot be read ({error.strerror})") from None
    if not is_marked:
        raise _NotAsWritten(f"does not match {DIGEST} beside it (copied, edited or not written completely)")
    if not is_own:
        raise _NotAsWritten("belongs to another user")
    return data, digest


def mark(path: Path, digest: str) -> bytes:
    """Return the mark of the database at `path`: its sha256 for `sha256sum -c`, below a comment with what a copy lacks.

    An edited or copied file has another time of change or inode, so that the mark cannot be made by `sha256sum` alone.
    """
    state = path.stat()
    return f"# inode {state.st_ino}, changed at {state.st_ctime_ns}\n{digest}  {DATABASE}\n".encode()


def _write(path: Path, data: bytes, digest: str) -> None:
    """Write the database, then its mark; if this is interrupted between the two, the next command makes both again."""
    write_bytes_atomically(path, data, durable=False)
    write_bytes_atomically(path.with_name(DIGEST), mark(path, digest), durable=False)


def copy_database(run_folder: Path, other: Path) -> None:
    """Give the folder `other`, which has the same records, the database of `run_folder` if it is as written."""
    with suppress(_NotAsWritten):
        data, digest = _as_written(run_folder / DATABASE)
        if data:
            _write(other / DATABASE, data, digest)


def _frame(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()
) -> pd.DataFrame:
    try:
        _execute(connection, sql, parameters)
        frame: pd.DataFrame = connection.df()
    except duckdb.Error as error:
        raise StoreError(str(error)) from error
    return frame


def _execute(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()
) -> None:
    """Execute exactly one statement: DuckDB would run several and return the rows of the last alone."""
    kinds = [one.type for one in connection.extract_statements(sql)]
    # Of a PIVOT, DuckDB 1.4 makes several: some that create a type, and the query.
    number = len([kind for kind in kinds if kind != duckdb.StatementType.CREATE] or kinds)
    if number != 1:  # without a statement, as in an empty text or a comment, there is no result to read
        found = counted(number, "statement") if number else "no statement"
        raise StoreError(f"the query has {found} (seen: {sql!r}); allowed: one")
    connection.execute(sql, parameters or None)


def _fetched(connection: duckdb.DuckDBPyConnection) -> Iterator[Row]:
    while rows := connection.fetchmany(ROWS_AT_ONCE):
        yield from rows


def _bring_up_to_date(run_folder: Path, path: Path) -> Ingested:
    """Ingest into the database at `path`, made if there is none. Raises _NotAsWritten for foreign tables or trials."""
    is_new = not path.exists()
    with closing(_open(path)) as connection:
        if is_new:
            _make_tables(connection)
        elif _schema_number(connection) != SCHEMA_NUMBER:
            raise _NotAsWritten("was made by another version of twinbench")
        ingested = ingest(run_folder, connection)
        if select(connection, _WITHOUT_FILE):
            raise _NotAsWritten("holds trials that no record has")
        return ingested


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    """Open `path` for writing, in a storage format that DuckDB 1.4 can read as well."""
    connection = duckdb.connect(":memory:")
    try:
        name = str(path).replace("'", "''")  # ATTACH takes no bound parameter
        # Only for a new file: an existing one keeps its version, and DuckDB refuses to lower it.
        version = "" if path.exists() else f", STORAGE_VERSION '{STORAGE_VERSION}'"
        connection.execute(f"ATTACH '{name}' AS store (TYPE duckdb{version})")
        connection.execute("USE store")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(SCHEMA)
    connection.execute("INSERT INTO run VALUES (?, NULL, '', '', '{}', [], [], [], [])", [SCHEMA_NUMBER])


def _schema_number(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the schema that the tables have; 0 for tables of an unknown kind."""
    try:
        found = select(connection, "SELECT schema_number FROM run")
    except duckdb.Error:
        return 0
    return int(found[0][0]) if found else 0
