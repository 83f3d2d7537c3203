"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return $TWINBENCH_CACHE, or else ~/.cache/twinbench."""
    return Path(os.environ.get("TWINBENCH_CACHE") or Path.home() / ".cache" / "twinbench")
