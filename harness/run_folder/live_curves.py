"""Curves of a trial that is running: `trials/TRIAL_ID/curves.json`, deleted once the trial is recorded.

They are for display only: a trial that resumes takes its curves from its checkpoint.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.sweeps.file_reader import read_regular
from twinbench.sweeps.hashing import canonical_json

FILE_NAME = "curves.json"
LEAST_SECONDS = 1.0
LEAST_TIMES_ITS_COST = 100  # writing takes at most one per cent of the training, however long the curves get


@dataclass(frozen=True)
class Curves:
    """Series by name, with a value per epoch: None where it was not measured."""

    epoch: tuple[FiniteFloat | None, ...] = ()
    series: Mapping[str, tuple[FiniteFloat | None, ...]] = field(default_factory=dict)


_CURVES = TypeAdapter(Curves)


class LiveCurves:
    """Writes the curves of a trial's finished epochs from time to time."""

    def __init__(self, trial_folder: Path):
        self._file, self._next = trial_folder / FILE_NAME, 0.0

    def write(self, finished: Callable[[], Mapping[str, object]]) -> None:
        """Write what `finished` returns, unless that was done a moment ago. Errors are ignored."""
        began = time.monotonic()
        if began < self._next:
            return
        with contextlib.suppress(OSError, ValueError):
            write_bytes_atomically(self._file, canonical_json(finished()), durable=False)
        ended = time.monotonic()
        self._next = ended + max(LEAST_SECONDS, LEAST_TIMES_ITS_COST * (ended - began))


def parse_curves(content: bytes) -> Curves:
    """Return the curves in a JSON text; no curves if it holds anything else."""
    try:
        return _CURVES.validate_json(content)
    except ValidationError:
        return Curves()


def read_curves(trial_folder: Path) -> Curves:
    """Return the curves of a running trial; no curves if the file is missing or damaged."""
    try:
        return parse_curves(read_regular(trial_folder / FILE_NAME))
    except OSError:
        return Curves()
