"""Copy the package's code into the run folder, so that a queued job runs the code of its submission."""

import os
import secrets
import shutil
from pathlib import Path

from twinbench.harness.system import provenance

NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def snapshot(run_folder: Path) -> Path:
    """Copy the package and the packages that add methods to `code/HASH`, once. Return that folder, for PYTHONPATH.

    HASH covers all of the code, not only what computes a number. What those packages import from elsewhere is not
    copied: the job uses what is installed.
    """
    folder = run_folder.resolve() / "code" / provenance.package_hash()[:16]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    for room in provenance.ROOMS:
        shutil.copytree(provenance.ROOT / room, temporary / "twinbench" / room, ignore=NOT_CODE)
    for other in provenance.other_packages():
        if other.is_dir():  # a package without `__init__.py` may have several folders
            shutil.copytree(other, temporary / other.name, ignore=NOT_CODE, dirs_exist_ok=True)
        else:
            shutil.copy(other, temporary)
    (temporary / "twinbench" / provenance.COMMIT).write_text(provenance.commit(), encoding="utf-8")
    try:
        os.rename(temporary, folder)
    except OSError:  # another launcher has made it first, with the same content
        shutil.rmtree(temporary)
    return folder
