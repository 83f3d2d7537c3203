"""Read files of a run folder that others wrote. Only plain files are read, never through a symbolic link."""

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from twinbench.results.record import LARGEST_ARTEFACT, BrokenArtefact, Reference, read_artefact
from twinbench.sweeps.file_reader import read_regular

LINK = "is reached through a symbolic link, which is not followed"
_OTHER = "is not a plain file"
_STATE = "state.pt"  # the checkpoint of an unfinished trial, which is large


class _NotPlain(OSError):
    """The path is not a plain file within the source; the text says what it is."""


def read_plain(source: Path, path: Path) -> bytes:
    """Return the bytes of a plain file; OSError for a link, which may lead out of `source`, or an endless pipe."""
    if is_behind_link(source, path):
        raise _NotPlain(LINK)
    if path.exists() and not path.is_file():
        raise _NotPlain(_OTHER)
    return read_regular(path, LARGEST_ARTEFACT)


def read_plain_artefact(source: Path, reference: Reference) -> bytes:
    """Return the bytes of an artefact that no link leads to. Raises BrokenArtefact."""
    if is_behind_link(source, source / reference["file"]):
        raise BrokenArtefact(f"{reference['file']}: {LINK}")
    return read_artefact(source, reference)


def is_behind_link(source: Path, path: Path) -> bool:
    """Return whether `path`, or a folder between `source` and it, is a symbolic link."""
    parts = path.relative_to(source).parts
    return any(source.joinpath(*parts[:length]).is_symlink() for length in range(1, len(parts) + 1))


def plain_files(folder: Path, set_aside: list[tuple[str, str]]) -> Iterator[Path]:
    """Yield the plain files below the folder, sorted; not hidden or temporary files, nor checkpoints.

    Links, pipes, devices and folders that cannot be read are added to `set_aside` with the reason.
    """

    def unread(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            set_aside.append((str(error.filename), read_problem(error)))

    for place, folders, names in os.walk(folder, onerror=unread):  # os.walk follows no links
        folders.sort()
        for path in (Path(place, name) for name in sorted([*names, *folders])):
            # Temporary files of a checkpoint are called state.pt.PROCESS.TIME.
            if path.name.startswith((".", _STATE)) or path.name.endswith(".tmp"):
                continue
            if path.is_symlink():
                set_aside.append((str(path), LINK))
            elif path.is_file():
                yield path
            elif not path.is_dir():
                set_aside.append((str(path), _OTHER))


def claims_files(run_folder: Path) -> list[Path]:
    """Return the files `claims*.toml` of a run folder, sorted; OSError for a folder that cannot be listed."""
    names = sorted(os.listdir(run_folder)) if run_folder.is_dir() else []
    return [run_folder / name for name in names if is_claims_file(name)]


def is_claims_file(name: str) -> bool:
    """Return whether a file of a run folder with this name holds claims."""
    return fnmatch.fnmatchcase(name, "claims*.toml")


def read_problem(error: Exception, file_name: str = "") -> str:
    """Return why a file could not be read; `file_name` is left out where the error's text begins with it."""
    if isinstance(error, OSError) and not isinstance(error, _NotPlain):
        return f"cannot be read ({error.strerror or type(error).__name__})"
    return str(error).removeprefix(f"{file_name}: ")
