"""`twinbench collect`, `report`, `merge` and `query`: turn records into tables."""

import sys
import tempfile
from collections.abc import Callable, Sequence
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
    out,
    writing_to,
)
from twinbench.harness.system.bounded import Bounds, within_bounds
from twinbench.sweeps.errors import InvalidInput, unknown_name

if TYPE_CHECKING:
    import pandas as pd


def collect(folder: RunFolder) -> None:
    """Read the folder's new records into its DuckDB database."""
    from twinbench.results.store import ResultStore

    check_run_folders([folder])
    with ResultStore(folder) as store:
        ingested = store.ingest()
    out().print(f"{ingested.new} new, {ingested.replaced} replaced, {ingested.unchanged} unchanged")
    for file, reason in ingested.set_aside:
        out().print(f"set aside: {file}: {reason}", style="yellow", markup=False)
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
    out().print(f"report: {written}")


def _reported(given: Sequence[Path], folders: Sequence[Path], out_folder: Path | None) -> Path:
    """Write the report of the folders, some of which were unpacked from bundles among the given paths."""
    from twinbench.reports.page.write import REPORT, write_report, write_reports

    check_run_folders(folders)
    is_one_run = len(folders) == 1 and given == folders
    written = out_folder or (folders[0] / REPORT if is_one_run else Path(REPORT))
    with writing_to(written):
        return write_report(folders[0], written) if is_one_run else write_reports(folders, written)


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Run folders of one protocol.")],
    out_folder: Annotated[Path, typer.Option("--out", help="The new run folder.")],
) -> None:
    """Merge run folders of several sites. Different results of one trial are reported; none is chosen."""
    from twinbench.results.merge import merge_folders

    merged = merge_folders(folders, out_folder)
    out().print(
        f"{merged.trials} trials: {merged.records} recorded ({merged.duplicates} more than once, equal), "
        f"{merged.missing} missing, {len(merged.disagreements)} with different results"
    )
    if merged.failures_superseded:
        out().print(f"{merged.failures_superseded} failures were replaced by another site's result")
    for file, reason in merged.set_aside:
        out().print(f"set aside: {file}: {reason}", style="yellow", markup=False)
    for disagreement in merged.disagreements:
        out().print(f"different results of {disagreement.trial_id}:", style="yellow", markup=False)
        for line in (*disagreement.differences, *disagreement.hints):
            out().print(f"  {line}", markup=False)
    if merged.disagreements:
        raise typer.Exit(SOME_FAILED)


def query(
    folder: RunFolder,
    sql: Annotated[
        str,
        typer.Argument(
            help='SQL, such as "select method, avg(value) from metrics join trials using (trial_id) group by 1".'
        ),
    ],
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
) -> None:
    """Run a read-only SQL query on the folder's database and print the result."""
    from twinbench.results.store import ResultStore

    forms: dict[str, Callable[[pd.DataFrame], object]] = {
        "table": _print_table,
        "csv": lambda frame: sys.stdout.write(frame.to_csv(index=False)),
        "json": lambda frame: sys.stdout.write(frame.to_json(orient="records", indent=1, date_format="iso") + "\n"),
    }
    if form not in forms:
        raise InvalidInput([unknown_name("--format", "format", form, forms)])
    check_run_folders([folder])
    with ResultStore(folder) as store:
        store.ingest()
        frame = store.query(sql)
    forms[form](frame)


def _print_table(frame: "pd.DataFrame") -> None:
    from rich.table import Table

    table = Table(*map(str, frame.columns), box=None, pad_edge=False)
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell_text(value) for value in row))
    out().print(table, markup=False)


def _cell_text(value: object) -> str:
    return "" if value is None or (isinstance(value, float) and value != value) else str(value)
