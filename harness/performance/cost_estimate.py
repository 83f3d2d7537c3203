"""Estimates the hours of a plan, from recorded throughput, from `twinbench bench`, or from a measurement just now."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from twinbench.harness.performance.measurements import Measurement, shape_of
from twinbench.results.attempts import trial_folder
from twinbench.results.record import read_record, record_path
from twinbench.sweeps.trial import WITHOUT_SEEDS, Trial

if TYPE_CHECKING:
    from twinbench.harness.trial.execute import Surroundings
    from twinbench.reports.tables.run import TrialRow

MEASURED_SECONDS = 10.0  # of training, once per method


@dataclass(frozen=True)
class Rate:
    """Training images per second of one process (mean, slowest and fastest) and the mean seconds of an evaluation."""

    images_per_second: float
    slowest: float
    fastest: float
    evaluation_seconds: float
    trials: int  # that it is the mean of; 0 if it was measured without any
    source: str = "trials on record"


@dataclass(frozen=True)
class Hours:
    """The estimated hours of one process, and those at the fastest (`low`) and slowest rates of each method."""

    expected: float
    low: float
    high: float
    trials: int
    without_rate: tuple[str, ...]  # methods with trials that are not in the sum, since their rate is unknown
    sources: Mapping[str, int]  # number of trials by the source of their rate

    def __str__(self) -> str:
        return f"{self.expected:.2g} hours ({self.low:.2g} to {self.high:.2g})"


def recorded_rates(trials: "Iterable[TrialRow]") -> dict[str, Rate]:
    """Return rates by method, from the done trials of a store that did not share a process or GPU with others."""
    from twinbench.reports.tables.run import has_own_seconds  # imports pandas

    by_method: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        if trial["status"] == "done" and has_own_seconds(trial) and trial["train_seconds"] and trial["images_seen"]:
            rate = float(trial["images_seen"]) / float(trial["train_seconds"])
            evaluation = float(trial["evaluation_seconds"] or 0)
            by_method.setdefault(str(trial["method"]), []).append((rate, evaluation))
    return {method: _rate(pairs) for method, pairs in by_method.items()}


def _rate(pairs: Sequence[tuple[float, float]]) -> Rate:
    rates, evaluations = zip(*pairs, strict=True)
    mean = len(rates) / sum(1 / rate for rate in rates)  # harmonic, since times add up
    return Rate(mean, min(rates), max(rates), sum(evaluations) / len(evaluations), len(rates))


def measured_rates(trials: Sequence[Trial], surroundings: "Surroundings") -> dict[str, Rate]:
    """Train each method's first trial for MEASURED_SECONDS in a temporary folder; return rates by method.

    Evaluations are not timed.
    """
    from twinbench.harness.trial.worker import run_pack

    found = {}
    for trial in {trial.method: trial for trial in reversed(trials) if trial.training}.values():
        with tempfile.TemporaryDirectory() as folder:
            deadline = time.monotonic() + MEASURED_SECONDS
            run_pack(
                [trial],
                replace(surroundings, run_folder=Path(folder)),
                lambda deadline=deadline: time.monotonic() > deadline,  # type: ignore[misc]
            )
            images, seconds = _images_and_seconds(Path(folder), trial.trial_id)
        if seconds:
            found[trial.method] = _exact(images / seconds, "a measurement just now")
    return found


def benched_rates(trials: Iterable[Trial], image_size: int, found: Measurement) -> dict[str, Rate]:
    """Return rates by trial id for the trials whose shape was measured. Evaluations were not timed."""
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
    """Return images seen and seconds of training, from the saved state or from the record of a trial that finished."""
    from twinbench.harness.training.checkpoint import saved_progress

    if record_path(run_folder, trial_id).exists():
        record = read_record(record_path(run_folder, trial_id))
        images, seconds = (record["circumstance"][key] for key in ("images_seen", "train_seconds"))
        assert isinstance(images, int) and isinstance(seconds, int | float)  # it was written a moment ago
        return images, seconds
    progress = saved_progress(trial_folder(run_folder, trial_id))
    return progress.images_seen, progress.train_seconds


def hours(trials: Iterable[Trial], training_images: int, rates: Mapping[str, Rate]) -> Hours:
    """Return what these trials take one after the other, with `rates` by trial id.

    `training_images` is the number of images that each trains on.
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


def costliest_of_each_method(trials: Iterable[Trial], training_images: int, rates: Mapping[str, Rate]) -> list[Trial]:
    """Return one trial of each method that trains again on fresh seeds, of the cell that takes longest."""
    longest: dict[str, tuple[float, Trial]] = {}
    for trial in trials:
        found = hours([trial], training_images, rates).expected
        if trial.method != WITHOUT_SEEDS and found >= longest.get(trial.method, (0.0, trial))[0]:
            longest[trial.method] = found, trial
    return [trial for _, trial in longest.values()]


def price_text(trials: Sequence[Trial], seeds: int, training_images: int, rates: Mapping[str, Rate]) -> str:
    """Return ", at most 0.4 hours (0.3 to 0.5) of one process"; empty if the speed of a method is unknown."""
    cost = hours([trial for trial in trials for _ in range(seeds)], training_images, rates)
    return "" if cost.without_rate or not cost.trials else f", at most {cost} of one process"
