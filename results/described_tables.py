"""The database's tables and columns with what schema.sql says about each."""

import re
from dataclasses import dataclass

from twinbench.results.rows import SCHEMA

_TABLE = re.compile(r"-- (?P<about>[^\n]+)\nCREATE TABLE (?P<name>\w+) \(\n(?P<columns>.*?)\n\);", re.DOTALL)
_COLUMN = re.compile(r' +"?(?P<name>\w+)"? +(?P<kind>[A-Z\[\]]+),? +-- (?P<about>.+)')


@dataclass(frozen=True)
class Column:
    """A column, its type in DuckDB, and what it holds."""

    name: str
    kind: str
    about: str


@dataclass(frozen=True)
class Table:
    """A table, what it holds, and its columns in order."""

    name: str
    about: str
    columns: tuple[Column, ...]


def described_tables() -> list[Table]:
    """Return all tables in the order of schema.sql, where each table and column has one line of comment."""
    found = []
    for table in _TABLE.finditer(SCHEMA):
        columns = tuple(Column(**column.groupdict()) for column in _COLUMN.finditer(table["columns"]))
        found.append(Table(table["name"], table["about"], columns))
    return found
