"""The verdicts that a claim can get, and what one holds.

    INADMISSIBLE         a rule of fair comparison is broken; no statistics are printed as support
    UNVERIFIABLE         the records that the claim needs are absent, or its numbers are reported ones
    SUPPORTED_AS_STATED  shown with the claimed size
    SUPPORTED            shown; no size is claimed, or one below the margin
    DIRECTION_ONLY       shown to be positive, but not to be as large as claimed, or below the margin; of collapses:
                         shown for most seeds, but not for the claimed share
    NARROWED             shown for a part of what is claimed, or of what the sentence says
    EQUIVALENT           shown to differ by less than the margin
    CONTRADICTED         the opposite is shown, or the claimed size is excluded
    UNDERPOWERED         these seeds do not decide

Every interval is judged after Holm's correction within the family. A claim declared after its results is EXPLORATORY.
"""

from dataclasses import dataclass
from typing import Literal

from twinbench.reports.claims.claim import Claim
from twinbench.reports.claims.contrasts import Contrast
from twinbench.reports.claims.evidence import Evidence
from twinbench.reports.rules.registry import Finding
from twinbench.reports.verdicts.claim_sentence import claim_sentence

Word = Literal[
    "SUPPORTED_AS_STATED", "SUPPORTED", "DIRECTION_ONLY", "NARROWED", "EQUIVALENT", "CONTRADICTED", "UNDERPOWERED",
    "INADMISSIBLE", "UNVERIFIABLE",
]  # fmt: skip
SUPPORTING: tuple[Word, ...] = ("SUPPORTED_AS_STATED", "SUPPORTED")
OPEN: tuple[Word, ...] = ("UNDERPOWERED", "DIRECTION_ONLY")  # more seeds may lead to another verdict


@dataclass(frozen=True)
class Judgement:
    """A verdict's word and its reason; `part` is what holds of a claim that holds in part."""

    word: Word
    reason: str
    part: str = ""

    @property
    def is_supporting(self) -> bool:
        """Whether what was judged holds."""
        return self.word in SUPPORTING


@dataclass(frozen=True)
class Part:
    """One comparison of a claim, or one cell whose collapses are counted, with its own judgement."""

    point: str
    label: str
    judgement: Judgement
    contrast: Contrast | None = None


@dataclass(frozen=True)
class Verdict:
    """What the records say of a claim, why, which sentence they support, and what would settle an open question."""

    claim: Claim
    word: Word
    detail: str  # of INADMISSIBLE the rules; of NARROWED the part that holds, or the rules that the sentence breaks
    exploratory: bool
    reason: str
    sentence: str  # that the records support
    settled_by: tuple[str, ...]
    findings: tuple[Finding, ...]
    contrasts: tuple[Contrast, ...]
    evidence: Evidence

    @property
    def label(self) -> str:
        """Return "NARROWED (batch_size 64), EXPLORATORY"; the suffix is shown only with verdicts on results."""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.word}{detail}{', EXPLORATORY' if self.exploratory and self.has_statistics else ''}"

    @property
    def judged(self) -> str:
        """Return the sentence that the claim's fields mean, which the verdict is about; seeds only where they count."""
        return claim_sentence(self.evidence, self.contrasts if self.has_statistics else ())

    @property
    def is_supported(self) -> bool:
        """Whether the claim holds as it was made."""
        return self.word in SUPPORTING

    @property
    def has_statistics(self) -> bool:
        """Whether the claim's numbers may be shown as evidence."""
        return self.word not in ("INADMISSIBLE", "UNVERIFIABLE")


@dataclass(frozen=True)
class Checked:
    """The verdicts on a file of claims, in its order, and the name of the run that they rest on."""

    claims_file: str
    run: str
    verdicts: tuple[Verdict, ...]

    @property
    def all_supported(self) -> bool:
        """Whether every claim is supported, which decides the exit code."""
        return all(verdict.is_supported for verdict in self.verdicts)
