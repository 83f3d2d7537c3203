"""The run folder as launchers and the command line see it: its plan, what is missing, and whether it was cancelled."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinbench.harness.attempts import attempt_file, attempt_numbers, now
from twinbench.harness.heart import CANCELLED
from twinbench.results.record import PLAN, record_path, recorded_ids, write_bytes_atomically, write_json_atomically
from twinbench.sweeps.identity import canonical_json, to_utf8
from twinbench.sweeps.mistakes import InvalidInput, Mistake
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.planning import Plan  # brings torch, which only looking at a folder does without

LAUNCHES = "launches"


def write_plan(run_folder: Path, planned: "Plan", command: str = "") -> None:
    """Leaves `plan.json`. InvalidInput for a folder whose plan is another protocol's, since numbers would mix, and
    where trials that were planned and have no record would leave the plan: what was planned must not vanish.

    `command`: how the run was asked for. The plan keeps every one that the folder was run by, in the order of the first
    time; the same one again leaves the same plan.
    """
    file = run_folder / PLAN
    commands: list[str] = []
    if file.exists():
        before = read_plan(run_folder)
        _check_plan_before(run_folder, before, planned)
        commands = before.get("commands", [])
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(file, _plan_text(planned, list(filter(None, dict.fromkeys([*commands, command])))))
    except OSError as error:
        raise InvalidInput([Mistake(str(run_folder), "", f"cannot be written: {error.strerror}")]) from None


def _check_plan_before(run_folder: Path, plan: Mapping[str, Any], planned: "Plan") -> None:
    protocol = plan["protocol"]
    if protocol["hash"] != planned.protocol.hash:
        held = f"{protocol['name']} version {protocol['version']}, {protocol['hash'][:12]}"
        problem = f"holds runs of another protocol than {planned.protocol.name} {planned.protocol.hash[:12]}"
        raise InvalidInput([Mistake(str(run_folder), "", problem, held, allowed="another --out")])
    recorded = recorded_ids(run_folder).keys()
    if not recorded and not (run_folder / "trials").exists():
        return  # nothing was begun: a slip in the sweep file is mended
    kept = recorded | {trial.trial_id for trial in planned.trials}
    left = [trial["trial_id"] for trial in plan["trials"] if trial["trial_id"] not in kept]
    if left:
        shown = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
        problem = f"{len(left)} of its planned trials have no record and are not in this sweep"
        allowed = "a sweep that has them too, or another --out"
        raise InvalidInput([Mistake(str(run_folder), "", problem, shown, allowed)])


def why_unwritable(run_folder: Path) -> str:
    """Why the folder takes no more, in words; empty where it does. Tried with as much as a small trial's state."""
    try:
        write_bytes_atomically(run_folder / ".room", bytes(2**20)).unlink()
    except OSError as error:
        return f"the run folder cannot be written: {error.strerror}"
    return ""


def _plan_text(planned: "Plan", commands: list[str]) -> bytes:
    """A trial a line: to be read by people, and written ten times faster than Python's indented JSON."""
    content = planned.content() | ({"commands": commands} if commands else {})
    trials = content.pop("trials")
    head = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    lines = [canonical_json(trial) for trial in trials]
    return to_utf8(head) + b',\n "trials": [\n' + b",\n".join(lines) + b"\n ]\n}\n"


def read_plan(run_folder: Path) -> dict[str, Any]:
    """The folder's `plan.json`. InvalidInput where there is none, or it is no plan."""
    try:
        content: dict[str, Any] = json.loads((run_folder / PLAN).read_text(encoding="utf-8"))
        content["axes"], content["protocol"]["hash"], [trial["trial_id"] for trial in content["trials"]]
        "".join(content.get("commands", []))  # all texts
        return content
    except FileNotFoundError:
        problem = f"is no run folder: it has no {PLAN}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"its {PLAN} cannot be read: {error}"
    raise InvalidInput([Mistake(str(run_folder), "", problem)])


def trials_of(content: Mapping[str, Any]) -> list[Trial]:
    """The trials of a plan that was read, in its order."""
    names = [field.name for field in dataclasses.fields(Trial)]
    whole = {"protocol": content["protocol"]}
    return [Trial(**{name: (trial | whole)[name] for name in names}) for trial in content["trials"]]


def planned_trials(run_folder: Path) -> list[Trial]:
    """The trials of the folder's plan, in its order."""
    return trials_of(read_plan(run_folder))


def write_launch(run_folder: Path, name: str, launch: Mapping[str, Any]) -> None:
    """Notes in `launches/` what a cluster was asked for, and when."""
    write_json_atomically(run_folder / LAUNCHES / f"{name}.json", {"submitted": now(), **launch})


def missing(planned: "Plan", run_folder: Path) -> list[Trial]:
    """Trials without a record, in the plan's order."""
    recorded = recorded_ids(run_folder)
    return [trial for trial in planned.trials if trial.trial_id not in recorded]


def set_failed_aside(run_folder: Path, planned: "Plan") -> int:
    """Moves the records of failed trials to the attempts that left them, so that they run again; how many."""
    recorded = recorded_ids(run_folder)
    failed = [trial.trial_id for trial in planned.trials if recorded.get(trial.trial_id) == "failed"]
    for trial_id in failed:
        number = max(attempt_numbers(run_folder, trial_id), default=0)
        aside = attempt_file(run_folder, trial_id, number, ".record.json")
        aside.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another command has just done so
            os.replace(record_path(run_folder, trial_id), aside)
    return len(failed)


def cancel(run_folder: Path) -> list[Path]:
    """Asks every worker of the folder, wherever it is, to save its trial and end; the notes of the launches cancelled.

    They are set aside under `launches/cancelled/`: a `run` a second later must not take workers that are just ending
    for workers that go on.
    """
    (run_folder / CANCELLED).touch()
    aside = []
    for file in sorted((run_folder / LAUNCHES).glob("*.json")):
        target = file.parent / CANCELLED / f"{cancellations(run_folder)}-{file.name}"
        target.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another `cancel` has just done so
            os.replace(file, target)
            aside.append(target)
    return aside


def cancellations(run_folder: Path) -> int:
    """How many launches of the folder were cancelled so far."""
    return len(list((run_folder / LAUNCHES / CANCELLED).glob("*.json")))


def allow(run_folder: Path) -> None:
    """Takes back an earlier `cancel`."""
    (run_folder / CANCELLED).unlink(missing_ok=True)
