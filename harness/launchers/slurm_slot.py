"""One slot: the array task that runs trials on its allocation until none is left or SLURM ends it."""

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twinbench.harness.launchers.slurm_queue import departed_slots, output_of
from twinbench.harness.launchers.worker_pool import WorkerPool
from twinbench.harness.performance.pack_size import seconds_in_packs, with_best_pack
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import refresh_listing, unrecorded_trials
from twinbench.harness.run_folder.leases import interrupt_attempts, is_running
from twinbench.harness.system.devices import choose_devices, first_devices
from twinbench.harness.trial.execute import Surroundings
from twinbench.results.attempts import last_attempt
from twinbench.sweeps.trial import Trial

SAVING_SECONDS = 60.0  # of the warning before the time limit, for workers to save; shorter limits leave less
GRACE_SECONDS = 600.0  # within which SLURM ends a slot that it has sent SIGTERM; KillWait is 30 s by default


class Slot:
    """Keeps workers on its allocation. submitit pickles it for every start, so it holds only what never changes.

    `all_workers` are those of all slots together, among which packs are distributed. `image_size` is the side of the
    images in pixels where packs are measured first, else 0.
    """

    def __init__(
        self, surroundings: Surroundings, device: str, workers_per_device: int, all_workers: int, image_size: int
    ):
        self._surroundings, self._device, self._per_device = surroundings, device, workers_per_device
        self._all_workers, self._image_size = all_workers, image_size

    def __call__(self) -> None:
        """Work until no trial is free, or until SLURM preempts or cancels the job (SIGTERM)."""
        terminated = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: terminated.set())  # submitit's own handler would ignore it
        devices = first_devices(choose_devices(self._device), self._surroundings.processes)
        node = os.environ.get("SLURMD_NODENAME", "")
        surroundings = replace(self._surroundings, where=f"slurm {job_name()} {node}")
        folder = surroundings.run_folder
        if surroundings.pack > 1:
            surroundings = self._with_best_pack(surroundings, devices[0])
        while not is_cancelled(folder):
            (departed_slots(folder) / job_name()).unlink(missing_ok=True)
            pool = WorkerPool(surroundings, self._per_device * len(devices), devices, stay=False)
            pool.run(lambda: terminated.is_set() or is_cancelled(folder))
            if is_cancelled(folder):
                return
            if terminated.is_set():
                _requeue_if_preempted()
                _wait_for_the_end(folder)  # SLURM ends the process; if it returned, the job would count as completed
                terminated.clear()  # the signal did not come from SLURM
            elif not _leaves_work(folder):
                return

    def _with_best_pack(self, surroundings: Surroundings, device: str) -> Surroundings:
        def measure(trial: Trial, threads: int, largest: int) -> Mapping[int, float]:
            return seconds_in_packs(trial, self._image_size, device, threads, largest, print, self._per_device)

        todo = unrecorded_trials(surroundings.run_folder)
        return with_best_pack(surroundings, todo, self._all_workers, measure if self._image_size else None, print)

    def checkpoint(self) -> Any:
        """Save the running trials when SLURM warns of the time limit (SIGUSR2); submitit then requeues the job."""
        from submitit.helpers import DelayedSubmission

        stop_children(self._surroundings.run_folder)
        return DelayedSubmission(self)


def job_name() -> str:
    """Return JOB_TASK of the array task that this process runs in."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{task}" if task else job


def _wait_for_the_end(run_folder: Path) -> None:
    """Wait GRACE_SECONDS for SLURM to end this process, or until a `cancel`: then it may count as completed."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and not is_cancelled(run_folder):
        time.sleep(1)


def _leaves_work(run_folder: Path) -> bool:
    """Mark this slot as departed, then return whether there is a missing trial that nobody runs.

    In this order, a `run` that plans more trials at that moment either sees them begun or sees this slot gone.
    """
    (departed_slots(run_folder) / job_name()).touch()
    refresh_listing(run_folder)
    return any(not is_running(last_attempt(run_folder, trial.trial_id)) for trial in unrecorded_trials(run_folder))


def _requeue_if_preempted() -> None:
    """Send a preempted job back to the queue at once.

    One that ends within its grace time counts as completed and is not requeued, and one that waits for the end of its
    grace time keeps the urgent job waiting.
    """
    job = os.environ["SLURM_JOB_ID"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # SLURM requeues it itself a little later
        if re.search(r"PreemptTime=\d", output_of("scontrol", "show", "job", job)):
            output_of("scontrol", "requeue", job)


def stop_children(run_folder: Path) -> None:
    """Ask this process's workers to save their trials and end, and kill those that have not within SAVING_SECONDS."""
    children = multiprocessing.active_children()
    for child in children:
        os.kill(child.pid, signal.SIGTERM)  # type: ignore[arg-type]
    deadline, killed = time.monotonic() + SAVING_SECONDS, list[int]()
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
        if child.is_alive():  # in the middle of an evaluation, for example; its last saved state stays
            child.kill()
            child.join()
            killed.append(child.pid)  # type: ignore[arg-type]
    with contextlib.suppress(OSError):
        if killed:
            interrupt_attempts(run_folder, killed)
