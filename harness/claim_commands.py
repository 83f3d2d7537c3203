"""`twinbench claim declare` and `twinbench check`: claims are put on record, and later judged."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from twinbench.sweeps.mistakes import InvalidInput

NOT_ALL_SUPPORTED = 1

claim_app = typer.Typer(help="Put claims on record before their results.", no_args_is_help=True, rich_markup_mode=None)

ClaimsFile = Annotated[Path, typer.Argument(help="A TOML file of claims; docs/claims.md has its format.")]
RunFolder = Annotated[Path, typer.Argument(help="The run folder, which need not exist yet.")]


@claim_app.command()
def declare(claims: ClaimsFile, folder: RunFolder) -> None:
    """Add claims to the folder's log, with the time. What is declared after its results is marked exploratory."""
    from twinbench.reports.claims import read_claims
    from twinbench.reports.declaring import LOG, declare

    read = read_claims(claims)
    new, head = declare(read, folder, datetime.now(UTC))
    for entry in new:
        print(f"declared {entry.name} ({entry.claim[:12]}) at {entry.time}, {entry.recorded} trials recorded")
    if len(new) < len(read):
        print(f"{len(read) - len(new)} stood in the log already")
    print(f"{folder / LOG} ends with {head}: keep a copy of this digest elsewhere")


@claim_app.command()
def log(folder: RunFolder) -> None:
    """Print what was declared, and whether the log is whole. Exit code 2 where it was changed."""
    from twinbench.reports.declaring import read_log
    from twinbench.sweeps.mistakes import Mistake

    found = read_log(folder)
    for entry in found.entries:
        sys.stdout.write(f"{entry.time} {entry.name} {entry.claim} ({entry.recorded} trials recorded)\n")
    if found.problem:
        raise InvalidInput([Mistake(str(folder), "", found.problem)])


def check(
    claims: Annotated[Path, typer.Argument(help="A TOML file of claims; docs/claims.md has its format.")],
    folder: Annotated[Path, typer.Argument(help="The run folder whose records they are judged by.")],
    form: Annotated[
        str, typer.Option("--format", help="terminal, json, markdown, latex, html or in-toto.")
    ] = "terminal",
    out_file: Annotated[Path | None, typer.Option("--out", help="A file to write instead of printing.")] = None,
) -> None:
    """Judge each claim by the records: a verdict, the rules, what would settle it. Exit code 0 if all are supported."""
    from twinbench.reports.checking import check_claims
    from twinbench.reports.verdict_forms import FORMS
    from twinbench.results.record import write_bytes_atomically
    from twinbench.sweeps.mistakes import Mistake, nearest

    if form not in FORMS:
        raise InvalidInput([Mistake("--format", "", "no such format", form, ", ".join(FORMS), nearest(form, FORMS))])
    checked = check_claims(claims, folder)
    text = FORMS[form](checked)
    if out_file:
        write_bytes_atomically(out_file, text.encode("utf-8"))
    else:
        sys.stdout.write(text)
    if not checked.all_supported:
        raise typer.Exit(NOT_ALL_SUPPORTED)
