"""What a run folder holds besides the trials of one claim; read once for all claims that are judged from it."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from twinbench.reports.claims.attempts import attempts_at, has_ended
from twinbench.reports.claims.claim import Claim, claims_on_file
from twinbench.reports.claims.curve_checks import Curves
from twinbench.reports.tables.cells import WITHOUT_SEEDS, Cell, Section, Value
from twinbench.results.attempts import TRIALS
from twinbench.results.log_head import LogHead
from twinbench.sweeps.trial import Trial

SEEDS_TRIED = range(256)
NEAR = 256  # how far from a seed of the run others are tried


@dataclass(frozen=True)
class RunContext:
    """What the rules need to know of a run folder as a whole.

    `vanished` and `begun` are trials that are neither planned nor recorded: an attempt at the former has ended or
    cannot be read, no attempt at the latter has ended.
    """

    sections: tuple[Section, ...] = ()  # with all their cells
    vanished: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)  # reason by file
    measured_on_test: frozenset[str] = frozenset()  # trials with a curve measured on test
    last_epoch: Mapping[str, float] = field(default_factory=dict)  # of its curves, by trial
    curves: Mapping[str, Curves] = field(default_factory=dict)  # by trial
    claims_files: tuple[Path, ...] = ()
    _begun_seeds: dict[str, tuple[int, ...]] = field(default_factory=dict, compare=False)  # by cell, once asked for

    @cached_property
    def claims_on_file(self) -> Mapping[str, Claim]:
        """Return all claims in the folder's readable files, by hash."""
        return {claim.hash: claim for claim in claims_on_file(self.claims_files)[0]}

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Return the cells of all sections."""
        return tuple(cell for section in self.sections for cell in section.cells)

    @cached_property
    def ran(self) -> dict[tuple[str, str], set[Value]]:
        """Return all values that each (method, setting) has in some cell."""
        found: dict[tuple[str, str], set[Value]] = {}
        for cell in self.cells:
            for name, value in cell.values.items():
                found.setdefault((cell.method, name), set()).add(value)
        return found

    @cached_property
    def seeds(self) -> dict[tuple[str, str, bool], frozenset[int]]:
        """Return the planned seeds of all methods but raw_pixels, by protocol hash and dataset fingerprint.

        Those of the confirm stage (True) apart from those of the grid (False).
        """
        return {
            (section.protocol_hash, section.dataset_fingerprint, stage): frozenset(
                int(trial["seed"])
                for cell in section.cells
                for part in cell.parts
                if part.confirms is stage and cell.method != WITHOUT_SEEDS
                for trial in part.trials
            )
            for section in self.sections
            for stage in (False, True)
        }

    @cached_property
    def methods(self) -> frozenset[str]:
        """Return the names of all trained methods."""
        return frozenset(cell.method for cell in self.cells if not cell.is_baseline)

    @cached_property
    def log_heads(self) -> dict[LogHead, str]:
        """Return each head of the log of declarations that some record keeps, with the first trial that has it."""
        found: dict[LogHead, str] = {}
        for trial in (trial for section in self.sections for trial in section.trials):
            if trial["declared"] is not None and trial["declared"] >= 0:  # a missing number may be NaN
                found.setdefault(LogHead(int(trial["declared"]), trial["declared_head"] or ""), str(trial["trial_id"]))
        return found

    @cached_property
    def _begun(self) -> list[str]:
        """Return when each recorded trial began, in ascending order; UTC to the second."""
        begun = [str(trial["started"]) for section in self.sections for trial in section.trials if trial["started"]]
        return sorted(moment.replace(" ", "T")[:19] for moment in begun)

    def begun_by(self, time: str) -> int:
        """Count the recorded trials that had begun by that time, UTC to the second."""
        return bisect_right(self._begun, time[:19])

    @cached_property
    def _tried(self) -> list[int]:
        used = {seed for seeds in self.seeds.values() for seed in seeds}
        near = (range(max(seed - NEAR, 0), seed + NEAR + 1) for seed in used)
        return sorted({*SEEDS_TRIED, *chain.from_iterable(near)})

    def begun_seeds(self, trial: Trial) -> tuple[int, ...]:
        """Return the seeds of the trial's cell that were begun and are neither planned nor recorded.

        Only the ids of such trials are known, so SEEDS_TRIED and the seeds near those of the run are tried.
        """
        if not self.begun:
            return ()
        if trial.cell_id not in self._begun_seeds:
            found = (seed for seed in self._tried if replace(trial, seed=seed).trial_id in self.begun)
            self._begun_seeds[trial.cell_id] = tuple(found)
        return self._begun_seeds[trial.cell_id]


def unknown_trials(run_folder: Path, known: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the trials that were attempted and are not `known`: those with an attempt that ended, and the others.

    An attempt that cannot be read may have ended.
    """
    folder = run_folder / TRIALS
    names = sorted({path.name for path in folder.iterdir() if path.is_dir()} - known) if folder.is_dir() else []
    found = {name: attempts_at(run_folder, name) for name in names}
    vanished = tuple(name for name, (attempts, unread) in found.items() if unread or any(map(has_ended, attempts)))
    return vanished, tuple(name for name, (attempts, _) in found.items() if attempts and name not in vanished)
