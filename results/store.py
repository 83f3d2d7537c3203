"""ResultStore: the records of one run folder as tables in DuckDB.

The database is derived: delete `results.duckdb` and the next ingestion builds the same rows again. One process at a
time writes it, for as long as an ingestion takes. Queries open it read-only, without access to the file system.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import duckdb
import pandas as pd

from twinbench.results.ingest import Ingested, ingest, select
from twinbench.results.rows import SCHEMA
from twinbench.sweeps.errors import InvalidInput, Mistake

DATABASE = "results.duckdb"
SCHEMA_NUMBER = 8
STORAGE_VERSION = "v1.4.0"  # the oldest DuckDB that can open the file
LONGEST_WAIT_SECONDS = 60.0  # for another process that writes

_READ_ONLY = {
    "enable_external_access": "false",  # no files, no network, no extensions, no ATTACH
    "python_enable_replacements": "false",  # a table name never means a Python variable
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "lock_configuration": "true",
}


class StoreError(InvalidInput):
    """The database cannot be read; the text says what to do. The command line ends with exit code 2."""

    def __init__(self, text: str):
        super().__init__([Mistake("database", "", text.strip())])


class ResultStore:
    """The results of one run folder. `ingest` reads the records into the database, `query` reads tables from it."""

    def __init__(self, run_folder: Path | str):
        self.run_folder = Path(run_folder)
        self.path = self.run_folder / DATABASE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: no connection is kept between calls, so an open notebook never keeps a sweep from writing."""

    def ingest(self) -> Ingested:
        """Bring the database up to date with the folder, in one transaction. A second call changes nothing.

        Torn, foreign or damaged files stay where they are. They are listed in the answer and in the table `set_aside`.
        """
        with self._writing() as connection:
            return ingest(self.run_folder, connection)

    def query(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pd.DataFrame:
        """Return the answer to one SQL query, with `?` or `$name` in it bound to `parameters`.

        The connection is read-only and cannot reach files or addresses. Raises StoreError, with DuckDB's own text, for
        a query that is wrong or not allowed.
        """
        with self._reading() as connection:
            frame: pd.DataFrame = connection.execute(sql, parameters or None).df()
        return frame

    def queries(self, sqls: Mapping[str, str]) -> dict[str, pd.DataFrame]:
        """Return the answers to several queries by name, all from one state of the database."""
        with self._reading() as connection:
            return {name: connection.execute(sql).df() for name, sql in sqls.items()}

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection for writing to a database with all tables. The file's lock keeps other writers out."""
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

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.exists():
            raise StoreError(f"{self.path}: there is no database yet; `twinbench collect` makes it")
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


def _when_free(connect: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
    """Call `connect` until no other process holds the file: two commands on one run folder may end together."""
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        try:
            return connect()
        except duckdb.IOException as error:
            if "lock" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


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


def _open_or_replace(path: Path) -> duckdb.DuckDBPyConnection:
    """Open `path` for writing. A file that is not a DuckDB database is replaced: the records hold all results."""
    try:
        return _open(path)
    except duckdb.IOException as error:
        if "lock" in str(error) or _is_duckdb(path):
            raise
    path.unlink(missing_ok=True)
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
    return _open(path)


def _is_duckdb(path: Path) -> bool:
    """Return whether `path` is a DuckDB file; such files have DUCK in bytes 8 to 12."""
    with path.open("rb") as file:
        return file.read(12)[8:] == b"DUCK"


def _make_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Replace all tables by empty ones of this schema.

    Deleting the file instead would release its lock, and another command could take it in between.
    """
    connection.execute("BEGIN")
    for (name,) in select(connection, "SELECT table_name FROM duckdb_tables() WHERE database_name = 'store'"):
        connection.execute('DROP TABLE "' + name.replace('"', '""') + '"')
    connection.execute(SCHEMA)
    connection.execute("INSERT INTO run VALUES (?, NULL, '', '', '{}', [], [], [])", [SCHEMA_NUMBER])
    connection.execute("COMMIT")


def _schema_number(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the schema that the tables have; 0 for a new file or tables of an unknown kind."""
    try:
        found = select(connection, "SELECT schema_number FROM run")
    except duckdb.Error:
        return 0
    return int(found[0][0]) if found else 0
