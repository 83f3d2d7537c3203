"""Runs one trial: data, training, evaluation, record. Every launcher calls `run_trial` on the same trial and folder."""

import functools
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from twinbench.harness import provenance
from twinbench.harness.data.datasets import Dataset, load_dataset, split_train
from twinbench.harness.data.images import Images
from twinbench.harness.data.streams import key, permutation, torch_seed
from twinbench.harness.evaluation.evaluate import Evaluator, Part
from twinbench.harness.progress import progress_file, read_progress, trial_folder
from twinbench.harness.training.loop import Diverged, Interrupted, Task, check_finite, finished_curves, train, uses_bf16
from twinbench.harness.training.schedule import scaled_learning_rate
from twinbench.harness.training.state import Progress, drop_state, saved_progress
from twinbench.methods.backbones import build_backbone
from twinbench.methods.method import Method
from twinbench.methods.registry import get_method
from twinbench.results.record import write_artefact, write_json_atomically, write_record
from twinbench.sweeps.identity import canonical_json
from twinbench.sweeps.protocol import DatasetRule, Evaluation, Training
from twinbench.sweeps.recipe import ViewRecipe
from twinbench.sweeps.trial import Trial

PROGRESS_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Surroundings:
    """Where a trial runs: no part of its identity. `data` is the folder of the dataset's files, if it needs one."""

    run_folder: Path
    device: str = "cpu"
    threads: int = 1
    data: Path | None = None
    cache: Path | None = None


def run_trial(trial: Trial, surroundings: Surroundings, should_stop: Callable[[], bool] = lambda: False) -> str:
    """Runs `trial` from where it stopped and writes its record last. Returns the status.

    `done`, `diverged`, `collapsed` and `failed` leave a record; `interrupted` leaves the state to go on from.
    """
    folder = trial_folder(surroundings.run_folder, trial.trial_id)
    folder.mkdir(parents=True, exist_ok=True)
    attempt = _Attempt(surroundings.run_folder, trial.trial_id)
    torch.set_num_threads(surroundings.threads)
    status, reason, trace, found = "failed", "", "", _Found()
    try:
        status, reason = _train_and_evaluate(trial, surroundings, folder, attempt, should_stop, found)
    except Interrupted:
        attempt.report(found.progress, 0, 0, status="interrupted")
        return "interrupted"
    except Diverged as error:
        status, reason = "diverged", str(error)
    except Exception as error:  # failure is data: one bad trial never stops a sweep
        reason, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
    _write(trial, surroundings, attempt, status, reason, trace, found)
    drop_state(folder)
    attempt.report(found.progress, 0, 0, status=status)
    return status


def record_failure(trial: Trial, surroundings: Surroundings, reason: str) -> None:
    """Records a trial that could not say itself what became of it: its process died."""
    folder = trial_folder(surroundings.run_folder, trial.trial_id)
    attempt = _Attempt(surroundings.run_folder, trial.trial_id, counts=False)
    # the state stays: nothing that was computed is lost
    _write(trial, surroundings, attempt, "failed", reason, "", _Found(saved_progress(folder)))
    attempt.report(Progress(), 0, 0, status="failed")


@dataclass
class _Found:
    """What a trial has come to so far: a failure later on loses none of it."""

    progress: Progress = field(default_factory=Progress)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    evaluation_seconds: float = 0.0


class _Attempt:
    """Counts the starts of a trial and tells how far it is, in `trials/ID/progress.json`."""

    def __init__(self, run_folder: Path, trial_id: str, counts: bool = True):
        self._file = progress_file(run_folder, trial_id)
        self._told_at = 0.0
        before = read_progress(run_folder, trial_id)
        self.number = int(before.get("attempts", 0)) + counts
        self.started = str(before.get("started") or _now())
        self._last: dict[str, Any] = {}
        self.report(Progress(), 0, 0)

    def report(self, progress: Progress, step: int, steps: int, status: str = "running") -> None:
        """Writes at most twice a second while running; a status that ends the attempt is always written."""
        if status == "running" and time.monotonic() - self._told_at < PROGRESS_EVERY_SECONDS:
            return
        self._told_at = time.monotonic()
        rate = progress.images_seen / progress.train_seconds if progress.train_seconds else 0.0
        if steps or not self._last:
            self._last = {"step": step, "steps": steps, "epoch": progress.epoch, "images_per_second": rate}
        told = {"status": status, "attempts": self.number, "started": self.started, "updated": _now(), **self._last}
        write_json_atomically(self._file, told)


def _train_and_evaluate(
    trial: Trial,
    surroundings: Surroundings,
    folder: Path,
    attempt: _Attempt,
    should_stop: Callable[[], bool],
    found: _Found,
) -> tuple[str, str]:
    device = torch.device(surroundings.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    content = trial.protocol["content"]
    dataset_rule, rules = DatasetRule(**content["dataset"]), Evaluation(**content["evaluation"])
    views = tuple(ViewRecipe(**view) for view in content["views"])
    dataset = _dataset(dataset_rule.name, surroundings.data, dataset_rule.image_size, surroundings.cache)
    if dataset.fingerprint != trial.dataset_fingerprint:
        raise ValueError(f"the dataset is {dataset.fingerprint}, the trial asks for {trial.dataset_fingerprint}")
    evaluator = _evaluator(dataset, dataset_rule, rules, views, trial.seed, device)
    method = build_method(trial, device)
    if trial.training:
        training = Training(**trial.training)
        task = Task(
            images=evaluator.train.images,
            dataset=dataset_rule,
            views=views,
            training=training,
            seed=trial.seed,
            image_size=evaluator.image_size,
            folder=folder,
            device=device,
        )

        def report(progress: Progress, step: int, steps: int) -> None:
            found.progress = progress
            attempt.report(progress, step, steps)

        train(method, task, evaluator.diagnose, rules.diagnostics_every_epochs, report, should_stop)
        check_finite(method)
    started = time.perf_counter()
    found.metrics, found.outputs = evaluator.evaluate(method)
    found.evaluation_seconds = time.perf_counter() - started
    return _judge(content["collapsed_below"], found.progress)


def _judge(collapsed_below: float | None, progress: Progress) -> tuple[str, str]:
    """`collapsed` where the protocol says which final feature_std means it."""
    final = (progress.curves.get("diagnostics/feature_std") or [None])[-1]
    if collapsed_below is not None and final is not None and final < collapsed_below:
        return "collapsed", f"feature_std {final:.4g} at the end is below the protocol's {collapsed_below:g}"
    return "done", ""


def build_method(trial: Trial, device: torch.device) -> Method:
    """The method with its first weights. Backbone and heads draw from streams of their own, so that trials of one seed
    start from the same backbone whatever their method."""
    backbone_rule = trial.protocol["content"]["backbone"]
    method_class = get_method(trial.method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(trial.seed, "initialisation of the backbone"))
        backbone = build_backbone(backbone_rule["name"], backbone_rule["options"])
        torch.manual_seed(torch_seed(trial.seed, "initialisation of the heads"))
        method = method_class(backbone, method_class.config_class(**trial.settings))
    return method.to(device).to(memory_format=torch.channels_last)


@functools.lru_cache(maxsize=1)  # a warm worker maps the dataset once
def _dataset(name: str, data: Path | None, image_size: int | None, cache: Path | None) -> Dataset:
    return load_dataset(name, data, image_size, cache)


def _evaluator(
    dataset: Dataset,
    rule: DatasetRule,
    rules: Evaluation,
    views: tuple[ViewRecipe, ...],
    seed: int,
    device: torch.device,
) -> Evaluator:
    """The three splits on the device."""
    train_positions, validation_positions = split_train(dataset, rule.validation_fraction, rule.split_seed)
    train_positions = some(train_positions, rule.train_examples, rule.split_seed)
    test_positions = some(np.arange(len(dataset.test.labels)), rule.test_examples, rule.split_seed)

    def part(split: Any, positions: Any) -> Part:
        labels = torch.from_numpy(np.asarray(split.labels)[positions]).to(device)
        return Part(Images(split.images, positions, device), labels)

    return Evaluator(
        train=part(dataset.train, train_positions),
        validation=part(dataset.train, validation_positions),
        test=part(dataset.test, test_positions),
        classes=len(dataset.classes),
        dataset=rule,
        rules=rules,
        views=views,
        image_size=dataset.train.images.shape[-1],
        seed=seed,
    )


def some(positions: Any, count: int | None, seed: int) -> Any:
    """`count` of the positions, drawn with the split's seed, in ascending order; all of them when `count` is None."""
    if count is None or count >= len(positions):
        return positions
    return np.sort(positions[permutation(key(seed, "subset"), len(positions)).numpy()[:count]])


def _write(
    trial: Trial, surroundings: Surroundings, attempt: _Attempt, status: str, reason: str, trace: str, found: _Found
) -> None:
    """Artefacts first, the record last."""
    run_folder, progress = surroundings.run_folder, found.progress
    curves = outputs = None
    if progress.epochs:
        curves = write_artefact(run_folder, canonical_json(finished_curves(progress)), ".json")
    if found.outputs:
        outputs = write_artefact(run_folder, to_safetensors(_compact(found.outputs)), ".safetensors")
    result = {
        "trial_id": trial.trial_id,
        "cell_id": trial.cell_id,
        "trial": trial.content(),
        "derived": _derived(trial),
        "status": status,
        "reason": reason,
        "metrics": found.metrics,
        "curves": curves,
        "outputs": outputs,
    }
    device = torch.device(surroundings.device)
    on_gpu = device.type == "cuda"
    circumstance = {
        "started": attempt.started,
        "finished": _now(),
        "attempts": attempt.number,
        "train_seconds": round(progress.train_seconds, 3),
        "evaluation_seconds": round(found.evaluation_seconds, 3),
        "images_seen": progress.images_seen,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else provenance.peak_memory_bytes(),
        "commit": provenance.commit(),
        "code_hash": provenance.code_hash(),
        "versions": provenance.versions(),
        "device": torch.cuda.get_device_name(device) if on_gpu else surroundings.device,
        "precision": "bf16" if uses_bf16(trial.training.get("precision", "fp32"), device) else "fp32",
        "threads": surroundings.threads,
        "ranks": 1,
        "host": provenance.host(),
        "traceback": trace,
    }
    write_record(run_folder, result, circumstance)


def _derived(trial: Trial) -> dict[str, Any]:
    """What came of what was asked."""
    return {"learning_rate_scaled": scaled_learning_rate(Training(**trial.training))} if trial.training else {}


def _compact(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """One byte for what is right or wrong, four for a class."""
    return {
        name: values.to(torch.uint8 if values.dtype == torch.bool else torch.int32).cpu().contiguous()
        for name, values in outputs.items()
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
