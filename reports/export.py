"""Export of curves and results to TensorBoard, MLflow and Weights & Biases.

An export can be deleted and made again from the records. Each tracker is an optional dependency, imported only when it
is used. Data stays on this machine unless the tracker's own variables say otherwise (MLFLOW_TRACKING_URI,
WANDB_MODE=online).
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twinbench.reports.paper.parts import key_of
from twinbench.reports.tables.run import Run, TrialRow, read_run, records
from twinbench.reports.tables.sections import sections
from twinbench.sweeps.deviations import deviations_text
from twinbench.sweeps.errors import InvalidInput, Mistake, unknown_name

EXPORT = "export"


@dataclass(frozen=True)
class Exported:
    """One recorded trial, in a form for all trackers."""

    name: str
    trial: TrialRow
    settings: dict[str, str]
    metrics: dict[str, float]  # "test/linear_top1", as fractions
    curves: dict[str, list[tuple[int, float]]]  # by name: (step, value); the step is the epoch

    @property
    def seconds(self) -> float:
        """Return the end of the trial as a Unix time, so that two exports are equal."""
        finished = self.trial["finished"]
        return 0.0 if finished is None else float(finished.replace(tzinfo=UTC).timestamp())


def check_tracker(to: str) -> None:
    """Raise InvalidInput for a tracker that is unknown or not installed."""
    if to not in _WRITERS:
        raise InvalidInput([unknown_name("--to", "tracker", to, _WRITERS)])
    if find_spec(to) is None:  # each tracker's module has its name, and so has the extra that installs it
        raise InvalidInput([Mistake("--to", "", "is not installed", to, f"pip install 'twinbench[{to}]'")])


def read_exported(run_folder: Path | str) -> tuple[str, list[Exported]]:
    """Return the name of the sweep and the recorded trials of a run folder, after ingesting new records."""
    run = read_run(run_folder)
    return run.name or "twinbench", exported(run)


def export(name: str, trials: list[Exported], to: str, out: Path) -> str:
    """Write the trials of the sweep `name` to a tracker; return the command that shows them, or where they are."""
    folder = out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return _WRITERS[to](name, trials, folder)


def exported(run: Run) -> list[Exported]:
    """Return the recorded trials of the run, including failed ones with what they recorded."""
    settings: dict[str, dict[str, str]] = defaultdict(dict)
    for row in records(run.settings):
        settings[row["trial_id"]][f"{row['source']}.{row['name']}"] = str(row["text"])
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    for row in records(run.metrics):
        metrics[row["trial_id"]][f"{row['split']}/{row['name']}"] = float(row["value"])
    curves: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in records(run.curves):
        # Trackers do not accept missing values, which stand for values that were not finite.
        if row["value"] is not None:
            curves[row["trial_id"]][row["name"]].append((round(row["epoch"]), float(row["value"])))
    cells = [cell for section in sections(run) for cell in section.cells]
    changed = {trial["trial_id"]: cell.changed_text for cell in cells for trial in cell.all_trials}
    deviations = {str(row["hash"]): json.loads(row["deviations"] or "[]") for row in records(run.protocols)}
    return [
        Exported(
            key_of(f"{trial['method']}-seed{trial['seed']}-{trial['trial_id']}"),
            trial
            | {"deviations": deviations_text(deviations.get(str(trial["protocol_hash"]), []))}
            | {"differs_from_protocol": changed[trial["trial_id"]]},
            settings[trial["trial_id"]],
            metrics[trial["trial_id"]],
            curves[trial["trial_id"]],
        )
        for trial in records(run.trials)
        if trial["status"] != "missing"
    ]


def _about(one: Exported) -> dict[str, str]:
    keys = (
        *("trial_id", "cell_id", "method", "method_version", "seed", "status", "reason", "protocol_name"),
        *("protocol_version", "protocol_hash", "deviations", "differs_from_protocol"),
        *("dataset_fingerprint", "commit", "device", "result_digest"),
    )
    return {key: str(one.trial.get(key)) for key in keys if one.trial.get(key) not in (None, "")}


def _tensorboard(_: str, trials: list[Exported], folder: Path) -> str:
    """Write one folder per trial. An earlier export is replaced, since its points would appear twice."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for one in trials:
        for earlier in (folder / one.name).glob("events.out.tfevents.*"):
            earlier.unlink()
        writer = EventFileWriter(str(folder / one.name))
        writer.add_event(Event(wall_time=one.seconds, summary=Summary(value=[_tensorboard_text(_about(one))])))
        last = max((step for points in one.curves.values() for step, _ in points), default=0)
        points = [(name, step, value) for name, curve in one.curves.items() for step, value in curve]
        points += [(f"result/{name}", last, value) for name, value in one.metrics.items()]
        for name, step, value in points:
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(wall_time=one.seconds, step=step, summary=summary))
        writer.close()
    return f"tensorboard --logdir {folder}"


def _tensorboard_text(about: dict[str, str]) -> Any:
    """Return a value for the TEXT tab. TensorBoard has text as a tensor of strings, and reads it as Markdown."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.text.metadata import create_summary_metadata

    text = "".join(f"    {key}: {value}\n" for key, value in about.items())  # indented: shown as it is
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
    return Summary.Value(tag="trial", tensor=tensor, metadata=create_summary_metadata("trial", ""))


def _mlflow(name: str, trials: list[Exported], folder: Path) -> str:
    """Write one run per trial in an experiment named after the sweep. A trial with the same result is skipped."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the default is a folder, not a server
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or folder.as_uri())
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    for one in trials:
        tags = {"mlflow.runName": one.name} | {f"twinbench.{key}": value for key, value in _about(one).items()}
        wanted = f"tags.`twinbench.trial_id` = '{one.trial['trial_id']}'"
        existing = client.search_runs([experiment_id], wanted)
        if any(run.data.tags.get("twinbench.result_digest") == one.trial["result_digest"] for run in existing):
            continue
        for run in existing:
            client.delete_run(run.info.run_id)
        at = int(1000 * one.seconds)
        run_id = client.create_run(experiment_id, start_time=at).info.run_id
        metrics = [Metric(_word(k), v, at, step) for k, points in one.curves.items() for step, v in points]
        metrics += [Metric(_word(f"result/{k}"), v, at, 0) for k, v in one.metrics.items()]
        params = [Param(_word(k), v[:6000]) for k, v in one.settings.items()]
        for start in range(0, len(metrics), 900):  # the client accepts at most 1,000 per call
            client.log_batch(run_id, metrics[start : start + 900])
        for start in range(0, len(params), 90):
            client.log_batch(run_id, params=params[start : start + 90])
        client.log_batch(run_id, tags=[RunTag(key, value[:5000]) for key, value in tags.items()])
        client.set_terminated(run_id, "FINISHED" if one.trial["status"] == "done" else "FAILED", at)
    return f"mlflow ui --backend-store-uri {client.tracking_uri}"


def _wandb(name: str, trials: list[Exported], folder: Path) -> str:
    """Write one run per trial with the trial's id, so that a second export continues the same run."""
    import wandb

    mode = os.environ.get("WANDB_MODE", "offline")
    for one in trials:
        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_machine_info=True)
        options: dict[str, Any] = {"mode": mode, "dir": str(folder), "settings": settings, "resume": "allow"}
        group = str(one.trial["cell_id"])
        options |= {"project": key_of(name), "id": one.trial["trial_id"], "name": one.name, "group": group}
        run = wandb.init(config=_about(one) | one.settings, **options)
        by_step: dict[int, dict[str, float]] = {}
        for key, points in one.curves.items():
            for step, value in points:
                by_step.setdefault(step, {})[key] = value
        for step, values in sorted(by_step.items()):
            run.log(values, step=step)
        run.summary.update({f"result/{key}": value for key, value in one.metrics.items()})
        run.finish(exit_code=0 if one.trial["status"] == "done" else 1)
    wandb.teardown()  # a run's file may be complete only after the service has ended
    return f"wandb sync {folder}/wandb/offline-run-*" if mode == "offline" else f"project {key_of(name)}"


def _word(name: str) -> str:
    """Return the name in characters that MLflow accepts. No slash: a file `loss` excludes a folder `loss`."""
    kept = (c if c.isascii() and (c.isalnum() or c in "_-. ") else f"U{ord(c):04X}" for c in name.replace("/", "."))
    return "".join(kept)[:200]


_WRITERS: dict[str, Callable[[str, list[Exported], Path], str]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
