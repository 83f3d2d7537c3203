"""`twinbench claim declare|log` and `twinbench check`: declare claims before their results, and judge them."""

import gc
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinbench.harness.commands.options import MOST_GIB, MOST_SECONDS, MemoryLimit, TimeLimit, read_bounded
from twinbench.sweeps.errors import InvalidInput, Mistake, counted, plain, printable, unknown_name
from twinbench.sweeps.hashing import to_utf8

if TYPE_CHECKING:
    from twinbench.reports.claims.claim import Claim

NOT_ALL_SUPPORTED = 1

claim_app = typer.Typer(
    help="Declare claims before their results are recorded.", no_args_is_help=True, rich_markup_mode=None
)

ClaimsFile = Annotated[Path, typer.Argument(help="A TOML file of claims; docs/claims.md describes the format.")]
RunFolder = Annotated[Path, typer.Argument(help="The run folder; it need not exist yet.")]


@claim_app.command()
def declare(
    claims: ClaimsFile,
    folder: RunFolder,
    protocols: Annotated[
        list[str] | None, typer.Option("--protocol", help="The file of your own protocol that the claims name.")
    ] = None,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Add claims and the time to the folder's log. Claims declared after their results are marked exploratory."""
    from twinbench.results.places import check_places

    check_places(folder)
    read = [claims, folder]
    _write(read_bounded(lambda _: _declared(claims, folder, protocols or ()), read, memory_limit, time_limit))


def _declared(file: Path, folder: Path, protocols: Sequence[str]) -> str:
    """Declare the claims in the file, and return what was done."""
    from twinbench.reports.claims.claim import read_claims
    from twinbench.reports.claims.declarations import copy_claims, declare, known_protocols
    from twinbench.results.record import DECLARATIONS

    read, lines = read_claims(file), []
    own = _hashes(protocols, read)
    new, head = declare(read, folder, datetime.now(UTC), own)
    if copied := copy_claims(file, folder):
        lines.append(f"copied to {copied}, which reports judge and bundles include")
    for entry in new:
        under = f" under protocol {entry.protocol[:12]}" if entry.protocol else ""
        declared = f"declared {plain(entry.name)} ({entry.claim[:12]}){under} at {entry.time}"
        lines.append(f"{declared}, {counted(entry.recorded, 'trial')} recorded")
    if len(new) < len(read):
        lines.append(f"{len(read) - len(new)} were in the log already")
    named = {claim.protocol for claim in read} - {""}
    if unknown := sorted(named - {*known_protocols(folder, named), *own}):
        lines.append(f"the content of {', '.join(map(plain, unknown))} is not recorded; pass its file with --protocol")
    lines.append(f"{folder / DECLARATIONS} ends with {head}; keep a copy of this digest elsewhere")
    return "\n".join([*lines, ""])


@claim_app.command()
def log(
    folder: Annotated[Path, typer.Argument(help="The folder that was given to `claim declare`.")],
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Print the declared claims with the times of their declarations. Exit code 2 if the log was changed."""
    from twinbench.results.places import check_places

    check_places(folder)
    if not folder.is_dir():
        raise InvalidInput([Mistake(str(folder), "", "is not a folder")])
    text, problem = read_bounded(lambda _: _logged(folder), [folder], memory_limit, time_limit)
    _write(text)
    if problem:
        raise InvalidInput([Mistake(str(folder), "", problem)])


def _logged(folder: Path) -> tuple[str, str]:
    """Return the folder's log of declarations in words, and what is wrong with it."""
    from twinbench.reports.claims.declarations import read_log

    found = read_log(folder)
    lines = []
    for entry in found.entries:
        under = f"under protocol {plain(entry.protocol[:12])}, " if entry.protocol else ""
        declared = f"{plain(entry.time)} {plain(entry.name)} {plain(entry.claim)}"
        lines.append(f"{declared} ({under}{counted(entry.recorded, 'trial')} recorded)\n")
    if not found.entries and not found.problem:
        lines.append(f"no claims were declared in {folder}\n")
    return "".join(lines), found.problem


def _hashes(files: Sequence[str], claims: Sequence["Claim"]) -> dict[str, str]:
    """Return the content hash of each protocol file by name. InvalidInput for a protocol that no claim names."""
    from twinbench.sweeps.sweep import read_protocol

    own = {file: read_protocol(file) for file in files}
    named = sorted({claim.protocol for claim in claims})
    mistakes = [
        Mistake("--protocol", file, "is not named by any claim", protocol.name, ", ".join(named))
        for file, protocol in own.items()
        if protocol.name not in named
    ]
    if mistakes:
        raise InvalidInput(mistakes)
    return {protocol.name: protocol.hash for protocol in own.values()}


def check(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CLAIMS] DIR...",
            help="A TOML file of claims and a run folder or a bundle; with --table only folders and bundles.",
        ),
    ],
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--table", help="A .tex, .csv or .tsv file: trace its numbers to records instead of judging claims."
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="terminal, json, markdown, latex, html or in-toto; with --table terminal or json."
        ),
    ] = "terminal",
    out_file: Annotated[Path | None, typer.Option("--out", help="Write to this file instead of printing.")] = None,
    memory_limit: MemoryLimit = MOST_GIB,
    time_limit: TimeLimit = MOST_SECONDS,
) -> None:
    """Judge claims by the records, or trace a table's numbers to them. Exit code 0 if all are supported or traced."""
    from twinbench.results.places import check_output

    gc.disable()  # 10,000 trials have a million small rows without cycles; collecting takes 0.7 s of 5 s
    width = None if out_file else _width()
    check_output(out_file, *paths, *(tables or ()))

    def read(temporary: Path) -> tuple[str, bool]:
        from twinbench.results.bundles.folder import run_folders

        read_from = run_folders(paths, temporary)
        return _traced(tables, read_from, form) if tables else _judged(read_from, form, width)

    text, fine = read_bounded(read, [*(tables or ()), *paths], memory_limit, time_limit)
    if out_file:
        _write_file(out_file, text)
    else:
        _write(text)
    if not fine:
        raise typer.Exit(NOT_ALL_SUPPORTED)


def _judged(paths: Sequence[Path], form: str, width: int | None) -> tuple[str, bool]:
    """Return the verdicts, on a terminal in lines of at most `width` characters; and whether all are supported."""
    from twinbench.reports.verdicts.check import check_claims
    from twinbench.reports.verdicts.formats import FORMATS
    from twinbench.reports.verdicts.formats.text import folded

    _check_form(form, tuple(FORMATS))
    if len(paths) != 2:
        seen = " ".join(map(str, paths))
        raise InvalidInput([Mistake("check", "", "needs a file of claims and one run folder", seen, "CLAIMS DIR")])
    checked = check_claims(*paths)
    text = FORMATS[form](checked)
    return folded(text, width) if form == "terminal" and width else text, checked.all_supported


def _traced(tables: Sequence[Path], folders: Sequence[Path], form: str) -> tuple[str, bool]:
    from twinbench.reports.table_check.check import all_traced, check_json, check_tables, check_text

    _check_form(form, ("terminal", "json"))
    traced = check_tables(tables, folders)
    if not traced:  # not a success: the numbers to trace are missing
        raise InvalidInput(Mistake(str(table), "", "has no numbers") for table in tables)
    if form == "json":
        return json.dumps(check_json(traced), indent=1, ensure_ascii=False) + "\n", all_traced(traced)
    return check_text(traced), all_traced(traced)


def _check_form(form: str, allowed: Sequence[str]) -> None:
    if form not in allowed:
        raise InvalidInput([unknown_name("--format", "format", form, allowed)])


def _width() -> int | None:
    """Return the terminal's width; None for a file or a pipe, whose lines are not folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write(text: str) -> None:
    """Print as UTF-8 in every locale, so that equal verdicts are equal bytes and any sentence can be printed.

    On a terminal, control characters are escaped in every format.
    """
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    typer.echo(to_utf8(text), nl=False)


def _write_file(path: Path, text: str) -> None:
    from twinbench.results.atomic_files import write_bytes_atomically

    try:
        write_bytes_atomically(path, to_utf8(text))
    except OSError as error:
        raise InvalidInput([Mistake("--out", "", f"cannot be written: {error.strerror}", str(path))]) from None
