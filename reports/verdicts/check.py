"""`twinbench check`: judge every claim of a file from one run folder, families together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from twinbench.reports.claims.claim import Claim, read_claims
from twinbench.reports.claims.contrasts import Contrast, contrasts_of, holm
from twinbench.reports.claims.evidence import Evidence, Folder
from twinbench.reports.rules.case import Case
from twinbench.reports.tables.published import published_tables
from twinbench.reports.verdicts.judge import judge
from twinbench.reports.verdicts.verdict import Checked
from twinbench.results.places import place_mistakes
from twinbench.results.record import DECLARATIONS, PLAN, RECORDS
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.protocol_lock import LOCK, read_lock
from twinbench.sweeps.sweep import SHIPPED

MARKS = (PLAN, RECORDS, DECLARATIONS)  # a run folder has at least one of them


def check_claims(claims_file: Path, run_folder: Path) -> Checked:
    """Return the verdicts on every claim of the file. InvalidInput where file or folder is invalid."""
    mistakes: list[Mistake] = []
    try:
        claims = read_claims(claims_file)
    except InvalidInput as error:
        claims, mistakes = (), [*error.mistakes]
    if not run_folder.is_dir():
        mistakes.append(Mistake(str(run_folder), "", "is not a folder"))
    elif not any(claim.is_about_a_table for claim in claims) and not any((run_folder / one).exists() for one in MARKS):
        mistakes.append(Mistake(str(run_folder), "", f"is not a run folder: it has none of {', '.join(MARKS)}"))
    else:
        mistakes += place_mistakes(run_folder)
    if mistakes:
        raise InvalidInput(mistakes)
    folder = Folder(run_folder)
    try:
        verdicts = tuple(judge(case) for case in cases_of(claims, folder))
    except InvalidInput as error:
        raise InvalidInput(replace(one, where=f"{claims_file}: {one.where}") for one in error.mistakes) from None
    return Checked(claims_file.name, run_folder.resolve().name, verdicts)


def cases_of(claims: Sequence[Claim], folder: Folder) -> list[Case]:
    """Return each claim's case, in the claims' order. InvalidInput lists every unknown name in the claims."""
    tables = published_tables() if any(claim.reported for claim in claims) else {}
    locked = locked_hashes()
    evidence: list[Evidence] = []
    mistakes: list[Mistake] = []
    for claim in claims:
        try:
            evidence.append(folder.evidence(claim, tables.get(claim.reported), locked))
        except InvalidInput as error:
            mistakes += error.mistakes
    if mistakes:
        raise InvalidInput(mistakes)
    return in_families(evidence)


def in_families(evidence: Sequence[Evidence]) -> list[Case]:
    """Return each claim with its contrasts at the confidence of its family; a count of collapses is a test too."""
    contrasts = [contrasts_of(one) for one in evidence]
    families: dict[str, list[Contrast]] = {}
    sizes: Counter[str] = Counter()
    for one, own in zip(evidence, contrasts, strict=True):
        families.setdefault(one.claim.family, []).extend(own)
        sizes[one.claim.family] += len(one.pairs)
    adjusted = {family: iter(holm(own, sizes[family] - len(own))) for family, own in families.items()}
    return [
        Case(one, tuple(next(adjusted[one.claim.family]) for _ in own), sizes[one.claim.family])
        for one, own in zip(evidence, contrasts, strict=True)
    ]


def locked_hashes() -> Mapping[tuple[str, int], str]:
    """Return the content hash of every version of the shipped protocols, by name and version."""
    lock = read_lock(SHIPPED / "protocols" / LOCK)
    return {(name, int(version)): hash_ for name, versions in lock.items() for version, hash_ in versions.items()}
