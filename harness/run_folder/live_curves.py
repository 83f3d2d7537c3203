"""The curves of a trial that still runs, for people who watch: `trials/TRIAL_ID/curves.json`, gone once it is recorded.

Nothing that is computed rests on this file: the state holds the curves that a trial goes on with.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.sweeps.hashing import canonical_json

FILE_NAME = "curves.json"
LEAST_SECONDS = 1.0
LEAST_TIMES_ITS_COST = 100  # one per cent of the training at most, however long the curves get


class ShownCurves:
    """Shows a trial's finished epochs, now and then."""

    def __init__(self, trial_folder: Path):
        self._file, self._next = trial_folder / FILE_NAME, 0.0

    def show(self, finished: Callable[[], dict[str, Any]]) -> None:
        """Writes what `finished` gives, unless that was done a moment ago. What cannot be written is not missed."""
        began = time.monotonic()
        if began < self._next:
            return
        with contextlib.suppress(OSError, ValueError):
            write_bytes_atomically(self._file, canonical_json(finished()), durable=False)
        ended = time.monotonic()
        self._next = ended + max(LEAST_SECONDS, LEAST_TIMES_ITS_COST * (ended - began))


def drop_curves(trial_folder: Path) -> None:
    """Once the record is written, its artefact holds them."""
    (trial_folder / FILE_NAME).unlink(missing_ok=True)
