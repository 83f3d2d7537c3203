"""Check that a run folder has no file where a folder belongs, and no folder where a file does, before it is used, and
that no output takes the place of what a run folder holds."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from twinbench.results.plain_files import is_claims_file
from twinbench.results.record import ARTEFACTS, DECLARATIONS, PLAN, RECORDS, TornRecord, read_record
from twinbench.sweeps.errors import InvalidInput, Mistake

FOLDERS = (RECORDS, ARTEFACTS, "trials", "commands", "launches", "launches/last-words", "launches/cancelled")
DERIVED_FOLDERS = ("report", "report/tables", "paper", "paper/tables", "paper/figures", "export", "code", "slurm")
FILES = (PLAN, DECLARATIONS, "cancelled")  # not the database: the store reads past what is in its place


def check_places(*run_folders: Path) -> None:
    """Raise InvalidInput with the `place_mistakes` of all these folders, if there are any."""
    if mistakes := [mistake for folder in run_folders for mistake in place_mistakes(folder)]:
        raise InvalidInput(mistakes)


def place_mistakes(folder: Path) -> Iterator[Mistake]:
    """Yield that this cannot be a run folder, or which places in it are of another kind.

    What does not exist is fine, and so is a link to what a place should be, unless a command replaces what is in it:
    a stranger's `report` could be a link to a folder of the user's own.
    """
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # too long a name, for example
        yield Mistake(str(folder), "", f"cannot be a run folder: {error.strerror}")
        return
    if not os.path.isdir(folder):
        yield Mistake(str(folder), "", "is not a folder")
        return
    for path in (folder / name for name in (*FOLDERS, *DERIVED_FOLDERS)):
        if os.path.lexists(path) and not os.path.isdir(path):
            yield Mistake(str(path), "", "is not a folder", allowed="a folder, or nothing")
    for path in (folder, *(folder / name for name in FOLDERS)):  # else what is in it would be taken for absent
        if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
            yield Mistake(str(path), "", "cannot be read: Permission denied")
    for path in (folder / name for name in DERIVED_FOLDERS):
        if os.path.isdir(path) and os.path.islink(path):
            allowed = "a folder, or nothing; reports, papers and exports take --out"
            yield Mistake(str(path), "", "is a link, and nothing is written through links", allowed=allowed)
    for path in (folder / name for name in FILES):
        if os.path.isdir(path):
            yield Mistake(str(path), "", "is a folder", allowed="a file, or nothing")


def check_output(out: Path | None, *inputs: Path) -> None:
    """Raise InvalidInput if the file or folder `out` is one of the inputs, or belongs to the data of a run.

    None stands for a command's default place. What is derived from the data (`report/` and the like) can be written
    again, and is not protected.
    """
    if out is None:
        return
    place, given = Path(os.path.realpath(out)), [Path(os.path.realpath(path)) for path in inputs]
    if place in given:
        raise InvalidInput([Mistake("--out", "", "would replace one of the given paths", str(out), "another path")])
    for folder in place.parents:
        name = place.relative_to(folder).parts[0]
        is_data = name in (*FILES, *FOLDERS) or is_claims_file(name)
        if is_data and (folder in given or os.path.exists(folder / PLAN)):
            problem, allowed = f"would write to the data of the run in {folder}", "a path that is not the run's own"
            raise InvalidInput([Mistake("--out", "", problem, str(out), allowed)])


def check_trial_places(folder: Path, trial_ids: Collection[str]) -> None:
    """Raise InvalidInput where a trial could not write its record or attempts: another kind of file is there."""
    mistakes = [
        Mistake(entry.path, "", "is in place of a record", allowed="a record, or nothing")
        for entry in _entries(folder / RECORDS)
        if entry.name.removesuffix(".json") in trial_ids and not _may_be_replaced(entry)
    ]
    mistakes += [
        Mistake(entry.path, "", "is not a folder", allowed="a folder, or nothing")
        for entry in _entries(folder / "trials")
        if entry.name in trial_ids and not entry.is_dir()
    ]
    if mistakes:
        raise InvalidInput(mistakes)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    return sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else []


def _may_be_replaced(entry: os.DirEntry[str]) -> bool:
    """Return whether this is a file, or a link to a record, whose trial does not run again."""
    if not entry.is_symlink():
        return entry.is_file()
    try:
        return bool(read_record(entry.path))
    except TornRecord:
        return False
