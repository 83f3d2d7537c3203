"""Records: what a finished trial leaves. They are the truth; the database, tables and pages are derived from them.

A run folder holds

    plan.json                     what was to be run, written before anything runs
    records/TRIAL_ID.json         one per finished trial, whole or absent, written last
    artefacts/SHA256.SUFFIX       curves and per-example outputs, named by their content

A record has two parts. `result` is what the trial's identity determines; its digest stands beside it, so that two runs
of one trial are compared by one string. `circumstance` is the rest: times, cost, code, versions, device.

    RecordError(ValueError)
    ├── TornRecord        a file in records/ that is not a whole, well-formed record
    └── BrokenArtefact    an artefact that is missing, misnamed or not what its digest says
"""

import errno
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from twinbench.sweeps.hashing import canonical_json, digest, to_utf8

SCHEMA = 1
STATUSES = ("done", "diverged", "collapsed", "failed")

PLAN = "plan.json"
WITHHELD = "WITHHELD"  # stands in the plan's commands for what may be a secret
RECORDS = "records"
DECLARATIONS = "declarations.jsonl"
ARTEFACTS = "artefacts"
# Of a record's circumstance: what can move the last bits of a result, beside code and versions.
COMPUTED_WITH = ("device", "precision", "mode", "threads", "ranks")

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)

_ID = re.compile(r"[0-9a-f]{16}")
_ARTEFACT = re.compile(r"artefacts/([0-9a-f]{64})\.[a-z0-9]+")
_LARGEST = 2**63  # whole numbers must fit the database's BIGINT


class RecordError(ValueError):
    """Something in a run folder is not what it should be; the text names the file and what is wrong."""


class TornRecord(RecordError):
    """A file in records/ that is not a whole, well-formed record."""


class BrokenArtefact(RecordError):
    """An artefact that is missing, misnamed, or not what its digest says."""


# --- files that appear whole ----------------------------------------------------------------------------------------


def takes_no_more(error: Exception) -> bool:
    """Whether a file system said so: a full disk, a quota, a lost mount."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in UNWRITABLE
    return os.strerror(errno.ENOSPC) in str(error)  # as DuckDB passes it on


def write_bytes_atomically(path: Path | str, data: bytes, durable: bool = True) -> Path:
    """Write `data` so that a reader sees the old file, or the new one, and after a power cut one of the two.

    What is only for looking at needs not be `durable`, and spares the disk two waits.
    """
    path = Path(path)
    # Hidden, so that a leftover of a killed process is never taken for a record. Not tempfile: it makes files of mode
    # 0600, and a lab's other members could not read the results.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with _opened(temporary) as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)
    return path


def _opened(path: Path) -> BinaryIO:
    """A new file; its folder is made where it is not there, which is asked only then."""
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def write_json_atomically(path: Path | str, obj: object, durable: bool = True) -> Path:
    """Write `obj` as indented JSON with sorted keys, whole or not at all. NaN and infinity raise ValueError."""
    text = json.dumps(obj, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return write_bytes_atomically(path, to_utf8(text) + b"\n", durable)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open a folder, and needs no such call
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- records --------------------------------------------------------------------------------------------------------


def record_path(run_folder: Path | str, trial_id: str) -> Path:
    """Where the record of `trial_id` stands."""
    return Path(run_folder) / RECORDS / f"{trial_id}.json"


def write_record(run_folder: Path | str, result: Mapping[str, Any], circumstance: Mapping[str, Any]) -> Path:
    """Write the record of one finished trial, and return its path. Artefacts must be there before: the record is last.

    Raises ValueError when the result is not one that `read_record` would take back.
    """
    # Through JSON and back, so that tuples and the like are digested as what a reader will see.
    plain = json.loads(canonical_json(result))
    record = {
        "circumstance": json.loads(canonical_json(circumstance)),
        "result": plain,
        "result_digest": digest(plain),
        "schema": SCHEMA,
    }
    problem = _problem(record)
    if problem:
        raise ValueError(f"this result cannot be recorded: {problem}")
    return write_bytes_atomically(record_path(run_folder, plain["trial_id"]), _indented(record) + b"\n")


def _indented(record: dict[str, Any]) -> bytes:
    """Indented JSON of what came from JSON with sorted keys. Python's own encoder took a quarter of an empty trial."""
    from pydantic_core import to_json

    try:
        return to_json(record, indent=1)
    except ValueError:  # a lone surrogate, which `to_utf8` can write
        return to_utf8(json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False))


def read_record(path: Path | str) -> dict[str, Any]:
    """The record in `path`, checked: JSON, schema, every key, its digest, and that the file bears the trial's id.

    Raises TornRecord, whose text names the file and what is wrong.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TornRecord(f"{path.name}: cannot be read ({error.strerror or type(error).__name__})") from error
    return parse_record(path.name, data)


def parse_record(file_name: str, data: bytes) -> dict[str, Any]:
    """The record in `data`, which was read from a file called `file_name`; checks and raises as `read_record` does."""
    try:
        record = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise TornRecord(f"{file_name}: not JSON ({error})") from error
    problem = _problem(record)
    if problem:
        raise TornRecord(f"{file_name}: {problem}")
    trial_id = record["result"]["trial_id"]
    if file_name != f"{trial_id}.json":
        raise TornRecord(f"{file_name}: holds trial {trial_id}, so the file should be called {trial_id}.json")
    checked: dict[str, Any] = record
    return checked


def record_files(run_folder: Path | str) -> list[Path]:
    """Everything in records/ in a stable order, save hidden files, which are other programs' business."""
    folder = Path(run_folder) / RECORDS
    if not folder.is_dir():
        return []
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]


def recorded_ids(run_folder: Path | str) -> dict[str, str]:
    """Status by id of every trial that has a whole record. A torn record does not count, so its trial can run again."""
    statuses = {}
    for path in record_files(run_folder):
        try:
            result = read_record(path)["result"]
        except TornRecord:
            continue
        statuses[result["trial_id"]] = result["status"]
    return statuses


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


# --- artefacts ------------------------------------------------------------------------------------------------------


def write_artefact(run_folder: Path | str, data: bytes, suffix: str) -> dict[str, str]:
    """Store `data` under its own digest, and return the reference that a record holds: {"sha256", "file"}.

    `suffix` begins with a dot: ".json", ".safetensors". Equal content is stored once.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    reference = {"sha256": sha256, "file": f"{ARTEFACTS}/{sha256}{suffix}"}
    if not _ARTEFACT.fullmatch(reference["file"]):
        raise ValueError(f"suffix {suffix!r}: a dot and small letters or digits are wanted, such as '.json'")
    path = Path(run_folder) / reference["file"]
    # An existing file is written anew unless it is whole: what a crash or a hand spoilt is mended by the next run.
    if not (path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256):
        write_bytes_atomically(path, data)
    return reference


def read_artefact(run_folder: Path | str, reference: Mapping[str, str]) -> bytes:
    """The bytes that a record's reference points to. Raises BrokenArtefact if they are not there or not those bytes."""
    file, sha256 = reference["file"], reference["sha256"]
    try:
        with open(os.path.join(run_folder, file), "rb") as opened:  # a tenth of the cost of a Path: many are read
            data = opened.read()
    except OSError as error:
        raise BrokenArtefact(f"{file}: cannot be read ({error.strerror or type(error).__name__})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BrokenArtefact(f"{file}: its digest is {found}, the record says {sha256}")
    return data


# --- what a record must hold ----------------------------------------------------------------------------------------

_TEXT, _WHOLE, _NUMBER, _TABLE, _LIST = "text", "a whole number", "a finite number", "a table", "a list"

_RECORD = {"result": _TABLE, "result_digest": _TEXT, "circumstance": _TABLE}
_RESULT = {"trial_id": _TEXT, "cell_id": _TEXT, "trial": _TABLE, "status": _TEXT, "reason": _TEXT, "metrics": _LIST}
_TRIAL = {
    "method": _TEXT,
    "method_version": _WHOLE,
    "settings": _TABLE,
    "training": _TABLE,
    "seed": _WHOLE,
    "dataset_fingerprint": _TEXT,
    "protocol": _TABLE,
}
_PROTOCOL = {"name": _TEXT, "version": _WHOLE, "hash": _TEXT, "content": _TABLE}
_METRIC = {"name": _TEXT, "variant": _TEXT, "split": _TEXT, "value": _NUMBER}


def _problem(record: object) -> str:
    """What is wrong with a record in one line, or an empty string."""
    if not isinstance(record, dict) or "schema" not in record:
        return "not a record: it has no 'schema'"
    if record["schema"] != SCHEMA:
        return f"schema {record['schema']!r} is not known here; this version reads schema {SCHEMA}"
    if problem := _first_problem(record, _RECORD, "record"):
        return problem
    result = record["result"]
    if problem := _result_problem(result):
        return problem
    if (found := digest(result)) != record["result_digest"]:
        return f"its result was changed: the digest is {found}, the record says {record['result_digest']}"
    return ""


def _result_problem(result: dict[str, Any]) -> str:
    problem = (
        _first_problem(result, _RESULT, "result")
        or _first_problem(result["trial"], _TRIAL, "result.trial")
        or _first_problem(result["trial"]["protocol"], _PROTOCOL, "result.trial.protocol")
    )
    if problem:
        return problem
    if result["status"] not in STATUSES:
        return f"result.status is {result['status']!r}; allowed are {', '.join(STATUSES)}"
    for key in ("trial_id", "cell_id"):
        if not _ID.fullmatch(result[key]):
            return f"result.{key} is {result[key]!r}; 16 hexadecimal digits are wanted"
    for index, metric in enumerate(result["metrics"]):
        if problem := _first_problem(metric, _METRIC, f"result.metrics[{index}]"):
            return problem
    return _reference_problem(result, "curves") or _reference_problem(result, "outputs")


def _reference_problem(result: dict[str, Any], key: str) -> str:
    reference = result.get(key)
    if reference is None:
        return ""
    if problem := _first_problem(reference, {"sha256": _TEXT, "file": _TEXT}, f"result.{key}"):
        return problem
    # Checked so that a record can never make anyone open a file outside its own run folder.
    match = _ARTEFACT.fullmatch(reference["file"])
    if not match or match[1] != reference["sha256"]:
        return f"result.{key}.file is {reference['file']!r}; artefacts/ and its digest are wanted"
    return ""


def _first_problem(table: object, wanted: Mapping[str, str], where: str) -> str:
    if not isinstance(table, dict):
        return f"{where} is {_kind(table)}; a table is wanted"
    for key, kind in wanted.items():
        if key not in table:
            return f"{where} has no {key!r}"
        if not _is(table[key], kind):
            return f"{where}.{key} is {_kind(table[key])}; {kind} is wanted"
    return ""


def _is(value: object, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _TABLE:
        return isinstance(value, Mapping)
    if kind == _LIST:
        return isinstance(value, Sequence) and not isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if kind == _WHOLE:
        return isinstance(value, int) and -_LARGEST <= value < _LARGEST
    return math.isfinite(value)


def _kind(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
