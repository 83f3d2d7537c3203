from pathlib import Path

import duckdb

from twinbench.results.described_tables import described_tables
from twinbench.results.rows import SCHEMA

PAGE = Path(__file__).parents[2] / "docs" / "results.md"


def test_every_table_and_column_of_the_database_is_described_in_order():
    with duckdb.connect() as connection:
        connection.execute(SCHEMA)
        sql = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'memory'"
        in_database = connection.execute(f"{sql} ORDER BY table_oid, column_index").fetchall()
    tables = described_tables()
    assert [(table.name, one.name, one.kind) for table in tables for one in table.columns] == in_database
    assert all(table.about for table in tables)


def test_the_page_describes_tables_and_columns_in_the_words_of_the_schema():
    lines = []
    for table in described_tables():
        lines += [f"### {table.name}", "", table.about, "", "| column | type | |", "| --- | --- | --- |"]
        lines += [f"| `{one.name}` | {one.kind} | {one.about} |" for one in table.columns] + [""]
    assert PAGE.read_text("utf-8").partition("## Tables\n\n")[2] == "\n".join(lines)
