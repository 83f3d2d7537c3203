"""How far a trial is, as its worker last told: `trials/TRIAL_ID/progress.json`."""

import json
from pathlib import Path
from typing import Any


def trial_folder(run_folder: Path, trial_id: str) -> Path:
    """Where a trial keeps its state and progress while it runs."""
    return run_folder / "trials" / trial_id


def progress_file(run_folder: Path, trial_id: str) -> Path:
    """The file itself; it appears when the trial first starts."""
    return trial_folder(run_folder, trial_id) / "progress.json"


def read_progress(run_folder: Path, trial_id: str) -> dict[str, Any]:
    """What a trial last told of itself; empty where it told nothing."""
    try:
        told: dict[str, Any] = json.loads(progress_file(run_folder, trial_id).read_text(encoding="utf-8"))
        return told
    except (OSError, ValueError):
        return {}
