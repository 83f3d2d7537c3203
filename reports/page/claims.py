"""The claims of a run folder on its page: those of its `claims*.toml`, judged; those only in its log, named."""

from dataclasses import dataclass
from pathlib import Path

from twinbench.reports.claims.declarations import read_log
from twinbench.reports.claims.run_context import RunContext
from twinbench.reports.verdicts.check import check_claims
from twinbench.reports.verdicts.formats.html import OPEN_ENDED
from twinbench.reports.verdicts.formats.text import remarks
from twinbench.reports.verdicts.verdict import Verdict
from twinbench.sweeps.errors import InvalidInput


@dataclass(frozen=True)
class Claims:
    """Verdicts in the order of files and claims. `problems`: files that cannot be judged, and a broken log."""

    verdicts: tuple[Verdict, ...] = ()
    files: tuple[str, ...] = ()
    without_file: tuple[str, ...] = ()  # declared, and the folder holds no file of them
    problems: tuple[str, ...] = ()


def read_folder_claims(run_folder: Path) -> Claims:
    """Each file is judged by itself, as `twinbench check` does, so that page and command agree."""
    files = tuple(sorted(run_folder.glob("claims*.toml")))
    verdicts: list[Verdict] = []
    problems = []
    for path in files:
        try:
            verdicts += check_claims(path, run_folder).verdicts
        except InvalidInput as error:
            # The path begins with that of the folder, which is no part of what the page says.
            problems += [f"{path.name}: {mistake}".replace(f"{run_folder}/", "") for mistake in error.mistakes]
    log = read_log(run_folder)
    if log.problem:
        problems.append(log.problem)
    on_file = RunContext(claims_files=files).claims_on_file
    absent = tuple(dict.fromkeys(entry.name for entry in log.entries if entry.claim not in on_file))
    return Claims(tuple(verdicts), tuple(path.name for path in files), absent, tuple(problems))


def entries(claims: Claims) -> list[dict[str, object]]:
    """What the template needs of each verdict."""
    return [
        {
            "name": verdict.claim.name,
            "sentence": verdict.claim.sentence,
            "label": verdict.label,
            "class": "good" if verdict.is_supported else "open" if verdict.word in OPEN_ENDED else "bad",
            "remarks": remarks(verdict),
        }
        for verdict in claims.verdicts
    ]


def rows(claims: Claims) -> list[dict[str, str]]:
    """The verdicts as a table for programs."""
    return [
        {
            "name": verdict.claim.name,
            "sentence": verdict.claim.sentence,
            "verdict": verdict.label,
            "supported": verdict.sentence,
            "settled_by": "; ".join(verdict.settling),
        }
        for verdict in claims.verdicts
    ]
