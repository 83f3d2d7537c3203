"""The package's code as it is now, kept in the run folder: a queued job runs what was there at submission."""

import os
import secrets
import shutil
from pathlib import Path

from twinbench.harness import provenance

NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def snapshot(run_folder: Path) -> Path:
    """Copies the package under `code/HASH`, once; the folder to put first on PYTHONPATH.

    Methods of other packages, found through entry points, are not copied: they are whatever is installed.
    """
    folder = run_folder.resolve() / "code" / provenance.code_hash()[:16]
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    for room in provenance.ROOMS:
        shutil.copytree(provenance.ROOT / room, temporary / "twinbench" / room, ignore=NOT_CODE)
    (temporary / "twinbench" / provenance.COMMIT).write_text(provenance.commit(), encoding="utf-8")
    try:
        os.rename(temporary, folder)
    except OSError:  # another launcher was quicker, with the same content
        shutil.rmtree(temporary)
    return folder
