"""What the tests of bundles share: a run folder with genuine ids and outputs, and bundles that were tampered with."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from twinbench.reports.verification.integrity import integrity
from twinbench.reports.verification.level import Level
from twinbench.reports.verification.levels import aggregate, render, rendered
from twinbench.results.atomic_files import write_json_atomically
from twinbench.results.bundles.contents import Contents, read_contents
from twinbench.results.bundles.read import unpack
from twinbench.results.bundles.write import Bundled, pack, write_bundle
from twinbench.results.record import write_artefact, write_record
from twinbench.sweeps.hashing import digest
from twinbench.sweeps.own_values import shipped_settings
from twinbench.sweeps.protocol import Protocol
from twinbench.sweeps.sweep import read_protocol
from twinbench.sweeps.trial import Trial

DIGITS = "sha256:3b2d315f628bb8cf644d50319d30ef9a03b931f3acedf106ece9c3c39c30c42a"
LABELS = (  # of the test images of digits
    "131469650222693277227424557106171763824071498352037344563319464278038952593226402831397544"
    "898367475884773412376413572570081830565080763327261899050236909659817036664592674106742880"
    "481789915266150021935675053156133690713853628595382495043273746092740591788812912959103600"
    "71714369442589616508830278230314748498156941731169100648654579012909955887864902439154280"
)
EXAMPLES = len(LABELS)
STARTED = "2026-01-02T03:04:05+00:00"
CIRCUMSTANCE = {
    "started": STARTED,
    "finished": "2026-01-02T03:05:05+00:00",
    "attempts": 1,
    "train_seconds": 50.0,
    "evaluation_seconds": 5.0,
    "images_seen": 12 * 8 * 128,
    "peak_memory_bytes": 2**29,
    "commit": "c" * 40,
    "code_hash": "d" * 64,
    "versions": {"python": "3.11.7", "torch": "2.14.1"},
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "ranks": 1,
    "host": "invented",
    "traceback": "",
}


@dataclass
class GenuineRun:
    """A run folder with ids, hashes, outputs and attempts as `twinbench run` leaves them. Its numbers are drawn."""

    folder: Path
    protocol: Protocol
    trials: tuple[Trial, ...]

    @property
    def ids(self) -> list[str]:
        return [trial.trial_id for trial in self.trials]

    def plan(self) -> None:
        """Write the plan."""
        trials = [
            {"trial_id": trial.trial_id, "cell_id": trial.cell_id}
            | {key: value for key, value in trial.content().items() if key != "protocol"}
            for trial in self.trials
        ]
        plan = {"schema": 1, "name": "genuine", "question": "Is it whole?", "axes": ["projector_width"]}
        write_json_atomically(self.folder / "plan.json", plan | {"protocol": self.protocol.carried, "trials": trials})

    def attempt(self, trial: Trial, status: str, number: int = 1, reason: str = "", **more: Any) -> None:
        """Write the file of an attempt."""
        content = {"number": number, "status": status, "reason": reason, "started": STARTED}
        content |= {"host": "invented", "pid": 7}
        file = self.folder / "trials" / trial.trial_id / f"attempt-{number:04d}.json"
        write_json_atomically(file, content | more)

    def record(self, trial: Trial, status: str = "done", reason: str = "", **circumstance: Any) -> None:
        """Write the trial's record, with drawn predictions, and its attempt."""
        curves = outputs = None
        metrics: list[dict[str, Any]] = []
        if status == "done":
            arrays = drawn_outputs(trial)
            outputs = write_artefact(self.folder, save(arrays), ".safetensors")
            curves = write_artefact(self.folder, json.dumps(drawn_curves(trial)).encode(), ".json")
            for name, variant in (("knn", "knn/cosine-softmax@1"), ("linear", "linear/sgd-standardised@1")):
                right = int((arrays[f"{name}_prediction"] == arrays["labels"]).sum())
                for split, value in (("test", right / EXAMPLES), ("validation", 0.5)):
                    metrics.append(_metric(f"{name}_top1", variant, split, value))
        result = {
            "trial_id": trial.trial_id,
            "cell_id": trial.cell_id,
            "trial": trial.content(),
            "derived": {},
            "status": status,
            "reason": reason,
            "metrics": metrics,
            "curves": curves,
            "outputs": outputs,
        }
        number = circumstance.get("attempts", 1)
        self.attempt(trial, status, number, reason)
        write_record(self.folder, result, CIRCUMSTANCE | circumstance)

    def bundle(self, report: bool = False) -> Bundled:
        """Write its bundle beside it. Most tests leave out the report, which takes the longest."""
        return write_bundle(self.folder, self.folder.parent / "bundle.tar.gz", rendered if report else lambda _: {})


def genuine_run(folder: Path, seeds: int = 3) -> GenuineRun:
    """Return a run of SimCLR and VICReg under digits-small, with `seeds` seeds each, all done."""
    protocol = read_protocol("digits-small")
    trials = [
        Trial(method, 1, _settings(protocol, method), asdict(protocol.training), seed, DIGITS, protocol.carried)
        for method in ("simclr", "vicreg")
        for seed in range(seeds)
    ]
    run = GenuineRun(folder, protocol, tuple(trials))
    run.plan()
    for trial in trials:
        run.record(trial)
    return run


def _settings(protocol: Protocol, method: str) -> dict[str, Any]:
    return {**(shipped_settings(method, 1) or {}), **protocol.content["methods"][method], "projector_width": 16}


def drawn_outputs(trial: Trial) -> dict[str, np.ndarray]:
    """Return labels that all trials share, and predictions that are right three times in four."""
    labels = np.array([*map(int, LABELS)], dtype=np.int32)
    rng = np.random.default_rng(int(trial.trial_id, 16))
    arrays = {"labels": labels}
    for probe in ("knn", "linear"):
        predicted = np.where(rng.random(EXAMPLES) < 0.75, labels, (labels + 1) % 10).astype(np.int32)
        arrays |= {f"{probe}_prediction": predicted, f"{probe}_correct": (predicted == labels).astype(np.uint8)}
    return arrays


def drawn_curves(trial: Trial) -> dict[str, Any]:
    rng = np.random.default_rng(int(trial.trial_id, 16))
    return {"epoch": [1, 2], "series": {"loss": sorted((1 + rng.random(2)).tolist(), reverse=True)}}


def _metric(name: str, variant: str, split: str, value: float) -> dict[str, Any]:
    how = {"n_examples": EXAMPLES, "selected_on": "validation", "candidates": 6, "selected": {}}
    return {"name": name, "variant": variant, "split": split, "value": value} | how


# --- tampering ------------------------------------------------------------------------------------------------------


def members_of(bundle: Path) -> dict[str, bytes]:
    """Return every member by name, read with Python's own tarfile."""
    with tarfile.open(bundle, "r:gz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def packed(members: Mapping[str, bytes], path: Path, mend: bool = True) -> Path:
    """Write the members as a bundle. With `mend` the manifest matches them, as a careful cheat would see to."""
    members = dict(members)
    if mend:
        manifest = json.loads(members["MANIFEST.json"])
        manifest["members"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in members.items()
            if name != "MANIFEST.json"
        }
        members["MANIFEST.json"] = as_json(manifest)
    file = io.BytesIO()
    pack(file, members)
    path.write_bytes(file.getvalue())
    return path


def as_json(content: object) -> bytes:
    """Return JSON as records are written."""
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def changed_record(data: bytes, change: Callable[[dict[str, Any]], None], mend: bool = True) -> bytes:
    """Return the record with its result changed; with `mend` also its digest."""
    record = json.loads(data)
    change(record["result"])
    if mend:
        record["result_digest"] = digest(record["result"])
    return as_json(record)


def contents_of(bundle: Path, folder: Path) -> Contents:
    """Return the content of a bundle, unpacked into a new folder within `folder`."""
    return read_contents(unpack(bundle, folder / f"unpacked-{len(list(folder.glob('unpacked-*')))}"))


def verified(bundle: Path, folder: Path, name: str = "integrity", expect: str = "") -> Level:
    """Return the level of that name; levels after integrity only if integrity passes."""
    contents = contents_of(bundle, folder)
    ground = integrity(contents, expect)
    if name == "integrity":
        return ground
    assert ground.outcome == "passed", ground.faults
    return {"render": render, "aggregate": aggregate}[name](contents)


def with_outputs(
    run: GenuineRun, number: int, change: Callable[[dict[str, Any]], None], mend: Callable[[dict[str, Any]], None]
) -> Path:
    """Return the run's bundle, with the outputs of one trial changed, and its record made to fit."""
    path = run.folder / "records" / f"{run.ids[number]}.json"
    file = json.loads(path.read_text())["result"]["outputs"]["file"]
    arrays = load((run.folder / file).read_bytes())
    change(arrays)
    data = save(arrays)
    sha256 = hashlib.sha256(data).hexdigest()
    (run.folder / "artefacts" / f"{sha256}.safetensors").write_bytes(data)

    def fit(result: dict[str, Any]) -> None:
        result["outputs"] = {"sha256": sha256, "file": f"artefacts/{sha256}.safetensors"}
        mend(result)

    path.write_bytes(changed_record(path.read_bytes(), fit))
    return run.bundle().path
