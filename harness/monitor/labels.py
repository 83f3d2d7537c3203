"""What all views of a run share: labels of trials, counts, durations, and curves of few points."""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta

from twinbench.sweeps.errors import counted, number_text
from twinbench.sweeps.trial import Trial


def trial_label(trial: Trial, axes: tuple[str, ...]) -> str:
    """Return the method, the values of the sweep's axes, and the seed."""
    values = [f"{axis}={value}" for axis, value in axis_values(trial, axes).items()]
    return " ".join([trial.method, *values, f"seed={trial.seed}"])


def axis_values(trial: Trial, axes: tuple[str, ...]) -> dict[str, str]:
    """Return the trial's values of those axes that it has, as text."""
    values = {**trial.settings, **trial.training}
    return {
        axis: number_text(values[axis]) if isinstance(values[axis], float) else str(values[axis])
        for axis in axes
        if axis in values
    }


def counts_text(counts: Mapping[str, int]) -> str:
    """Return the number of trials by state, in one line."""
    present = {state: count for state, count in sorted(counts.items()) if count}
    by_state = ", ".join(f"{count} {state}" for state, count in present.items())
    return f"{counted(sum(present.values()), 'trial')}: {by_state}"


def duration_text(seconds: float | None) -> str:
    """Return hours, minutes and seconds; empty if the duration is unknown, or longer than a million years."""
    with contextlib.suppress(OverflowError):
        return "" if seconds is None else str(timedelta(seconds=round(seconds)))
    return ""


def thinned(values: Sequence[float], most: int) -> Sequence[float]:
    """Return at most `most` of the values, evenly spaced, with the first and the last."""
    if len(values) <= most:
        return values
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]
