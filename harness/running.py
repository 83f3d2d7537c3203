"""One sweep from its file to a full run folder: plan, check, hand out what is missing, show how it goes."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinbench.harness.data.datasets import Dataset, load_dataset, split_train
from twinbench.harness.planning import Plan, check, plan
from twinbench.results.record import recorded_ids, write_json_atomically
from twinbench.sweeps.mistakes import InvalidInput, Mistake
from twinbench.sweeps.sweep import read_sweep
from twinbench.sweeps.trial import Trial

PLAN_FILE = "plan.json"


def make_plan(name: str, changes: tuple[str, ...], data: Path | None) -> Plan:
    """Reads and checks the sweep, then the dataset (decoded once and cached). InvalidInput lists what is wrong."""
    sweep, protocol, path = read_sweep(name, changes)
    where = str(path)
    check(sweep, protocol, where)
    dataset = load_dataset(protocol.dataset.name, data, protocol.dataset.image_size)
    planned = plan(path.stem, sweep, protocol, dataset.fingerprint, where)
    _check_sizes(planned, dataset, where)
    return planned


def _check_sizes(planned: Plan, dataset: Dataset, where: str) -> None:
    """No batch and no neighbourhood may be larger than the images there are to train on."""
    rule = planned.protocol.dataset
    train, _ = split_train(dataset, rule.validation_fraction, rule.split_seed)
    count = min(len(train), rule.train_examples or len(train))
    allowed = f"at most {count}, the training images of {rule.name}"
    batches = sorted({trial.training["batch_size"] for trial in planned.trials if trial.training})
    mistakes = [Mistake(where, "batch_size", "is too large", size, allowed) for size in batches if size > count]
    neighbours = planned.protocol.evaluation.knn_neighbours
    place = f"protocol {planned.protocol.name}"
    mistakes += [Mistake(place, "evaluation.knn_neighbours", "too many", k, allowed) for k in neighbours if k > count]
    if mistakes:
        raise InvalidInput(mistakes)


def write_plan(run_folder: Path, planned: Plan) -> None:
    """Leaves `plan.json`. A folder that holds another protocol's plan is refused: their numbers do not mix."""
    file = run_folder / PLAN_FILE
    if file.exists():
        before = read_plan(run_folder)["protocol"]
        if before["hash"] != planned.protocol.hash:
            held = f"{before['name']} version {before['version']}, {before['hash'][:12]}"
            problem = f"holds runs of another protocol than {planned.protocol.name} {planned.protocol.hash[:12]}"
            raise InvalidInput([Mistake(str(run_folder), "", problem, held, allowed="another --out")])
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        write_json_atomically(file, planned.content())
    except OSError as error:
        raise InvalidInput([Mistake(str(run_folder), "", f"cannot be written: {error.strerror}")]) from None


def read_plan(run_folder: Path) -> dict[str, Any]:
    """The folder's `plan.json`. InvalidInput where there is none, or it is no plan."""
    try:
        content: dict[str, Any] = json.loads((run_folder / PLAN_FILE).read_text(encoding="utf-8"))
        content["trials"], content["protocol"]["hash"]
        return content
    except FileNotFoundError:
        problem = f"is no run folder: it has no {PLAN_FILE}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"its {PLAN_FILE} cannot be read: {error}"
    raise InvalidInput([Mistake(str(run_folder), "", problem)])


def missing(planned: Plan, run_folder: Path) -> list[Trial]:
    """Trials without a record, in the plan's order."""
    recorded = recorded_ids(run_folder)
    return [trial for trial in planned.trials if trial.trial_id not in recorded]


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


def _cores() -> int:
    """Those that this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Outcome:
    """How a run ended: trials by status, those of earlier runs among them, and whether it was interrupted."""

    statuses: dict[str, int]
    interrupted: bool


def run_sweep(
    planned: Plan,
    run_folder: Path,
    devices: list[str],
    workers: int | None,
    threads: int,
    data: Path | None,
    watcher: Callable[[list[Trial], int], Any],
) -> Outcome:
    """Runs what is missing with the local launcher. `watcher(missing, planned)` is a context that shows progress."""
    from twinbench.harness.launchers.local import LocalLauncher
    from twinbench.harness.worker import Surroundings

    todo = missing(planned, run_folder)
    on_cpu = devices == ["cpu"]
    count = workers or (max(1, _cores() // threads) if on_cpu else len(devices))
    launcher = LocalLauncher(Surroundings(run_folder, devices[0], threads, data), count, devices)
    interrupted = False
    if todo:
        try:
            with watcher(todo, len(planned.trials)) as watch:
                launcher.run(todo, watch.started, watch.ended, watch.look)
        except KeyboardInterrupt:
            interrupted = True
    recorded = recorded_ids(run_folder)
    statuses: dict[str, int] = {}
    for trial in planned.trials:
        status = recorded.get(trial.trial_id, "missing")
        statuses[status] = statuses.get(status, 0) + 1
    return Outcome(statuses, interrupted)
