"""Bundles: one archive that carries a run folder to a reviewer. `write_bundle` makes it; unpacking.py reads it safely.

    MANIFEST.json                    sha256 and size of every other member; its own sha256 is the bundle's digest
    plan.json, records/, artefacts/  as in the run folder; of the artefacts those that records refer to
    protocols/HASH.json              the protocols of plan and records
    claims*.toml, declarations.jsonl as found in the run folder
    attempts.json                    every attempt at every trial, so that a failure which was dropped shows
    environment.json                 code, versions and devices of the records, each with the trials that ran so
    report/                          tables, verdicts, and the page's digest, as they came out of these members

Equal input gives equal bytes under one version of zlib, which compresses; the bundle's digest does not hang on that.
Logs, saved state and the database are not carried. What looks like a key or a token is blacked out where no digest
covers it, in circumstances and attempts' reasons; anywhere else it keeps the bundle from being made.
"""

import functools
import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypedDict

from twinbench.results.atomic_files import write_bytes_atomically
from twinbench.results.attempts import TRIALS, attempt_file, attempt_numbers, read_attempt
from twinbench.results.plan import plan_and_bytes
from twinbench.results.record import (
    ARTEFACTS,
    COMPUTED_WITH,
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
from twinbench.sweeps.hashing import to_utf8

SCHEMA = 1
MANIFEST = "MANIFEST.json"
ATTEMPTS = "attempts.json"
ENVIRONMENT = "environment.json"
TABLES, VERDICTS, PAGE_DIGEST = "report/tables", "report/verdicts", "report/index.html.sha256"
SUFFIX = ".bundle.tar.gz"
BLOCK = 512  # of a tar archive

# A table's bytes follow from the records and from these.
RENDERED_WITH = ("numpy", "pandas", "scipy", "duckdb", "plotly", "jinja2")
_SURROUNDINGS = ("commit", "code_hash", "versions", *COMPUTED_WITH)

_ID = re.compile(r"[0-9a-f]{16}")
_CLAIMS = r"claims[A-Za-z0-9_.-]{0,60}"
_MIB = 2**20


@dataclass(frozen=True)
class Kind:
    """One kind of member: how its name looks, how large it may be, and whether it belongs to the run folder itself."""

    name: re.Pattern[str]
    most_bytes: int
    of_run_folder: bool = True


KINDS = (
    Kind(re.compile(r"MANIFEST\.json"), 64 * _MIB, of_run_folder=False),
    Kind(re.compile(r"artefacts/[0-9a-f]{64}\.[a-z0-9]{1,16}"), 512 * _MIB),
    Kind(re.compile(r"attempts\.json"), 256 * _MIB, of_run_folder=False),
    Kind(re.compile(_CLAIMS + r"\.toml"), 2 * _MIB),
    Kind(re.compile(r"declarations\.jsonl"), 64 * _MIB),
    Kind(re.compile(r"environment\.json"), 64 * _MIB, of_run_folder=False),
    Kind(re.compile(r"plan\.json"), 256 * _MIB),
    Kind(re.compile(r"protocols/[0-9a-f]{64}\.json"), 16 * _MIB, of_run_folder=False),
    Kind(re.compile(r"records/[0-9a-f]{16}\.json"), 16 * _MIB),
    Kind(re.compile(r"report/index\.html\.sha256"), 1024, of_run_folder=False),
    Kind(re.compile(r"report/tables/[a-z0-9_-]{1,64}\.(csv|tex)"), 64 * _MIB, of_run_folder=False),
    Kind(re.compile(r"report/verdicts/" + _CLAIMS + r"\.json"), 64 * _MIB, of_run_folder=False),
)

Member = bytes | Path  # its content, or the file that holds it
Render = Callable[[Path], Mapping[str, bytes]]


class BundledAttempt(TypedDict):
    """One attempt at a trial in attempts.json. Where it ran is private and left out."""

    trial_id: str
    number: int
    status: str
    reason: str
    started: str


@dataclass(frozen=True)
class Bundled:
    """A bundle that was written. `digest` is that of its manifest: what an author publishes."""

    path: Path
    digest: str
    members: int
    redacted: tuple[str, ...]  # where something that looks like a secret was blacked out
    left_out: tuple[str, ...]  # files in records/ that are none


def kind_of(name: str) -> Kind | None:
    """The kind of member that bears such a name, if any does."""
    return next((kind for kind in KINDS if kind.name.fullmatch(name)), None)


def tar_header(name: str, size: int) -> bytes:
    """The one header that a member of that name and size has: a plain file, of nobody, at no time."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def json_bytes(content: object) -> bytes:
    """Indented JSON with sorted keys, as records are written."""
    return to_utf8(json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)) + b"\n"


def printable(text: str, most: int = 200) -> str:
    """Names come from other people's files: what could steer a terminal is spelled out, what is endless cut."""
    short = text if len(text) <= most else f"{text[: most - 3]}..."
    return short if short.isprintable() else ascii(short)[1:-1]


# --- writing --------------------------------------------------------------------------------------------------------


def write_bundle(run_folder: Path, out: Path, render: Render) -> Bundled:
    """Writes the run folder's bundle to `out`, which appears whole. The folder itself is left as it is.

    `render` makes the members under report/ from a run folder; it is given a copy that holds what the bundle holds.
    InvalidInput lists all that keeps the folder from being bundled: a torn record, a broken artefact, a secret.
    """
    mistakes: list[Mistake] = []
    members, redacted, left_out = _collected(run_folder, mistakes)
    mistakes += _secret_mistakes(members) + _name_mistakes(run_folder, members)
    if mistakes:
        raise InvalidInput(mistakes)
    with tempfile.TemporaryDirectory(prefix="twinbench-bundle-") as temporary:
        copy = Path(temporary) / "run"
        _copy(members, copy)
        members |= render(copy)
    for name in members:
        if kind_of(name) is None:
            raise ValueError(f"{name!r} is no name of a bundle's member")
    manifest = json_bytes(_manifest(members))
    try:
        _write_archive(out, {MANIFEST: manifest, **members})
    except OSError as error:
        raise InvalidInput([Mistake(str(out), "", f"cannot be written: {error.strerror}")]) from None
    return Bundled(out, hashlib.sha256(manifest).hexdigest(), len(members) + 1, tuple(redacted), tuple(left_out))


def _collected(run_folder: Path, mistakes: list[Mistake]) -> tuple[dict[str, Member], list[str], list[str]]:
    """All members but those under report/, where something was blacked out, and what was left out."""
    plan, plan_bytes = plan_and_bytes(run_folder)
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
            data = path.read_bytes()
            record = parse_record(path.name, data)
            members |= {reference["file"]: run_folder / reference["file"] for reference in _checked(run_folder, record)}
        except (OSError, TornRecord, BrokenArtefact) as error:
            mistakes.append(Mistake(str(run_folder / name), "", f"cannot be bundled: {error}; run its trial again"))
            continue
        clean: Record = {**record, "circumstance": blacked_out(record["circumstance"])}
        if clean != record:
            data = json_bytes(clean)
            redacted.append(name)
        members[name] = data
        records.append(clean)
        protocols.setdefault(record["result"]["trial"]["protocol"]["hash"], record["result"]["trial"]["protocol"])
    members |= {f"protocols/{hash_}.json": json_bytes(protocol) for hash_, protocol in protocols.items()}
    attempts = attempts_of(run_folder)
    if blacked_out(attempts) != attempts:
        redacted.append(ATTEMPTS)
    members[ATTEMPTS] = json_bytes(blacked_out(attempts))
    members[ENVIRONMENT] = json_bytes(environment(records))
    texts = [*sorted(run_folder.glob("claims*.toml")), *sorted(run_folder.glob(DECLARATIONS))]
    members |= {path.name: path.read_bytes() for path in texts}
    return members, redacted, left_out


def _checked(run_folder: Path, record: Record) -> list[Reference]:
    """The record's references to artefacts, each there and whole. Raises BrokenArtefact."""
    found = references(record["result"])
    for reference in found:
        read_artefact(run_folder, reference)
    return found


def attempts_of(run_folder: Path) -> list[BundledAttempt]:
    """Return every attempt at every trial, by trial and number. One that could not write its file has empty values."""
    found = []
    folders = (path for path in (run_folder / TRIALS).glob("*") if _ID.fullmatch(path.name) and path.is_dir())
    for trial_id in sorted(path.name for path in folders):
        for number in attempt_numbers(run_folder, trial_id):
            attempt = read_attempt(run_folder, trial_id, number)
            found.append(
                BundledAttempt(
                    trial_id=trial_id,
                    number=number,
                    status=attempt.get("status", ""),
                    reason=attempt.get("reason", ""),
                    started=attempt.get("started", ""),
                )
            )
    return found


def environment(records: list[Record]) -> list[dict[str, object]]:
    """Code, versions and devices that the records tell of, each with the ids of the trials that ran so."""
    trials: dict[str, list[str]] = {}
    for record in records:
        surroundings = {key: record["circumstance"].get(key) for key in _SURROUNDINGS}
        trials.setdefault(json.dumps(surroundings, sort_keys=True), []).append(record["result"]["trial_id"])
    return [json.loads(text) | {"trials": sorted(ids)} for text, ids in sorted(trials.items())]


def place_attempts(run_folder: Path, attempts: list[BundledAttempt]) -> None:
    """Puts the attempts where a run folder has them: what is made of it counts those that left no record."""
    for attempt in attempts:
        path = attempt_file(run_folder, attempt["trial_id"], attempt["number"])
        write_bytes_atomically(path, json_bytes(attempt), durable=False)


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
    """Versions of what the report is made with, and the hash of the code that makes it."""
    found = {"python": platform.python_version(), "twinbench": importlib.metadata.version("twinbench")}
    code = hashlib.sha256()
    for room in ("sweeps", "results", "reports"):
        for path in sorted((Path(__file__).resolve().parent.parent / room).rglob("*.*")):
            if path.suffix in (".py", ".sql", ".j2", ".toml"):
                code.update(f"{room}/{path.name}\0".encode() + path.read_bytes() + b"\0")
    return found | {name: importlib.metadata.version(name) for name in RENDERED_WITH} | {"code": code.hexdigest()[:16]}


def _identity(name: str, member: Member) -> dict[str, str | int]:
    if isinstance(member, bytes):
        return {"sha256": hashlib.sha256(member).hexdigest(), "size": len(member)}
    return {"sha256": name.removeprefix(f"{ARTEFACTS}/").partition(".")[0], "size": member.stat().st_size}


def _write_archive(out: Path, members: Mapping[str, Member]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            pack(file, members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


def pack(file: IO[bytes], members: Mapping[str, Member]) -> None:
    """Writes the members by name, the manifest first, as every bundle has them."""
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed:
        for name in sorted(members):  # capitals come first
            member = members[name]
            data = member if isinstance(member, bytes) else member.read_bytes()
            packed.write(tar_header(name, len(data)) + data + bytes(-len(data) % BLOCK))
        packed.write(bytes(2 * BLOCK))


# --- what no bundle should carry ------------------------------------------------------------------------------------

# What it is, what it cannot be without (in small letters; looking for that is fast), and how it looks.
_SECRETS = (
    ("a private key", ("private key-----",), r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("an AWS key", ("akia", "asia"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    (
        "a GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    ),
    ("a GitLab token", ("glpat-",), r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a Hugging Face token", ("hf_",), r"\bhf_[A-Za-z0-9]{30,}"),
    ("a Slack token", ("xox",), r"\bxox[a-z]-[A-Za-z0-9-]{10,}"),
    ("a Google key", ("aiza",), r"\bAIza[0-9A-Za-z_-]{35}"),
    ("an API key", ("sk-",), r"\bsk-[A-Za-z0-9_-]{20,}"),
    ("a JSON web token", ("eyj",), r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"),
    ("a password in an address", ("://",), r"\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@\"']{1,100}:[^\s/:@\"']{1,100}@"),
    (
        "a key or password",
        ("key", "secret", "token", "passw"),
        # With a digit in it: code that only names a variable of that name is none.
        r"(?i)(?:api_?key|access_?key|secret|token|passw(?:or)?d)[\"']?\s{0,3}[=:]\s{0,3}[\"']?"
        r"(?=[A-Za-z_/+.-]{0,100}\d)[A-Za-z0-9_/+.=-]{12,}",
    ),
    (
        "an authorisation",
        ("authorization",),
        r"(?i)\bauthorization[\"']?\s{0,3}[=:]\s{0,3}[\"']?(?:bearer|basic)\s+[A-Za-z0-9_/+.=-]{8,}",
    ),
)
_COMPILED = tuple((what, needles, re.compile(pattern)) for what, needles, pattern in _SECRETS)


def _patterns_for(text: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """The patterns that the text might match."""
    small = text.lower()
    return ((what, pattern) for what, needles, pattern in _COMPILED if any(needle in small for needle in needles))


def blacked_out(value: Any) -> Any:
    """The same with every secret in its texts replaced by what it looked like."""
    if isinstance(value, dict):
        return {key: blacked_out(item) for key, item in value.items()}
    if isinstance(value, list):
        return [blacked_out(item) for item in value]
    if isinstance(value, str):
        for what, pattern in _patterns_for(value):
            value = pattern.sub(f"[{what}]", value)
    return value


def _secret_mistakes(members: Mapping[str, Member]) -> list[Mistake]:
    """Where a text looks as if it held a secret; never the secret itself."""
    return [
        Mistake(name, f"line {line}", f"holds what looks like {what}, and a bundle is for others to read")
        for name in sorted(members)
        if not name.endswith(".safetensors")
        for line, what in _found_secrets(members[name])
    ]


def _found_secrets(member: Member) -> Iterator[tuple[int, str]]:
    text = (member if isinstance(member, bytes) else member.read_bytes()).decode("utf-8", "replace")
    for what, pattern in _patterns_for(text):
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, what


def _name_mistakes(run_folder: Path, members: Mapping[str, Member]) -> list[Mistake]:
    """Files whose names another machine could not tell apart, or might not take."""
    spelled: dict[str, str] = {}
    mistakes = []
    for name in members:
        where = str(run_folder / name)
        if kind_of(name) is None:
            allowed = "claims, then at most 60 letters, digits, . _ and -" if name.startswith("claims") else ""
            mistakes.append(Mistake(where, "", "no member of a bundle may be called so", name, allowed))
        elif (other := spelled.setdefault(name.casefold(), name)) != name:
            mistakes.append(Mistake(where, "", f"differs from {other} in capitals alone"))
    return mistakes
