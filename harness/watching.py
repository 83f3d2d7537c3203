"""How a running sweep looks in a terminal: a bar for the sweep and one per running trial; plain lines elsewhere."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from twinbench.harness.progress import read_progress
from twinbench.sweeps.trial import Trial


class Watch:
    """Shows the trials of one run as they start, advance and end. Use as a context."""

    def __init__(self, run_folder: Path, axes: tuple[str, ...], todo: list[Trial], planned: int, console: Console):
        self._folder, self._axes, self._console = run_folder, axes, console
        self._total, self._recorded, self._ended = planned, planned - len(todo), 0
        self._running: dict[str, TaskID] = {}
        self._since: dict[str, float] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._sweep = self._bars.add_task("[bold]sweep", total=planned, completed=self._recorded, note="trials")

    def __enter__(self) -> "Watch":
        if self._recorded:
            self._console.print(f"{self._recorded} of {self._total} trials are recorded already")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, trial: Trial) -> None:
        """A trial was handed to a worker."""
        self._since.setdefault(trial.trial_id, time.monotonic())
        if trial.trial_id not in self._running:
            name = escape(label(trial, self._axes))
            self._running[trial.trial_id] = self._bars.add_task(name, total=None, note="starting")

    def ended(self, trial: Trial, status: str) -> None:
        """A trial ended; its line stays."""
        self._ended += status != "interrupted"
        bar = self._running.pop(trial.trial_id, None)
        if bar is not None:
            self._bars.remove_task(bar)
        self._bars.update(self._sweep, completed=self._recorded + self._ended)
        seconds = time.monotonic() - self._since[trial.trial_id]
        count = f"[{self._recorded + self._ended}/{self._total}]"
        line = f"{count} {label(trial, self._axes)}: {status} in {seconds:.1f} s"
        self._console.print(escape(line), style="" if status == "done" else "yellow", highlight=False, soft_wrap=True)

    def look(self) -> None:
        """Reads how far the running trials are."""
        if self._bars.disable:
            return
        for trial_id, bar in self._running.items():
            told = read_progress(self._folder, trial_id)
            if told.get("steps"):
                rate = f"{told['images_per_second']:.0f} images/s"
                self._bars.update(bar, total=told["steps"], completed=told["step"], note=rate)


def label(trial: Trial, axes: tuple[str, ...]) -> str:
    """The method, the values of the moved axes, the seed."""
    values: Mapping[str, Any] = {**trial.settings, **trial.training}
    moved = [
        f"{axis}={values[axis]:g}" if isinstance(values[axis], float) else f"{axis}={values[axis]}"
        for axis in axes
        if axis in values
    ]
    return " ".join([trial.method, *moved, f"seed={trial.seed}"])
