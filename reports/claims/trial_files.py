"""The files of one trial, and whether they agree: its record, its per-example outputs, its attempts.

The database takes a record as it is. Here it is checked against its id, the content of its protocol and its outputs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path

from twinbench.reports.claims.attempts import attempts_at
from twinbench.reports.claims.copied_seeds import Outputs, may_agree
from twinbench.reports.statistics.per_example import Correct
from twinbench.reports.tables.cells import REPORTED_ON
from twinbench.results.attempts import Attempt
from twinbench.results.record import RECORDS, BrokenArtefact, Record, Reference, Result, read_artefact
from twinbench.sweeps.metrics import PROBES
from twinbench.sweeps.protocol import PROSE
from twinbench.sweeps.trial import Trial

ROUNDING = 1e-8  # tolerance for values that were rounded when written
_OF_A_TRIAL = {field.name for field in fields(Trial)}


@dataclass(frozen=True)
class TrialFiles:
    """The contents of a trial's files. `record` and `outputs` describe contradictions; empty where there are none."""

    record: str = ""  # how the record contradicts its id or its protocol
    outputs: str = ""  # how the outputs contradict the metrics, or why they cannot be read
    status: str = ""
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)  # metrics by name and split
    correct: Mapping[str, Correct] = field(default_factory=dict)  # by probe: which test examples were right
    labels: str = ""  # digest of the test labels
    curves_file: str = ""
    outputs_file: str = ""  # empty too where honest trials of two seeds may have the same
    attempt: object = None  # number of the one that wrote the record
    attempts: Sequence[Attempt] = ()


def read_trial_files(run_folder: Path, trial_id: str, content: Mapping[str, object]) -> TrialFiles:
    """Return the files of a trial that has a record. `content` is its protocol's content in the database."""
    attempts = attempts_at(run_folder, trial_id)
    try:  # the database checked its form and digest when it was read in
        record: Record = json.loads(_bytes_of(f"{run_folder}/{RECORDS}/{trial_id}.json"))
        result, attempt = record["result"], record["circumstance"].get("attempts")
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        return TrialFiles(record=f"can no longer be read: {error}", attempts=attempts)
    curves, outputs = result.get("curves"), result.get("outputs")
    arrays, problem = _arrays(run_folder, outputs)
    probes = [metric.probe for metric in PROBES]
    correct = {probe: arrays[f"{probe}_correct"] != 0 for probe in probes if f"{probe}_correct" in arrays}
    labels = arrays.get("labels")
    return TrialFiles(
        _record_problem(result, content),
        problem or _outputs_problem(result, arrays),
        result["status"],
        {(metric["name"], metric["split"]): metric["value"] for metric in result["metrics"]},
        correct,
        "" if labels is None else sha256(labels.astype("int32", copy=False).tobytes()).hexdigest(),
        curves["file"] if curves else "",
        outputs["file"] if outputs and not may_agree(arrays) else "",
        attempt,
        attempts,
    )


def _bytes_of(file: str) -> bytes:
    with open(file, "rb") as opened:
        return opened.read()


def _record_problem(result: Result, content: Mapping[str, object]) -> str:
    content_of_trial, protocol = result["trial"], result["trial"]["protocol"]
    if content_of_trial.keys() != _OF_A_TRIAL:
        return "its trial does not have the keys of a trial"
    trial = Trial(**content_of_trial)
    if (trial.trial_id, trial.cell_id) != (result["trial_id"], result["cell_id"]):
        return f"its content is that of trial {trial.trial_id} of cell {trial.cell_id}"
    for key in ("name", "version"):
        if protocol["content"].get(key) != protocol[key]:
            return (
                f"the {key} of its protocol is {protocol[key]!r}, but by its content {protocol['content'].get(key)!r}"
            )
    if _without_prose(protocol["content"]) != _without_prose(content):
        return "the content of its protocol differs from that of other records with the same hash"
    return ""


def _without_prose(content: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in content.items() if key not in PROSE}


def _arrays(run_folder: Path, reference: Reference | None) -> tuple[Outputs, str]:
    """Return the outputs by name, one number per example, and why they cannot be used; empty without a problem."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not reference:
        return {}, ""
    try:
        arrays = load(read_artefact(run_folder, reference))
    except (BrokenArtefact, SafetensorError, ValueError) as error:
        return {}, f"its outputs cannot be read: {error}"
    if any(values.ndim != 1 or values.dtype.kind not in "iub" or not values.size for values in arrays.values()):
        return {}, "its outputs are not whole numbers, one per example"
    return arrays, ""


def _outputs_problem(result: Result, arrays: Outputs) -> str:
    """Return the first contradiction between an accuracy on test and the outputs; empty where there is none."""
    of_test = {str(metric["name"]): metric for metric in result["metrics"] if metric["split"] == REPORTED_ON}
    for name, probe in ((metric.name, metric.probe) for metric in PROBES):
        metric, correct = of_test.get(name), arrays.get(f"{probe}_correct")
        if metric is None or correct is None:
            continue
        labels, predicted = arrays.get("labels"), arrays.get(f"{probe}_prediction")
        from_outputs = float((correct != 0).mean())
        if abs(from_outputs - metric["value"]) > ROUNDING:
            return f"{metric['name']} is {metric['value']:.4f} in its record but {from_outputs:.4f} by its outputs"
        if metric.get("n_examples") not in (None, len(correct)):
            return f"{metric['name']} is of {metric['n_examples']} examples, but its outputs have {len(correct)}"
        if labels is not None and predicted is not None:
            if len({len(labels), len(predicted), len(correct)}) > 1:
                return "its outputs differ in length"
            if ((predicted == labels) != (correct != 0)).any():
                return f"{probe}_correct does not mark where {probe}_prediction equals the labels"
    return ""
