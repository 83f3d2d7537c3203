"""How a running sweep looks in a terminal: a bar for the sweep and one per running trial; plain lines elsewhere."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinbench.harness.run_folder.leases import Others, last_attempt
from twinbench.harness.run_folder.progress import Survey
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

LOOK_SECONDS = 0.5


class Watch:
    """Shows the trials of one run as they start, advance and end, from the run folder alone. Use as a context.

    To be made before any worker is started: what it finds then is of earlier runs.
    """

    def __init__(self, run_folder: Path, axes: tuple[str, ...], trials: Iterable[Trial], console: "Console"):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._folder, self._axes, self._console = run_folder, axes, console
        self._trials = {trial.trial_id: trial for trial in trials}
        self._survey, self._others = Survey(run_folder, self._trials), Others()
        self._survey.look()
        self._before = self._survey.started()
        self._running: dict[str, TaskID] = {}
        self._looked_at, self._looking_costs = 0.0, 0.0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._sweep = self._bars.add_task("[bold]sweep", total=len(self._trials), note="trials")

    def __enter__(self) -> "Watch":
        if self._survey.recorded:
            self._console.print(
                f"{len(self._survey.recorded)} of {len(self._trials)} trials are recorded already", highlight=False
            )
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.look(at_once=True)
        self._bars.stop()

    def look(self, at_once: bool = False) -> bool:
        """Shows what is new, at most twice a second and never for long; whether every trial is recorded."""
        if not at_once and time.monotonic() - self._looked_at < max(LOOK_SECONDS, 10 * self._looking_costs):
            return not self._survey.missing
        began = time.monotonic()
        before = len(self._survey.recorded)
        for number, trial_id in enumerate(self._survey.look(), before + 1):
            self._ended(self._trials[trial_id], number)
        if not self._bars.disable:
            self._show_running()
        self._looked_at = time.monotonic()
        self._looking_costs = self._looked_at - began
        return not self._survey.missing

    def is_worked_on(self) -> bool:
        """Whether any missing trial has a living worker, whichever command or launcher started it."""
        return self._survey.is_worked_on(self._others)

    def why_left(self) -> str:
        """What workers said that left trials since this watch was made; empty where they said nothing."""
        return self._survey.why_left(self._before)

    def say(self, text: str) -> None:
        """Prints a line about the run."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _ended(self, trial: Trial, number: int) -> None:
        """The line of a trial that left a record; it stays."""
        from rich.markup import escape

        bar = self._running.pop(trial.trial_id, None)
        if bar is not None:
            self._bars.remove_task(bar)
        self._bars.update(self._sweep, completed=number)
        status = self._survey.recorded[trial.trial_id]
        attempt = last_attempt(self._folder, trial.trial_id)
        took = f" in {attempt['seconds']:.1f} s" if "seconds" in attempt else ""
        reason = f": {attempt['reason']}" if status != "done" and attempt.get("reason") else ""
        line = f"[{number}/{len(self._trials)}] {label(trial, self._axes)}: {status}{took}{reason}"
        self._console.print(escape(line), style="" if status == "done" else "yellow", highlight=False, soft_wrap=True)

    def _show_running(self) -> None:
        from rich.markup import escape

        running = self._survey.running()
        for trial_id in set(self._running) - set(running):
            self._bars.remove_task(self._running.pop(trial_id))
        for trial_id, attempt in running.items():
            if trial_id not in self._running:
                name = escape(label(self._trials[trial_id], self._axes))
                self._running[trial_id] = self._bars.add_task(name, total=None, note="starting")
            if attempt.get("steps"):
                rate = f"{attempt['images_per_second']:.0f} images/s"
                self._bars.update(self._running[trial_id], total=attempt["steps"], completed=attempt["step"], note=rate)


def label(trial: Trial, axes: tuple[str, ...]) -> str:
    """The method, the values of the moved axes, the seed."""
    values = [f"{axis}={value}" for axis, value in moved(trial, axes).items()]
    return " ".join([trial.method, *values, f"seed={trial.seed}"])


def moved(trial: Trial, axes: tuple[str, ...]) -> dict[str, str]:
    """The values of those of the moved axes that the trial has, as text."""
    values: Mapping[str, Any] = {**trial.settings, **trial.training}
    return {
        axis: f"{values[axis]:g}" if isinstance(values[axis], float) else str(values[axis])
        for axis in axes
        if axis in values
    }
