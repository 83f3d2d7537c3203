"""The claims of a run folder for its page: verdicts for those in `claims*.toml`, names of those only in the log."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from twinbench.reports.claims.declarations import read_log
from twinbench.reports.claims.run_context import RunContext
from twinbench.reports.verdicts.check import check_claims
from twinbench.reports.verdicts.verdict import Verdict
from twinbench.results.plain_files import claims_files
from twinbench.sweeps.errors import InvalidInput


@dataclass(frozen=True)
class Claims:
    """Verdicts in the order of files and claims. `problems`: files that could not be judged, and a broken log."""

    verdicts: tuple[Verdict, ...] = ()
    files: tuple[str, ...] = ()
    without_file: tuple[str, ...] = ()  # declared claims that are in no file of the folder
    problems: tuple[str, ...] = ()


def read_folder_claims(run_folder: Path) -> Claims:
    """Return the verdicts, each file judged by itself as `twinbench check` does, so that page and command agree."""
    files = tuple(claims_files(run_folder))
    verdicts: list[Verdict] = []
    problems = []
    for path in files:
        try:
            verdicts += check_claims(path, run_folder).verdicts
        except InvalidInput as error:
            # The page must not depend on where the folder is.
            problems += [f"{path.name}: {mistake}".replace(f"{run_folder}/", "") for mistake in error.mistakes]
    log = read_log(run_folder)
    if log.problem:
        problems.append(log.problem)
    on_file = RunContext(claims_files=files).claims_on_file
    absent = tuple(dict.fromkeys(entry.name for entry in log.entries if entry.claim not in on_file))
    return Claims(tuple(verdicts), tuple(path.name for path in files), absent, tuple(problems))


def verdicts_frame(claims: Claims) -> pd.DataFrame:
    """Return the verdicts as a table."""
    found = [
        (one.claim.name, one.judged, one.claim.sentence, one.label, one.sentence, "; ".join(one.settled_by))
        for one in claims.verdicts
    ]
    names = ["name", "judged", "sentence", "verdict", "supported", "settled_by"]
    return pd.DataFrame(found, columns=pd.Index(names), dtype=object)
