"""`twinbench paper` and `twinbench export`: write results for a paper or for an experiment tracker."""

from pathlib import Path
from typing import Annotated

import typer

from twinbench.harness.commands.options import check_run_folders, say, writing_to
from twinbench.sweeps.errors import counted


def paper(
    folders: Annotated[list[Path], typer.Argument(help="Run folders. Different protocols get separate tables.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The output folder; by default paper/ in the first run folder.")
    ] = None,
    style: Annotated[
        str,
        typer.Option(help="neurips, icml, two-column, thesis, sans, or WIDTHxHEIGHT[:FONT[:SIZE]] in inches, points."),
    ] = "neurips",
) -> None:
    """Write tables as LaTeX, CSV and Markdown, and figures as PDF and SVG. Equal records give equal files."""
    from twinbench.reports.figures.paper_style import read_style
    from twinbench.reports.paper.write import PAPER, write_paper

    check_run_folders(folders)
    written = out_folder or folders[0] / PAPER
    with writing_to(written):
        path = write_paper(folders, written, read_style(style))
    say(f"wrote tables/ and figures/ to {path.parent}; {path.name} shows all of them")


def export(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    to: Annotated[str, typer.Option(help="tensorboard, mlflow or wandb; install the extra of that name.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="The output folder; by default export/ in the run folder.")
    ] = None,
) -> None:
    """Write curves and results for a tracker, to this machine unless the tracker's own variables are set."""
    from twinbench.reports.export import EXPORT
    from twinbench.reports.export import export as export_folder

    check_run_folders([folder])
    with writing_to(out_folder or folder / EXPORT):
        count, command = export_folder(folder, to, out_folder)
    say(f"{counted(count, 'trial')}: {command}")
