"""The package's code as it is now, kept in the run folder: a queued job runs what was there at submission."""

import os
import secrets
import shutil
from pathlib import Path

from twinbench.harness.system import provenance

NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def snapshot(run_folder: Path) -> Path:
    """Copies the package, and the packages that add methods to it, under `code/HASH`, once; to put first on PYTHONPATH.

    What those packages import beside themselves is not copied: it is whatever is installed.
    """
    folder = run_folder.resolve() / "code" / provenance.code_hash()[:16]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    for room in provenance.ROOMS:
        shutil.copytree(provenance.ROOT / room, temporary / "twinbench" / room, ignore=NOT_CODE)
    for other in provenance.other_packages():
        if other.is_dir():
            shutil.copytree(other, temporary / other.name, ignore=NOT_CODE)
        else:
            shutil.copy(other, temporary)
    (temporary / "twinbench" / provenance.COMMIT).write_text(provenance.commit(), encoding="utf-8")
    try:
        os.rename(temporary, folder)
    except OSError:  # another launcher was quicker, with the same content
        shutil.rmtree(temporary)
    return folder
