"""Synthetic run folders for the tests of results and reports. No number in them was ever measured."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import ray_cluster  # noqa: F401  (fixtures: one cluster for all tests)
from slurm_cluster import slurm  # noqa: F401

from twinbench.results.atomic_files import write_json_atomically
from twinbench.results.record import write_artefact, write_record
from twinbench.sweeps.hashing import digest

PROTOCOL = {
    "name": "synthetic",
    "version": 1,
    "hash": "5" * 64,
    "content": {
        "name": "synthetic",
        "summary": "Invented numbers for tests.",
        "dataset": {"name": "invented", "mean": [0.5, 0.5, 0.5]},
        "views": [{"flip": 0.5}, {"flip": 0.5, "blur": 0.1}],
    },
}
FINGERPRINT = "sha256:" + "1" * 64
VERSIONS = {"python": "3.11.7", "torch": "2.14.1"}


@dataclass
class SyntheticRun:
    """A run folder that is filled trial by trial."""

    folder: Path
    question: str = "Do synthetic numbers look right on the page?"
    axes: tuple[str, ...] = ("off_diagonal_weight", "projector_width")
    commands: list[str] = field(default_factory=list)
    planned: list[dict[str, Any]] = field(default_factory=list)
    later: bool = False  # whether the plan is written when all trials are on it

    def trial(
        self,
        method: str = "barlow_twins",
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        protocol: Mapping[str, Any] = PROTOCOL,
        fingerprint: str = FINGERPRINT,
    ) -> dict[str, Any]:
        """A trial's identity. Its ids are made here: these tests do not need those of a sweep."""
        identity = {
            "method": method,
            "method_version": 1,
            "settings": dict(settings or {}),
            "training": dict(training or {}),
            "dataset_fingerprint": fingerprint,
            "protocol": protocol["hash"],
        }
        return identity | {
            "protocol": dict(protocol),
            "seed": seed,
            "trial_id": digest(identity | {"seed": seed})[:16],
            "cell_id": digest(identity)[:16],
        }

    def plan(self, trial: dict[str, Any]) -> dict[str, Any]:
        """Put the trial on the plan, and write the plan."""
        self.planned.append({key: value for key, value in trial.items() if key != "protocol"})
        if not self.later:
            self.write_plan()
        return trial

    def write_plan(self) -> None:
        plan = {"schema": 1, "name": "synthetic", "question": self.question, "axes": list(self.axes)}
        plan |= {"commands": self.commands} if self.commands else {}
        write_json_atomically(self.folder / "plan.json", plan | {"protocol": PROTOCOL, "trials": self.planned})

    def record(
        self,
        trial: dict[str, Any],
        accuracy: float | None = 0.9,
        validation: float | None = None,
        status: str = "done",
        reason: str = "",
        curves: Mapping[str, Any] | None = None,
        circumstance: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the trial's record: linear accuracy as given, kNN two points below."""
        metrics = []
        if accuracy is not None:
            for split, value in (("test", accuracy), ("validation", accuracy if validation is None else validation)):
                metrics += [
                    _metric("knn_top1", "knn/cosine-softmax@1", split, value - 0.02),
                    _metric("linear_top1", "linear/sgd-standardised@1", split, value),
                ]
        trial = dict(trial)
        ids = {key: trial.pop(key) for key in ("trial_id", "cell_id")}
        reference = None
        if curves is not None:
            reference = write_artefact(self.folder, json.dumps(curves, sort_keys=True).encode(), ".json")
        result = ids | {
            "trial": trial,
            "derived": {"learning_rate_scaled": 0.1, "steps": 120},
            "status": status,
            "reason": reason,
            "metrics": metrics,
            "curves": reference,
            "outputs": None,
        }
        return write_record(self.folder, result, CIRCUMSTANCE | dict(circumstance or {}))

    def planned_and_recorded(self, accuracy: float | None = 0.9, **choices: Any) -> str:
        """Plan a trial, record it, and return its id."""
        identity = {
            key: choices.pop(key)
            for key in ("method", "seed", "settings", "training", "protocol", "fingerprint")
            if key in choices
        }
        trial = self.plan(self.trial(**identity))
        self.record(trial, accuracy, **choices)
        trial_id: str = trial["trial_id"]
        return trial_id


# Of a synthetic run: declared by nobody, and supported by nothing.
CLAIM = """
protocol = "synthetic"
[[claims]]
name = "one"
sentence = "SimCLR is better than BYOL."
kind = "better"
a = { method = "simclr" }
b = { method = "byol" }
"""

CIRCUMSTANCE = {
    "started": "2026-01-02T03:04:05+00:00",
    "finished": "2026-01-02T03:05:05+00:00",
    "attempts": 1,
    "train_seconds": 50.0,
    "evaluation_seconds": 5.0,
    "images_seen": 14370,
    "peak_memory_bytes": 2**29,
    "commit": "c" * 40,
    "code_hash": "d" * 64,
    "versions": VERSIONS,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "ranks": 1,
    "host": "invented",
    "traceback": "",
}


def _metric(name: str, variant: str, split: str, value: float) -> dict[str, Any]:
    return {
        "name": name,
        "variant": variant,
        "split": split,
        "value": round(value, 9),
        "n_examples": 360,
        "selected_on": "validation",
        "candidates": 8,
        "selected": {"k": 20} if name == "knn_top1" else {"learning_rate": 0.1},
    }


def wobble(*names: object) -> float:
    """A number between -1 and 1 that follows from the names: the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:4]) / 2**31 - 1


def invented_curves(method: str, seed: int, epochs: int = 20, stop: int | None = None) -> dict[str, Any]:
    """Curves that fall and rise as such curves do."""
    shown = list(range(1, (stop or epochs) + 1))
    shift = 0.15 * wobble(method) + 0.02 * wobble(method, seed)
    series = {
        "loss": [3 * 0.85**e + shift for e in shown],
        "validation/knn_top1": [0.9 - 0.5 * 0.8**e + shift if e % 2 == 0 else None for e in shown],
        "diagnostics/feature_std": [0.08 - 0.03 * 0.8**e + shift / 10 for e in shown],
        "diagnostics/rankme_backbone": [20 + e + 10 * shift for e in shown],
        "diagnostics/rankme_projector": [12 + 0.5 * e + 10 * shift for e in shown],
        "diagnostics/off_diagonal_correlation": [0.3 * 0.9**e + shift for e in shown],
        "diagnostics/alignment": [0.5 * 0.9**e + shift for e in shown],
        "diagnostics/uniformity": [-2 - 0.05 * e + shift for e in shown],
    }
    return {"epoch": shown, "series": series}


def fill(run: SyntheticRun) -> SyntheticRun:
    """A whole sweep: baselines, four methods, three seeds, a diverged, a failed and a missing trial."""
    run.later = True
    run.planned_and_recorded(0.72, method="raw_pixels")
    for seed in range(3):
        run.planned_and_recorded(0.66 + 0.01 * wobble("untrained", seed), method="untrained", seed=seed)
    for method, level in (("barlow_twins", 0.90), ("simclr", 0.88), ("byol", 0.86), ("vicreg", 0.89)):
        weights = (0.001, 0.005, 0.05) if method == "barlow_twins" else (None,)
        for weight in weights:
            for width in (64, 128, 256):
                settings = {"projector_width": width, "projector_depth": 2}
                settings |= {} if weight is None else {"off_diagonal_weight": weight}
                for seed in range(3):
                    trial = run.plan(run.trial(method, seed, settings, {"batch_size": 128, "epochs": 20}))
                    value = level + 0.015 * (width // 64) ** 0.5 - 0.4 * (weight or 0)
                    value += 0.01 * wobble(method, weight, width, seed)
                    if (method, width, seed) == ("vicreg", 256, 2):
                        continue
                    if (weight, width, seed) == (0.05, 256, 1):
                        run.record(
                            trial,
                            None,
                            status="diverged",
                            reason="loss was nan at epoch 7, step 63",
                            curves=invented_curves(method, seed, stop=6),
                        )
                    elif (method, width, seed) == ("byol", 64, 0):
                        where = {"traceback": "Traceback (most recent call last):\n  ...\nRuntimeError: invented"}
                        run.record(trial, None, status="failed", reason="RuntimeError: invented", circumstance=where)
                    else:
                        validation = value - 0.005 + 0.004 * wobble("validation", method, weight, width, seed)
                        cost = {"train_seconds": 40 + width / 8}
                        run.record(trial, value, validation, curves=invented_curves(method, seed), circumstance=cost)
    run.later = False
    run.write_plan()
    return run


@pytest.fixture
def synthetic_run(tmp_path: Path) -> SyntheticRun:
    """An empty synthetic run folder."""
    return SyntheticRun(tmp_path / "run")


@pytest.fixture
def new_synthetic_run() -> Callable[[Path], SyntheticRun]:
    """Makes further synthetic run folders, at paths of the test's choice."""
    return SyntheticRun


@pytest.fixture(scope="session")
def whole_sweep(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRun:
    """A synthetic run folder with a whole sweep in it, for all tests that do not change it."""
    return fill(SyntheticRun(tmp_path_factory.mktemp("synthetic") / "run"))


@pytest.fixture
def filled_run(whole_sweep: SyntheticRun, tmp_path: Path) -> SyntheticRun:
    """A copy of the whole sweep, for one test to change."""
    shutil.copytree(whole_sweep.folder, tmp_path / "run", ignore=shutil.ignore_patterns("report", "results.duckdb*"))
    return replace(whole_sweep, folder=tmp_path / "run", planned=list(whole_sweep.planned))


@pytest.fixture(scope="session", params=["C", "de_DE.UTF-8"])
def elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of another machine: hash seed, time zone, and locale, of which German writes a HALF with a comma."""
    variables = {"PYTHONHASHSEED": "12345", "TZ": "Asia/Kathmandu", "LC_ALL": request.param, "HALF": "0.5"}
    if request.param == "C":
        return variables
    folder = tmp_path_factory.mktemp("locales")
    if not (program := shutil.which("localedef")) or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("needs Debian's `locales`, to make a German locale of")
    subprocess.run([program, "-i", "de_DE", "-f", "UTF-8", str(folder / request.param)], check=True)
    return variables | {"LOCPATH": str(folder), "HALF": "0,5"}
