"""`twinbench protocol show|diff|lock`: print a protocol, compare two, and lock versions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from twinbench.harness.commands.options import say
from twinbench.sweeps.errors import InvalidInput, Mistake, printable

DIFFERENT = 1

protocol_app = typer.Typer(help="Show, compare and lock protocols.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="A shipped protocol (`twinbench list protocols`) or a path to a TOML file.")]


@protocol_app.command()
def show(name: Name) -> None:
    """Print every value of a protocol, and whether and in which range a sweep may vary it."""
    from twinbench.sweeps.protocol_diff import protocol_values
    from twinbench.sweeps.protocol_lock import LOCK, read_lock, state_in_lock
    from twinbench.sweeps.sweep import protocol_path, read_protocol

    protocol = read_protocol(name)
    state = state_in_lock(read_lock(protocol_path(name).with_name(LOCK)), protocol)
    lines = [f"{protocol.name} v{protocol.version} ({state})", protocol.hash, protocol.summary]
    for heading, items in (("changelog", protocol.changelog), ("not restated", protocol.not_restated)):
        lines += [f"{heading}:", *(f"  {item}" for item in items)] if items else []
    values = protocol_values(protocol, method_defaults())
    rows = [(one.key, value_text(one.value), one.rule, one.set_by) for one in values]
    typer.echo("\n".join([*map(printable, lines), "", *columns(("key", "value", "under a sweep", "set by"), rows)]))


@protocol_app.command()
def diff(left: Name, right: Name) -> None:
    """Print the values in which two protocols differ. Exit code 0 if they differ only in prose, else 1."""
    from twinbench.sweeps.protocol_diff import differences
    from twinbench.sweeps.sweep import read_protocol

    if found := differences(read_protocol(left).content, read_protocol(right).content):
        rows = [(one.key, value_text(one.left), value_text(one.right)) for one in found]
        typer.echo("\n".join(columns(("key", left, right), rows)))
        raise typer.Exit(DIFFERENT)


@protocol_app.command()
def lock(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Your own protocol files; by default the shipped ones.")
    ] = None,
) -> None:
    """Write each protocol's content hash to the lock file next to it. Changed content needs a new version."""
    from twinbench.results.atomic_files import write_bytes_atomically
    from twinbench.sweeps.protocol_lock import LOCK, lock_text, locked, read_lock
    from twinbench.sweeps.sweep import read_protocol, shipped_protocols

    files = files or list(shipped_protocols().values())
    mistakes: list[Mistake] = []
    added, texts = {}, {}
    for folder in dict.fromkeys(file.parent for file in files):
        file = folder / LOCK
        try:
            before = read_lock(file)
            protocols = [read_protocol(str(path.absolute())) for path in files if path.parent == folder]
            after = locked(before, protocols, str(file))
        except InvalidInput as error:
            mistakes += error.mistakes
        else:
            added[file], texts[file] = _added(before, after), lock_text(after)
    if mistakes:
        raise InvalidInput(mistakes)
    for file, entries in added.items():
        if entries:
            write_bytes_atomically(file, texts[file].encode())
        say(f"{file}: {', '.join(f'{name} v{version}' for name, version in entries) or 'nothing new'}")


def _added(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> list[tuple[str, int]]:
    """Return name and version of each entry of a lock that it did not have before."""
    entries = [(name, version) for name, versions in after.items() for version in versions]
    return sorted((name, int(version)) for name, version in entries if version not in before.get(name, {}))


def method_defaults() -> dict[str, dict[str, Any]]:
    """Return the default of every setting that has one, by method."""
    from twinbench.harness.schemas import method_names, method_schema

    return {
        name: {
            field.name: field.default
            for field in fields(method_schema(name).config_class)
            if field.default is not MISSING
        }
        for name in method_names()
    }


def value_text(value: object) -> str:
    """Return a value roughly as TOML writes it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def columns(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table's lines. Each column is as wide as its widest value, so that no key is cut.

    Control characters are escaped.
    """
    whole = [[printable(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[place]) for row in whole) for place in range(len(heads))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in whole]
