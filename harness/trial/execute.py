"""Execute one trial from where it stopped: data, method, training, evaluation.

This file is covered by the code hash (harness/system/provenance.py), so it imports nothing that only manages runs:
leases, records and progress files belong to the worker, which passes paths and functions instead.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinbench.harness.data.datasets import Dataset, Split, load_dataset, split_train
from twinbench.harness.data.images import Images
from twinbench.harness.data.random_streams import key, permutation, torch_seed
from twinbench.harness.evaluation.evaluate import Evaluator, Part
from twinbench.harness.system import provenance
from twinbench.harness.system.memory import give_back_freed_memory, keep_freed_memory
from twinbench.harness.training.checkpoint import Progress
from twinbench.harness.training.kernels import FAST, REPRO, choose_kernels, uncompiled
from twinbench.harness.training.loop import Interrupted, check_finite, train
from twinbench.harness.training.loss_log import Diverged
from twinbench.harness.training.task import Task
from twinbench.harness.trial.ranks import other_ranks
from twinbench.methods.backbones.registry import build_backbone
from twinbench.methods.method import Method
from twinbench.methods.registry import get_method
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.metrics import DIAGNOSTICS, FEATURE_STD, MetricValue
from twinbench.sweeps.protocol import DatasetRule, Evaluation, Training
from twinbench.sweeps.recipe import ViewRecipe
from twinbench.sweeps.trial import Trial


@dataclass(frozen=True)
class Surroundings:
    """Where and how trials run, which is not part of their identity.

    `data` is the folder of the dataset's files, if it needs one, and `cache` that of prepared datasets. An attempt that
    takes longer than `trial_time_limit` seconds ends as failed. `where` names the allocation for readers. `keep_log`
    sends what the process prints to the attempt's log. `processes` train one trial together, each with `threads`, on
    the CPU or on consecutive GPUs from `device` on. Up to `pack` trials take turns in one process on the same batches;
    of a running trial it is their number. `mode` is `repro` or `fast`. With `isolate` every trial, or pack, gets a
    process of its own.
    """

    run_folder: Path
    device: str = "cpu"
    threads: int = 1
    data: Path | None = None
    cache: Path | None = None
    trial_time_limit: float | None = None
    where: str = ""
    keep_log: bool = False
    processes: int = 1
    pack: int = 1
    mode: str = REPRO
    isolate: bool = False

    def absolute(self) -> "Surroundings":
        """Return a copy with absolute paths, valid in every process of a cluster."""
        return replace(self, run_folder=self.run_folder.resolve(), data=self.data.resolve() if self.data else None)


@dataclass
class Found:
    """What a trial has produced so far; a later failure loses none of it."""

    progress: Progress = field(default_factory=Progress)
    metrics: list[MetricValue] = field(default_factory=list)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    evaluation_seconds: float = 0.0


Report: TypeAlias = Callable[[Progress, int, int], None]
"""Called with the progress, the number of updates so far and the number of updates in all."""


def train_and_evaluate(
    trial: Trial,
    surroundings: Surroundings,
    folder: Path,
    report: Report,
    should_stop: Callable[[], bool],
    found: Found,
    log: Path | None = None,
) -> Generator[None, None, tuple[str, str]]:
    """Train and evaluate the trial, yielding after every update so that other trials of its pack can take turns.

    The state to resume from is in `folder`. Results are kept in `found` as soon as they exist, so that a later failure
    loses none of them. The output of other ranks is appended to `log`. Returns the status and the reason for it.
    """
    _set_up_process(surroundings)
    device = torch.device(surroundings.device)
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # before that, asking for a device's statistics is an error
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        give_back_freed_memory()
        provenance.reset_peak_memory()
    ranks = ranks_of(trial, surroundings)
    others = other_ranks(ranks, device) if ranks > 1 else None  # they start while this process reads the data
    evaluator = _evaluator(trial, surroundings, device)
    method = build_method(trial, device)
    if trial.training:
        task = _task(trial, surroundings, folder, evaluator, device)
        every = evaluator.rules.diagnostics_every_epochs

        def keep_and_report(progress: Progress, step: int, steps: int) -> None:
            found.progress = progress
            report(progress, step, steps)

        with others.together(other_rank, trial, surroundings, folder, log=log) if others else contextlib.nullcontext():
            yield from train(method, task, evaluator.diagnose, every, keep_and_report, should_stop)
        check_finite(method)

    def check_stop() -> None:
        if should_stop():
            raise Interrupted  # the next attempt evaluates again

    started = time.perf_counter()
    with uncompiled(mode_of(surroundings) == FAST):
        found.metrics, found.outputs = evaluator.evaluate(method, found.progress.curves, check_stop)
    found.evaluation_seconds = time.perf_counter() - started
    return _judge(trial.protocol["content"]["collapsed_below"], found.progress)


def _set_up_process(surroundings: Surroundings) -> None:
    """Set what this process computes with: threads, kernels, and the allocator's handling of freed memory."""
    torch.set_num_threads(surroundings.threads)
    choose_kernels(mode_of(surroundings))
    keep_freed_memory()


def mode_of(surroundings: Surroundings) -> str:
    """Return the mode of kernels that the trial runs in; a CPU has only `repro`."""
    return surroundings.mode if torch.device(surroundings.device).type == "cuda" else REPRO


def ranks_of(trial: Trial, surroundings: Surroundings) -> int:
    """Return how many processes train the trial: one for a baseline. ValueError if they cannot share its batches."""
    ranks = surroundings.processes if trial.training else 1
    if ranks > 1 and trial.training["batch_size"] % ranks:
        raise ValueError(f"{ranks} ranks cannot share a batch of {trial.training['batch_size']} images equally")
    return ranks


def other_rank(device: torch.device, trial: Trial, surroundings: Surroundings, folder: Path) -> Callable[[], None]:
    """Return the training that a rank other than rank 0 does for a trial: the same one, on its own rows of each batch.

    Everything is built from the trial itself and from the state in `folder`, so every rank starts with equal weights.
    """
    _set_up_process(surroundings)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    method = build_method(trial, device)
    task = _task(trial, surroundings, folder, _evaluator(trial, surroundings, device), device)

    def run() -> None:
        with contextlib.suppress(Diverged, Interrupted):  # rank 0 ends the same way, and reports it
            for _ in train(method, task, lambda _: {}, 1, lambda *_: None, lambda: False):
                pass

    return run


def _judge(collapsed_below: float | None, progress: Progress) -> tuple[str, str]:
    """Return `collapsed` and why if the final feature_std is below the protocol's limit, else `done`."""
    final = (progress.curves.get(f"{DIAGNOSTICS}{FEATURE_STD.name}") or [None])[-1]
    if collapsed_below is not None and final is not None and final < collapsed_below:
        return "collapsed", f"{FEATURE_STD.name} {final:.4g} at the end is below the protocol's {collapsed_below:g}"
    return "done", ""


def build_method(trial: Trial, device: torch.device) -> Method:
    """Return the method with its initial weights.

    Backbone and heads draw from separate random streams, so that trials of one seed start from the same backbone
    whatever their method.
    """
    backbone_rule = trial.protocol["content"]["backbone"]
    method_class = get_method(trial.method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(trial.seed, "initialisation of the backbone"))
        backbone = build_backbone(backbone_rule["name"], backbone_rule["options"])
        torch.manual_seed(torch_seed(trial.seed, "initialisation of the heads"))
        method = method_class(backbone, method_class.config_class(**trial.settings))
    return method.to(device).to(memory_format=torch.channels_last)


@functools.lru_cache(maxsize=1)  # a worker loads and splits the dataset once, and a pack's trials share it
def _splits(
    rule_json: bytes, data: Path | None, cache: Path | None, device: torch.device
) -> tuple[DatasetRule, Dataset, Part, Part, Part]:
    """Return a protocol's rule, the dataset, and its training, validation and test images on the device."""
    rule = DatasetRule(**json.loads(rule_json))
    dataset = load_dataset(rule.name, data, rule.image_size, cache)
    train_positions, validation_positions = split_train(dataset, rule.validation_fraction, rule.split_seed)
    train_positions = some(train_positions, rule.train_examples, rule.split_seed)
    test_positions = some(np.arange(len(dataset.test.labels)), rule.test_examples, rule.split_seed)

    def part(split: Split, positions: NDArray[np.int64]) -> Part:
        labels = torch.from_numpy(np.asarray(split.labels)[positions]).to(device)
        return Part(Images(split.images, positions, device), labels)

    train, validation = part(dataset.train, train_positions), part(dataset.train, validation_positions)
    return rule, dataset, train, validation, part(dataset.test, test_positions)


def _task(trial: Trial, surroundings: Surroundings, folder: Path, evaluator: Evaluator, device: torch.device) -> Task:
    return Task(
        images=evaluator.train.images,
        dataset=evaluator.dataset,
        views=evaluator.views,
        training=Training(**trial.training),
        seed=trial.seed,
        folder=folder,
        device=device,
        shares_views=surroundings.pack > 1,
        compiles=mode_of(surroundings) == FAST,
        keeps_its_turn=surroundings.pack > 1 and device.type == "cuda",
    )


def _evaluator(trial: Trial, surroundings: Surroundings, device: torch.device) -> Evaluator:
    """Return the evaluator of the trial, with the three splits on the device."""
    content = trial.protocol["content"]
    rule_json = canonical_json(content["dataset"])
    rule, dataset, train, validation, test = _splits(rule_json, surroundings.data, surroundings.cache, device)
    if dataset.fingerprint != trial.dataset_fingerprint:
        raise ValueError(f"the dataset is {dataset.fingerprint}, the trial asks for {trial.dataset_fingerprint}")
    return Evaluator(
        train=train,
        validation=validation,
        test=test,
        classes=len(dataset.classes),
        dataset=rule,
        rules=Evaluation(**content["evaluation"]),
        views=tuple(ViewRecipe(**view) for view in content["views"]),
        seed=trial.seed,
        selected_on=content["selected_on"],
        checkpoint=content["checkpoint"],
    )


def some(positions: NDArray[np.int64], count: int | None, seed: int) -> NDArray[np.int64]:
    """Return `count` of the positions, drawn with the split's seed, in ascending order; all if `count` is None."""
    if count is None or count >= len(positions):
        return positions
    return np.sort(positions[permutation(key(seed, "subset"), len(positions)).numpy()[:count]])
