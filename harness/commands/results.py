"""`twinbench collect`, `report`, `merge` and `query`: turn records into tables."""

import csv
import io
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinbench.harness.commands.options import (
    MISTAKE,
    MOST_GIB,
    MOST_SECONDS,
    SOME_FAILED,
    MemoryLimit,
    RunFolder,
    TimeLimit,
    check_run_folders,
    read_bounded,
    say,
    writing_to,
)
from twinbench.harness.commands.protocol import columns
from twinbench.sweeps.errors import InvalidInput, Mistake, counted, printable, unknown_name
from twinbench.sweeps.hashing import to_utf8

if TYPE_CHECKING:
    from twinbench.results.ingest import Ingested
    from twinbench.results.merge import Merged
    from twinbench.results.store import Row

    Form = Callable[[Sequence[str], Iterator[Row]], str]

MOST_ROWS = 1000  # of a table that is printed


def collect(folder: RunFolder, memory_limit: MemoryLimit = MOST_GIB, time_limit: TimeLimit = MOST_SECONDS) -> None:
    """Update the folder's DuckDB database from its records, as all commands do that read results."""
    check_run_folders([folder])

    def read(_: Path) -> "tuple[Ingested, bool]":
        from twinbench.results.store import ResultStore

        with ResultStore(folder) as store:
            return store.ingest(), store.is_saved

    ingested, is_saved = read_bounded(read, [folder], memory_limit, time_limit)
    say(f"{ingested.new} new, {ingested.replaced} replaced, {ingested.unchanged} unchanged")
    for file, reason in ingested.set_aside:
        say(f"set aside: {file}: {reason}", "yellow")
    if not is_saved:  # stderr has the reason
        raise typer.Exit(MISTAKE)


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="A run folder or a bundle, or several to compare side by side.")
    ],
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", help="The output folder; by default report/ in the run folder, else ./report."),
    ] = None,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Write report/index.html and report/tables/*.csv. Equal records give equal files."""
    from twinbench.results.places import check_output

    check_output(out_folder)

    def read(temporary: Path) -> Path:
        from twinbench.results.bundles.folder import run_folders

        return _reported(folders, run_folders(folders, temporary), out_folder)

    written = read_bounded(read, folders, memory_limit, time_limit)
    say(f"report: {written}")


def _reported(given: Sequence[Path], folders: Sequence[Path], out_folder: Path | None) -> Path:
    """Write the report of the folders, some of which were unpacked from bundles among the given paths."""
    from twinbench.reports.page.write import REPORT, write_report, write_reports

    check_run_folders(folders)
    is_one_folder = len(folders) == 1 and given == folders
    written = out_folder or (folders[0] / REPORT if is_one_folder else Path(REPORT))
    with writing_to(written):
        return write_report(folders[0], written) if len(folders) == 1 else write_reports(folders, written)


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Run folders of one protocol.")],
    out_folder: Annotated[Path, typer.Option("--out", help="The new run folder.")],
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Merge run folders of several sites. Different results of one trial are reported; none is chosen."""
    from twinbench.results.places import check_output, check_places

    check_places(*folders)
    check_output(out_folder, *folders)

    def read(_: Path) -> "Merged":
        from twinbench.results.merge import merge_folders

        return merge_folders(folders, out_folder)

    merged = read_bounded(read, folders, memory_limit, time_limit)
    say(
        f"{counted(merged.trials, 'trial')}: {merged.records} recorded ({merged.duplicates} more than once, equal), "
        f"{merged.missing} missing, {len(merged.disagreements)} with different results"
    )
    if merged.failures_superseded:
        say(f"{counted(merged.failures_superseded, 'failure')} replaced by another site's result")
    for file, reason in merged.set_aside:
        say(f"set aside: {file}: {reason}", "yellow")
    for disagreement in merged.disagreements:
        say(f"different results of {disagreement.trial_id}:", "yellow")
        for line in (*disagreement.differences, *disagreement.hints):
            say(f"  {line}")
    if merged.disagreements:
        raise typer.Exit(SOME_FAILED)


def query(
    folder: Annotated[Path | None, typer.Argument(help="A run folder, written by `twinbench run`.")] = None,
    sql: Annotated[
        str | None,
        typer.Argument(
            help='SQL, such as "select method, avg(value) from metrics join trials using (trial_id) group by 1".'
        ),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    schema: Annotated[bool, typer.Option("--schema", help="Print the tables and their columns instead.")] = False,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Run one read-only SQL query on the folder's database and print the result."""
    forms: dict[str, Form] = {"table": _as_table, "csv": _as_csv, "json": _as_json}
    if form not in forms:
        raise InvalidInput([unknown_name("--format", "format", form, forms)])
    if schema:
        _print_schema()
        return
    if folder is None or sql is None:
        raise InvalidInput([Mistake("query", "", "needs a run folder and SQL", allowed="DIR SQL, or --schema")])
    run_folder, statement = folder, sql
    check_run_folders([run_folder])

    def read(_: Path) -> bytes:
        from twinbench.results.store import ResultStore

        with ResultStore(run_folder) as store, store.rows(statement) as (names, rows):
            return to_utf8(forms[form](names, rows))

    typer.echo(read_bounded(read, [run_folder], memory_limit, time_limit), nl=False)


def _print_schema() -> None:
    from twinbench.results.described_tables import described_tables

    for table in described_tables():
        typer.echo(f"{table.name}: {table.about}")
        rows = [(f"  {column.name}", column.kind, column.about) for column in table.columns]
        typer.echo("\n".join([*columns(("  column", "type", ""), rows), ""]))


def _as_table(names: Sequence[str], rows: "Iterator[Row]") -> str:
    shown = [[cell_text(value) for value in row] for row in itertools.islice(rows, MOST_ROWS)]
    lines = columns(names, shown)
    if more := sum(1 for _ in rows):
        lines.append(f"{more:,} more rows; --format csv prints all {len(shown) + more:,}")
    return "\n".join([*lines, ""])


def _as_csv(names: Sequence[str], rows: "Iterator[Row]") -> str:
    """Return all rows as they are; for a terminal without control characters."""
    text = printable if sys.stdout.isatty() else str
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(map(text, names))
    writer.writerows([text(cell_text(value)) for value in row] for row in rows)
    return lines.getvalue()


def _as_json(names: Sequence[str], rows: "Iterator[Row]") -> str:
    """Return a list with an object for each row, on a line of its own."""
    if len(set(names)) < len(names):
        problem = "needs another name for each column; name them with AS"
        raise InvalidInput([Mistake("--format", "json", problem, list(names))])
    lines = ",\n".join(json_text(dict(zip(names, row, strict=True))) for row in rows)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def cell_text(value: object) -> str:
    """Return a value of a database with all its digits, lists and structs as JSON, and an empty text for NULL."""
    if isinstance(value, Decimal):
        return format(value, "f")  # not 0E-10
    if isinstance(value, dict | list | tuple):
        return json_text(value)
    return "" if value is None else str(value)


def json_text(value: object) -> str:
    """Return a value of a database in JSON: null for a number that is not finite, ISO 8601 for a time, else a text.

    Numbers have all their digits, which JSON does not bound; `json.dumps` has no decimals.
    """
    if isinstance(value, Decimal):
        return cell_text(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{json_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(json_text, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    if isinstance(value, datetime):
        return json.dumps(value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds"))
    return json.dumps(value if value is None or isinstance(value, str | int | float) else str(value))
