"""Joins the run folders of several sites into a new one, without ever choosing between results that disagree.

The new folder holds what the sources hold, and is a run folder like them:

    plan.json                             the union of the plans
    records/, artefacts/, trials/         of each trial one record, with what belongs to it
    disagreements/TRIAL_ID.NUMBER.json    the records of a trial whose result differs between sites, by source number

Sources are numbered from 1, in the order in which they were given. Reports and databases are derived, and not copied.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from twinbench.results.atomic_files import write_bytes_atomically, write_json_atomically
from twinbench.results.attempts import TRIALS
from twinbench.results.code_hash import is_same_code
from twinbench.results.plan import PlanFile, PlannedTrial, read_plan
from twinbench.results.record import (
    DECLARATIONS,
    PLAN,
    RECORDS,
    BrokenArtefact,
    Record,
    Reference,
    Result,
    TornRecord,
    parse_record,
    read_artefact,
    record_files,
    references,
)
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.metrics import MetricValue

DISAGREEMENTS = "disagreements"

_STATE = "state.pt"  # only a trial that is still to be finished needs it, and it is large
_MAY_EXPLAIN = {
    "device": "The device",
    "precision": "The precision",
    "mode": "The mode of kernels",
    "threads": "The number of threads",
    "ranks": "The number of ranks",
}
_SHOWN = 120  # characters of a value in a sentence


@dataclass(frozen=True)
class Disagreement:
    """A trial whose result differs between sites: in what, and which circumstances may explain it, in sentences."""

    trial_id: str
    sources: tuple[int, ...]
    differences: tuple[str, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Merged:
    """What a merge did. `set_aside` holds (file, reason) of all that was not taken over because something is wrong."""

    trials: int  # on the new plan
    records: int  # in the new folder
    duplicates: int  # equal results beside one that was kept
    disagreements: tuple[Disagreement, ...]
    set_aside: tuple[tuple[str, str], ...]
    failures_superseded: int  # failures that gave way to a result, or to another failure of the trial that came first
    missing: int  # planned trials without a record in the new folder; those that disagree are among them


def merge_folders(sources: Sequence[Path], out: Path) -> Merged:
    """Joins the run folders `sources`, which stay as they are, into the new folder `out`.

    Where one trial has several records, the first of equal ones is kept, and a failure gives way to a result. Results
    that differ are all put aside under disagreements/, and none of them counts. `out` appears whole or not at all.
    Raises InvalidInput with everything that keeps these folders from being merged.
    """
    plans = _checked_plans(sources, out)
    target = out.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.mkdir(parents=True)
        merged = _merge_into(temporary, sources, _joined(plans))
        os.replace(temporary, target)  # takes the place of an empty folder, and fails where one was filled meanwhile
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise InvalidInput([Mistake(str(out), "", f"the sources cannot be merged into it: {error}")]) from error
        raise
    return merged


def _merge_into(folder: Path, sources: Sequence[Path], plan: PlanFile) -> Merged:
    merger = _Merger(folder, sources, plan.protocol["hash"])
    for name in sorted({path.name for source in sources for path in record_files(source)}):
        merger.settle(name)
    earlier = [str(path) for source in sources for path in _plain_files(source / DISAGREEMENTS)]
    merger.set_aside += [(file, "belongs to an earlier merge: merge that one's sources instead") for file in earlier]
    merger.set_aside += _carry_declarations(folder, sources)
    write_json_atomically(
        folder / PLAN, plan.content()
    )  # last, since it also puts the names of the folders beside it on disk
    planned = {trial.trial_id for trial in plan.trials}
    return Merged(
        trials=len(planned),
        records=len(merger.kept),
        duplicates=merger.duplicates,
        disagreements=tuple(merger.disagreements),
        set_aside=tuple(merger.set_aside),
        failures_superseded=merger.failures_superseded,
        missing=len(planned - merger.kept),
    )


def _carry_declarations(folder: Path, sources: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Copies the log of declarations and the claims files; (file, reason) of what cannot be carried.

    Logs cannot be joined: each line holds the digest of the one before. The first site's log is kept, or one that goes
    on from it; claims files of one name and other content stand side by side.
    """
    log, kept = b"", None
    for source in sources:
        for path in (source / DECLARATIONS, *sorted(source.glob("claims*.toml"))):
            try:
                data = _read_plain(source, path) if os.path.lexists(path) else b""
            except OSError as error:
                yield str(path), _reason(error)
                continue
            if path.name != DECLARATIONS:
                _copy_claims(folder, path.name, data)
            elif data.startswith(log):
                log, kept = data, path
            elif not log.startswith(data):
                yield str(path), f"does not follow {kept}: what it alone declares will count as not declared"
    if log:
        write_bytes_atomically(folder / DECLARATIONS, log)


def _copy_claims(folder: Path, name: str, data: bytes) -> None:
    target = folder / name
    if target.exists() and target.read_bytes() != data:
        target = folder / f"claims-{sha256(data).hexdigest()[:8]}.toml"
    write_bytes_atomically(target, data)


# --- what was asked for ---------------------------------------------------------------------------------------------


def _checked_plans(sources: Sequence[Path], out: Path) -> list[PlanFile]:
    """The plan of each source. InvalidInput lists every mistake found."""
    mistakes = [] if sources else [Mistake("sources", "", "no run folder was given to merge")]
    mistakes += _given_twice(sources) + _out_mistakes(sources, out)
    plans = {}
    for source in dict.fromkeys(sources):
        try:
            plan = read_plan(source, partial(_read_plain, source))
            canonical_json(plan.content())  # refuses NaN and infinity, with which the merged plan cannot be written
            plans[source] = plan
        except InvalidInput as error:
            mistakes += error.mistakes
        except ValueError as error:
            mistakes.append(Mistake(str(source), "", f"its {PLAN} is not a plan: {error}"))
    mistakes += _protocol_mistakes(plans)
    if mistakes:
        raise InvalidInput(mistakes)
    return list(plans.values())


def _given_twice(sources: Sequence[Path]) -> list[Mistake]:
    mistakes = []
    before: dict[Path, Path] = {}
    for source in sources:
        folder = source.resolve()
        if folder in before:
            spelled = "" if before[folder] == source else f", before as {before[folder]}"
            mistakes.append(Mistake(str(source), "", f"this source was given twice{spelled}"))
        before.setdefault(folder, source)
    return mistakes


def _out_mistakes(sources: Sequence[Path], out: Path) -> list[Mistake]:
    """A merge makes a new folder, outside of every source."""
    new, target = "a new or an empty folder, outside of the sources", out.resolve()
    problems = []
    for source in dict.fromkeys(path.resolve() for path in sources):
        if target == source:
            problems.append("the merged folder cannot be one of its sources")
        elif source in target.parents:
            problems.append(f"the merged folder cannot lie inside the source {source}")
    if target.exists() and not target.is_dir():
        problems.append("exists already and is no folder")
    elif not problems and target.exists() and any(target.iterdir()):
        problems.append("exists already and is not empty")
    return [Mistake(str(out), "", problem, allowed=new) for problem in problems]


def _protocol_mistakes(plans: Mapping[Path, PlanFile]) -> list[Mistake]:
    """Numbers under different protocols do not mix."""
    mistakes = []
    for source, plan in plans.items():
        first, others = next(iter(plans.items()))
        if plan.protocol["hash"] != others.protocol["hash"]:
            problem = f"holds runs of another protocol than {first}"
            seen, allowed = _protocol_name(plan), _protocol_name(others)
            mistakes.append(Mistake(str(source), "", problem, seen, allowed))
    return mistakes


def _protocol_name(plan: PlanFile) -> str:
    protocol = plan.protocol
    return f"{protocol['name']} version {protocol['version']}, {protocol['hash'][:12]}"


def _joined(plans: Sequence[PlanFile]) -> PlanFile:
    """The plan of all: the first, with the trials, axes, commands and questions of the others behind its own."""
    trials: dict[str, PlannedTrial] = {}
    for plan in plans:
        for trial in plan.trials:
            trials.setdefault(trial.trial_id, trial)
    changes = {
        "question": " / ".join(dict.fromkeys(plan.question for plan in plans)),
        "axes": tuple(dict.fromkeys(axis for plan in plans for axis in plan.axes)),
        "trials": tuple(trials.values()),
    }
    commands = tuple(dict.fromkeys(command for plan in plans for command in plan.commands))
    return plans[0].model_copy(update=changes | ({"commands": commands} if commands else {}))


# --- one trial after another ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """One source's record of a trial."""

    number: int
    source: Path
    path: Path
    data: bytes
    record: Record

    @property
    def result(self) -> Result:
        return self.record["result"]

    @property
    def trial_id(self) -> str:
        return self.result["trial_id"]

    @property
    def digest(self) -> str:
        return self.record["result_digest"]

    @property
    def failed(self) -> bool:
        return self.result["status"] == "failed"


@dataclass
class _Merger:
    """Takes over one trial at a time, so that memory holds the records of one, and keeps count."""

    folder: Path
    sources: Sequence[Path]
    protocol_hash: str
    kept: set[str] = field(default_factory=set)
    duplicates: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    set_aside: list[tuple[str, str]] = field(default_factory=list)
    failures_superseded: int = 0

    def settle(self, file_name: str) -> None:
        """Decide what becomes of the records of this name."""
        found = list(self._find(file_name))
        results = [one for one in found if not one.failed]
        failures = [one for one in found if one.failed]
        if len({one.digest for one in results}) > 1:
            self._disagree(results)
        elif not self._keep_first_whole(results):
            self._keep_first_whole(failures)
            return
        # A failure tells of the machine, not of the trial: any site's result says more.
        self.failures_superseded += len(failures)

    def _find(self, file_name: str) -> Iterator[_Found]:
        for number, source in enumerate(self.sources, start=1):
            path = source / RECORDS / file_name
            if not os.path.lexists(path):
                continue
            try:
                data = _read_plain(source, path)
                record = parse_record(file_name, data)
            except (OSError, TornRecord) as error:
                self.set_aside.append((str(path), _reason(error, file_name)))
                continue
            protocol = record["result"]["trial"]["protocol"]
            if protocol["hash"] == self.protocol_hash:
                yield _Found(number, source, path, data, record)
            else:
                reason = f"is of another protocol than the plan: {protocol['name']}, {protocol['hash'][:12]}"
                self.set_aside.append((str(path), reason))

    def _keep_first_whole(self, found: Sequence[_Found]) -> bool:
        """Keep the first record whose artefacts are whole, and account for the others. False if there is none."""
        kept, broken = self._first_whole(found)
        # A broken one that equals the kept one is no loss, and counts as its duplicate.
        lost = [(one, reason) for one, reason in broken if not kept or one.digest != kept.digest]
        self.set_aside += [(str(one.path), f"an artefact that it names is broken: {reason}") for one, reason in lost]
        if kept is None:
            return False
        self._keep(kept)
        equal = sum(one.digest == kept.digest for one in found) - 1
        self.duplicates += equal
        self.failures_superseded += len(found) - 1 - equal - len(lost)  # only failures can differ here
        return True

    def _first_whole(self, found: Sequence[_Found]) -> tuple[_Found | None, list[tuple[_Found, str]]]:
        """The first record whose artefacts could be copied, and those before it, with what is wrong."""
        broken: list[tuple[_Found, str]] = []
        for one in found:
            try:
                self._copy_artefacts(one)
                return one, broken
            except BrokenArtefact as error:
                broken.append((one, str(error)))
        return None, broken

    def _keep(self, one: _Found) -> None:
        write_bytes_atomically(self.folder / RECORDS / one.path.name, one.data)
        self.kept.add(one.trial_id)
        self._copy_trial_folder(one)

    def _disagree(self, found: Sequence[_Found]) -> None:
        for one in found:
            write_bytes_atomically(self.folder / DISAGREEMENTS / f"{one.trial_id}.{one.number}.json", one.data)
            try:
                self._copy_artefacts(one)
            except BrokenArtefact as error:
                # The record stays in evidence all the same: its numbers do not depend on the artefact.
                self.set_aside.append((str(one.path), f"an artefact of this disagreeing record is broken: {error}"))
        differences, hints = _differences(found), _hints(found)
        numbers = tuple(one.number for one in found)
        self.disagreements.append(Disagreement(found[0].trial_id, numbers, differences, hints))

    def _copy_artefacts(self, one: _Found) -> None:
        """Copy what the record names, all or nothing. Raises BrokenArtefact."""
        contents = {ref["file"]: _read_artefact(one.source, ref) for ref in references(one.result)}
        for file, data in contents.items():
            if not (self.folder / file).exists():
                write_bytes_atomically(self.folder / file, data)

    def _copy_trial_folder(self, one: _Found) -> None:
        """Copy the trial's attempts and logs, which are for looking at: one that cannot be read costs no record."""
        folder = one.source / TRIALS / one.trial_id
        if _is_behind_link(one.source, folder):
            return
        for path in _plain_files(folder):
            try:
                data = path.read_bytes()
            except OSError as error:
                self.set_aside.append((str(path), _reason(error)))
                continue
            write_bytes_atomically(self.folder / path.relative_to(one.source), data, durable=False)


# --- reading what others wrote --------------------------------------------------------------------------------------


class _NotPlain(OSError):
    """Something other than a plain file within the source; the text says what."""


def _read_plain(source: Path, path: Path) -> bytes:
    """The file's bytes; anything but a plain file is refused: a link leads out of the source, a pipe never ends."""
    if _is_behind_link(source, path):
        raise _NotPlain("is reached through a symbolic link, which a merge does not follow")
    if path.exists() and not path.is_file():
        raise _NotPlain("is no plain file")
    return path.read_bytes()


def _read_artefact(source: Path, reference: Reference) -> bytes:
    try:
        _read_plain(source, source / reference["file"])
    except OSError as error:
        raise BrokenArtefact(f"{reference['file']}: {_reason(error)}") from error
    return read_artefact(source, reference)


def _is_behind_link(source: Path, path: Path) -> bool:
    """Whether a symbolic link stands anywhere between the source and the path's end."""
    parts = path.relative_to(source).parts
    return any(source.joinpath(*parts[:length]).is_symlink() for length in range(1, len(parts) + 1))


def _plain_files(folder: Path) -> Iterator[Path]:
    """The plain files below the folder that are worth keeping, in a stable order."""
    for place, folders, names in os.walk(folder):  # which follows no links
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            temporary = name.startswith(".") or name.endswith(".tmp")
            # The state's own temporary files are called state.pt.PROCESS.TIME.
            if not temporary and not name.startswith(_STATE) and not path.is_symlink() and path.is_file():
                yield path


def _reason(error: Exception, file_name: str = "") -> str:
    if isinstance(error, OSError) and not isinstance(error, _NotPlain):
        return f"cannot be read ({error.strerror or type(error).__name__})"
    return str(error).removeprefix(f"{file_name}: ")


# --- what differs, in words -----------------------------------------------------------------------------------------


def _differences(found: Sequence[_Found]) -> tuple[str, ...]:
    """Sentences on all that differs between the results."""
    measured = [{_metric_name(metric) for metric in one.result["metrics"]} for one in found]
    everywhere = set.intersection(*measured)
    sentences = _contrasts({one.number: dict(_facts(one.result, everywhere)) for one in found})
    # What has no name here, such as the order of the metrics, still differs.
    return sentences or _contrasts({one.number: {"The digest of the result": one.digest} for one in found})


def _hints(found: Sequence[_Found]) -> tuple[str, ...]:
    """Sentences on those circumstances that differ and may explain it."""
    circumstances = {one.number: one.record["circumstance"] for one in found}
    hints = _contrasts({number: dict(_surroundings(one)) for number, one in circumstances.items()})
    hashed = [one for one in circumstances.values() if one.get("code_hash")]
    if is_same_code((str(one["code_hash"]), str(one.get("commit") or "")) for one in hashed) is None:
        hints += (
            "The code's hashes are of two kinds, which cannot be compared: whether the code differs is not known.",
        )
    return hints


def _metric_name(metric: MetricValue) -> str:
    return f"{metric['name']} ({metric['variant']}, {metric['split']})"


def _facts(result: Result, measured_everywhere: set[str]) -> Iterator[tuple[str, object]]:
    """Everything that a result says, each under the words that a sentence on it begins with."""
    yield "The status", result["status"]
    yield "The reason", result["reason"]
    for metric in result["metrics"]:
        name = _metric_name(metric)
        yield name, metric["value"]
        # Where a metric is absent, so are its details: one sentence says it.
        details = dict(metric) if name in measured_everywhere else {}
        yield from (
            (f"{key} of {name}", value)
            for key, value in sorted(details.items())
            if key not in ("name", "variant", "split", "value")
        )
    for key, reference in (("curves", result.get("curves")), ("outputs", result.get("outputs"))):
        if reference:
            yield f"The digest of the {key}", reference["sha256"][:12]
    for key, value in sorted(result.items()):
        if key in ("status", "reason", "metrics", "curves", "outputs"):
            continue
        inner = value.items() if isinstance(value, Mapping) else ()
        yield from ((f"{key}.{name}", part) for name, part in inner)
        if not isinstance(value, Mapping):
            yield key, value


def _surroundings(circumstance: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, subject in _MAY_EXPLAIN.items():
        if key in circumstance:
            yield subject, circumstance[key]
    versions = circumstance.get("versions")
    for name, version in sorted(versions.items()) if isinstance(versions, Mapping) else ():
        yield f"The version of {name}", version
    if "code_hash" in circumstance:
        yield "The code's hash", str(circumstance["code_hash"])[:12]


def _contrasts(told: Mapping[int, Mapping[str, object]]) -> tuple[str, ...]:
    """A sentence on each thing that the sources, by number, tell differently."""
    subjects = dict.fromkeys(subject for facts in told.values() for subject in facts)
    sentences = []
    for subject in subjects:
        values: dict[str, list[int]] = {}
        for number, facts in told.items():
            # By its text, as 1 and 1.0 are equal numbers and differ in a digest.
            text = _text(facts[subject]) if subject in facts else "absent"
            values.setdefault(text, []).append(number)
        if len(values) > 1:
            sides = [f"{_short(text)} in {_sources(numbers)}" for text, numbers in values.items()]
            sentences.append(f"{_printable(subject)} is {_listed(sides)}.")
    return tuple(sentences)


def _text(value: object) -> str:
    """As Python writes it; tables in one order, since order is no part of a digest."""
    return repr(json.loads(json.dumps(value, sort_keys=True)))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _printable(text: str) -> str:
    """Names come from other people's files: what could steer a terminal is spelled out."""
    return text if text.isprintable() else repr(text)


def _sources(numbers: Iterable[int]) -> str:
    names = [str(number) for number in numbers]
    return f"source{'s' if len(names) > 1 else ''} {_listed(names)}"


def _listed(words: Sequence[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last
