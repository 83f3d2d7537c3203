"""A printed number with its verdict, and the evidence for it."""

from dataclasses import dataclass
from typing import Literal, get_args

from twinbench.reports.table_check.recorded import Candidate

Verdict = Literal[
    "traced",
    "cited",
    "rounded wrongly",
    "wrong",
    "from another protocol",
    "reported",
    "untraceable",
    "not read",
    "not followed",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ACCEPTED: tuple[Verdict, ...] = ("traced", "cited", "not followed")


@dataclass(frozen=True)
class Evidence:
    """The records behind a number. `exact` has the store's unit: accuracies are fractions."""

    run_folder: str
    protocol: str
    dataset_fingerprint: str
    method: str
    cell_id: str  # empty if the number covers several cells
    what: str  # "mean of knn_top1 on test over 3 seeds"
    n: int  # trials
    exact: float
    trial_ids: tuple[str, ...]
    record_digests: tuple[str, ...]  # of the trials' results
    query: str  # `twinbench query RUN_FOLDER QUERY` prints the number in the printed unit


@dataclass(frozen=True)
class CheckedNumber:
    """A printed number and its verdict. `correct`: the number to print instead, if known."""

    file: str
    line: int
    table: int
    row: str
    column: str
    printed: str
    kind: str  # "mean", "half width", "seeds done"
    verdict: Verdict
    reason: str
    correct: str = ""
    evidence: Evidence | None = None
    ambiguous: tuple[str, ...] = ()  # other cells with this number that match the labels too
    mapped: bool = False  # whether `paper.map.toml` says what its labels mean
    proposals: tuple[str, ...] = ()  # entries of `paper.map.toml`, in TOML, under which it would be traced


def evidence_of(candidate: Candidate, scale: int) -> Evidence:
    """Return the evidence for a number that is `scale` times the candidate."""
    folder, section = candidate.run_section.folder, candidate.run_section.section
    of = (section.ran_as, section.dataset_fingerprint, candidate.label, candidate.cell_id, str(candidate))
    ids = tuple(trial["trial_id"] for trial in candidate.trials)
    digests = tuple(trial["result_digest"] for trial in candidate.trials if trial["result_digest"])
    return Evidence(str(folder), *of, len(ids), candidate.exact, ids, digests, candidate.query(scale))
