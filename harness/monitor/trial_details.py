"""One trial as the live page shows it: settings, curves, how it ended, and the end of its log."""

import json
from pathlib import Path

from twinbench.harness.monitor.labels import trial_label
from twinbench.harness.run_folder.live_curves import parse_curves, read_curves
from twinbench.results.attempts import end_of_log, trial_folder
from twinbench.results.record import BrokenArtefact, TornRecord, read_artefact, read_record, record_path
from twinbench.sweeps.trial import Trial

LOG_BYTES = 4000


def trial_details(folder: Path, trial: Trial, axes: tuple[str, ...]) -> dict[str, object]:
    """Return what the folder holds about a planned trial. Reads nothing outside of `folder`.

    `status`, `reason` and `traceback` are empty until it is recorded.
    """
    curves = read_curves(trial_folder(folder, trial.trial_id))
    settings = {**trial.settings, **trial.training}
    status = reason = traceback = ""
    try:
        record = read_record(record_path(folder, trial.trial_id))
        result = record["result"]
        status, reason = result["status"], result["reason"]
        traceback = str(record["circumstance"].get("traceback", ""))
        if reference := result.get("curves"):
            curves = parse_curves(read_artefact(folder, reference))
    except (TornRecord, BrokenArtefact):
        pass  # the trial is running, or its files are damaged, which the page's list of failures says
    return {
        "trial_id": trial.trial_id,
        "label": trial_label(trial, axes),
        "seed": trial.seed,
        "settings": {name: json.dumps(value, ensure_ascii=False) for name, value in settings.items()},
        "status": status,
        "reason": reason,
        "traceback": traceback,
        "curves": curves,
        "log": end_of_log(folder, trial.trial_id, LOG_BYTES),
    }
