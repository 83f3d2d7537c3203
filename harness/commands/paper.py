"""`twinbench paper` and `twinbench export`: results for where they are read, a paper or a lab's tracker."""

from pathlib import Path
from typing import Annotated

import typer

from twinbench.results.record import PLAN, RECORDS
from twinbench.sweeps.errors import InvalidInput, Mistake


def paper(
    folders: Annotated[list[Path], typer.Argument(help="Run folders; protocols that differ never share a table.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="By default paper/ in the first run folder.")] = None,
    style: Annotated[
        str,
        typer.Option(help="neurips, icml, two-column, thesis, sans, or WIDTHxHEIGHT[:FONT[:SIZE]] in inches, points."),
    ] = "neurips",
) -> None:
    """Write LaTeX tables, also as CSV and Markdown, and figures as PDF and SVG. Equal records give equal bytes."""
    from twinbench.reports.figures.paper_style import read_style
    from twinbench.reports.paper.write import PAPER, write_paper

    _check(folders)
    path = write_paper(folders, out_folder or folders[0] / PAPER, read_style(style))
    typer.echo(f"tables/ and figures/ are in {path.parent}; {path.name} shows them all")


def export(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    to: Annotated[str, typer.Option(help="tensorboard, mlflow or wandb; each is an extra of that name.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="By default export/ in the run folder.")] = None,
) -> None:
    """Write curves and results for a tracker, on this machine unless its own variables say otherwise."""
    from twinbench.reports.export import export as export_folder

    _check([folder])
    count, command = export_folder(folder, to, out_folder)
    typer.echo(f"{count} trials: {command}")


def _check(folders: list[Path]) -> None:
    mistakes = [
        Mistake(str(folder), "", f"is no run folder: it has neither {PLAN} nor {RECORDS}/")
        for folder in folders
        if not (folder / PLAN).exists() and not (folder / RECORDS).is_dir()
    ]
    if mistakes:
        raise InvalidInput(mistakes)
