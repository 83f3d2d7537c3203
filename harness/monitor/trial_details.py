"""One trial as the live page opens it: its settings, its curves so far or whole, how it ended, what it printed last."""

import json
import os
from pathlib import Path
from typing import Any

from twinbench.harness.monitor.overview import checked_curves, read_curves
from twinbench.harness.monitor.progress_bars import label
from twinbench.harness.run_folder.leases import attempt_file, attempt_numbers, trial_folder
from twinbench.harness.run_folder.live_curves import FILE_NAME
from twinbench.results.record import BrokenArtefact, TornRecord, read_artefact, read_record, record_path
from twinbench.sweeps.trial import Trial

LOG_BYTES = 4000


def details(folder: Path, trial: Trial, axes: tuple[str, ...]) -> dict[str, Any]:
    """What there is about a planned trial. Reads nothing outside of `folder`."""
    curves = read_curves(trial_folder(folder, trial.trial_id) / FILE_NAME)
    ended: dict[str, str] = {}
    try:
        record = read_record(record_path(folder, trial.trial_id))
        result = record["result"]
        traceback = str(record["circumstance"].get("traceback", ""))
        ended = {"status": result["status"], "reason": result["reason"], "traceback": traceback}
        if reference := result.get("curves"):
            curves = checked_curves(json.loads(read_artefact(folder, reference)))
    except (TornRecord, BrokenArtefact, ValueError, RecursionError):
        pass  # it runs, or what it left is spoilt, which the overview says
    return {
        "trial_id": trial.trial_id,
        "label": label(trial, axes),
        "seed": trial.seed,
        "settings": {name: json.dumps(value, ensure_ascii=False) for name, value in _settings(trial).items()},
        "status": ended.get("status", ""),
        "reason": ended.get("reason", ""),
        "traceback": ended.get("traceback", ""),
        "curves": curves,
        "log": _end_of_log(folder, trial.trial_id),
    }


def _settings(trial: Trial) -> dict[str, Any]:
    return {**trial.settings, **trial.training}


def _end_of_log(folder: Path, trial_id: str) -> str:
    """The last lines that the latest attempt printed. A log that is a link to elsewhere is none."""
    numbers = attempt_numbers(folder, trial_id)
    if not numbers:
        return ""
    log = attempt_file(folder, trial_id, numbers[-1], ".log")
    if not log.resolve().is_relative_to(folder.resolve()):
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            return file.read(LOG_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
