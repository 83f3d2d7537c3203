"""Write the record of a trial that has ended: artefacts first, the record last."""

import socket

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from twinbench.harness.run_folder import live_curves
from twinbench.harness.run_folder.heartbeat import LOST
from twinbench.harness.run_folder.leases import Attempt, is_recorded, now
from twinbench.harness.system import provenance
from twinbench.harness.training.checkpoint import saved_progress
from twinbench.harness.training.loop import finished_curves
from twinbench.harness.training.schedule import scaled_learning_rate
from twinbench.harness.training.task import precision_on
from twinbench.harness.trial.execute import Found, Surroundings, mode_of
from twinbench.results.attempts import trial_folder
from twinbench.results.record import Result, write_artefact, write_record
from twinbench.sweeps.hashing import canonical_json
from twinbench.sweeps.protocol import Training
from twinbench.sweeps.trial import Trial


def record_failure(trial: Trial, surroundings: Surroundings, attempt: Attempt, reason: str) -> None:
    """Record as failed a trial that cannot do so itself. Its saved state is kept, so nothing computed is lost."""
    if is_superseded(attempt):
        attempt.end("interrupted", LOST)
        return
    progress = saved_progress(trial_folder(surroundings.run_folder, trial.trial_id))
    record_trial(trial, surroundings, attempt, "failed", reason, "", Found(progress))
    attempt.end("failed", reason)


def is_superseded(attempt: Attempt) -> bool:
    """Whether another worker has taken the trial over: a failure of this one must not replace the other's result."""
    return attempt.is_lost() or is_recorded(attempt.run_folder, attempt.trial_id)


def record_trial(
    trial: Trial, surroundings: Surroundings, attempt: Attempt, status: str, reason: str, traceback: str, found: Found
) -> None:
    """Write the artefacts and then the record of a trial, and delete its live curves."""
    folder, progress = surroundings.run_folder, found.progress
    curves = outputs = None
    if progress.epochs:
        curves = write_artefact(folder, canonical_json(finished_curves(progress)), ".json")
    if found.outputs:
        outputs = write_artefact(folder, to_safetensors(_compact(found.outputs)), ".safetensors")
    derived: dict[str, object] = {}
    if trial.training:
        derived["learning_rate_scaled"] = scaled_learning_rate(Training(**trial.training))
    result: Result = {
        "trial_id": trial.trial_id,
        "cell_id": trial.cell_id,
        "trial": trial.content(),
        "derived": derived,
        "status": status,
        "reason": reason,
        "metrics": found.metrics,
        "curves": curves,
        "outputs": outputs,
    }
    write_record(folder, result, _circumstance(trial, surroundings, attempt, found) | {"traceback": traceback})
    (trial_folder(folder, trial.trial_id) / live_curves.FILE_NAME).unlink(missing_ok=True)  # the artefact has them


def _circumstance(trial: Trial, surroundings: Surroundings, attempt: Attempt, found: Found) -> dict[str, object]:
    """Return what the trial's identity does not determine: times, costs, code, versions, device."""
    progress, device = found.progress, torch.device(surroundings.device)
    on_gpu = device.type == "cuda"
    started, head = attempt.began()
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else provenance.peak_memory_bytes()
    return {
        "started": started,
        "finished": now(),
        "attempts": attempt.number,
        "declarations": head and {"count": head.lines, "head": head.digest},
        "train_seconds": round(progress.train_seconds, 3),
        "shared_seconds": round(progress.shared_seconds, 3),
        "solo_step_seconds": progress.solo_step_seconds and round(progress.solo_step_seconds, 6),
        "pack": surroundings.pack,
        "cuda_graph": progress.cuda_graph,
        "evaluation_seconds": round(found.evaluation_seconds, 3),
        "images_seen": progress.images_seen,
        "peak_memory_bytes": peak if surroundings.pack == 1 else None,  # that of a pack belongs to no single trial
        "commit": provenance.commit(),
        "code_hash": provenance.code_hash(),
        "versions": provenance.versions(),
        "device": torch.cuda.get_device_name(device) if on_gpu else surroundings.device,
        "processor": provenance.processor(),
        "precision": precision_on(device, trial.training.get("precision", "fp32")),
        "mode": mode_of(surroundings),
        "threads": surroundings.threads,
        "ranks": surroundings.processes if trial.training else 1,
        "host": socket.gethostname(),
        "where": surroundings.where,
    }


def _compact(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return outputs in their smallest types: one byte for right or wrong, four for a class."""
    return {
        name: values.to(torch.uint8 if values.dtype == torch.bool else torch.int32).cpu().contiguous()
        for name, values in outputs.items()
    }
