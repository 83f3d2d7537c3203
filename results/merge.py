"""Merge the run folders of several sites into a new one, never choosing between results that differ.

The new folder is a run folder too:

    plan.json                             the union of the plans
    records/, artefacts/, trials/         one record per trial, with its artefacts, attempts and logs
    disagreements/TRIAL_ID.NUMBER.json    the records of a trial whose result differs between sites, by source number

Sources are numbered from 1 in the order in which they were given. Reports and databases are derived and not copied.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from twinbench.results.atomic_files import write_bytes_atomically, write_json_atomically
from twinbench.results.merge_records import DISAGREEMENTS, Disagreement, RecordMerger
from twinbench.results.plain_files import claims_files, plain_files, read_plain, read_problem
from twinbench.results.plan import PlanFile, PlannedConfirm, PlannedTrial, read_plan
from twinbench.results.record import DECLARATIONS, PLAN, record_files
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.trial import WITHOUT_SEEDS


@dataclass(frozen=True)
class Merged:
    """What a merge did. `set_aside` holds (file, reason) of every file that was not merged because of a problem."""

    trials: int  # in the new plan
    records: int  # in the new folder
    duplicates: int  # results equal to one that was kept
    disagreements: tuple[Disagreement, ...]
    set_aside: tuple[tuple[str, str], ...]
    failures_superseded: int  # failures dropped: their trial has a result, or a failure from an earlier source
    missing: int  # planned trials without a record in the new folder, disagreements included


def merge_folders(sources: Sequence[Path], out: Path) -> Merged:
    """Merge the run folders `sources`, which are not changed, into the new folder `out`.

    Of equal records of a trial the first is kept, and a result replaces a failure. Results that differ are all written
    to disagreements/, and none of them counts. `out` appears whole or not at all. Raises InvalidInput with every reason
    why the folders cannot be merged.
    """
    plans = _checked_plans(sources, out)
    target = out.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.mkdir(parents=True)
        merged = _merge_into(temporary, sources, _joined(plans))
        os.replace(temporary, target)  # replaces an empty folder, and fails if another process has filled it
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise InvalidInput([Mistake(str(out), "", f"the sources cannot be merged into it: {error}")]) from error
        raise
    return merged


def _merge_into(folder: Path, sources: Sequence[Path], plan: PlanFile) -> Merged:
    merger = RecordMerger(folder, sources, plan.protocol["hash"])
    for name in sorted({path.name for source in sources for path in record_files(source)}):
        merger.settle(name)
    reason = "belongs to an earlier merge: merge the sources of that merge instead"
    for path in (path for source in sources for path in plain_files(source / DISAGREEMENTS, merger.set_aside)):
        merger.set_aside.append((str(path), reason))
    merger.set_aside += _carry_declarations(folder, sources)
    # Written last: this also syncs the names of the folders beside it to disk.
    write_json_atomically(folder / PLAN, plan.content())
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
    """Copy the log of declarations and the claims files; yield (file, reason) of each that cannot be copied.

    Logs cannot be joined, since each line holds the digest of the line before it. The first site's log is kept, or one
    that continues it. Claims files with the same name and different content are all kept, under different names.
    """
    log, kept = b"", None
    for source in sources:
        for path in (source / DECLARATIONS, *claims_files(source)):
            try:
                data = read_plain(source, path) if os.path.lexists(path) else b""
            except OSError as error:
                yield str(path), read_problem(error)
                continue
            if path.name != DECLARATIONS:
                _copy_claims(folder, path.name, data)
            elif data.startswith(log):
                log, kept = data, path
            elif not log.startswith(data):
                yield str(path), f"does not continue {kept}: claims that only it declares will count as not declared"
    if log:
        write_bytes_atomically(folder / DECLARATIONS, log)


def _copy_claims(folder: Path, name: str, data: bytes) -> None:
    """Write a claims file, under another name if the folder holds a different one of its name."""
    target = folder / name
    if target.exists() and target.read_bytes() != data:
        target = folder / f"claims-{sha256(data).hexdigest()[:8]}.toml"
    write_bytes_atomically(target, data)


# --- checks of the sources ------------------------------------------------------------------------------------------


def _checked_plans(sources: Sequence[Path], out: Path) -> list[PlanFile]:
    """Return the plan of each source. InvalidInput lists every mistake found."""
    mistakes = [] if sources else [Mistake("sources", "", "no run folder was given to merge")]
    mistakes += _given_twice(sources) + _out_mistakes(sources, out)
    plans = {}
    for source in dict.fromkeys(sources):
        try:
            plan = read_plan(source, partial(read_plain, source))
            canonical_json(plan.content())  # refuses NaN and infinity, which a plan cannot be written with
            plans[source] = plan
        except InvalidInput as error:
            mistakes += error.mistakes
        except ValueError as error:
            mistakes.append(Mistake(str(source), "", f"its {PLAN} is not a plan: {error}"))
    mistakes += [*_protocol_mistakes(plans), *_confirm_mistakes(plans)]
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
    """Return why `out` cannot be used: it must be a new or empty folder, outside of every source."""
    new, target = "a new or an empty folder, outside of the sources", out.resolve()
    problems = []
    for source in dict.fromkeys(path.resolve() for path in sources):
        if target == source:
            problems.append("the merged folder cannot be one of its sources")
        elif source in target.parents:
            problems.append(f"the merged folder cannot lie inside the source {source}")
    if target.exists() and not target.is_dir():
        problems.append("exists already and is not a folder")
    elif not problems and target.exists() and any(target.iterdir()):
        problems.append("exists already and is not empty")
    return [Mistake(str(out), "", problem, allowed=new) for problem in problems]


def _protocol_mistakes(plans: Mapping[Path, PlanFile]) -> list[Mistake]:
    """Return the sources with another protocol than the first: their numbers cannot be compared."""
    mistakes = []
    for source, plan in plans.items():
        first, others = next(iter(plans.items()))
        if plan.protocol["hash"] != others.protocol["hash"]:
            problem = f"holds runs of another protocol than {first}"
            seen, allowed = _protocol_name(plan), _protocol_name(others)
            mistakes.append(Mistake(str(source), "", problem, seen, allowed))
    return mistakes


def _confirm_mistakes(plans: Mapping[Path, PlanFile]) -> Iterator[Mistake]:
    """Yield the sources whose grid has seeds that confirm a choice elsewhere: those would no longer be fresh."""
    for source, plan in plans.items():
        others = {seed: other for other, of in plans.items() for seed in of.confirm.seeds if other != source}
        grid = {one.seed for one in plan.trials if one.method != WITHOUT_SEEDS} - {*plan.confirm.seeds}
        if shared := sorted(grid & others.keys()):
            problem = f"its grid has confirm seeds of {others[shared[0]]}, so those would not be fresh"
            yield Mistake(str(source), "seeds", problem, shared, "other seeds than those under [confirm] elsewhere")


def _protocol_name(plan: PlanFile) -> str:
    protocol = plan.protocol
    return f"{protocol['name']} v{protocol['version']}, {protocol['hash'][:12]}"


def _joined(plans: Sequence[PlanFile]) -> PlanFile:
    """Return the first plan with trials, axes, questions, commands and what was left out of the others appended."""
    trials: dict[str, PlannedTrial] = {}
    for plan in plans:
        for trial in plan.trials:
            trials.setdefault(trial.trial_id, trial)
    changes: dict[str, object] = {
        "question": " / ".join(dict.fromkeys(plan.question for plan in plans)),
        "axes": tuple(dict.fromkeys(axis for plan in plans for axis in plan.axes)),
        "trials": tuple(trials.values()),
    }
    for name in ("commands", "left_out"):  # absent where empty
        if found := tuple(dict.fromkeys(text for plan in plans for text in getattr(plan, name))):
            changes[name] = found
    if seeds := tuple(dict.fromkeys(seed for plan in plans for seed in plan.confirm.seeds)):
        changes["confirm"] = PlannedConfirm(seeds=seeds)
    return plans[0].model_copy(update=changes)
