"""Bundles: one archive that carries a run folder to a reviewer. `write_bundle` makes it, read.py reads it safely.

    MANIFEST.json                    sha256 and size of every other member; its own sha256 is the bundle's digest
    plan.json, records/, artefacts/  as in the run folder; of the artefacts those that records refer to
    protocols/HASH.json              the protocols of plan and records
    claims*.toml, declarations.jsonl as found in the run folder
    attempts.json                    every attempt at every trial, which shows if a failure was dropped
    environment.json                 code, versions and devices of the records, each with the ids of its trials
    report/                          tables, verdicts, and the page's digest, as made from the members above

Equal input gives equal bytes with the same version of zlib; the bundle's digest does not depend on zlib. Logs, saved
state and the database are left out. Texts that look like keys or tokens are replaced where no digest covers them: in
circumstances and the reasons of attempts. Anywhere else they are an error, and no bundle is made.
"""

import contextlib
import functools
import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from twinbench.results.atomic_files import atomic_file, json_bytes
from twinbench.results.bundles.folder import run_folder_of
from twinbench.results.bundles.members import (
    ATTEMPTS,
    BLOCK,
    ENVIRONMENT,
    MANIFEST,
    SCHEMA,
    kind_of,
    tar_header,
)
from twinbench.results.bundles.redaction import find_secrets, redacted_json
from twinbench.results.bundles.summaries import attempts_of, environment, place_attempts
from twinbench.results.plain_files import claims_files, read_plain, read_problem
from twinbench.results.plan import plan_and_bytes
from twinbench.results.record import (
    ARTEFACTS,
    DECLARATIONS,
    PLAN,
    RECORDS,
    BrokenArtefact,
    Record,
    Reference,
    TornRecord,
    parse_record,
    read_artefact,
    record_files,
    references,
)
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.file_reader import read_regular

# The versions of these packages decide the bytes of a table, beside the records.
RENDERED_WITH = ("numpy", "pandas", "scipy", "duckdb", "plotly", "jinja2")

Member = bytes | Path  # its content, or the file that holds it
Render = Callable[[Path], Mapping[str, bytes]]


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written. `digest` is the sha256 of its manifest, which the author publishes."""

    path: Path
    digest: str
    members: int
    redacted: tuple[str, ...]  # members in which something that looks like a secret was replaced
    left_out: tuple[str, ...]  # files in records/ that are not records


def write_bundle(run_folder: Path, out: Path, render: Render) -> Bundled:
    """Write the bundle of a run folder to `out`, whole or not at all. The folder is not changed.

    `render` makes the members under report/; it is given a copy of the run folder with the content of the bundle.
    InvalidInput lists every reason why the folder cannot be bundled: torn records, broken artefacts, secrets.
    """
    with _to_replace(out) as file:
        mistakes: list[Mistake] = []
        members, redacted, left_out = _collected(run_folder, mistakes)
        mistakes += _secret_mistakes(members) + _name_mistakes(run_folder, members)
        if mistakes:
            raise InvalidInput(mistakes)
        with tempfile.TemporaryDirectory(prefix="twinbench-bundle-") as temporary:
            copy = Path(temporary) / "run"
            _copy(members, copy)
            members |= render(copy)
        manifest = json_bytes(_manifest(members))
        pack(file, {MANIFEST: manifest, **members})
        file.flush()
        _check_readable(Path(file.name), run_folder)
    return Bundled(out, hashlib.sha256(manifest).hexdigest(), len(members) + 1, tuple(redacted), tuple(left_out))


@contextlib.contextmanager
def _to_replace(out: Path) -> Iterator[BinaryIO]:
    """Yield the file that becomes `out`. InvalidInput at once if it cannot be there, or later if the disk is full."""
    try:
        with atomic_file(out) as file:
            yield file
    except OSError as error:
        place = Path(os.fsdecode(error.filename or out))
        if place.parent != out.parent and not out.is_relative_to(place):  # of a file that is read
            raise
        raise InvalidInput([Mistake(str(out), "", f"cannot be written: {error.strerror}")]) from None


def _check_readable(archive: Path, run_folder: Path) -> None:
    """Read the archive as `verify` will: InvalidInput for what exceeds one of the bounds that a reader sets."""
    with tempfile.TemporaryDirectory(prefix="twinbench-bundle-") as temporary:
        try:
            run_folder_of(archive, Path(temporary))
        except InvalidInput as error:
            problems = [
                f"cannot be bundled, since its bundle would be refused: {one.problem}" for one in error.mistakes
            ]
            raise InvalidInput(Mistake(str(run_folder), "", problem) for problem in problems) from None


def _collected(run_folder: Path, mistakes: list[Mistake]) -> tuple[dict[str, Member], list[str], list[str]]:
    """Return all members but those under report/, the names of redacted ones, and the files left out."""
    plan, plan_bytes = plan_and_bytes(run_folder, functools.partial(read_plain, run_folder))
    hash_ = plan.protocol["hash"]
    if not re.fullmatch(r"[0-9a-f]{64}", hash_):
        problem = f"its {PLAN} is not a plan: {hash_!r} is not a protocol's hash"
        raise InvalidInput([Mistake(str(run_folder), "", problem)])
    protocols = {hash_: plan.protocol}
    members: dict[str, Member] = {PLAN: plan_bytes}
    redacted, left_out, records = [], [], []
    for path in record_files(run_folder):
        name = f"{RECORDS}/{path.name}"
        if kind_of(name) is None:
            left_out.append(name)
            continue
        try:
            data = read_regular(path)
            record = parse_record(path.name, data)
            members |= {reference["file"]: run_folder / reference["file"] for reference in _checked(run_folder, record)}
        except (OSError, TornRecord, BrokenArtefact) as error:
            mistakes.append(Mistake(str(run_folder / name), "", f"cannot be bundled: {error}; run its trial again"))
            continue
        clean: Record = {**record, "circumstance": redacted_json(record["circumstance"])}
        if clean != record:
            data = json_bytes(clean)
            redacted.append(name)
        members[name] = data
        records.append(clean)
        protocols.setdefault(record["result"]["trial"]["protocol"]["hash"], record["result"]["trial"]["protocol"])
    members |= {f"protocols/{hash_}.json": json_bytes(protocol) for hash_, protocol in protocols.items()}
    try:
        attempts = attempts_of(run_folder)
    except OSError as error:
        raise InvalidInput([Mistake(str(error.filename), "", f"cannot be read: {error.strerror}")]) from None
    clean_attempts = redacted_json(attempts)
    if clean_attempts != attempts:
        redacted.append(ATTEMPTS)
    members[ATTEMPTS] = json_bytes(clean_attempts)
    members[ENVIRONMENT] = json_bytes(environment(records))
    texts = [*claims_files(run_folder), *sorted(run_folder.glob(DECLARATIONS))]
    for path in texts:
        try:
            members[path.name] = read_plain(run_folder, path)
        except OSError as error:
            mistakes.append(Mistake(str(path), "", read_problem(error)))
    return members, redacted, left_out


def _checked(run_folder: Path, record: Record) -> list[Reference]:
    """Return the record's references after reading each artefact. Raises BrokenArtefact."""
    found = references(record["result"])
    for reference in found:
        read_artefact(run_folder, reference)
    return found


def _copy(members: Mapping[str, Member], folder: Path) -> None:
    for name, member in members.items():
        kind = kind_of(name)
        if kind and kind.of_run_folder:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(member) if isinstance(member, bytes) else shutil.copyfile(member, target)
    attempts = members[ATTEMPTS]
    assert isinstance(attempts, bytes)
    place_attempts(folder, json.loads(attempts))


def _manifest(members: Mapping[str, Member]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "twinbench": importlib.metadata.version("twinbench"),
        "rendered_with": dict(rendered_with()),
        "members": {name: _identity(name, member) for name, member in members.items()},
    }


@functools.cache
def rendered_with() -> Mapping[str, str]:
    """Return the versions of what the report is made with, and the hash of the code that makes it."""
    found = {"python": platform.python_version(), "twinbench": importlib.metadata.version("twinbench")}
    code, package = hashlib.sha256(), Path(__file__).resolve().parents[2]
    for room in ("sweeps", "results", "reports"):
        for path in sorted((package / room).rglob("*.*")):
            if path.suffix in (".py", ".sql", ".j2", ".toml"):
                code.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found | {name: importlib.metadata.version(name) for name in RENDERED_WITH} | {"code": code.hexdigest()[:16]}


def _identity(name: str, member: Member) -> dict[str, str | int]:
    if isinstance(member, bytes):
        return {"sha256": hashlib.sha256(member).hexdigest(), "size": len(member)}
    return {"sha256": name.removeprefix(f"{ARTEFACTS}/").partition(".")[0], "size": member.stat().st_size}


def pack(file: IO[bytes], members: Mapping[str, Member]) -> None:
    """Write the members in the order of their names, which puts the manifest first."""
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed:
        for name in sorted(members):  # capitals come first
            data = _bytes(members[name])
            packed.write(tar_header(name, len(data)) + data + bytes(-len(data) % BLOCK))
        packed.write(bytes(2 * BLOCK))


def _bytes(member: Member) -> bytes:
    return member if isinstance(member, bytes) else member.read_bytes()


def _secret_mistakes(members: Mapping[str, Member]) -> list[Mistake]:
    """Return where a member seems to hold a secret."""
    return [
        Mistake(name, f"line {line}", f"holds what looks like {what}, and others will read the bundle")
        for name in sorted(members)
        if not name.endswith(".safetensors")
        for line, what in find_secrets(_bytes(members[name]).decode("utf-8", "replace"))
    ]


def _name_mistakes(run_folder: Path, members: Mapping[str, Member]) -> list[Mistake]:
    """Return files with names that another file system may not accept, or may not distinguish."""
    spelled: dict[str, str] = {}
    mistakes = []
    for name in members:
        where = str(run_folder / name)
        if kind_of(name) is None:
            allowed = "claims, then at most 60 letters, digits, . _ and -" if name.startswith("claims") else ""
            mistakes.append(Mistake(where, "", "not a name for a member of a bundle", name, allowed))
        elif (other := spelled.setdefault(name.casefold(), name)) != name:
            mistakes.append(Mistake(where, "", f"differs from {other} only in capitals"))
    return mistakes
