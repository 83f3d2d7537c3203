"""What a plan will cost on this machine: from throughput on record, from `twinbench bench`, or measured just now."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinbench.harness.performance.measurements import Measurement, shape_of
from twinbench.results.attempts import trial_folder
from twinbench.results.record import read_record, record_path
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from twinbench.harness.trial.execute import Surroundings

MEASURED_SECONDS = 10.0  # of training, once per method


@dataclass(frozen=True)
class Rate:
    """Training images per second of one process, and seconds that an evaluation takes: mean, least and most."""

    images_per_second: float
    slowest: float
    fastest: float
    evaluation_seconds: float
    trials: int  # behind it; 0 where it was measured without any
    source: str = "trials on record"


@dataclass(frozen=True)
class Hours:
    """Of one process: the estimate, and what the slowest and the fastest trials of each method would make of it."""

    expected: float
    low: float
    high: float
    trials: int
    without_rate: tuple[str, ...]  # methods of whose trials some are not in the sum, since nothing is known of them
    sources: Mapping[str, int]  # what the estimate rests on, and for how many of the trials

    def __str__(self) -> str:
        return f"{self.expected:.2g} hours ({self.low:.2g} to {self.high:.2g})"


def recorded_rates(trials: Iterable[Mapping[str, Any]]) -> dict[str, Rate]:
    """By method, from the done trials of a store whose seconds are their own."""
    from twinbench.reports.tables.cells import has_own_seconds  # imports pandas

    of: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        if trial["status"] == "done" and has_own_seconds(trial) and trial["train_seconds"] and trial["images_seen"]:
            rate = float(trial["images_seen"]) / float(trial["train_seconds"])
            of.setdefault(str(trial["method"]), []).append((rate, float(trial["evaluation_seconds"] or 0)))
    return {method: _rate(pairs) for method, pairs in of.items()}


def _rate(pairs: Sequence[tuple[float, float]]) -> Rate:
    rates, evaluations = zip(*pairs, strict=True)
    mean = len(rates) / sum(1 / rate for rate in rates)  # of the times, which add up
    return Rate(mean, min(rates), max(rates), sum(evaluations) / len(evaluations), len(rates))


def measured_rates(trials: Sequence[Trial], surroundings: "Surroundings") -> dict[str, Rate]:
    """By method: its first trial trains for some seconds in a folder that is thrown away. Evaluations are not timed."""
    from dataclasses import replace

    from twinbench.harness.trial.worker import run_trial

    found = {}
    for trial in {trial.method: trial for trial in reversed(trials) if trial.training}.values():
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            run_trial(
                trial,
                replace(surroundings, run_folder=Path(folder)),
                lambda begun=begun: time.monotonic() - begun > MEASURED_SECONDS,  # type: ignore[misc]
            )
            images, seconds = _images_and_seconds(Path(folder), trial.trial_id)
        if seconds:
            found[trial.method] = _exact(images / seconds, "a measurement just now")
    return found


def benched_rates(trials: Iterable[Trial], image_size: int, found: Measurement) -> dict[str, Rate]:
    """By trial id, where the stored measurement covers the trial's shape. Evaluations were not timed."""
    rates = {}
    for trial in trials:
        if trial.training:
            batch_size = int(trial.training["batch_size"])
            seconds = found.seconds_per_step(shape_of(trial, image_size), batch_size)
            if seconds:
                rates[trial.trial_id] = _exact(batch_size / seconds, f"`twinbench bench` of {found.time[:10]}")
    return rates


def _exact(images_per_second: float, source: str) -> Rate:
    return Rate(images_per_second, images_per_second, images_per_second, 0.0, 0, source)


def _images_and_seconds(run_folder: Path, trial_id: str) -> tuple[int, float]:
    """Of training: from the saved state, or from the record of a trial that was done before its seconds were over."""
    from twinbench.harness.training.checkpoint import saved_progress

    if record_path(run_folder, trial_id).exists():
        record = read_record(record_path(run_folder, trial_id))
        images, seconds = (record["circumstance"][key] for key in ("images_seen", "train_seconds"))
        assert isinstance(images, int) and isinstance(seconds, int | float)  # it was written a moment ago
        return images, seconds
    progress = saved_progress(trial_folder(run_folder, trial_id))
    return progress.images_seen, progress.train_seconds


def hours(trials: Iterable[Trial], training_images: int, rates: Mapping[str, Rate]) -> Hours:
    """What these trials take one after the other, by the rate of each trial's id.

    `training_images` is the size of the split that they train on.
    """
    expected = low = high = 0.0
    sources: Counter[str] = Counter()
    unknown = set()
    for trial in trials:
        if not trial.training:
            continue
        rate = rates.get(trial.trial_id)
        if rate is None:
            unknown.add(trial.method)
            continue
        sources[rate.source] += 1
        batch = int(trial.training["batch_size"])
        images = int(trial.training["epochs"]) * (training_images // batch * batch)
        expected += images / rate.images_per_second + rate.evaluation_seconds
        low += images / rate.fastest + rate.evaluation_seconds
        high += images / rate.slowest + rate.evaluation_seconds
    known = sources.total()
    return Hours(expected / 3600, low / 3600, high / 3600, known, tuple(sorted(unknown)), sources)
