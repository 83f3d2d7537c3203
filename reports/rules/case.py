"""What a rule is given and what it returns, with helpers that several rules share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.evidence import Evidence, Side
from twinbench.reports.tables.run import TrialRow

Result = Literal["passed", "failed", "not applicable"]

# What a failure does to the verdict; the values stand in the JSON form of verdicts.
Weight = Literal["stops", "unverified", "narrows", "late", "told"]
STOPS: Final = "stops"  # the claim is INADMISSIBLE: no statistics are printed as its support
UNVERIFIED: Final = "unverified"  # the claim rests on no records, or on records that leave open what made them
NARROWS: Final = "narrows"  # the sentence claims more than was compared; what remains is NARROWED
LATE: Final = "late"  # the claim is EXPLORATORY
NOTED: Final = "told"  # the failure is shown next to the verdict, which stays; the word is that of verdict files


class Outcome(NamedTuple):
    """What became of one rule, and why. `weight` is given where this failure weighs less or more than the rule's."""

    result: Result
    text: str
    weight: Weight | None = None


@dataclass(frozen=True)
class Case:
    """One claim with its evidence and contrasts; `family_size` counts the comparisons of its family."""

    evidence: Evidence
    contrasts: tuple[Contrast, ...]
    family_size: int

    @property
    def has_no_record(self) -> bool:
        """Whether no side of the claim has a record."""
        return not self.evidence.measured

    @property
    def dataset(self) -> str:
        """The dataset's name; empty where it is unknown."""
        table = self.evidence.table
        if self.evidence.claim.is_about_a_table and table is not None:
            return table.dataset
        return str(self.evidence.content.get("dataset", {}).get("name", ""))


def passed(text: str) -> Outcome:
    """Return the outcome of a rule that holds."""
    return Outcome("passed", text)


def failed(text: str, weight: Weight | None = None) -> Outcome:
    """Return the outcome of a rule that is broken."""
    return Outcome("failed", text, weight)


def not_applicable(text: str) -> Outcome:
    """Return the outcome of a rule that has nothing to check."""
    return Outcome("not applicable", text)


def passed_if(holds: bool, text: str, problem: str) -> Outcome:
    """Return passed with `text` where the rule holds, else failed with `problem`."""
    return passed(text) if holds else failed(problem)


NO_RECORD = not_applicable("these numbers were not measured in this run")


def is_trained(side: Side) -> bool:
    """Whether the side has trials and is no baseline."""
    return side.cell is not None and not side.cell.is_baseline


def epochs_of(side: Side) -> float | None:
    """Return the epochs that the side's trials were set to; None where they are unknown."""
    value = side.cell.values.get("epochs") if side.cell else None
    return value.number if value else None


def trained_pairs(case: Case) -> list[tuple[Side, Side]]:
    """Return the compared sides where both were trained."""
    return [(a, b) for a, b, _ in case.evidence.pairs if b is not None and is_trained(a) and is_trained(b)]


def protocol_value(evidence: Evidence, key: str) -> float:
    """Return the protocol's own value of a number that the sweep deviates in; 0 where it does not deviate."""
    sections = [side.section for side in evidence.measured if side.section]
    values = [one["protocol_value"] for section in sections for one in section.deviations if one["key"] == key]
    return max((value for value in values if isinstance(value, int | float)), default=0)


def trial_text(trial: TrialRow) -> str:
    """Return "simclr seed 0 (1f0c5a4be9d27a31)"."""
    return f"{trial['method']} seed {trial['seed']} ({trial['trial_id']})"


def distinct(values: Iterable[object]) -> list[str]:
    """Return each value once, as sorted text."""
    return sorted({str(value) for value in values})


def some(names: Iterable[str]) -> str:
    """Return the first five names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
