"""Runs a sweep as one SLURM job array, through submitit: each slot of it drains the run folder until its time is up.

SLURM queues, places, preempts and requeues; the run folder says what is left to do. So a slot needs to know nothing
when it starts again, on whichever node, and what SLURM says of a job is asked for one thing only: whether a slot is
still to come or running.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinbench.harness.launchers.code_snapshot import snapshot
from twinbench.harness.launchers.local import LocalLauncher
from twinbench.harness.launchers.outcome import Outcome, _watched
from twinbench.harness.launchers.site import SlurmSite, described
from twinbench.harness.monitor.progress_bars import LOOK_SECONDS, Watch
from twinbench.harness.performance.pack_size import fit_pack, seconds_in_packs
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import (
    LAUNCHES,
    launch_notes,
    look_anew,
    missing,
    planned_trials,
    write_launch,
)
from twinbench.harness.run_folder.leases import give_back, is_running, last_attempt
from twinbench.harness.system.devices import choose_devices, first_devices
from twinbench.harness.trial.execute import Surroundings
from twinbench.results.record import recorded_ids
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.launchers.site import SlurmSite
    from twinbench.harness.trial.execute import Surroundings


WARNING_SECONDS = 90  # before the time limit, to save and be requeued
SAVING_SECONDS = 60.0  # of them, for the workers; a time limit of minutes warns later, and leaves less
GRACE_SECONDS = 600.0  # in which SLURM ends a slot that it has told to end; KillWait is 30 s by default
ENDING_SECONDS = 30.0  # that a slot may take to leave the queue, or to be back in it
SLOTS = 16
ASK_AGAIN_SECONDS = 2.0
FIRST_QUERY_SECONDS, LONGEST_QUERY_SECONDS = 10.0, 120.0


class Slot:
    """One array task: keeps workers on its allocation. submitit pickles it, so it holds what never changes only.

    `all_workers` are those of all slots, which packs are cut for; with the images' `size` they are measured first.
    """

    def __init__(self, surroundings: Surroundings, device: str, workers_per_device: int, all_workers: int, size: int):
        self._surroundings, self._device, self._per_device = surroundings, device, workers_per_device
        self._all_workers, self._image_size = all_workers, size

    def __call__(self) -> None:
        """Works until no trial is left for it, or until SLURM preempts or cancels it (SIGTERM)."""
        told_to_end = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: told_to_end.set())  # submitit's would let it pass
        devices = first_devices(choose_devices(self._device), self._surroundings.processes)
        node = os.environ.get("SLURMD_NODENAME", "")
        surroundings = replace(self._surroundings, where=f"slurm {job_name()} {node}")
        folder = surroundings.run_folder
        if surroundings.pack > 1:
            surroundings = self._with_fitting_pack(surroundings, devices[0])
        while not is_cancelled(folder):
            (_left(folder) / job_name()).unlink(missing_ok=True)
            launcher = LocalLauncher(surroundings, self._per_device * len(devices), devices, stay=False)
            launcher.run(lambda: told_to_end.is_set() or is_cancelled(folder))
            if is_cancelled(folder):
                return
            if told_to_end.is_set():
                _requeue_if_preempted()
                _wait_for_the_end(folder)  # which SLURM brings, so that it never counts as completed
                told_to_end.clear()  # it was somebody's signal, and not SLURM's
            elif not _leaves_work(folder):
                return

    def _with_fitting_pack(self, surroundings: Surroundings, device: str) -> Surroundings:
        def measure(trial: Trial, most: int) -> Mapping[int, float]:
            threads, size = surroundings.threads, self._image_size
            return seconds_in_packs(trial, size, device, threads, most, print, self._per_device)

        recorded = recorded_ids(surroundings.run_folder)
        todo = [trial for trial in planned_trials(surroundings.run_folder) if trial.trial_id not in recorded]
        return fit_pack(surroundings, todo, self._all_workers, measure if self._image_size else None, print)

    def checkpoint(self) -> Any:
        """submitit's call at the time limit's warning (SIGUSR2): saves what runs; submitit then requeues the job."""
        from submitit.helpers import DelayedSubmission

        stop_children(self._surroundings.run_folder)
        return DelayedSubmission(self)


def _wait_for_the_end(run_folder: Path) -> None:
    """For GRACE_SECONDS, or until a `cancel`, after which it may count as completed."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and not is_cancelled(run_folder):
        time.sleep(1)


def _left(run_folder: Path) -> Path:
    """Where slots that take no more trials leave their names: until they are gone, SLURM calls them running."""
    return run_folder / LAUNCHES / "left"


def _leaves_work(run_folder: Path) -> bool:
    """Whether there is a trial that nobody runs, though a slot found no more.

    It says first that it leaves. So a `run` that plans trials meanwhile either finds them begun or this slot gone.
    """
    _left(run_folder).mkdir(parents=True, exist_ok=True)
    (_left(run_folder) / job_name()).touch()
    look_anew(run_folder)
    recorded = recorded_ids(run_folder)
    todo = [trial.trial_id for trial in planned_trials(run_folder) if trial.trial_id not in recorded]
    return any(not is_running(last_attempt(run_folder, trial_id)) for trial_id in todo)


def _requeue_if_preempted() -> None:
    """Sends a preempted job back to the queue at once.

    One that ends within its grace counts as completed and is not requeued, and one that waits for the end of its grace
    keeps the urgent job waiting with it.
    """
    job = os.environ["SLURM_JOB_ID"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # SLURM requeues it itself a little later
        if re.search(r"PreemptTime=\d", _ask("scontrol", "show", "job", job)):
            _ask("scontrol", "requeue", job)


def stop_children(run_folder: Path) -> None:
    """Asks this process's workers to save and end, and waits until they have, but no longer than SAVING_SECONDS."""
    import multiprocessing

    children = multiprocessing.active_children()
    for child in children:
        os.kill(child.pid, signal.SIGTERM)  # type: ignore[arg-type]
    deadline, killed = time.monotonic() + SAVING_SECONDS, list[int]()
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
        if child.is_alive():  # in an evaluation, say: what it saved last stays
            child.kill()
            child.join()
            killed.append(child.pid)  # type: ignore[arg-type]
    with contextlib.suppress(OSError):
        if killed:
            give_back(run_folder, killed)


def job_name() -> str:
    """JOB_TASK of the array task that this process runs in."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{task}" if task else job


# --- submitting -----------------------------------------------------------------------------------------------------


def submit(
    surroundings: Surroundings, site: SlurmSite, device: str, missing: int, workers_per_gpu: int, image_size: int
) -> str:
    """Submits the array and notes it in `launches/`; its job id. InvalidInput says what SLURM refused.

    With an `image_size` slots measure packs of images so large.
    """
    import submitit

    folder = surroundings.run_folder
    ranks = surroundings.processes
    per_device = workers_per_gpu if site.gpus else max(1, site.cpus // (surroundings.threads * ranks))
    per_slot = per_device * max(1, site.gpus // ranks)
    slots = min(site.slots or SLOTS, -(-missing // per_slot), largest_array())
    code = snapshot(folder)
    name = str(site.sbatch.get("job-name") or name_of(folder))
    executor = submitit.SlurmExecutor(folder / "slurm", max_num_timeout=1_000_000)
    while True:
        executor.update_parameters(job_name=name, **sbatch_parameters(site, slots, code))
        try:
            slot = Slot(surroundings, device, per_device, slots * per_slot, image_size)
            jobs = executor.submit_array([slot] * slots)
            break
        except submitit.core.utils.FailedJobError as error:
            if slots > 1 and re.search(r"MaxSubmit|submit.*limit|limit.*submit|QOSMax", str(error), re.IGNORECASE):
                slots //= 2  # fewer slots do the same work
                continue
            raise InvalidInput([Mistake("sbatch", "", f"refused the job: {_last_line(str(error))}")]) from None
    job_id = str(jobs[0].job_id).partition("_")[0]
    launch = {
        "launcher": "slurm",
        "job_id": job_id,
        "name": name,
        "slots": slots,
        "asked": described(site),
        "code": code.name,
    }
    write_launch(folder, f"slurm-{job_id}", launch)
    return job_id


def sbatch_parameters(site: SlurmSite, slots: int, code: Path) -> dict[str, Any]:
    """What submitit is to write into the batch script."""
    seconds = site.minutes * 60
    wanted = {
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "time": site.minutes,
        "gpus_per_node": site.gpus or None,
        "cpus_per_task": site.cpus,
        "mem": site.memory,
        "nodes": 1,
        "ntasks_per_node": 1,
        "srun_args": [f"--cpus-per-task={site.cpus}"],  # SLURM 22.05 to 23.02 do not hand it on from the job to srun
        "signal_delay_s": min(WARNING_SECONDS, seconds // 4),
        "array_parallelism": site.array_parallelism or slots,
        "setup": [*site.setup, f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}"],
        "additional_parameters": {"requeue": True} | {key: of for key, of in site.sbatch.items() if key != "job-name"},
    }
    return {key: value for key, value in wanted.items() if value is not None}


def largest_array() -> int:
    """The most tasks that this cluster lets one array have: MaxArraySize caps the index, MaxJobCount all jobs."""
    try:
        told = _ask("scontrol", "show", "config")
    except (OSError, subprocess.SubprocessError) as error:
        reason = _last_line(getattr(error, "stderr", None) or str(error))
        raise InvalidInput([Mistake("--launcher", "", f"no SLURM answers here: {reason}", "slurm")]) from None
    sizes = [int(size) for size in re.findall(r"^(?:MaxArraySize|MaxJobCount)\s*=\s*(\d+)", told, re.MULTILINE)]
    return max(1, min(sizes, default=1001) - 1)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("sbatch: error: ") if lines else "without a word"


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


# --- waiting --------------------------------------------------------------------------------------------------------


def name_of(run_folder: Path) -> str:
    """What the folder's jobs are called, so that one query finds them and no other sweep's."""
    return f"twinbench-{sha256(str(run_folder.resolve()).encode()).hexdigest()[:8]}"


def launched(run_folder: Path) -> dict[str, str]:
    """The ids of the SLURM jobs that were submitted for the folder and not cancelled since, with the jobs' names."""
    return _jobs(launch_notes(run_folder))


def _jobs(notes: Sequence[Path]) -> dict[str, str]:
    found = {}
    for file in notes:
        with contextlib.suppress(OSError, ValueError, KeyError):  # torn: the folder's own marks still stop its workers
            launch = json.loads(file.read_text(encoding="utf-8"))
            found[str(launch["job_id"])] = str(launch["name"])
    return found


def slots_in_queue(jobs: Mapping[str, str]) -> int | None:
    """How many array tasks SLURM still has, pending, running or being requeued; None where it cannot say."""
    states = _states_of_slots(jobs)
    return None if states is None else len(states)


def slots_to_count_on(run_folder: Path, jobs: Mapping[str, str]) -> int | None:
    """Those of them that take trials, or will.

    SLURM is asked again while all are just ending, as one that is requeued is for a moment, and where it knows none:
    one answer without slots proves nothing. Those that go on ending are not counted on: should one be requeued yet, it
    shares the work.
    """
    deadline, empty = time.monotonic() + ENDING_SECONDS, 0
    while jobs:
        states = _states_of_slots(jobs)
        if states is None:
            return None
        _left(run_folder).mkdir(parents=True, exist_ok=True)
        look_anew(_left(run_folder))
        left = {path.name for path in _left(run_folder).glob("*")}
        counted = [state for slot, state in states.items() if slot not in left]
        empty = 0 if states else empty + 1
        if empty > 1 or (states and set(counted) != {"COMPLETING"}):
            return len(counted)
        if time.monotonic() > deadline:  # their node does not let go of them, or squeue forgets them now and then
            return 0
        time.sleep(ASK_AGAIN_SECONDS)
    return 0


def _states_of_slots(jobs: Mapping[str, str]) -> dict[str, str] | None:
    """By JOB_TASK."""
    if not jobs:
        return {}
    try:
        # one query for the whole sweep; by name and not by job, since squeue fails where it has forgotten a job
        told = _ask("squeue", "-h", "-r", f"--name={','.join(sorted(set(jobs.values())))}", "-o", "%i %T")
    except (OSError, subprocess.SubprocessError):
        return None
    slots = [line.split() for line in told.splitlines()]
    return {slot: state for slot, state in slots if slot.partition("_")[0] in jobs}


def cancel_waiting(notes: Sequence[Path]) -> None:
    """Takes slots that have not begun out of the queue, of the launches noted; those that run end by themselves."""
    for job_id in _jobs(notes):
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # the mark in the folder stops them too
            subprocess.run(["scancel", "--state=PENDING", job_id], capture_output=True, timeout=60)


@dataclass
class Queue:
    """Whether slots are left, asked seldom, and less often the longer it goes on."""

    jobs: Mapping[str, str]
    _pause: float = FIRST_QUERY_SECONDS
    _asked_at: float = field(default_factory=time.monotonic)
    _absent: int = 0

    def is_empty(self) -> bool:
        """True once two answers in a row had no slot in them: one answer, or none, proves nothing."""
        if time.monotonic() - self._asked_at < self._pause:
            return False
        self._asked_at = time.monotonic()
        left = slots_in_queue(self.jobs)
        if left is None or left:
            self._absent = 0
            self._pause = min(LONGEST_QUERY_SECONDS, 1.5 * self._pause)
        else:
            self._absent += 1
            self._pause = FIRST_QUERY_SECONDS
        return self._absent >= 2


def run_on_slurm(
    planned: Plan,
    surroundings: "Surroundings",
    site: "SlurmSite",
    device: str,
    workers_per_gpu: int,
    watch: Watch,
    detach: bool,
    measures_packs: bool = False,
) -> Outcome | None:
    """Submits an array unless slots of an earlier one are left, and waits for its slots; None once detached.

    They go on whatever becomes of this process. With `measures_packs` each measures on its node what packs cost there.
    Where those of an earlier one end and leave trials, which were planned too late for them, it submits once.
    """
    from twinbench.harness.launchers import slurm

    surroundings = surroundings.absolute()
    folder = surroundings.run_folder
    jobs = slurm.launched(folder)

    def submit() -> None:
        nonlocal jobs
        if todo := missing(planned, folder):
            size = planned.image_size if measures_packs else 0
            job_id = slurm.submit(surroundings, site, device, len(todo), workers_per_gpu, size)
            jobs = slurm.launched(folder)
            watch.say(f"submitted SLURM job {job_id}")

    slots = slurm.slots_to_count_on(folder, jobs)
    if slots is None:
        problem = "does not answer, so nobody knows whether slots are left; try again"
        raise InvalidInput([Mistake("squeue", "", problem)])
    if slots:
        watch.say(f"{slots} slots of SLURM job {', '.join(jobs)} are in the queue already; nothing more is submitted")
    else:
        submit()
    if detach:
        return None

    def wait() -> None:
        queue, may_submit = slurm.Queue(jobs), bool(slots)
        while not watch.look():
            if is_cancelled(folder) and not watch.is_worked_on():  # and no slot begins another trial
                return
            if queue.is_empty() and not watch.is_worked_on():
                if not may_submit:
                    return
                submit()
                queue, may_submit = slurm.Queue(jobs), False
            time.sleep(LOOK_SECONDS)

    outcome = _watched(planned, folder, watch, wait, f"see {folder / 'slurm'}/*.err")
    if outcome.stopped.startswith("interrupted"):
        return replace(outcome, stopped=f"SLURM goes on with {', '.join(jobs)}; the same command watches again")
    return outcome
