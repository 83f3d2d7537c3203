"""Level `rerun` of a bundle's verification: run drawn trials again and compare the results with the records.

The reviewer chooses the seed of the draw: an author who could predict it would know which trials to get right. A trial
is run only if a sweep under its protocol could contain it, with methods, backbones and data that are installed here; no
code from the bundle runs. The cost is this machine's time, and training that takes much longer than the record says is
stopped.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from twinbench.harness.data.datasets import load_dataset
from twinbench.harness.planning import check
from twinbench.harness.run_folder.progress import seconds_spent
from twinbench.harness.system.devices import choose_devices, cores
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.worker import run_pack
from twinbench.methods.names import UnknownMethod
from twinbench.methods.registry import BASELINES, get_method
from twinbench.reports.claims.copied_seeds import Outputs
from twinbench.reports.claims.test_data import labels_digest
from twinbench.reports.claims.trial_files import read_outputs
from twinbench.reports.verification.level import Level, judged, not_run
from twinbench.reports.verification.reruns import (
    Comparison,
    differing,
    drawn,
    judged_comparisons,
    omitted,
    sampled,
    shifts,
    trial_faults,
)
from twinbench.results.bundles.contents import Contents
from twinbench.results.record import Record, Result, read_artefact, read_record, record_path
from twinbench.sweeps.errors import InvalidInput, Mistake, counted
from twinbench.sweeps.protocol import Protocol, contradictions
from twinbench.sweeps.sweep import Axis, Grid, Sweep
from twinbench.sweeps.toml_reader import parse
from twinbench.sweeps.trial import Trial

LEAST_SECONDS, TIMES_AS_LONG = 600.0, 10.0  # limits of training time: this machine may be slower than the author's
LARGEST_IMAGE = 256  # pixels: otherwise a bundle could fill the disk with synthetic data


def rerun(
    contents: Contents,
    comparisons: Sequence[Comparison],
    folder: Path,
    count: int,
    seed: int,
    data: Path | None,
    say: Callable[[str], None],
) -> Level:
    """Run `count` trials of a bundle that passed the level `integrity` again, in the new run folder `folder`.

    Trials of the `comparisons` are drawn first. Each must end with the recorded status, on the recorded test labels.
    Where code, versions and machine are those of the record, the results must be equal bit for bit; other results are
    compared by reports/verification/reruns.py.
    """
    records = contents.records
    chosen = drawn(records, comparisons, count, seed)
    if not chosen:
        return not_run("rerun", "no trial has a result that can be reproduced")
    behind = {one for comparison in comparisons for one in (*comparison.a, *comparison.b)}
    sample = f"drawn with seed {seed}, {len(behind & {*chosen})} of {counted(len(behind), 'trial')} of comparisons and "
    sample += f"{len({*chosen} - behind)} of {len(records.keys() - behind)} others: {', '.join(chosen)}"
    trials = [Trial(**records[trial_id]["result"]["trial"]) for trial_id in chosen]
    if mistakes := [mistake for trial in trials for mistake in _mistakes(trial, data)]:
        return not_run("rerun", "; ".join(dict.fromkeys(map(str, mistakes))))
    faults, notes, found = [], [sample], {}
    for trial in trials:
        record, name = records[trial.trial_id], f"{trial.method} seed {trial.seed}"
        recorded_seconds = seconds_spent(record)
        say(f"{trial.trial_id}: {name}, recorded in {recorded_seconds:.0f} s")
        where = f"{trial.trial_id} ({name})"
        limit = max(LEAST_SECONDS, TIMES_AS_LONG * recorded_seconds)
        own = _run(trial, record, folder, data, limit)
        if own is None:
            faults.append(f"{where}: stopped after {limit:.0f} s of training, recorded in {recorded_seconds:.0f} s")
            continue
        recorded, repeated = _outputs(contents.unpacked.run_folder, record), _outputs(folder, own)
        fault, agreement = compared(record, own, recorded, repeated)
        (faults if fault else notes).append(f"{where}: {fault or agreement}{_flips(recorded, repeated)}")
        if not fault:
            found[trial.trial_id] = shifts(record, own, recorded, repeated)
    of_comparisons, more = judged_comparisons(comparisons, found)
    notes += [*more, *sampled(comparisons, chosen)]
    return judged("rerun", [*faults, *trial_faults(found), *of_comparisons], notes)


def _mistakes(trial: Trial, data: Path | None) -> list[Mistake]:
    try:
        _check_permitted(trial)
        _check_data(trial, data)
    except InvalidInput as error:
        return [*error.mistakes]
    return []


def compared(record: Record, own: Record, recorded: Outputs, repeated: Outputs) -> tuple[str, str]:
    """Return what is wrong with a trial whose rerun is `own`, or empty, and how closely it agrees with the record."""
    there, here = record["result"], own["result"]
    if there["status"] != here["status"]:
        reason = f" ({here['reason']})" if here["reason"] else ""
        return f"ended as {here['status']}{reason}, the record says {there['status']}", ""
    if record["result_digest"] == own["result_digest"]:
        return "", "bit-identical result"
    if labels_digest(recorded.get("labels")) != labels_digest(repeated.get("labels")):
        return "the record's test labels are not those of the dataset here", ""
    values, own_values = _values(there), _values(here)
    if values.keys() != own_values.keys():
        return f"measured other metrics: {', '.join(map(' '.join, sorted(values.keys() ^ own_values.keys())))}", ""
    worst = max(values, key=lambda key: abs(values[key] - own_values[key]), default=None)
    text = "equal metrics"
    if worst and values[worst] != own_values[worst]:
        text = f"{worst[0]} on {worst[2]} is {own_values[worst]:.6g} here and {values[worst]:.6g} in the record"
    if absent := omitted(record, own):
        return f"lacks {', '.join(absent)}, which this code always records; not bit-identical, {text}", ""
    if others := differing(record, own):
        return "", f"not bit-identical, with other {', '.join(others)}; {text}"
    return f"not bit-identical, though code, versions and machine are those of the record; {text}", ""


def _values(result: Result) -> dict[tuple[str, str, str], float]:
    return {(metric["name"], metric["variant"], metric["split"]): metric["value"] for metric in result["metrics"]}


def _outputs(run_folder: Path, record: Record) -> Outputs:
    reference = record["result"].get("outputs")
    return read_outputs(read_artefact(run_folder, reference)) if reference else {}


def _flips(there: Outputs, here: Outputs) -> str:
    """Return how many test predictions differ, as text; empty if none do."""
    flips = [
        f"{number} of {len(here[name])} {name.removesuffix('_prediction')} predictions"
        for name in sorted(here)
        if name.endswith("_prediction") and name in there and there[name].shape == here[name].shape
        if (number := int((there[name] != here[name]).sum()))
    ]
    return f"; {' and '.join(flips)} differ" if flips else ""


def _run(trial: Trial, record: Record, folder: Path, data: Path | None, seconds: float) -> Record | None:
    """Run the trial here and return its record; None if its training took longer than `seconds`.

    Uses as many threads as the recorded run, if this machine has so many cores.
    """
    there = record["circumstance"]
    threads = there.get("threads")
    own = Surroundings(
        folder,
        device="cpu" if there.get("device") == "cpu" else choose_devices("auto")[0],
        threads=min(max(threads, 1), cores()) if isinstance(threads, int) else 1,
        data=data,
        where="verify",
        keep_log=True,
    )
    begun = time.monotonic()
    (status,) = run_pack([trial], own, lambda: time.monotonic() - begun > seconds)
    return None if status == "interrupted" else read_record(record_path(folder, trial.trial_id))


# --- which trials are run -------------------------------------------------------------------------------------------


def _check_permitted(trial: Trial) -> None:
    """InvalidInput unless a sweep under the trial's protocol could contain it, with the methods installed here."""
    where = f"trial {trial.trial_id}"
    protocol = parse(Protocol, trial.protocol["content"], where)
    mistakes = contradictions(protocol, where)
    if (protocol.dataset.image_size or 0) > LARGEST_IMAGE:
        allowed = f"at most {LARGEST_IMAGE} pixels"
        mistakes.append(Mistake(where, "dataset.image_size", "is too large", protocol.dataset.image_size, allowed))
    try:
        version = get_method(trial.method).version
    except UnknownMethod as error:
        raise InvalidInput([*mistakes, Mistake(where, "method", str(error))]) from None
    if version != trial.method_version:
        problem = f"version of {trial.method} that is not installed"
        mistakes.append(Mistake(where, "method_version", problem, trial.method_version, str(version)))
    if mistakes:
        raise InvalidInput(mistakes)
    if _settings_of_sweep(trial, protocol, where) != (dict(trial.settings), dict(trial.training)):
        raise InvalidInput([Mistake(where, "", "has settings that no sweep under its protocol can have")])


def _settings_of_sweep(trial: Trial, protocol: Protocol, where: str) -> tuple[dict[str, object], dict[str, object]]:
    """Return settings and training of the trial in a sweep that varies what differs from the protocol's defaults."""
    if trial.method in BASELINES:
        return {}, {}
    settings, training = _resolved(trial, protocol, {}, where)
    defaults = settings | training
    own = {**trial.settings, **trial.training}
    varied = {key: value for key, value in own.items() if key not in defaults or defaults[key] != value}
    return _resolved(trial, protocol, varied, where)


def _resolved(
    trial: Trial, protocol: Protocol, values: dict[str, Axis], where: str
) -> tuple[dict[str, object], dict[str, object]]:
    """Return settings and training of the trial's method in a sweep that sets these values."""
    sweep = Sweep("", protocol.name, (trial.seed,), (Grid((trial.method,), values),), baselines=False)
    ((_, settings, training),) = check(sweep, protocol, where)
    return settings, training


def _check_data(trial: Trial, data: Path | None) -> None:
    """InvalidInput unless the dataset here is the one that the trial ran on."""
    rule = trial.protocol["content"]["dataset"]
    found = load_dataset(rule["name"], data, rule["image_size"]).fingerprint
    if found != trial.dataset_fingerprint:
        problem = "not the data that the trials ran on"
        raise InvalidInput([Mistake(f"dataset {rule['name']}", "", problem, found, trial.dataset_fingerprint)])
