"""A case: what one rule is held against. The words for what came of it, and what all rules share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.evidence import Evidence, Side

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not applicable"
Weight = Literal["stops", "unverified", "narrows", "late", "told"]
# One of the three words and what was seen; with the weight where it is another than the rule's own.
Outcome = tuple[str, str] | tuple[str, str, Weight]

NO_RECORD = (NOT_APPLICABLE, "no record stands behind these numbers")


@dataclass(frozen=True)
class Case:
    """A claim with its evidence and its contrasts, judged within a family of so many."""

    evidence: Evidence
    contrasts: tuple[Contrast, ...]
    family_size: int

    @property
    def has_no_record(self) -> bool:
        """Whether the claim is about numbers that nothing was recorded of."""
        return not self.evidence.measured

    @property
    def dataset(self) -> str:
        """Its name; empty where nothing tells it."""
        table = self.evidence.table
        if self.evidence.claim.is_about_a_table and table is not None:
            return table.dataset
        return str(self.evidence.content.get("dataset", {}).get("name", ""))


def is_trained(side: Side) -> bool:
    """Whether there are trials of it, and it is no baseline."""
    return side.cell is not None and not side.cell.is_baseline


def passed_if(passed: bool, well: str, ill: str) -> Outcome:
    """Passed or failed, with what is said of either."""
    return (PASSED, well) if passed else (FAILED, ill)


def distinct(values: Iterable[Any]) -> list[str]:
    """Each once, in order."""
    return sorted({str(value) for value in values})


def some(names: Iterable[str]) -> str:
    """The first few of many."""
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
