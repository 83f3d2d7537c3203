"""Level `rerun` of a bundle's verification: run randomly drawn trials again and compare the results with the records.

The reviewer chooses the seed of the draw: an author who could predict it would know which trials to get right. A trial
is run only if a sweep under its protocol could contain it, with methods, backbones and data that are installed here; no
code from the bundle runs. The cost is this machine's time, and training that takes much longer than the record says is
stopped.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from twinbench.harness.data.datasets import load_dataset
from twinbench.harness.planning import check
from twinbench.harness.run_folder.progress import seconds_spent
from twinbench.harness.system.devices import choose_devices, cores
from twinbench.harness.trial.execute import Surroundings
from twinbench.harness.trial.worker import run_pack
from twinbench.methods.names import UnknownMethod
from twinbench.methods.registry import BASELINES, get_method
from twinbench.reports.verification.level import Level, judged, not_run
from twinbench.results.bundles.contents import Contents
from twinbench.results.code_hash import is_same_code
from twinbench.results.record import COMPUTED_WITH, Record, Result, read_artefact, read_record, record_path
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.protocol import Protocol, contradictions
from twinbench.sweeps.sweep import Axis, Grid, Sweep
from twinbench.sweeps.toml_reader import parse
from twinbench.sweeps.trial import Trial

MOST_TOLERANCE = 0.02  # the largest that a bundle's own margin may set; a reviewer may set a larger one
LEAST_SECONDS, TIMES_AS_LONG = 600.0, 10.0  # limits of training time: this machine may be slower than the author's
LARGEST_IMAGE = 256  # pixels: otherwise a bundle could fill the disk with synthetic data


def rerun(
    contents: Contents,
    folder: Path,
    count: int,
    seed: int,
    data: Path | None,
    tolerance: float | None,
    say: Callable[[str], None],
) -> Level:
    """Run `count` trials of a bundle that passed the level `integrity` again, in the new run folder `folder`.

    Each must end with the recorded status, and with metrics that differ by at most `tolerance`: a fraction, by default
    the margin of the trial's protocol, but at most MOST_TOLERANCE, since the author may have written the protocol. The
    notes say which results are bit-identical.
    """
    records = contents.records
    chosen = drawn(records, count, seed)
    if not chosen:
        return not_run("rerun", "no trial has a result that can be reproduced")
    say(f"drawn with seed {seed} from {len(_candidates(records))} trials: {', '.join(chosen)}")
    trials = [Trial(**records[trial_id]["result"]["trial"]) for trial_id in chosen]
    mistakes: list[Mistake] = []
    for trial in trials:
        try:
            _check_permitted(trial)
            _check_data(trial, data)
        except InvalidInput as error:
            mistakes += error.mistakes
    if mistakes:
        return not_run("rerun", "; ".join(dict.fromkeys(map(str, mistakes))))
    faults, notes = [], [f"drawn with seed {seed}: {', '.join(chosen)}"]
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
        margin = min(float(trial.protocol["content"]["margin"]), MOST_TOLERANCE) if tolerance is None else tolerance
        fault, agreement = compared(record, own, margin)
        if fault:
            faults.append(f"{where}: {fault}{_other_differences(record, own)}")
        else:
            notes.append(f"{where}: {agreement}{_flips(contents.unpacked.run_folder, record, folder, own)}")
    return judged("rerun", faults, notes)


def drawn(records: Mapping[str, Record], count: int, seed: int) -> list[str]:
    """Return at most `count` ids of trials, drawn without replacement with `seed`. Failed trials are not drawn."""
    candidates = _candidates(records)
    rng = np.random.default_rng(seed)
    return [candidates[place] for place in rng.permutation(len(candidates))[:count]]


def _candidates(records: Mapping[str, Record]) -> list[str]:
    return sorted(trial_id for trial_id, record in records.items() if record["result"]["status"] != "failed")


def compared(record: Record, own: Record, tolerance: float) -> tuple[str, str]:
    """Return what is wrong with the rerun `own` of a trial, or empty, and how closely it agrees with the record."""
    recorded, repeated = record["result"], own["result"]
    if recorded["status"] != repeated["status"]:
        reason = f" ({repeated['reason']})" if repeated["reason"] else ""
        return f"ended as {repeated['status']}{reason}, the record says {recorded['status']}", ""
    if record["result_digest"] == own["result_digest"]:
        return "", "bit-identical result"
    there, here = _values(recorded), _values(repeated)
    if there.keys() != here.keys():
        return f"measured other metrics: {', '.join(map(' '.join, sorted(there.keys() ^ here.keys())))}", ""
    differences = {key: abs(there[key] - here[key]) for key in there}
    worst = max(differences, key=lambda key: differences[key], default=None)
    if worst is None:
        return "", "equal status, different curves"
    values = f"{worst[0]} on {worst[2]} is {here[worst]:.6g} here and {there[worst]:.6g} in the record"
    if differences[worst] > tolerance:
        return f"{values}, which differ by more than {tolerance:g}", ""
    if not differences[worst]:
        return "", "equal metrics, but the result is not bit-identical"
    return "", f"not bit-identical, but within {tolerance:g}; largest difference: {values}"


def _values(result: Result) -> dict[tuple[str, str, str], float]:
    return {(metric["name"], metric["variant"], metric["split"]): metric["value"] for metric in result["metrics"]}


def _other_differences(record: Record, own: Record) -> str:
    """Return what else differs between the two runs and may explain different results."""
    there, here = record["circumstance"], own["circumstance"]
    keys = [key for key in ("versions", *COMPUTED_WITH) if there.get(key) != here[key]]
    same = is_same_code((_text(one, "code_hash"), _text(one, "commit")) for one in (there, here))
    keys = ["code_hash", *keys] if same is False else keys
    unknown = "; whether the code differs is unknown" if same is None else ""
    return (f"; also different: {', '.join(keys)}" if keys else "") + unknown


def _text(circumstance: Mapping[str, object], key: str) -> str | None:
    """Return the value of `key` if it is a string. A record's circumstance is not validated when it is read."""
    value = circumstance.get(key)
    return value if isinstance(value, str) else None


def _flips(run_folder: Path, record: Record, own_folder: Path, own: Record) -> str:
    """Return how many test predictions differ, as text; empty if none do."""
    recorded, repeated = record["result"].get("outputs"), own["result"].get("outputs")
    if recorded == repeated or not recorded or not repeated:
        return ""
    there, here = load(read_artefact(run_folder, recorded)), load(read_artefact(own_folder, repeated))
    flips = [
        f"{int((there[name] != here[name]).sum())} of {len(here[name])} {name.removesuffix('_prediction')} predictions"
        for name in sorted(here)
        if name.endswith("_prediction") and name in there and there[name].shape == here[name].shape
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
