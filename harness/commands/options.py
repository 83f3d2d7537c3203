"""Arguments, options and exit codes that several commands share."""

import contextlib
import errno
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from twinbench.harness.system.bounded import Bounds, within_bounds
from twinbench.sweeps.errors import InvalidInput, Mistake, counted, printable

if TYPE_CHECKING:
    from rich.console import Console

    from twinbench.harness.planning import Plan

T = TypeVar("T")
SOME_FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
SweepName = Annotated[str, typer.Argument(help="A shipped sweep (`twinbench list sweeps`) or a path to a TOML file.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, written by `twinbench run`.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE changes the sweep: seeds=[0], epochs=5, simclr.temperature=0.2."),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder; by default runs/NAME.")]
MemoryLimit = Annotated[
    int, typer.Option("--memory-limit", min=1, max=2**20, help="Most memory for reading the given files, in GiB.")
]
TimeLimit = Annotated[
    int, typer.Option("--time-limit", min=1, max=10**6, help="Most time for reading the given files, in seconds.")
]
WIDTH_OF_A_PIPE = 10_000  # columns
MOST_GIB, MOST_SECONDS = 4, 600  # their defaults; a bundle of 10,000 trials takes 1.2 GiB and 60 s
Data = Annotated[Path | None, typer.Option("--data", help="The folder with the dataset's files.")]


def read_bounded(read: Callable[[Path], T], paths: Sequence[Path], memory_limit: int, time_limit: int) -> T:
    """Return what `read` returns in a process of its own, with these limits on its GiB and seconds.

    `read` is given a folder for temporary files, which is removed. The error at a limit names the `paths`.
    """
    with tempfile.TemporaryDirectory(prefix="twinbench-") as temporary:
        folder = Path(temporary)
        bounds = Bounds(memory_limit, time_limit)
        return within_bounds(lambda: read(folder), ", ".join(map(str, paths)), bounds, folder)


@functools.cache
def out() -> "Console":
    """Return the terminal, which prints every text as it is. Made when first used: `--help` does not import rich.

    A file or a pipe has room for lines of any length; rich would cut tables at 80 columns.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_OF_A_PIPE
    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=width)


def say(text: str, style: str = "") -> None:
    """Print a line as it is, but for control characters: a name from a file must not command the terminal."""
    from rich.text import Text

    out().print(Text(printable(text), style))


def check_run_folders(folders: Sequence[Path]) -> None:
    """Raise InvalidInput for each folder that is not a run folder, and for what cannot be where it is in one."""
    from twinbench.results.places import check_places
    from twinbench.results.record import PLAN, RECORDS

    check_places(*folders)
    mistakes = [
        Mistake(str(folder), "", f"is not a run folder: it has neither {PLAN} nor {RECORDS}/")
        for folder in folders
        if not (folder / PLAN).exists() and not (folder / RECORDS).is_dir()
    ]
    if mistakes:
        raise InvalidInput(mistakes)


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise InvalidInput, which names --out, where the output folder or a file in it cannot be written."""
    from twinbench.results.atomic_files import is_storage_error

    try:
        yield
    except OSError as error:
        place, whole = Path(os.fsdecode(error.filename or os.devnull)).resolve(), folder.resolve()
        is_of_folder = place.is_relative_to(whole) or whole.is_relative_to(place)
        if not is_of_folder or (is_storage_error(error) and error.errno != errno.EROFS):
            raise
        seen = place.parent if place.suffix == ".tmp" else place  # of a file that was not written whole
        problem = f"cannot be written: {error.strerror}"
        raise InvalidInput([Mistake("--out", "", problem, str(seen), "a folder that this user can write")]) from None


def print_left_out(planned: "Plan") -> None:
    """Print on stderr what of the dataset's folder was left out, a line for each reason."""
    for reason, number, example in planned.left_out:
        text = f"left out of the dataset: {reason}: {number}, for example {example}"
        typer.echo(printable(text), err=True)


def print_damaged_launches(notes: Sequence[Path]) -> None:
    """Print on stderr which notes of launches cannot be read, so that their jobs and actors are not known."""
    from twinbench.harness.run_folder.layout import damaged_launches

    for file in damaged_launches(notes):
        typer.echo(
            printable(f"left out: {file} is not the note of a launch; the cluster may still have its job"), err=True
        )


def print_other_trials(number: int) -> None:
    """Say that the run folder has so many trials of other cells or seeds, if any: its report shows all together."""
    if number:
        say(f"{counted(number, 'more trial')} in the folder, not part of this plan; its report shows them too")
