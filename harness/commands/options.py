"""Arguments, options and exit codes that several commands share."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinbench.sweeps.errors import InvalidInput, Mistake, printable

if TYPE_CHECKING:
    from rich.console import Console

    from twinbench.harness.planning import Plan

SOME_FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
SweepName = Annotated[str, typer.Argument(help="A shipped sweep (`twinbench list sweeps`) or a path to a TOML file.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, written by `twinbench run`.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE changes the sweep: seeds=[0], epochs=5, simclr.temperature=0.2."),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder; by default runs/NAME.")]
MemoryLimit = Annotated[
    int, typer.Option("--memory-limit", min=1, max=2**20, help="GiB of memory that reading what others wrote may take.")
]
TimeLimit = Annotated[
    int, typer.Option("--time-limit", min=1, max=10**6, help="Seconds that reading what others wrote may take.")
]
MOST_GIB, MOST_SECONDS = 4, 600  # their defaults: a bundle of 10,000 trials takes a third of either
Data = Annotated[Path | None, typer.Option("--data", help="The folder with the dataset's files, if it has any.")]


@functools.cache
def out() -> "Console":
    """Return the terminal. It is made when first used, so that `--help` does not import rich."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False)


def check_run_folders(folders: Sequence[Path]) -> None:
    """Raise InvalidInput for each folder that is not a run folder."""
    from twinbench.results.record import PLAN, RECORDS

    mistakes = [
        Mistake(str(folder), "", f"is not a run folder: it has neither {PLAN} nor {RECORDS}/")
        for folder in folders
        if not (folder / PLAN).exists() and not (folder / RECORDS).is_dir()
    ]
    if mistakes:
        raise InvalidInput(mistakes)


def print_left_out(planned: "Plan") -> None:
    """Print on stderr what of the dataset's folder was left out, a line for each reason."""
    for reason, number, example in planned.left_out:
        text = f"left out of the dataset: {reason}: {number}, for example {example}"
        typer.echo(printable(text), err=True)
