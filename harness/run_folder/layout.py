"""The run folder as launchers and the command line see it: its plan, what is missing, and whether it was cancelled."""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinbench.harness.run_folder.heartbeat import CANCELLED
from twinbench.harness.run_folder.leases import now
from twinbench.results.atomic_files import write_bytes_atomically, write_json_atomically
from twinbench.results.attempts import attempt_file, attempt_numbers
from twinbench.results.plan import PlanFile, read_plan
from twinbench.results.record import PLAN, TornRecord, read_record, record_path, recorded_ids
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest
from twinbench.sweeps.hashing import canonical_json, digest, to_utf8
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.planning import Plan  # brings torch, which only looking at a folder does without

LAUNCHES = "launches"
COMMANDS = "commands"
LAST_WORDS = "last-words"


def write_plan(run_folder: Path, planned: "Plan", command: str = "") -> None:
    """Leaves `plan.json`. InvalidInput for a folder whose plan is another protocol's, since numbers would mix, and
    where trials that were planned and have no record would leave the plan: what was planned must not vanish.

    `command`: how the run was asked for. The plan keeps every one that the folder was run by, in the order of the first
    time; the same one again leaves the same plan. Those of runs that began together are all kept, in any order.
    """
    commands: Sequence[str] = ()
    if (run_folder / PLAN).exists():
        before = read_plan(run_folder)
        _check_plan_before(run_folder, before, planned)
        commands = before.commands
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        if command:
            _keep_command(run_folder, command)
        written = _write_plan(run_folder, planned.content(), commands)
        while not written.issuperset(_kept_commands(run_folder)):  # another run began meanwhile: its plan may be gone
            plan = read_plan(run_folder)  # and if it is ours that is, the other's trials must stay
            written = _write_plan(run_folder, plan.content(), plan.commands)
            if reason := why_unplanned(run_folder, planned):
                raise InvalidInput([Mistake(str(run_folder), "", reason, allowed="the same again, or another --out")])
    except OSError as error:
        raise InvalidInput([Mistake(str(run_folder), "", f"cannot be written: {error.strerror}")]) from None


def why_unplanned(run_folder: Path, planned: "Plan") -> str:
    """That the folder's plan is another run's by now; empty where it is not.

    It began at the same moment, or later and before any trial had begun.
    """
    kept = {trial.trial_id for trial in read_plan(run_folder).trials}
    gone = sum(trial.trial_id not in kept for trial in planned.trials)
    return f"another run has planned the folder anew since, without {gone} of these trials" if gone else ""


def _keep_command(run_folder: Path, command: str) -> None:
    """Notes the command in a file of its own, before the plan that names it.

    Two runs that read a plan together would each write it without the other's command. What both find in `commands/`
    is lost by neither: whoever writes the plan last looks there once more.
    """
    file = run_folder / COMMANDS / f"{digest(command)[:16]}.json"
    if not file.exists():
        write_json_atomically(file, command)


def _kept_commands(run_folder: Path) -> list[str]:
    """What the files in `commands/` hold; none in a folder of before they were written."""
    found = []
    for file in sorted((run_folder / COMMANDS).glob("*.json")):
        try:
            command = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            command = error
        if not isinstance(command, str):
            problem = "is no command that a run left"
            raise InvalidInput([Mistake(str(file), "", problem, command, "a JSON text, or no such file")])
        found.append(command)
    return found


def _write_plan(run_folder: Path, content: Mapping[str, Any], commands: Sequence[str]) -> set[str]:
    """Leaves the plan with these commands and those in `commands/`; which they are."""
    whole = list(dict.fromkeys([*commands, *_kept_commands(run_folder)]))
    write_bytes_atomically(run_folder / PLAN, _plan_text(content, whole))
    return set(whole)


def _check_plan_before(run_folder: Path, plan: PlanFile, planned: "Plan") -> None:
    protocol = plan.protocol
    if protocol["hash"] != planned.protocol.hash:
        held = f"{protocol['name']} version {protocol['version']}, {protocol['hash'][:12]}"
        problem = f"holds runs of another protocol than {planned.protocol.name} {planned.protocol.hash[:12]}"
        raise InvalidInput([Mistake(str(run_folder), "", problem, held, allowed="another --out")])
    recorded = recorded_ids(run_folder).keys()
    if not recorded and not (run_folder / "trials").exists():
        return  # nothing was begun: a slip in the sweep file is mended
    kept = recorded | {trial.trial_id for trial in planned.trials}
    left = [trial.trial_id for trial in plan.trials if trial.trial_id not in kept]
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


def _plan_text(content: Mapping[str, Any], commands: list[str]) -> bytes:
    """A trial a line: to be read by people, and written ten times faster than Python's indented JSON."""
    content = {**content, **({"commands": commands} if commands else {})}
    trials = content.pop("trials")
    head = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    lines = [canonical_json(trial) for trial in trials]
    return to_utf8(head) + b',\n "trials": [\n' + b",\n".join(lines) + b"\n ]\n}\n"


def check_is_folder(folder: Path) -> None:
    """InvalidInput where there is no such folder, with the nearest name beside it: a slip would be waited for."""
    if folder.is_dir():
        return
    beside: list[str] = []
    with contextlib.suppress(OSError):
        beside = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    close = nearest(folder.name, sorted(beside))
    allowed = "one that `run` has begun, or an empty one to wait in"
    raise InvalidInput(
        [Mistake(str(folder), "", "is no folder", allowed=allowed, nearest=str(folder.parent / close) if close else "")]
    )


def planned_trials(run_folder: Path) -> list[Trial]:
    """The trials of the folder's plan, in its order."""
    return read_plan(run_folder).full_trials()


def look_anew(folder: Path) -> None:
    """Makes what others wrote into `folder` visible here.

    An NFS client shows a folder as it was for up to a minute, except where it has just changed the folder itself.
    """
    with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(prefix=".look-", dir=folder):
        pass


def write_launch(run_folder: Path, name: str, launch: Mapping[str, Any]) -> None:
    """Notes in `launches/` what a cluster was asked for, and when."""
    write_json_atomically(run_folder / LAUNCHES / f"{name}.json", {"submitted": now(), **launch})


def leave_last_words(run_folder: Path, launch: str, error: Exception, where: str) -> None:
    """Notes beside the launch why a worker of it ended that no parent hears; not where the folder takes no more."""
    words = f"{type(error).__name__}: {error}, on {where}"
    with contextlib.suppress(OSError):
        write_json_atomically(_last_words_file(run_folder, launch), {"said": now(), "words": words})


def last_words(run_folder: Path, launch: str) -> str:
    """What a worker of the launch left; empty where none did."""
    try:
        return str(json.loads(_last_words_file(run_folder, launch).read_bytes())["words"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def forget_last_words(run_folder: Path, launch: str) -> None:
    """Before workers of the same launch are started again."""
    with contextlib.suppress(OSError):
        _last_words_file(run_folder, launch).unlink()


def _last_words_file(run_folder: Path, launch: str) -> Path:
    return run_folder / LAUNCHES / LAST_WORDS / f"{launch}.json"


def launch_notes(run_folder: Path) -> list[Path]:
    """The files of `write_launch`, but of launches that were cancelled."""
    return sorted((run_folder / LAUNCHES).glob("*.json"))


def missing(planned: "Plan", run_folder: Path) -> list[Trial]:
    """Trials without a record that workers will find, since the folder's plan still has them; in the plan's order."""
    found = {trial.trial_id for trial in read_plan(run_folder).trials} - recorded_ids(run_folder).keys()
    return [trial for trial in planned.trials if trial.trial_id in found]


def set_failed_aside(run_folder: Path, planned: "Plan") -> int:
    """Moves the records of failed trials to the attempts that left them, so that they run again; how many."""
    recorded, count = recorded_ids(run_folder), 0
    for trial_id in [trial.trial_id for trial in planned.trials if recorded.get(trial.trial_id) == "failed"]:
        number = max(attempt_numbers(run_folder, trial_id), default=0)
        aside = attempt_file(run_folder, trial_id, number, ".record.json")
        aside.parent.mkdir(parents=True, exist_ok=True)
        record = record_path(run_folder, trial_id)
        with contextlib.suppress(FileNotFoundError, TornRecord):  # another command has just done so
            if read_record(record)["result"]["status"] == "failed":  # still: the trial may have run again meanwhile
                os.replace(record, aside)
                count += 1
    return count


def cancel(run_folder: Path) -> list[Path]:
    """Asks every worker of the folder, wherever it is, to save its trial and end; the notes of the launches cancelled.

    They are set aside under `launches/cancelled/`: a `run` a second later must not take workers that are just ending
    for workers that go on.
    """
    (run_folder / CANCELLED).touch()
    aside = []
    for file in launch_notes(run_folder):
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
