"""Records: what a finished trial leaves. They are the truth; the database, tables and pages are derived from them.

A run folder holds

    plan.json                     the trials to run, written before anything runs
    records/TRIAL_ID.json         one per finished trial, whole or absent, written last
    artefacts/SHA256.SUFFIX       curves and per-example outputs, named by their content

A record has two parts. `result` is what the trial's identity determines. Its digest is kept with it, so that comparing
two runs of a trial means comparing two strings. `circumstance` is the rest: times, cost, code, versions, device.

    RecordError(ValueError)
    ├── TornRecord        a file in records/ that is not a whole, well-formed record
    ├── BrokenArtefact    an artefact that is missing, misnamed or not what its digest says
    └── BrokenPlan        a plan.json that is not a plan (in plan.py)
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NotRequired, cast

from pydantic import Field, FiniteFloat, GetPydanticSchema, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from twinbench.results.atomic_files import json_bytes, write_bytes_atomically
from twinbench.results.protocol_content import SCALAR, CheckedProtocol, Integer
from twinbench.sweeps.file_reader import parse_json, read_regular
from twinbench.sweeps.hashing import canonical_json, digest
from twinbench.sweeps.metrics import MetricValue
from twinbench.sweeps.trial import TrialContent

SCHEMA = 1
STATUSES = ("done", "diverged", "collapsed", "failed")

PLAN = "plan.json"
WITHHELD = "WITHHELD"  # replaces possible secrets in the plan's commands
RECORDS = "records"
DECLARATIONS = "declarations.jsonl"
ARTEFACTS = "artefacts"
# Keys of a circumstance that can change the last bits of a result, apart from code and versions.
COMPUTED_WITH = ("device", "precision", "mode", "threads", "ranks")

_ARTEFACT = re.compile(r"artefacts/([0-9a-f]{64})\.[a-z0-9]+")
LARGEST_VALUE = 1e100  # of a measured number: float32 holds less, and sums of squares stay finite
LARGEST_ARTEFACT = 4 * 2**30  # bytes; embeddings of a million images with 1,000 values each


class RecordError(ValueError):
    """Something in a run folder is not what it should be; the text names the file and what is wrong."""


class TornRecord(RecordError):
    """A file in records/ that is not a whole, well-formed record."""


class BrokenArtefact(RecordError):
    """An artefact that is missing, misnamed, or not what its digest says."""


# --- what a record holds --------------------------------------------------------------------------------------------

TrialId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class _CheckedTrial(TypedDict):
    """What is checked of a `TrialContent`."""

    method: str
    method_version: Integer
    settings: dict[str, object]
    training: dict[str, object]
    seed: Integer
    dataset_fingerprint: str
    protocol: CheckedProtocol


class _CheckedMetric(TypedDict):
    """What is checked of a `MetricValue`."""

    name: str
    variant: str
    split: str
    value: Annotated[FiniteFloat, Field(gt=-LARGEST_VALUE, le=LARGEST_VALUE)]


class Reference(TypedDict):
    """An artefact that a record names: its sha256, and its file within the run folder."""

    sha256: str
    file: str


class Result(TypedDict):
    """The part of a record that the trial's identity determines."""

    trial_id: TrialId
    cell_id: TrialId
    trial: Annotated[TrialContent, GetPydanticSchema(lambda _, handler: handler.generate_schema(_CheckedTrial))]
    status: Annotated[str, Field(pattern=f"^({'|'.join(STATUSES)})$")]
    reason: str
    metrics: list[Annotated[MetricValue, GetPydanticSchema(lambda _, handler: handler.generate_schema(_CheckedMetric))]]
    derived: NotRequired[dict[str, object]]  # values computed from the settings, such as the scaled learning rate
    curves: NotRequired[Reference | None]
    outputs: NotRequired[Reference | None]


class Record(TypedDict):
    """One record. Nothing in `circumstance` is checked, so that no odd value there keeps a result out."""

    schema: int
    result: Result
    result_digest: str
    circumstance: dict[str, object]


def references(result: Result) -> list[Reference]:
    """Return the artefacts that a result names: its curves, then its outputs."""
    return [reference for reference in (result.get("curves"), result.get("outputs")) if reference]


# --- reading and writing --------------------------------------------------------------------------------------------


def record_path(run_folder: Path | str, trial_id: str) -> Path:
    """Return where the record of `trial_id` is, or will be."""
    return Path(run_folder) / RECORDS / f"{trial_id}.json"


def write_record(run_folder: Path | str, result: Result, circumstance: Mapping[str, object]) -> Path:
    """Write the record of one finished trial and return its path. Its artefacts must have been written before.

    Raises ValueError for a result that `read_record` would refuse.
    """
    # Through JSON and back, so that the digest covers what a reader will see: a tuple is a list, for one.
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
    return write_bytes_atomically(record_path(run_folder, plain["trial_id"]), _indented(record))


def _indented(record: dict[str, object]) -> bytes:
    """Return indented JSON; keys keep their order. Python's own encoder took a quarter of an empty trial's time."""
    from pydantic_core import to_json

    try:
        return to_json(record, indent=1) + b"\n"
    except ValueError:  # a lone surrogate
        return json_bytes(record)


def read_record(path: Path | str) -> Record:
    """Return the record in `path` after checking that it is JSON, its schema, keys, digest, and its file's name.

    Raises TornRecord with a text that names the file and what is wrong.
    """
    path = Path(path)
    try:
        data = read_regular(path)
    except OSError as error:
        raise TornRecord(f"{path.name}: cannot be read ({error.strerror or type(error).__name__})") from error
    return parse_record(path.name, data)


def parse_record(file_name: str, data: bytes) -> Record:
    """Return the record in `data`, read from a file called `file_name`; checks and raises as `read_record` does."""
    try:
        record = parse_json(data)
    except ValueError as error:
        raise TornRecord(f"{file_name}: not JSON ({error})") from error
    problem = _problem(record)
    if problem:
        raise TornRecord(f"{file_name}: {problem}")
    checked = cast(Record, record)
    trial_id = checked["result"]["trial_id"]
    if file_name != f"{trial_id}.json":
        raise TornRecord(f"{file_name}: holds trial {trial_id}, so the file should be called {trial_id}.json")
    return checked


def record_files(run_folder: Path | str) -> list[Path]:
    """Return everything in records/, sorted by name. Hidden files are other programs' and left out."""
    folder = Path(run_folder) / RECORDS
    if not folder.is_dir():
        return []
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]


def recorded_ids(run_folder: Path | str) -> dict[str, str]:
    """Return the status of every trial with a whole record, by its id. Trials with a torn record can run again."""
    statuses = {}
    for path in record_files(run_folder):
        try:
            result = read_record(path)["result"]
        except TornRecord:
            continue
        statuses[result["trial_id"]] = result["status"]
    return statuses


# --- artefacts ------------------------------------------------------------------------------------------------------


def write_artefact(run_folder: Path | str, data: bytes, suffix: str) -> Reference:
    """Store `data` under its own digest and return the reference for the record. Equal content is stored once.

    `suffix` begins with a dot: ".json", ".safetensors".
    """
    sha256 = hashlib.sha256(data).hexdigest()
    reference = Reference(sha256=sha256, file=f"{ARTEFACTS}/{sha256}{suffix}")
    if not _ARTEFACT.fullmatch(reference["file"]):
        raise ValueError(f"suffix {suffix!r}: must be a dot and small letters or digits, such as '.json'")
    path = Path(run_folder) / reference["file"]
    # A damaged file is written again, so that the next run repairs it.
    if not (path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256):
        write_bytes_atomically(path, data)
    return reference


def read_artefact(run_folder: Path | str, reference: Reference) -> bytes:
    """Return the bytes that a reference points to. Raises BrokenArtefact if they are missing or have another digest."""
    file, sha256 = reference["file"], reference["sha256"]
    try:
        data = read_regular(os.path.join(run_folder, file), LARGEST_ARTEFACT)  # a tenth of a Path's cost
    except OSError as error:
        raise BrokenArtefact(f"{file}: cannot be read ({error.strerror or type(error).__name__})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BrokenArtefact(f"{file}: its digest is {found}, the record says {sha256}")
    return data


# --- checks ---------------------------------------------------------------------------------------------------------

_RECORD = TypeAdapter(Record)
_MUST_BE = {
    "string_type": "a text",
    "int_type": "an integer of 64 bits",
    "greater_than_equal": "an integer of 64 bits",
    "less_than": "an integer of 64 bits",
    "greater_than": f"more than {-LARGEST_VALUE:g}",
    "less_than_equal": f"at most {LARGEST_VALUE:g}",
    "dict_type": "a table",
    "list_type": "a list",
    "string_pattern_mismatch": "16 hexadecimal digits",
    "string_unicode": "16 hexadecimal digits",
    "scalar_type": SCALAR,
}


def _problem(record: object) -> str:
    """Return what is wrong with a record in one line, or an empty string."""
    if not isinstance(record, dict) or "schema" not in record:
        return "not a record: it has no 'schema'"
    if record["schema"] != SCHEMA:
        return f"schema {record['schema']!r} is not supported; this version reads schema {SCHEMA}"
    try:
        _RECORD.validate_python(record, strict=True)
    except ValidationError as error:
        return _first_problem(error)
    result = record["result"]
    for key in ("curves", "outputs"):
        # A record must never make anyone open a file outside its own run folder.
        if reference := result.get(key):
            match = _ARTEFACT.fullmatch(reference["file"])
            if not match or match[1] != reference["sha256"]:
                return f"result.{key}.file is {reference['file']!r}; must be artefacts/ and its digest"
    if (found := digest(result)) != record["result_digest"]:
        return f"its result was changed: the digest is {found}, the record says {record['result_digest']}"
    return ""


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    *tables, key = ("record", *first["loc"]) if len(first["loc"]) == 1 else first["loc"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in tables)[1:]
    if first["type"] == "missing":
        return f"{where} has no {key!r}"
    name = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}"
    if key == "status":
        return f"{name} is {shown(first['input'])}; allowed: {', '.join(STATUSES)}"
    expected = first.get("ctx", {}).get("expected")  # of one of several texts
    return f"{name} is {shown(first['input'])}; must be {_MUST_BE.get(first['type'], expected or 'a finite number')}"


def shown(value: object) -> str:
    """Return a wrong value as an error shows it, in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
