"""Runs a sweep as one SLURM job array, through submitit: each slot of it runs trials until its time is up.

SLURM queues, places, preempts and requeues; the run folder says what is left to do. So a slot needs no information when
it starts again, on whichever node, and SLURM's view of a job is used for one thing only: whether a slot is running or
will be.
"""

import contextlib
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from twinbench.harness.launchers.code_snapshot import snapshot
from twinbench.harness.launchers.launcher import LaunchOptions, Outcome, cluster_mistakes, count_statuses, watched
from twinbench.harness.launchers.site import SlurmSite, described, read_site
from twinbench.harness.launchers.slurm_queue import (
    Queue,
    jobs_of,
    largest_array,
    last_line,
    launched,
    name_of,
    slots_to_count_on,
)
from twinbench.harness.monitor.progress_bars import POLL_SECONDS
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import missing, write_launch
from twinbench.sweeps.errors import InvalidInput, Mistake

if TYPE_CHECKING:  # these import torch, which checking the options does without
    from twinbench.harness.monitor.progress_bars import ProgressBars
    from twinbench.harness.planning import Plan
    from twinbench.harness.trial.execute import Surroundings

WARNING_SECONDS = 90  # before the time limit, for slots to save their trials and be requeued
SLOTS = 16  # at most, unless the site says otherwise


@dataclass(frozen=True)
class SlurmLauncher:
    """Runs trials in the slots of an array, each with `workers_per_gpu` workers per GPU, or one per trial's cores."""

    site: SlurmSite
    options: LaunchOptions

    def run(self, planned: "Plan", surroundings: "Surroundings", watch: "ProgressBars") -> Outcome:
        """Submit an array unless slots of an earlier one are left, and wait for the slots unless `detach`.

        Slots continue whatever happens to this process. If those of an earlier array end and leave trials, which were
        planned too late for them, one more array is submitted.
        """
        surroundings = surroundings.absolute()
        folder = surroundings.run_folder
        slots = slots_to_count_on(folder, launched(folder))
        if slots is None:
            problem = "does not answer, so it is unknown whether slots are left; try again"
            raise InvalidInput([Mistake("squeue", "", problem)])
        if slots:
            jobs = ", ".join(launched(folder))
            watch.say(f"{slots} slots of SLURM job {jobs} are in the queue already; nothing more is submitted")
        else:
            self.submit(planned, surroundings, watch)
        if self.options.detach:
            return Outcome(count_statuses(planned, folder), is_detached=True)

        def wait() -> None:
            may_submit = bool(slots)
            queue = Queue(launched(folder))
            while not watch.update():
                if is_cancelled(folder) and not watch.is_worked_on():  # and no slot will begin another trial
                    return
                if queue.is_empty() and not watch.is_worked_on():
                    if not may_submit:
                        return
                    self.submit(planned, surroundings, watch)
                    queue, may_submit = Queue(launched(folder)), False
                time.sleep(POLL_SECONDS)

        outcome = watched(planned, folder, watch, wait, f"see {folder / 'slurm'}/*.err")
        if outcome.is_interrupted:
            left = f"SLURM continues with {', '.join(launched(folder))}; the same command watches again"
            return replace(outcome, stopped=left, is_interrupted=False)
        return outcome

    def submit(self, planned: "Plan", surroundings: "Surroundings", watch: "ProgressBars") -> None:
        """Submit an array if trials are missing, and note it in `launches/`. InvalidInput says what SLURM refused."""
        import submitit

        from twinbench.harness.launchers.slurm_slot import Slot

        folder, site = surroundings.run_folder, self.site
        todo = missing(planned, folder)
        if not todo:
            return
        image_size = planned.image_size if self.options.measures_packs else 0
        ranks = surroundings.processes
        per_device = self.options.workers_per_gpu if site.gpus else max(1, site.cpus // (surroundings.threads * ranks))
        per_slot = per_device * max(1, site.gpus // ranks)
        slots = min(site.slots or SLOTS, -(-len(todo) // per_slot), largest_array())
        code = snapshot(folder)
        name = str(site.sbatch.get("job-name") or name_of(folder))
        executor = submitit.SlurmExecutor(folder / "slurm", max_num_timeout=1_000_000)
        while True:
            executor.update_parameters(job_name=name, **sbatch_parameters(site, slots, code))
            try:
                slot = Slot(surroundings, self.options.device, per_device, slots * per_slot, image_size)
                jobs = executor.submit_array([slot] * slots)
                break
            except submitit.core.utils.FailedJobError as error:
                if slots > 1 and re.search(r"MaxSubmit|submit.*limit|limit.*submit|QOSMax", str(error), re.IGNORECASE):
                    slots //= 2  # fewer slots do the same work
                    continue
                raise InvalidInput([Mistake("sbatch", "", f"refused the job: {last_line(str(error))}")]) from None
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
        watch.say(f"submitted SLURM job {job_id}")


def from_options(options: LaunchOptions) -> SlurmLauncher:
    """Return the launcher. InvalidInput for options that it cannot use."""
    site = read_site(SlurmSite, "slurm", options.site, options.slurm)
    if mistakes := cluster_mistakes("slurm", options, site.gpus):
        raise InvalidInput(mistakes)
    return SlurmLauncher(site, options)


def sbatch_parameters(site: SlurmSite, slots: int, code: Path) -> dict[str, object]:
    """Return what submitit writes into the batch script."""
    seconds = site.minutes * 60
    parameters = {
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
        "srun_args": [f"--cpus-per-task={site.cpus}"],  # SLURM 22.05 to 23.02 do not pass it from the job to srun
        "signal_delay_s": min(WARNING_SECONDS, seconds // 4),
        "array_parallelism": site.array_parallelism or slots,
        "setup": [
            *site.setup,
            f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
            "export PYTHONSAFEPATH=1",  # also where sbatch passes no environment on
        ],
        "additional_parameters": {"requeue": True}
        | {key: value for key, value in site.sbatch.items() if key != "job-name"},
    }
    return {key: value for key, value in parameters.items() if value is not None}


def cancel_waiting(notes: Sequence[Path]) -> None:
    """Remove slots of these launches that have not begun from the queue; running slots end by themselves."""
    for job_id in jobs_of(notes):
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # the mark in the folder stops them too
            subprocess.run(["scancel", "--state=PENDING", job_id], capture_output=True, timeout=60)
