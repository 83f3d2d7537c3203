"""What a run folder holds beside the trials of one claim: read once, for all claims that are judged from it."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from twinbench.reports.claims.attempts import Attempt, read_attempts
from twinbench.reports.claims.claim import Claim, read_claims
from twinbench.reports.tables.cells import WITHOUT_SEEDS, Cell, Section, Value
from twinbench.sweeps.errors import InvalidInput


@dataclass(frozen=True)
class RunContext:
    """`vanished` and `begun` are trials that are neither planned nor recorded: some attempt at the first came to an
    end, at the others none did."""

    sections: tuple[Section, ...] = ()  # with all cells
    vanished: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)  # why, by the file
    measured_on_test: frozenset[str] = frozenset()  # trials with a curve of something measured on test
    last_epoch: Mapping[str, float] = field(default_factory=dict)  # of the curves, by trial
    claims_files: tuple[Path, ...] = ()

    @cached_property
    def claims_on_file(self) -> Mapping[str, Claim]:
        """All claims in the folder's files, by hash; what cannot be read holds none."""
        return {claim.hash: claim for path in self.claims_files for claim in _readable_claims(path)}

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All of them."""
        return tuple(cell for section in self.sections for cell in section.cells)

    @cached_property
    def ran(self) -> dict[tuple[str, str], set[Value]]:
        """Every value that a setting of a method has in some cell."""
        found: dict[tuple[str, str], set[Value]] = {}
        for cell in self.cells:
            for name, value in cell.values.items():
                found.setdefault((cell.method, name), set()).add(value)
        return found

    @cached_property
    def seeds(self) -> dict[tuple[str, str], frozenset[int]]:
        """Every seed that was planned, of trained methods or of the untrained backbone, by protocol and dataset."""
        return {
            (section.protocol_hash, section.dataset_fingerprint): frozenset(
                int(trial["seed"]) for cell in section.cells if cell.method != WITHOUT_SEEDS for trial in cell.trials
            )
            for section in self.sections
        }

    @cached_property
    def methods(self) -> frozenset[str]:
        """All that were trained."""
        return frozenset(cell.method for cell in self.cells if not cell.is_baseline)

    @cached_property
    def _begun(self) -> list[str]:
        """When the trials that are recorded now began, in order; UTC to the second."""
        begun = [str(trial["started"]) for cell in self.cells for trial in cell.trials if trial["started"]]
        return sorted(moment.replace(" ", "T")[:19] for moment in begun)

    def begun_by(self, time: str) -> int:
        """How many of the trials that are recorded now had begun by that time, UTC to the second."""
        return bisect_right(self._begun, time[:19])


def _readable_claims(path: Path) -> tuple[Claim, ...]:
    try:
        return read_claims(path)
    except InvalidInput:
        return ()


def attempts_at_unknown_trials(run_folder: Path, known: set[str]) -> dict[str, tuple[Attempt, ...]]:
    """The attempts at trials that are not `known`, by trial."""
    folder = run_folder / "trials"
    names = sorted({entry.name for entry in folder.iterdir()} - known) if folder.is_dir() else []
    found = {name: read_attempts(run_folder, name) for name in names}
    return {name: attempts for name, attempts in found.items() if attempts}
