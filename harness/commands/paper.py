"""`twinbench paper` and `twinbench export`: write results for a paper or for an experiment tracker."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinbench.harness.commands.options import (
    MOST_GIB,
    MOST_SECONDS,
    MemoryLimit,
    TimeLimit,
    check_run_folders,
    read_bounded,
    say,
    writing_to,
)
from twinbench.sweeps.errors import counted

if TYPE_CHECKING:
    from twinbench.reports.export import Exported


def paper(
    folders: Annotated[list[Path], typer.Argument(help="Run folders. Different protocols get separate tables.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The output folder; by default paper/ in the first run folder.")
    ] = None,
    style: Annotated[
        str,
        typer.Option(help="neurips, icml, two-column, thesis, sans, or WIDTHxHEIGHT[:FONT[:SIZE]] in inches, points."),
    ] = "neurips",
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Write tables as LaTeX, CSV and Markdown, and figures as PDF and SVG. Equal records give equal files."""
    from twinbench.results.places import check_output

    check_run_folders(folders)
    check_output(out_folder)

    def write(_: Path) -> Path:
        from twinbench.reports.figures.paper_style import read_style
        from twinbench.reports.paper.write import PAPER, write_paper

        written = out_folder or folders[0] / PAPER
        with writing_to(written):
            return write_paper(folders, written, read_style(style))

    path = read_bounded(write, folders, memory_limit, time_limit)
    say(f"wrote tables/ and figures/ to {path.parent}; {path.name} shows all of them")


def export(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    to: Annotated[str, typer.Option(help="tensorboard, mlflow or wandb; install the extra of that name.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The output folder; by default export/ in the run folder.")
    ] = None,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Write curves and results for a tracker. They stay on this machine unless the tracker's variables are set."""
    from twinbench.reports.export import EXPORT, check_tracker
    from twinbench.reports.export import export as export_trials
    from twinbench.results.places import check_output

    check_run_folders([folder])
    check_output(out_folder)
    check_tracker(to)

    def read(_: Path) -> "tuple[str, list[Exported]]":
        from twinbench.reports.export import read_exported

        return read_exported(folder)

    name, trials = read_bounded(read, [folder], memory_limit, time_limit)
    written = out_folder or folder / EXPORT / to
    with writing_to(written):
        command = export_trials(name, trials, to, written)
    say(f"{counted(len(trials), 'trial')}: {command}")
