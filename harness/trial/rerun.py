"""Level rerun of a bundle's verification: trials drawn at random run again here, and must come to what was recorded.

The draw follows from a seed that the reviewer chooses; an author who could foresee it would know which trials to get
right. A trial is run only if its protocol lets a sweep ask for it, with methods, backbones and data that are installed
here: no code of the bundle runs. What it costs is this machine's time, and training that goes on for much longer than
the record says is stopped.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twinbench.harness.planning import check
from twinbench.methods.names import UnknownMethod
from twinbench.methods.registry import BASELINES, get_method
from twinbench.reports.verification.integrity import Level, judged, not_run
from twinbench.results.bundles.contents import Contents
from twinbench.results.bundles.write import printable
from twinbench.results.code_hash import is_same_code
from twinbench.results.record import COMPUTED_WITH, Record, Result, read_artefact, read_record, record_path
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.protocol import Protocol, contradictions
from twinbench.sweeps.sweep import Grid, Sweep
from twinbench.sweeps.toml_reader import parse
from twinbench.sweeps.trial import Trial

MOST_TOLERANCE = 0.02  # that a bundle's own margin may give itself; a reviewer may ask for more
LEAST_SECONDS, TIMES_AS_LONG = 600.0, 10.0  # of training: on a slower machine more than the record says is no wonder
LARGEST_IMAGE = 256  # pixels: a bundle could otherwise fill the disk with data of its choosing


def rerun(
    contents: Contents,
    folder: Path,
    count: int,
    seed: int,
    data: Path | None,
    tolerance: float | None,
    say: Callable[[str], None],
) -> Level:
    """Runs `count` trials of a bundle whose integrity is known again, in the new run folder `folder`.

    Each must end with the same status, and in metrics that differ by at most `tolerance`: a fraction, by default the
    margin of the trial's protocol, but no more than MOST_TOLERANCE, since a protocol may be the author's own. Whether a
    result is equal bit for bit is told beside it.
    """
    records = contents.records
    chosen = drawn(records, count, seed)
    if not chosen:
        return not_run("rerun", "no trial has a result that could be come to again")
    say(f"drawn with seed {seed} from {len(_candidates(records))} trials: {', '.join(chosen)}")
    trials = [Trial(**records[trial_id]["result"]["trial"]) for trial_id in chosen]
    mistakes = [mistake for trial in trials for mistake in _mistakes(trial, data)]
    if mistakes:
        return not_run("rerun", "; ".join(dict.fromkeys(map(str, mistakes))))
    faults, notes = [], [f"drawn with seed {seed}: {', '.join(chosen)}"]
    for trial in trials:
        record = records[trial.trial_id]
        say(f"{trial.trial_id}: {trial.method} seed {trial.seed}, recorded in {_seconds(record)}")
        where = f"{trial.trial_id} ({trial.method} seed {trial.seed})"
        seconds = max(LEAST_SECONDS, TIMES_AS_LONG * _recorded_seconds(record))
        own = _run(trial, record, folder, data, seconds)
        if own is None:
            faults.append(f"{where}: stopped after {seconds:.0f} s of training, recorded in {_seconds(record)}")
            continue
        margin = min(float(trial.protocol["content"]["margin"]), MOST_TOLERANCE) if tolerance is None else tolerance
        found, told = compared(record, own, margin)
        if found:
            faults.append(f"{where}: {found}{_unlike(record, own)}")
        else:
            notes.append(f"{where}: {told}{_flips(contents.unpacked.run_folder, record, folder, own)}")
    return judged("rerun", faults, notes)


def drawn(records: Mapping[str, Record], count: int, seed: int) -> list[str]:
    """`count` trial ids, or all there are, in the order in which `seed` draws them. Failures are not drawn."""
    candidates = _candidates(records)
    rng = np.random.default_rng(seed)
    return [candidates[place] for place in rng.permutation(len(candidates))[:count]]


def _candidates(records: Mapping[str, Record]) -> list[str]:
    return sorted(trial_id for trial_id, record in records.items() if record["result"]["status"] != "failed")


def compared(record: Record, own: Record, tolerance: float) -> tuple[str, str]:
    """What is wrong with a trial that was run again, or else how close it came."""
    told, found = record["result"], own["result"]
    if told["status"] != found["status"]:
        reason = f" ({found['reason']})" if found["reason"] else ""
        return f"ended as {found['status']}{reason}, the record says {told['status']}", ""
    if record["result_digest"] == own["result_digest"]:
        return "", "the very same result, bit for bit"
    there, here = _values(told), _values(found)
    if there.keys() != here.keys():
        return f"measured other metrics: {', '.join(map(' '.join, sorted(there.keys() ^ here.keys())))}", ""
    differences = {key: abs(there[key] - here[key]) for key in there}
    worst = max(differences, key=lambda key: differences[key], default=None)
    if worst is None:
        return "", "the same status, in other curves"
    told_worst = f"{worst[0]} on {worst[2]} is {here[worst]:.6g} here and {there[worst]:.6g} in the record"
    if differences[worst] > tolerance:
        return f"{told_worst}, further apart than {tolerance:g}", ""
    if not differences[worst]:
        return "", "equal in every metric, not in every bit"
    return "", f"not bit for bit, and within {tolerance:g}: at most, {told_worst}"


def _values(result: Result) -> dict[tuple[str, str, str], float]:
    return {(metric["name"], metric["variant"], metric["split"]): metric["value"] for metric in result["metrics"]}


def _unlike(record: Record, own: Record) -> str:
    """What else differs between there and here, and may explain it."""
    there, here = record["circumstance"], own["circumstance"]
    keys = [key for key in ("versions", *COMPUTED_WITH) if there.get(key) != here[key]]
    same = is_same_code((_text(one, "code_hash"), _text(one, "commit")) for one in (there, here))
    keys = ["code_hash", *keys] if same is False else keys
    unknown = "; whether the code is the same is not known" if same is None else ""
    return (f"; other than there: {', '.join(keys)}" if keys else "") + unknown


def _text(circumstance: Mapping[str, object], key: str) -> str | None:
    """Return the value under `key` where it is a text. Nothing in a circumstance is checked when it is read."""
    value = circumstance.get(key)
    return value if isinstance(value, str) else None


def _flips(run_folder: Path, record: Record, own_folder: Path, own: Record) -> str:
    """How many test predictions came out otherwise."""
    from safetensors.numpy import load

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
    """The record of the trial as it is here, on as many threads as there, where this machine has so many.

    None where its training took longer than `seconds`.
    """
    from twinbench.harness.system.devices import choose_devices, cores
    from twinbench.harness.trial.execute import Surroundings
    from twinbench.harness.trial.worker import run_trial

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
    status = run_trial(trial, own, lambda: time.monotonic() - begun > seconds)
    return None if status == "interrupted" else read_record(record_path(folder, trial.trial_id))


def _recorded_seconds(record: Record) -> float:
    spent = [record["circumstance"].get(key) for key in ("train_seconds", "evaluation_seconds")]
    return float(sum(one for one in spent if isinstance(one, int | float)))


def _seconds(record: Record) -> str:
    return f"{_recorded_seconds(record):.0f} s"


# --- what may be run ------------------------------------------------------------------------------------------------


def _mistakes(trial: Trial, data: Path | None) -> list[Mistake]:
    """Why the trial cannot be run here, or may not."""
    try:
        _check_permitted(trial)
        _check_data(trial, data)
    except InvalidInput as error:
        return list(error.mistakes)
    return []


def _check_permitted(trial: Trial) -> None:
    """InvalidInput unless the trial's protocol lets a sweep ask for it, with the methods there are here."""
    where = f"trial {trial.trial_id}"
    protocol = parse(Protocol, trial.protocol["content"], where)
    mistakes = contradictions(protocol, where)
    if (protocol.dataset.image_size or 0) > LARGEST_IMAGE:
        allowed = f"at most {LARGEST_IMAGE} pixels"
        mistakes.append(Mistake(where, "dataset.image_size", "is too large", protocol.dataset.image_size, allowed))
    try:
        version = get_method(trial.method).version
    except UnknownMethod as error:
        raise InvalidInput([*mistakes, Mistake(where, "method", printable(str(error)))]) from None
    if version != trial.method_version:
        problem = f"is of another version of {trial.method} than this one's {version}"
        mistakes.append(Mistake(where, "method_version", problem, trial.method_version))
    if mistakes:
        raise InvalidInput(mistakes)
    own = dict(trial.settings), dict(trial.training)
    if trial.method in BASELINES:
        resolved: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    else:
        fixed = _resolved(trial, protocol, {}, where)
        plain = fixed[0] | fixed[1]
        moved = {key: value for key, value in (own[0] | own[1]).items() if key not in plain or plain[key] != value}
        resolved = _resolved(trial, protocol, moved, where)
    if resolved != own:
        raise InvalidInput([Mistake(where, "", "is none that a sweep under its protocol could ask for")])


def _resolved(
    trial: Trial, protocol: Protocol, values: dict[str, Any], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and training of the trial's method where a sweep moves these values."""
    sweep = Sweep("", protocol.name, (trial.seed,), (Grid((trial.method,), values),), baselines=False)
    ((_, settings, training),) = check(sweep, protocol, where)
    return settings, training


def _check_data(trial: Trial, data: Path | None) -> None:
    from twinbench.harness.data.datasets import load_dataset

    rule = trial.protocol["content"]["dataset"]
    found = load_dataset(rule["name"], data, rule["image_size"]).fingerprint
    if found != trial.dataset_fingerprint:
        problem = "is not the one that the trials ran on"
        raise InvalidInput([Mistake(f"dataset {rule['name']}", "", problem, found, trial.dataset_fingerprint)])
