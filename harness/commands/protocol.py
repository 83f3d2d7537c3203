"""`twinbench protocol show|diff|lock`: print a protocol, compare two, and lock versions."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinbench.sweeps.errors import InvalidInput, Mistake

if TYPE_CHECKING:
    from twinbench.sweeps.protocol import Protocol
    from twinbench.sweeps.protocol_diff import Differing, ProtocolValue

EQUAL, DIFFERENT = 0, 1

protocol_app = typer.Typer(help="Show, compare and lock protocols.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="A shipped protocol (`twinbench list protocols`) or a path to a TOML file.")]


@dataclass(frozen=True)
class Shown:
    """A protocol as `show` prints it. `lock` is its state in the lock file next to it."""

    protocol: "Protocol"
    lock: str
    values: "tuple[ProtocolValue, ...]"


@dataclass(frozen=True)
class Locked:
    """A lock file and the (name, version) pairs that were added to it."""

    file: Path
    added: tuple[tuple[str, int], ...]


@protocol_app.command()
def show(name: Name) -> None:
    """Print every value of a protocol, and whether and in which range a sweep may vary it."""
    shown = show_protocol(name)
    protocol = shown.protocol
    _say(f"{protocol.name} version {protocol.version} ({shown.lock})", protocol.hash, protocol.summary)
    for heading, lines in (("changelog", protocol.changelog), ("not restated", protocol.not_restated)):
        _say(*([f"{heading}:"] if lines else []), *(f"  {line}" for line in lines))
    heads = ("key", "value", "under a sweep", "set by")
    _say("", *columns(heads, [(one.key, value_text(one.value), one.rule, one.set_by) for one in shown.values]))


@protocol_app.command()
def diff(left: Name, right: Name) -> None:
    """Print the values in which two protocols differ. Exit code 0 if they differ only in prose, else 1."""
    found = diff_protocols(left, right)
    if found:
        _say(*columns(("key", left, right), [(one.key, value_text(one.left), value_text(one.right)) for one in found]))
        raise typer.Exit(DIFFERENT)


@protocol_app.command()
def lock(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Your own protocol files; by default the shipped ones.")
    ] = None,
) -> None:
    """Write each protocol's content hash to the lock file next to it. Changed content needs a new version."""
    from twinbench.sweeps.sweep import shipped_protocols

    for one in lock_protocols(files or list(shipped_protocols().values())):
        _say(f"{one.file}: {', '.join(f'{name} version {version}' for name, version in one.added) or 'nothing new'}")


def show_protocol(name: str) -> Shown:
    """Return what `show` prints for the protocol with that name or path."""
    from twinbench.sweeps.protocol_diff import protocol_values
    from twinbench.sweeps.protocol_lock import LOCK, read_lock, state_in_lock
    from twinbench.sweeps.sweep import protocol_path, read_protocol

    protocol = read_protocol(name)
    lock = read_lock(protocol_path(name).with_name(LOCK))
    return Shown(protocol, state_in_lock(lock, protocol), tuple(protocol_values(protocol, method_defaults())))


def diff_protocols(left: str, right: str) -> "list[Differing]":
    """Return the values in which two protocols differ, without prose."""
    from twinbench.sweeps.protocol_diff import differences
    from twinbench.sweeps.sweep import read_protocol

    return differences(read_protocol(left).content, read_protocol(right).content)


def lock_protocols(files: Sequence[Path]) -> list[Locked]:
    """Update the lock file in each file's folder. InvalidInput lists every mistake; then nothing is written."""
    from twinbench.results.atomic_files import write_bytes_atomically
    from twinbench.sweeps.protocol_lock import LOCK, lock_text, locked, read_lock
    from twinbench.sweeps.sweep import read_protocol

    mistakes: list[Mistake] = []
    done, texts = [], {}
    for folder in dict.fromkeys(file.parent for file in files):
        file = folder / LOCK
        try:
            before = read_lock(file)
            after = locked(
                before, [read_protocol(str(path.resolve())) for path in files if path.parent == folder], str(file)
            )
        except InvalidInput as error:
            mistakes += error.mistakes
            continue
        done.append(Locked(file, tuple(_entries(after, but=before))))
        texts[file] = lock_text(after)
    if mistakes:
        raise InvalidInput(mistakes)
    for one in done:
        if one.added:
            write_bytes_atomically(one.file, texts[one.file].encode())
    return done


def _entries(lock: Mapping[str, Mapping[str, str]], but: Mapping[str, Mapping[str, str]]) -> list[tuple[str, int]]:
    entries = {(name, version) for name, versions in lock.items() for version in versions}
    before = {(name, version) for name, versions in but.items() for version in versions}
    return sorted((name, int(version)) for name, version in entries - before)


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
    """Return a table's lines. Each column is as wide as its widest value, so that no key is cut."""
    whole = [heads, *rows]
    widths = [max(len(row[place]) for row in whole) for place in range(len(heads))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in whole]


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
