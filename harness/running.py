"""One sweep from its file to a full run folder: plan, check, hand out what is missing, show how it goes."""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from twinbench.harness.cgroups import least_quota
from twinbench.harness.data.datasets import Dataset, load_dataset, split_train
from twinbench.harness.heart import is_cancelled
from twinbench.harness.planning import Plan, check, plan
from twinbench.harness.run_folder import missing, why_unplanned, why_unwritable
from twinbench.harness.watching import LOOK_SECONDS, Watch
from twinbench.methods.backbones import BACKBONES
from twinbench.methods.vision_transformer import ViTOptions
from twinbench.results.record import recorded_ids
from twinbench.sweeps.mistakes import InvalidInput, Mistake
from twinbench.sweeps.sweep import read_sweep
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.execute import Surroundings
    from twinbench.harness.launchers.ray import Actors
    from twinbench.harness.site import RaySite, SlurmSite


def make_plan(name: str, changes: tuple[str, ...], data: Path | None) -> Plan:
    """Reads and checks the sweep, then the dataset (decoded once and cached). InvalidInput lists what is wrong."""
    sweep, protocol, path = read_sweep(name, changes)
    where = str(path)
    resolved = check(sweep, protocol, where)
    dataset = load_dataset(protocol.dataset.name, data, protocol.dataset.image_size)
    planned = plan(path.stem, sweep, protocol, resolved, dataset.fingerprint)
    _check_sizes(planned, dataset, where)
    return planned


def training_images(planned: Plan, data: Path | None) -> int:
    """How many images its trials train on."""
    rule = planned.protocol.dataset
    return _training_images(planned, load_dataset(rule.name, data, rule.image_size))


def image_size(planned: Plan, data: Path | None) -> int:
    """The side in pixels of the images that its trials train on."""
    rule = planned.protocol.dataset
    return int(load_dataset(rule.name, data, rule.image_size).train.images.shape[-1])


def _training_images(planned: Plan, dataset: Dataset) -> int:
    rule = planned.protocol.dataset
    train, _ = split_train(dataset, rule.validation_fraction, rule.split_seed)
    return min(len(train), rule.train_examples or len(train))


def _check_sizes(planned: Plan, dataset: Dataset, where: str) -> None:
    """No batch and no neighbourhood may be larger than the images there are; and patches must fill an image."""
    count = _training_images(planned, dataset)
    allowed = f"at most {count}, the training images of {planned.protocol.dataset.name}"
    batches = sorted({trial.training["batch_size"] for trial in planned.trials if trial.training})
    mistakes = [Mistake(where, "batch_size", "is too large", size, allowed) for size in batches if size > count]
    neighbours = planned.protocol.evaluation.knn_neighbours
    place = f"protocol {planned.protocol.name}"
    mistakes += [Mistake(place, "evaluation.knn_neighbours", "too many", k, allowed) for k in neighbours if k > count]
    size, backbone = int(dataset.train.images.shape[-1]), planned.protocol.backbone
    options = BACKBONES[backbone.name].options_class(**backbone.options)
    if isinstance(options, ViTOptions) and size % options.patch_size:
        divisors = ", ".join(str(side) for side in range(1, size + 1) if size % side == 0)
        what = f"does not divide the images' side of {size}"
        mistakes.append(Mistake(place, "backbone.options.patch_size", what, options.patch_size, divisors))
    if mistakes:
        raise InvalidInput(mistakes)


def check_ranks(planned: Plan, processes: int) -> None:
    """Every rank takes an equal share of every batch. InvalidInput names the batch sizes that cannot be shared so."""
    sizes = sorted({trial.training["batch_size"] for trial in planned.trials if trial.training})
    allowed = f"multiples of {processes}, the processes per trial"
    mistakes = [
        Mistake("--processes-per-trial", "batch_size", "cannot be shared", size, allowed)
        for size in sizes
        if size % processes
    ]
    if mistakes:
        raise InvalidInput(mistakes)


def choose_devices(device: str) -> list[str]:
    """`auto`: every GPU, else the CPU. InvalidInput for a device that is not there."""
    import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if device == "auto":
        return gpus or ["cpu"]
    if device == "cuda" and gpus:
        return gpus
    if device in ("cpu", *gpus):
        return [device]
    raise InvalidInput([Mistake("--device", "", "no such device here", device, ", ".join(["auto", "cpu", *gpus]))])


def first_devices(devices: list[str], processes: int, workers_per_gpu: int = 1) -> list[str]:
    """The device of rank 0 of every worker: rank k takes the k-th GPU after it. A CPU serves any number of ranks."""
    if devices == ["cpu"]:
        return devices
    if len(devices) < processes:
        allowed = f"at most {len(devices)}, the GPUs there are"
        raise InvalidInput([Mistake("--processes-per-trial", "", "needs a GPU each", processes, allowed)])
    return devices[: len(devices) // processes * processes : processes] * workers_per_gpu


def cores() -> int:
    """Those that this process may use, which in a container are fewer than the machine has, or share its time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, least_quota())))


class CannotStart(Exception):
    """Workers end before they take a trial; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: trials by status, those of earlier runs among them, and what stopped it early, if anything."""

    statuses: dict[str, int]
    stopped: str = ""


def run_locally(
    planned: Plan,
    surroundings: "Surroundings",
    devices: list[str],
    workers: int | None,
    watch: Watch,
    measures_packs: bool = False,
    measures_threads: bool = False,
) -> Outcome:
    """Runs what is missing in processes of this machine until every trial is recorded, by whomever.

    Packs have at most `surroundings.pack` trials, and as many as end soonest; with `measures_packs`, by measurement.
    With `measures_threads` trials have as many on a CPU.
    """
    from twinbench.harness.launchers.local import LocalLauncher, dealt
    from twinbench.harness.packing import fit_pack, fit_threads, seconds_in_packs

    todo = missing(planned, surroundings.run_folder)
    on_cpu = devices == ["cpu"]

    def wanted(threads: int) -> int:
        per_trial = threads * surroundings.processes
        return workers or (max(1, cores() // per_trial) if on_cpu else len(devices))

    def workers_with(threads: int) -> int:
        return min(len(todo), wanted(threads))

    def measure(trial: Trial, threads: int, most: int) -> Mapping[int, float]:
        # By all that may share the device, however few trials are left: what is measured serves the next command.
        beside = dealt(wanted(threads), devices).count(devices[0])
        size = image_size(planned, surroundings.data)
        return seconds_in_packs(trial, size, devices[0], threads, most, watch.say, beside)

    if measures_threads and on_cpu:
        surroundings = fit_threads(surroundings, todo, cores(), workers_with, measure, watch.say)
    threads = surroundings.threads
    count = workers_with(threads)
    costs = (lambda trial, most: measure(trial, threads, most)) if measures_packs else None
    surroundings = fit_pack(surroundings, todo, count, costs, watch.say)
    launcher = LocalLauncher(surroundings, count, devices)

    def work() -> None:
        if todo:
            launcher.run(watch.look)

    return _watched(planned, surroundings.run_folder, watch, work)


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
            size = image_size(planned, surroundings.data) if measures_packs else 0
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


def run_on_ray(
    planned: Plan,
    surroundings: "Surroundings",
    site: "RaySite",
    workers: int | None,
    watch: Watch,
    detach: bool,
    measures_packs: bool = False,
) -> Outcome | None:
    """Starts what actors the cluster has room for, and waits until every trial is recorded; None once detached.

    With `measures_packs` a task that asks for what an actor does measures first what packs cost there, unless actors of
    an earlier command are at work: they have the room that it would wait for.
    """
    from twinbench.harness.launchers import ray
    from twinbench.harness.packing import fit_pack

    if detach and ray.address_of(site) == "local":
        problem = "needs a Ray cluster that outlives this command"
        raise InvalidInput([Mistake("--detach", "", problem, allowed="--address")])
    surroundings = surroundings.absolute()
    folder = surroundings.run_folder
    with ray.connected(site):
        actors = ray.Actors(surroundings, site)
        are_anothers = bool(actors.alive())

        def measure(trial: Trial, most: int) -> Mapping[int, float]:
            watch.say("a task on Ray finds how many trials should take turns in one process")
            return actors.seconds_in_packs(trial, image_size(planned, surroundings.data), most, workers)

        def start() -> None:
            if todo := missing(planned, folder):
                count = min(len(todo), workers or actors.fitting(watch.say))
                costs = measure if measures_packs and not are_anothers else None
                actors.surroundings = fit_pack(surroundings, todo, count, costs, watch.say)
                actors.start(count, watch.say)

        if detach:
            start()
            return None

        def work() -> None:
            start()
            _wait_for_actors(actors, planned, workers, watch)

        outcome = _watched(planned, folder, watch, work)
        if are_anothers and outcome.stopped.startswith("interrupted"):
            goes_on = "the workers of an earlier command go on; the same command watches again, `cancel` ends them"
            return replace(outcome, stopped=goes_on)
        if outcome.stopped and not actors.are_lost():
            actors.stop()
        return outcome


def _wait_for_actors(actors: "Actors", planned: Plan, workers: int | None, watch: Watch) -> None:
    """Until every trial is recorded; starts actors again where all are gone. Raises CannotStart where that is vain."""
    from twinbench.harness.launchers.ray import LOOK_EVERY_SECONDS

    folder = actors.surroundings.run_folder
    left, looked, rounds_in_vain = _count_missing(planned, folder), time.monotonic(), 0
    while not watch.look():
        time.sleep(LOOK_SECONDS)
        if time.monotonic() - looked < LOOK_EVERY_SECONDS:
            continue
        looked = time.monotonic()
        if actors.are_lost():
            raise CannotStart("the head of the Ray cluster answers no more")
        if actors.alive():
            continue
        still = _count_missing(planned, folder)
        if is_cancelled(folder) or not still:
            return
        if watch.is_worked_on():  # by another command's workers: nothing is free
            continue
        rounds_in_vain = rounds_in_vain + 1 if still == left else 0
        if reason := actors.why_none() if rounds_in_vain else "":
            raise CannotStart(reason)
        if rounds_in_vain > 1:  # once may be the end of an earlier command's actors; to go on, for ever
            return
        left = still
        actors.start(min(left, workers or actors.fitting(watch.say)), watch.say)


def _count_missing(planned: Plan, run_folder: Path) -> int:
    """How many trials workers will still find. CannotStart where somebody has broken the plan meanwhile."""
    try:
        return len(missing(planned, run_folder))
    except InvalidInput as error:
        raise CannotStart(str(error)) from error


def _watched(
    planned: Plan, run_folder: Path, watch: Watch, work: Callable[[], None], otherwise: str = "nobody said why"
) -> Outcome:
    """Does the work under the watch, and says in words what stopped it early; `otherwise` where nobody told why."""
    from twinbench.harness.worker import Unwritable

    stopped = ""
    try:
        with watch:
            work()
    except KeyboardInterrupt:
        stopped = "interrupted; the same command goes on from here"
    except (Unwritable, CannotStart) as error:
        stopped = f"stopped: {error}; the same command goes on from here"
    if is_cancelled(run_folder):
        stopped = "cancelled; the same command goes on from here"
    statuses = count_statuses(planned, run_folder)
    if not stopped and "missing" in statuses:
        # a disk may be so full that no worker could leave word of it
        reason = watch.why_left() or why_unwritable(run_folder) or _why_unplanned(run_folder, planned) or otherwise
        stopped = f"stopped: no worker is left: {reason}; the same command goes on from here"
    return Outcome(statuses, stopped)


def _why_unplanned(run_folder: Path, planned: Plan) -> str:
    try:
        return why_unplanned(run_folder, planned)
    except InvalidInput as error:  # somebody has broken the plan meanwhile
        return str(error)


def count_statuses(planned: Plan, run_folder: Path) -> dict[str, int]:
    """How many trials ended how; `missing` are those without a record."""
    recorded = recorded_ids(run_folder)
    return dict(Counter(recorded.get(trial.trial_id, "missing") for trial in planned.trials))
