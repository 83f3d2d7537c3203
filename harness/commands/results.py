"""`twinbench collect`, `report`, `merge` and `query`: turn records into tables."""

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    say,
    writing_to,
)
from twinbench.harness.commands.protocol import columns
from twinbench.harness.system.bounded import Bounds, within_bounds
from twinbench.sweeps.errors import InvalidInput, Mistake, printable, unknown_name
from twinbench.sweeps.hashing import to_utf8

if TYPE_CHECKING:
    import pandas as pd

    from twinbench.results.merge import Merged

MOST_ROWS = 1000  # of a table that is printed


def collect(folder: RunFolder) -> None:
    """Read the folder's new records into its DuckDB database."""
    from twinbench.results.store import ResultStore

    check_run_folders([folder])
    with ResultStore(folder) as store:
        ingested = store.ingest()
    say(f"{ingested.new} new, {ingested.replaced} replaced, {ingested.unchanged} unchanged")
    for file, reason in ingested.set_aside:
        say(f"set aside: {file}: {reason}", "yellow")
    if not store.is_saved:  # stderr has the reason
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
    with tempfile.TemporaryDirectory(prefix="twinbench-report-") as temporary:

        def read() -> Path:
            from twinbench.results.bundles.folder import run_folders

            return _reported(folders, run_folders(folders, Path(temporary)), out_folder)

        what = ", ".join(map(str, folders))
        written = within_bounds(read, what, Bounds(memory_limit, time_limit), Path(temporary))
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
    from twinbench.results.places import check_places

    check_places(*folders)
    with tempfile.TemporaryDirectory(prefix="twinbench-merge-") as temporary:

        def read() -> "Merged":
            from twinbench.results.merge import merge_folders

            return merge_folders(folders, out_folder)

        what = ", ".join(map(str, folders))
        merged = within_bounds(read, what, Bounds(memory_limit, time_limit), Path(temporary))
    say(
        f"{merged.trials} trials: {merged.records} recorded ({merged.duplicates} more than once, equal), "
        f"{merged.missing} missing, {len(merged.disagreements)} with different results"
    )
    if merged.failures_superseded:
        say(f"{merged.failures_superseded} failures were replaced by another site's result")
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
) -> None:
    """Run a read-only SQL query on the folder's database and print the result."""
    forms: dict[str, Callable[[pd.DataFrame], None]] = {"table": _print_table, "csv": _print_csv, "json": _print_json}
    if form not in forms:
        raise InvalidInput([unknown_name("--format", "format", form, forms)])
    if schema:
        _print_schema()
        return
    if folder is None or sql is None:
        raise InvalidInput([Mistake("query", "", "needs a run folder and SQL", allowed="DIR SQL, or --schema")])
    from twinbench.results.store import ResultStore

    check_run_folders([folder])
    with ResultStore(folder) as store:
        frame = store.query(sql)
    forms[form](frame)


def _print_schema() -> None:
    from twinbench.results.described_tables import described_tables

    for table in described_tables():
        typer.echo(f"{table.name}: {table.about}")
        rows = [(f"  {column.name}", column.kind, column.about) for column in table.columns]
        typer.echo("\n".join([*columns(("  column", "type", ""), rows), ""]))


def _print_table(frame: "pd.DataFrame") -> None:
    shown = frame.head(MOST_ROWS)
    rows = [[_cell_text(value) for value in row] for row in shown.itertuples(index=False)]
    lines = columns([str(name) for name in frame.columns], rows)
    if more := len(frame) - len(shown):
        lines.append(f"{more:,} more rows; --format csv prints all {len(frame):,}")
    typer.echo(to_utf8("\n".join(lines)))


def _cell_text(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and value != value) else str(value)


def _print_csv(frame: "pd.DataFrame") -> None:
    """Print all rows as UTF-8, as they are; on a terminal without control characters."""
    if sys.stdout.isatty():
        frame = frame.map(lambda value: printable(value) if isinstance(value, str) else value)
        frame = frame.rename(columns=lambda name: printable(str(name)))
    sys.stdout.flush()
    frame.to_csv(sys.stdout.buffer, index=False, encoding="utf-8")


def _print_json(frame: "pd.DataFrame") -> None:
    """Print a list with an object for each row. Numbers have all their digits."""
    from twinbench.reports.tables.run import records

    typer.echo(json.dumps(_for_json(records(frame)), indent=1, separators=(",", ":")))


def _for_json(value: Any) -> object:
    """Return the value in JSON's types: null for a number that is not finite, ISO 8601 for a time, else a text."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _for_json(one) for key, one in value.items()}
    if hasattr(value, "dtype"):  # of an array, from a list; its times as integers would lose their unit
        value = (value.astype(str) if value.dtype.kind in "mM" else value).tolist()
    if isinstance(value, list):
        return [_for_json(one) for one in value]
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)
