"""A bundle as a run folder, for commands that read one."""

from collections.abc import Sequence
from pathlib import Path

from twinbench.results.bundles.contents import manifest_faults, read_contents
from twinbench.results.bundles.members import SUFFIX
from twinbench.results.bundles.read import unpack
from twinbench.results.bundles.summaries import place_attempts
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.file_reader import open_regular

MOST_FAULTS = 10
GZIP = b"\x1f\x8b"  # the first bytes of a bundle


def run_folders(paths: Sequence[Path], temporary: Path) -> list[Path]:
    """Return the paths, each bundle among them replaced by its run folder, unpacked in the folder `temporary`."""
    return [run_folder_of(path, temporary / str(n)) if is_bundle(path) else path for n, path in enumerate(paths)]


def is_bundle(path: Path) -> bool:
    """Return whether the file at `path` is called or begins like a bundle."""
    if not path.is_file():
        return False
    with open_regular(path) as file:
        return path.name.endswith(SUFFIX) or file.read(len(GZIP)) == GZIP


def run_folder_of(bundle: Path, folder: Path) -> Path:
    """Unpack the bundle into the new folder `folder`, and return its run folder, which has the bundle's name.

    InvalidInput if the file is not a bundle, or not the one that its manifest states.
    """
    contents = read_contents(unpack(bundle, folder))
    faults = [*manifest_faults(contents.unpacked), *contents.faults]
    if faults:
        mistakes = [Mistake(str(bundle), "", f"is not intact: {fault}") for fault in faults[:MOST_FAULTS]]
        if (more := len(faults) - MOST_FAULTS) > 0:
            mistakes.append(Mistake(str(bundle), "", f"has {more} more faults, which `twinbench verify` names"))
        raise InvalidInput(mistakes)
    place_attempts(contents.unpacked.run_folder, contents.all_attempts)
    named = folder / "named" / bundle.name.removesuffix(SUFFIX)
    named.parent.mkdir()
    return contents.unpacked.run_folder.rename(named)
