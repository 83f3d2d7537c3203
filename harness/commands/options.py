"""Arguments, options and exit codes that several commands share."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

FINE, SOME_FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
SweepName = Annotated[str, typer.Argument(help="A shipped sweep (`twinbench list sweeps`) or a path to a TOML file.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, as `twinbench run` leaves it.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE changes the sweep: seeds=[0], epochs=5, simclr.temperature=0.2"),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder; by default runs/NAME.")]
Data = Annotated[
    Path | None, typer.Option("--data", help="The folder with the dataset's files, where the dataset has any.")
]


@functools.cache
def out() -> "Console":
    """The terminal; not made before something is printed, since `--help` needs no part of rich."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False)
