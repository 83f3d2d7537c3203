"""The run folder for launchers and commands: its plan, the trials to run, notes about launches, and cancelling.

plan.json                      the planned trials and the commands that ran the folder
commands/DIGEST.json           each of these commands, so that runs that start together keep both
launches/NAME.json             what was submitted to a cluster, and when
launches/last-words/NAME.json  why a worker of that launch ended
launches/cancelled/            notes of cancelled launches
cancelled                      present after `twinbench cancel`
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twinbench.harness.run_folder.heartbeat import CANCELLED
from twinbench.harness.run_folder.leases import now
from twinbench.results.atomic_files import write_bytes_atomically, write_json_atomically
from twinbench.results.attempts import attempt_file, attempt_numbers
from twinbench.results.places import check_places, check_trial_places
from twinbench.results.plan import PlanFile, read_plan
from twinbench.results.record import PLAN, TornRecord, read_record, record_path, recorded_ids
from twinbench.sweeps.errors import InvalidInput, Mistake, nearest
from twinbench.sweeps.file_reader import parse_json, read_regular
from twinbench.sweeps.hashing import canonical_json, digest, to_utf8
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.planning import Plan

LAUNCHES = "launches"
COMMANDS = "commands"
LAST_WORDS = "last-words"


# --- the plan -------------------------------------------------------------------------------------------------------


def write_plan(run_folder: Path, planned: "Plan", command: str = "") -> None:
    """Write `plan.json`, with `command` added to the commands that ran the folder, each once, oldest first.

    InvalidInput if the folder holds runs of another protocol, whose numbers cannot be compared, or if trials that were
    planned before and have no record are missing from the new plan: no planned trial may vanish. Also if something is
    in the place of a trial's record or attempts, which would otherwise show when the trial has been trained.
    """
    check_trial_places(run_folder, {trial.trial_id for trial in planned.trials})
    commands: Sequence[str] = ()
    if before := check_plan_before(run_folder, planned):
        commands = before.commands
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        if command:
            _keep_command(run_folder, command)
        written = _write_plan(run_folder, planned.content(), commands)
        # If another run started at the same time, one of the two plans was overwritten. Keep the trials of the plan
        # that is there and add the commands of both.
        while not written.issuperset(_kept_commands(run_folder)):
            plan = read_plan(run_folder)
            written = _write_plan(run_folder, plan.content(), plan.commands)
            if reason := why_unplanned(run_folder, planned):
                raise InvalidInput([Mistake(str(run_folder), "", reason, allowed="run again, or use another --out")])
    except OSError as error:
        raise InvalidInput([Mistake(str(run_folder), "", f"cannot be written: {error.strerror}")]) from None


def why_unplanned(run_folder: Path, planned: "Plan") -> str:
    """Return that the folder's plan no longer has all of the `planned` trials, or cannot be read; empty if it has.

    Another run replaced the plan: it started at the same moment, or later but before any trial had started.
    """
    try:
        kept = {trial.trial_id for trial in read_plan(run_folder).trials}
    except InvalidInput as error:
        return str(error)
    gone = sum(trial.trial_id not in kept for trial in planned.trials)
    return f"another run has replaced the plan, without {gone} of these trials" if gone else ""


def _keep_command(run_folder: Path, command: str) -> None:
    """Write the command to a file of its own, before the plan that names it.

    Two runs that read a plan at the same time would each write it without the other's command. Each looks into
    `commands/` after writing the plan, so neither command is lost.
    """
    file = run_folder / COMMANDS / f"{digest(command)[:16]}.json"
    if not file.exists():
        write_json_atomically(file, command)


def _kept_commands(run_folder: Path) -> list[str]:
    """Return the commands in `commands/`; none in folders of versions that did not write them."""
    found = []
    for file in sorted((run_folder / COMMANDS).glob("*.json")):
        try:
            command = parse_json(read_regular(file))
        except ValueError as error:
            command = error
        if not isinstance(command, str):
            problem = "not a command that a run has written"
            raise InvalidInput([Mistake(str(file), "", problem, command, "a JSON string, or delete the file")])
        found.append(command)
    return found


def _write_plan(run_folder: Path, content: Mapping[str, object], commands: Sequence[str]) -> set[str]:
    """Write the plan with these commands and those in `commands/`; return all of them."""
    merged = list(dict.fromkeys([*commands, *_kept_commands(run_folder)]))
    write_bytes_atomically(run_folder / PLAN, _plan_text({**content, **({"commands": merged} if merged else {})}))
    return set(merged)


def check_plan_before(run_folder: Path, planned: "Plan") -> PlanFile | None:
    """Return the folder's plan, if any. InvalidInput where `planned` cannot replace it: see `write_plan`."""
    if not (run_folder / PLAN).exists():
        return None
    plan = read_plan(run_folder)
    protocol = plan.protocol
    if protocol["hash"] != planned.protocol.hash:
        held = f"{protocol['name']} v{protocol['version']}, {protocol['hash'][:12]}"
        problem = f"holds runs of another protocol than {planned.protocol.name} {planned.protocol.hash[:12]}"
        raise InvalidInput([Mistake(str(run_folder), "", problem, held, allowed="another --out")])
    recorded = recorded_ids(run_folder).keys()
    if not recorded and not (run_folder / "trials").exists():
        return plan  # no trial has started, so that a mistake in the sweep file can still be corrected
    begun = {trial.seed for trial in plan.trials} & set(plan.confirm.seeds)
    if lost := sorted(begun - set(planned.confirm_seeds)):
        problem = "results on these seeds confirm a choice, and this sweep does not keep them for that"
        allowed = "a sweep with these seeds under [confirm], or another --out"
        raise InvalidInput([Mistake(str(run_folder), "confirm.seeds", problem, lost, allowed)])
    kept = recorded | {trial.trial_id for trial in planned.trials}
    left = [trial.trial_id for trial in plan.trials if trial.trial_id not in kept]
    if left:
        shown = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
        problem = f"{len(left)} of its planned trials have no record and are not in this sweep"
        allowed = "a sweep that includes them, or another --out"
        raise InvalidInput([Mistake(str(run_folder), "", problem, shown, allowed)])
    return plan


def _plan_text(content: Mapping[str, object]) -> bytes:
    """Return the plan as JSON with one trial a line: readable, and ten times faster than Python's indented JSON."""
    rest = {key: value for key, value in content.items() if key != "trials"}
    trials = content["trials"]
    assert isinstance(trials, list | tuple)
    head = json.dumps(rest, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    lines = [canonical_json(trial) for trial in trials]
    return to_utf8(head) + b',\n "trials": [\n' + b",\n".join(lines) + b"\n ]\n}\n"


def unrecorded_trials(run_folder: Path) -> list[Trial]:
    """Return the trials of the folder's plan without a record, in its order."""
    recorded = recorded_ids(run_folder)  # read first: a plan that grows meanwhile adds trials, and loses none
    return [trial for trial in read_plan(run_folder).full_trials() if trial.trial_id not in recorded]


def missing(planned: "Plan", run_folder: Path) -> list[Trial]:
    """Return the `planned` trials without a record that are still in the folder's plan, in its order."""
    found = {trial.trial_id for trial in read_plan(run_folder).trials} - recorded_ids(run_folder).keys()
    return [trial for trial in planned.trials if trial.trial_id in found]


def retry_failed(run_folder: Path, planned: "Plan") -> int:
    """Move the records of failed trials to their attempts, so that the trials run again; return their number."""
    recorded, count = recorded_ids(run_folder), 0
    for trial_id in [trial.trial_id for trial in planned.trials if recorded.get(trial.trial_id) == "failed"]:
        number = max(attempt_numbers(run_folder, trial_id), default=0)
        aside = attempt_file(run_folder, trial_id, number, ".record.json")
        aside.parent.mkdir(parents=True, exist_ok=True)
        record = record_path(run_folder, trial_id)
        with contextlib.suppress(FileNotFoundError, TornRecord):  # another command has just moved it
            if read_record(record)["result"]["status"] == "failed":  # checked again: the trial may have just run again
                os.replace(record, aside)
                count += 1
    return count


# --- the folder itself ----------------------------------------------------------------------------------------------


def check_folder_exists(folder: Path) -> None:
    """InvalidInput, with the most similar folder name, if the folder does not exist or cannot be a run folder.

    A command that waits for a plan would otherwise wait forever after a typing mistake.
    """
    check_places(folder)
    if folder.is_dir():
        return
    siblings: list[str] = []
    with contextlib.suppress(OSError):
        siblings = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    close = nearest(folder.name, sorted(siblings))
    allowed = "a folder that `run` has created, or an empty folder to wait in"
    suggestion = str(folder.parent / close) if close else ""
    raise InvalidInput([Mistake(str(folder), "", "no such folder", allowed=allowed, nearest=suggestion)])


def why_unwritable(run_folder: Path) -> str:
    """Return why the folder cannot be written; empty if it can. Tries with 1 MiB, as much as a small trial's state."""
    try:
        write_bytes_atomically(run_folder / ".room", bytes(2**20)).unlink()
    except OSError as error:
        return f"the run folder cannot be written: {error.strerror}"
    return ""


def refresh_listing(folder: Path) -> None:
    """Make files visible that other machines have written into `folder`, by changing the folder.

    An NFS client may show an old listing for up to a minute, unless it has just changed the folder itself.
    """
    with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(prefix=".look-", dir=folder):
        pass


# --- launches on a cluster ------------------------------------------------------------------------------------------


def write_launch(run_folder: Path, name: str, launch: Mapping[str, object]) -> None:
    """Note in `launches/` what was submitted to a cluster, and when."""
    write_json_atomically(run_folder / LAUNCHES / f"{name}.json", {"submitted": now(), **launch})


def launch_notes(run_folder: Path) -> list[Path]:
    """Return the files of `write_launch`, without those of cancelled launches."""
    return sorted((run_folder / LAUNCHES).glob("*.json"))


def read_launches(notes: Iterable[Path], *keys: str) -> list[dict[str, str]]:
    """Return the values of `keys` in each of these notes that has them all. A damaged note has none."""
    found = []
    for file in notes:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = parse_json(read_regular(file))
            found.append({key: str(note[key]) for key in keys})
    return found


def damaged_launches(notes: Iterable[Path]) -> list[Path]:
    """Return the notes that are no tables, of which `read_launches` reads nothing."""
    return [file for file in notes if not isinstance(_launch_note(file), dict)]


def _launch_note(file: Path) -> object:
    try:
        return parse_json(read_regular(file))
    except (OSError, ValueError):
        return None


def note_worker_error(run_folder: Path, launch: str, error: Exception, where: str) -> None:
    """Note why a worker of the launch ended, if the folder can be written: no parent process would report it."""
    words = f"{type(error).__name__}: {error}, on {where}"
    with contextlib.suppress(OSError):
        write_json_atomically(_worker_error_file(run_folder, launch), {"said": now(), "words": words})


def worker_error(run_folder: Path, launch: str) -> str:
    """Return why a worker of the launch ended; empty if none has left a note."""
    try:
        return str(parse_json(read_regular(_worker_error_file(run_folder, launch)))["words"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def clear_worker_error(run_folder: Path, launch: str) -> None:
    """Delete the note before workers of the launch are started again."""
    with contextlib.suppress(OSError):
        _worker_error_file(run_folder, launch).unlink()


def _worker_error_file(run_folder: Path, launch: str) -> Path:
    return run_folder / LAUNCHES / LAST_WORDS / f"{launch}.json"


# --- cancelling -----------------------------------------------------------------------------------------------------


def cancel(run_folder: Path) -> list[Path]:
    """Ask all workers of the folder to save their trials and stop; return the notes of the cancelled launches.

    The notes are moved to `launches/cancelled/`: a `run` that follows at once must not count on workers that are
    stopping.
    """
    (run_folder / CANCELLED).touch()
    aside = []
    for file in launch_notes(run_folder):
        target = file.parent / CANCELLED / f"{cancellations(run_folder)}-{file.name}"
        target.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another `cancel` has just moved it
            os.replace(file, target)
            aside.append(target)
    return aside


def cancellations(run_folder: Path) -> int:
    """Return how many launches of the folder were cancelled so far."""
    return len(list((run_folder / LAUNCHES / CANCELLED).glob("*.json")))


def undo_cancel(run_folder: Path) -> None:
    """Undo an earlier `cancel`, so that workers may start."""
    (run_folder / CANCELLED).unlink(missing_ok=True)
