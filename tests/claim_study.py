"""A small honest study with made-up numbers, for tests of claims, rules and bundles.

It has a shipped protocol, trials with their true ids, records with curves and with per-example outputs that give the
accuracy bit for bit, attempts and a plan, as a run leaves them, and claims declared before the first trial began.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from twinbench.reports.claims.claim import read_claims
from twinbench.reports.claims.declarations import declare
from twinbench.results.atomic_files import write_json_atomically
from twinbench.results.record import read_record, record_path, write_artefact, write_record
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.own_values import shipped_settings
from twinbench.sweeps.protocol import PROSE
from twinbench.sweeps.sweep import read_protocol
from twinbench.sweeps.trial import Trial

PROTOCOL = "cifar10-small"
FINGERPRINT = "sha256:" + "1" * 64
LEVELS = {"simclr": 0.64, "byol": 0.60}  # a true difference of four points
SEEDS = range(6)
TEST_EXAMPLES, VALIDATION_EXAMPLES, CLASSES = 10_000, 800, 10
DECLARED = datetime(2026, 1, 1, tzinfo=UTC)
BEGAN = datetime(2026, 1, 2, tzinfo=UTC)

CLAIM = """
[[claims]]
name = "simclr-beats-byol"
sentence = "On CIFAR-10, under cifar10-small, SimCLR is at least one point better than BYOL in linear accuracy."
kind = "better"
a = { method = "simclr" }
b = { method = "byol" }
at_least = 0.01
"""
CLAIMS = f'protocol = "{PROTOCOL}"\n' + CLAIM

CIRCUMSTANCE = {
    "attempts": 1,
    "train_seconds": 50.0,
    "evaluation_seconds": 5.0,
    "peak_memory_bytes": 2**29,
    "commit": "c" * 40,
    "code_hash": "d" * 64,
    "versions": {"python": "3.11.7", "torch": "2.14.1"},
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "ranks": 1,
    "host": "invented",
    "where": "",
    "traceback": "",
}


@dataclass
class Study:
    """A run folder that is filled trial by trial. `protocol` is the table that trials carry."""

    folder: Path
    protocol: dict[str, Any]
    trials: list[Trial] = field(default_factory=list)  # on the plan
    confirm_seeds: tuple[int, ...] = ()

    @property
    def claims_file(self) -> Path:
        """Return the file of claims to be judged."""
        return self.folder / "claims.toml"

    def trial(
        self,
        method: str,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        protocol: Mapping[str, Any] | None = None,
        fingerprint: str = FINGERPRINT,
    ) -> Trial:
        """Return a trial with its true ids; settings and training override the protocol's."""
        carried = protocol or self.protocol
        if method in ("raw_pixels", "untrained"):
            return Trial(method, 1, {}, {}, seed, fingerprint, carried)
        defaults = shipped_settings(method, 1) or {}
        own = {**defaults, **carried["content"]["methods"].get(method, {}), **(settings or {})}
        whole = carried["content"]["training"] | dict(training or {})
        return Trial(method, 1, own, whole, seed, fingerprint, carried)

    def add(self, trial: Trial, accuracy: float | None, **choices: Any) -> Trial:
        """Plan the trial and leave its record; see `leave_record`."""
        self.trials.append(trial)
        leave_record(self.folder, trial, accuracy, **choices)
        return trial

    def write_plan(self, protocol: Mapping[str, Any] | None = None) -> None:
        """Write the plan of all planned trials."""
        trials = [
            {"trial_id": trial.trial_id, "cell_id": trial.cell_id}
            | {key: value for key, value in trial.content().items() if key != "protocol"}
            for trial in self.trials
        ]
        plan = {"schema": 1, "name": "honest", "question": "Which of two methods is better?", "axes": []}
        carried = protocol or self.protocol
        confirm = {"confirm": {"seeds": list(self.confirm_seeds)}} if self.confirm_seeds else {}
        write_json_atomically(self.folder / "plan.json", plan | {"protocol": carried, "trials": trials} | confirm)

    def of(self, method: str, seed: int | None = None) -> list[Trial]:
        """Return the planned trials of a method, or of one of its seeds."""
        return [trial for trial in self.trials if trial.method == method and seed in (None, trial.seed)]

    def write_claims(self, text: str, declared: datetime | None = DECLARED) -> None:
        """Write the claims file, and declare its claims at the time `declared`, if given."""
        self.claims_file.write_text(text, encoding="utf-8")
        if declared:
            declare(read_claims(self.claims_file), self.folder, declared)


def honest_study(
    folder: Path,
    claims: str = CLAIMS,
    levels: Mapping[str, float] = LEVELS,
    seeds: Iterable[int] = SEEDS,
    protocol: str = PROTOCOL,
) -> Study:
    """Make a study of two methods at six seeds, with baselines, and a true claim that was declared before all results.

    `levels` gives each method's mean accuracy. Each seed shifts all methods alike by up to a point, and each method by
    up to another half a point.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(folder, read_protocol(protocol).carried)
    study.write_claims(claims)
    study.add(study.trial("raw_pixels"), 0.38)
    for method, level in {"untrained": 0.42, **levels}.items():
        for seed in seeds:
            study.add(study.trial(method, seed), level + shift(seed) + shift(method, seed) / 2)
    study.write_plan()
    return study


def shift(*names: object) -> float:
    """Return a shift of up to a point either way, determined by the names."""
    return int(digest(names)[:8], 16) / 2**32 / 50 - 0.01


def leave_record(
    folder: Path,
    trial: Trial,
    accuracy: float | None,
    status: str = "done",
    reason: str = "",
    validation: float | None = None,
    metric: Mapping[str, Any] | None = None,
    circumstance: Mapping[str, Any] | None = None,
) -> Path:
    """Write what a finished trial leaves: attempt, artefacts, record. kNN accuracy is two points below the linear one.

    `metric` overrides keys of every metric of the record. Each trial begins an hour after the one recorded before.
    """
    started = BEGAN + timedelta(hours=len(list(folder.glob("records/*.json"))))
    times = {
        "started": started.isoformat(timespec="seconds"),
        "finished": (started + timedelta(minutes=1)).isoformat(timespec="seconds"),
    }
    metrics: list[dict[str, Any]] = []
    outputs: dict[str, Any] = {}
    if accuracy is not None:
        metrics, outputs = _measured(trial, accuracy, accuracy if validation is None else validation)
    result = {
        "trial_id": trial.trial_id,
        "cell_id": trial.cell_id,
        "trial": trial.content(),
        "derived": {},
        "status": status,
        "reason": reason,
        "metrics": [one | dict(metric or {}) for one in metrics],
        "curves": write_artefact(folder, _curves(trial), ".json") if trial.training else None,
        "outputs": write_artefact(folder, _packed(outputs), ".safetensors") if outputs else None,
    }
    whole = CIRCUMSTANCE | times | {"images_seen": images_seen(trial)} | dict(circumstance or {})
    leave_attempt(folder, trial.trial_id, status, whole["started"], reason)
    return write_record(folder, result, whole)


def leave_attempt(folder: Path, trial_id: str, status: str, started: str, reason: str = "", number: int = 1) -> None:
    """Write an attempt at a trial, with the keys that reports read."""
    content = {"number": number, "status": status, "started": started, "beat": 3} | (
        {"reason": reason} if reason else {}
    )
    write_json_atomically(folder / "trials" / trial_id / f"attempt-{number:04d}.json", content, durable=False)


def images_seen(trial: Trial) -> int:
    """Return the images of all epochs, with whole batches out of 7,200 images."""
    if not trial.training:
        return 0
    batch = int(trial.training["batch_size"])
    return int(trial.training["epochs"]) * (7200 // batch * batch)


def _measured(trial: Trial, accuracy: float, validation: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return metrics of both probes on both splits, and the per-example outputs on test."""
    rng = np.random.default_rng(int(trial.trial_id, 16))
    labels = np.arange(TEST_EXAMPLES, dtype=np.int32) % CLASSES
    evaluation, metrics, outputs = trial.protocol["content"]["evaluation"], [], {"labels": labels}
    for probe, lower in (("knn", 0.02), ("linear", 0.0)):
        right = round((accuracy - lower) * TEST_EXAMPLES)
        # Some examples are hard for all: the noise between trials is a third of the spread between examples.
        difficulty = np.arange(TEST_EXAMPLES) * 997 % TEST_EXAMPLES + rng.normal(0, TEST_EXAMPLES / 3, TEST_EXAMPLES)
        correct = np.zeros(TEST_EXAMPLES, dtype=np.uint8)
        correct[np.argsort(difficulty)[:right]] = 1
        outputs[f"{probe}_correct"] = correct
        outputs[f"{probe}_prediction"] = np.where(correct, labels, (labels + 1) % CLASSES).astype(np.int32)
        on_validation = round((validation - lower) * VALIDATION_EXAMPLES) / VALIDATION_EXAMPLES
        for split, value, n in (
            ("validation", on_validation, VALIDATION_EXAMPLES),
            ("test", right / TEST_EXAMPLES, TEST_EXAMPLES),
        ):
            metrics.append(
                {
                    "name": f"{probe}_top1",
                    "variant": evaluation["metrics"][f"{probe}_top1"],
                    "split": split,
                    "value": value,
                    "n_examples": n,
                    "selected_on": trial.protocol["content"]["selected_on"],
                    "candidates": _candidates(evaluation, probe),
                    "selected": {"k": 20} if probe == "knn" else {"learning_rate": 0.1, "weight_decay": 0.0},
                }
            )
    return metrics, outputs


def _candidates(evaluation: Mapping[str, Any], probe: str) -> int:
    first, second = {
        "knn": ("knn_neighbours", "knn_temperatures"),
        "linear": ("linear_learning_rates", "linear_weight_decays"),
    }[probe]
    return len(evaluation[first]) * len(evaluation[second])


def _packed(outputs: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save

    packed: bytes = save(dict(outputs))
    return packed


def _curves(trial: Trial) -> bytes:
    epochs = list(range(1, int(trial.training["epochs"]) + 1))
    move = shift(trial.trial_id)
    series = {
        "loss": [3 * 0.85**epoch + move for epoch in epochs],
        "diagnostics/feature_std": [0.08 - 0.03 * 0.8**epoch + move / 10 for epoch in epochs],
    }
    return json.dumps({"epoch": epochs, "series": series}, sort_keys=True).encode()


# --- for tests that change what was recorded -------------------------------------------------------------------------


def read(study: Study, trial: Trial) -> dict[str, Any]:
    """Return the trial's record."""
    return read_record(record_path(study.folder, trial.trial_id))


def rewrite(study: Study, trial: Trial, edit: Callable[[dict[str, Any]], None], as_trial: Trial | None = None) -> Trial:
    """Edit the trial's record with a new digest; `as_trial` also gives it the ids and the planned place of that trial.

    An author who knows the format can do this. The attempt is renamed too.
    """
    record = read(study, trial)
    edit(record)
    result, circumstance = record["result"], record["circumstance"]
    if as_trial is not None:
        result |= {"trial": as_trial.content(), "trial_id": as_trial.trial_id, "cell_id": as_trial.cell_id}
    now = as_trial or trial
    record_path(study.folder, trial.trial_id).unlink()
    write_record(study.folder, result, circumstance)
    if now.trial_id != trial.trial_id:
        (study.folder / "trials" / trial.trial_id).rename(study.folder / "trials" / now.trial_id)
        study.trials[:] = [now if one.trial_id == trial.trial_id else one for one in study.trials]
        study.write_plan()
    return now


def otherwise(carried: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a protocol of the same name and version with other values and their hash.

    `training__epochs=40` changes training.epochs; `hash` sets the hash.
    """
    content = json.loads(json.dumps(carried["content"]))
    kept = changes.pop("hash", None)
    for key, value in changes.items():
        *path, last = key.split("__")
        table = content
        for part in path:
            table = table[part]
        table[last] = value
    made = kept or digest({key: value for key, value in content.items() if key not in PROSE})
    return {"name": content["name"], "version": content["version"], "hash": made, "content": content}


def under(trial: Trial, carried: Mapping[str, Any]) -> Trial:
    """Return the same trial under another protocol."""
    return replace(trial, protocol=carried)
