"""The files of one trial, and whether they agree: its record, its per-example outputs, its attempts.

The database takes a record as it is. Here it is checked against its id, the content of its protocol and its outputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path

from twinbench.reports.claims.attempts import attempts_at
from twinbench.reports.claims.consistency import choice_problems, second_problems, setting_problems, validation_sizes
from twinbench.reports.claims.copied_seeds import Outputs, may_agree
from twinbench.reports.claims.curve_checks import Final, final_of
from twinbench.reports.claims.test_data import data_problems, labels_digest
from twinbench.reports.statistics.per_example import Correct
from twinbench.reports.tables.cells import REPORTED_ON
from twinbench.results.attempts import Attempt
from twinbench.results.log_head import LogHead, recorded_head
from twinbench.results.record import RECORDS, Record, Reference, Result, read_artefact
from twinbench.results.rows import columns, trial_row
from twinbench.sweeps.file_reader import parse_json, read_regular
from twinbench.sweeps.metrics import METRICS, PROBES, MetricValue
from twinbench.sweeps.protocol import without_prose
from twinbench.sweeps.trial import Trial

ROUNDING = 1e-8  # tolerance for values that were rounded when written
LARGEST_HEADER = 2**16  # bytes of the names and shapes of the arrays, of which a trial has a handful
_OF_A_TRIAL = {field.name for field in fields(Trial)}


@dataclass(frozen=True)
class TrialFiles:
    """The contents of a trial's files. `record` and `outputs` describe contradictions; empty where there are none."""

    record: str = ""  # how the record contradicts its id or its protocol
    seconds: str = ""  # how the seconds contradict the times of the attempts
    outputs: str = ""  # how the outputs contradict the metrics, or why they cannot be read
    status: str = ""
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)  # metrics by name and split
    correct: Mapping[str, Correct] = field(default_factory=dict)  # by probe: which test examples were right
    labels: str = ""  # digest of the test labels
    test_data: str = ""  # how they contradict the locked test data of the dataset
    curves_file: str = ""
    outputs_file: str = ""  # empty too where honest trials of two seeds may have the same
    attempt: object = None  # number of the one that wrote the record
    attempts: Sequence[Attempt] = ()
    unread: str = ""  # why the attempts cannot be read
    log_head: LogHead | None = None  # of the declarations, when the trial began
    final: Final | None = None  # what its curves should end at
    trial: Trial | None = None  # where the record does not contradict it
    settings: Mapping[str, str] = field(default_factory=dict)  # texts, where trial is known
    row: Mapping[str, object] = field(default_factory=dict)  # of the database's table trials, where trial is known
    metrics: Sequence[Mapping[str, object]] = ()
    validation: frozenset[int] = frozenset()  # numbers of images that the metrics on validation are of


def read_trial_files(run_folder: Path, trial_id: str, content: Mapping[str, object]) -> TrialFiles:
    """Return the files of a trial that has a record. `content` is its protocol's content in the database."""
    attempts, unread = attempts_at(run_folder, trial_id)
    try:  # the database checked its form and digest when it was read in
        record: Record = parse_json(read_regular(f"{run_folder}/{RECORDS}/{trial_id}.json"))
        result, attempt = record["result"], record["circumstance"].get("attempts")
        head = recorded_head(record["circumstance"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return TrialFiles(record=f"can no longer be read: {error}", attempts=attempts, unread=unread)
    curves, outputs = result.get("curves"), result.get("outputs")
    arrays, problem = _outputs(run_folder, outputs)
    probes = [metric.probe for metric in PROBES]
    correct = {probe: arrays[f"{probe}_correct"] != 0 for probe in probes if f"{probe}_correct" in arrays}
    labels = arrays.get("labels")
    record_problem = _record_problem(result, content)
    trial = None if record_problem else Trial(**result["trial"])
    return TrialFiles(
        record_problem,
        next(second_problems(record, attempts), ""),
        problem or next(_contradictions(result["metrics"], arrays), ""),
        result["status"],
        {(metric["name"], metric["split"]): metric["value"] for metric in result["metrics"]},
        correct,
        labels_digest(labels),
        next(data_problems(result, labels), ""),
        curves["file"] if curves else "",
        outputs["file"] if outputs and not may_agree(arrays) else "",
        attempt,
        attempts,
        unread,
        head,
        final_of(result),
        trial,
        trial.setting_texts() if trial else {},
        {} if record_problem else dict(zip(columns()["trials"], trial_row(record), strict=True)),
        result["metrics"],
        frozenset(validation_sizes(result)),
    )


def _record_problem(result: Result, content: Mapping[str, object]) -> str:
    if problem := next(identity_problems(result), ""):
        return problem
    protocol = result["trial"]["protocol"]
    for key in ("name", "version"):
        if (by_content := protocol["content"].get(key)) != protocol[key]:
            return f"the {key} of its protocol is {protocol[key]!r}, but by its content {by_content!r}"
    if without_prose(protocol["content"]) != without_prose(content):
        return "the content of its protocol differs from that of other records with the same hash"
    return next(chain(choice_problems(result), setting_problems(result)), "")


def _outputs(run_folder: Path, reference: Reference | None) -> tuple[Outputs, str]:
    """Return the outputs, and why they cannot be used; empty without a problem."""
    try:
        return read_outputs(read_artefact(run_folder, reference)) if reference else {}, ""
    except ValueError as error:  # a BrokenArtefact is one
        return {}, f"its outputs cannot be read: {error}"


def _contradictions(metrics: Sequence[MetricValue], outputs: Outputs) -> Iterator[str]:
    probes = [metric.name for metric in PROBES] if outputs else []
    for metric in metrics:
        is_of_probe = metric["name"] in probes and metric["split"] == REPORTED_ON
        if is_of_probe and (problem := lacking(metric, outputs) or accuracy_problem(metric, outputs, ROUNDING)):
            yield f"{metric['name']}: {problem}"


# --- shared with the verification of bundles ------------------------------------------------------------------------


def identity_problems(result: Result) -> Iterator[str]:
    """Yield ids that the trial's content does not have: the record was copied to another place, or changed."""
    content = result["trial"]
    if content.keys() != _OF_A_TRIAL:
        yield f"its trial does not have the keys of a trial: {', '.join(sorted(_OF_A_TRIAL ^ content.keys()))}"
    else:
        yield from id_problems(Trial(**content), result["trial_id"], result["cell_id"])


def id_problems(trial: Trial, trial_id: str, cell_id: str) -> Iterator[str]:
    """Yield each of the ids that is not the trial's."""
    for key, stated, found in (("trial_id", trial_id, trial.trial_id), ("cell_id", cell_id, trial.cell_id)):
        if stated != found:
            yield f"its {key} is given as {stated}, but its content has {found}"


def read_outputs(data: bytes) -> Outputs:
    """Return the per-example arrays of a safetensors file by name. ValueError for anything else."""
    from safetensors.numpy import load

    if (header := int.from_bytes(data[:8], "little")) > LARGEST_HEADER:
        raise ValueError(f"its header has {header:,} bytes; allowed: at most {LARGEST_HEADER:,}")
    try:
        outputs: Outputs = load(data)
    except MemoryError:
        raise
    except Exception as error:  # safetensors raises errors of its own, and the file may come from outside
        raise ValueError(str(error)) from None
    if any(values.ndim != 1 or values.dtype.kind not in "iub" or not values.size for values in outputs.values()):
        raise ValueError("whole numbers, one per example, are required")
    return outputs


def lacking(metric: MetricValue, outputs: Outputs) -> str:
    """Return which outputs of an accuracy are absent; empty where all are there."""
    absent = [name for name in _of_probe(metric) if name not in outputs]
    return f"its outputs lack {', '.join(absent)}" if absent else ""


def _of_probe(metric: MetricValue) -> tuple[str, str, str]:
    probe = METRICS[metric["name"]].probe
    return "labels", f"{probe}_prediction", f"{probe}_correct"


def accuracy_problem(metric: MetricValue, outputs: Outputs, tolerance: float = 0.0) -> str:
    """Return how an accuracy contradicts the outputs of its probe, all of which are there; empty if it does not."""
    probe = METRICS[metric["name"]].probe
    labels, predicted, correct = (outputs[name] for name in _of_probe(metric))
    if not len(labels) == len(predicted) == len(correct):
        return f"its outputs have {len(labels)}, {len(predicted)} and {len(correct)} examples"
    if ((predicted == labels) != (correct != 0)).any():
        return f"{probe}_correct does not mark where {probe}_prediction equals the labels"
    value, n = float((correct != 0).mean()), metric.get("n_examples", len(correct))
    if abs(metric["value"] - value) > tolerance or n != len(correct):
        return f"the record says {metric['value']} of {n} examples, the outputs give {value} of {len(correct)}"
    return ""
