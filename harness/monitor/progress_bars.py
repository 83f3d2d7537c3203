"""Progress of `twinbench run`: a bar for the sweep and one per running trial; plain lines if there is no terminal."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from twinbench.harness.monitor.labels import trial_label
from twinbench.harness.run_folder.leases import LeaseObserver, is_running
from twinbench.harness.run_folder.progress import RunProgress, poll_pause
from twinbench.results.attempts import last_attempt
from twinbench.sweeps.errors import printable
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

POLL_SECONDS = 0.5


class ProgressBars:
    """Shows the trials of a run as they start, advance and end, from the run folder alone. Use as a context.

    Create it before any worker starts: it takes the attempts that it finds for those of earlier runs.
    """

    def __init__(self, run_folder: Path, axes: tuple[str, ...], trials: Iterable[Trial], console: "Console"):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._axes, self._console = axes, console
        self._trials = {trial.trial_id: trial for trial in trials}
        self._run, self._leases = RunProgress(run_folder, self._trials.keys()), LeaseObserver()
        self._run.poll_records()
        self._attempts_before = self._run.poll_attempts()
        self._running: dict[str, TaskID] = {}
        self._next_poll = 0.0
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
        name = TextColumn("{task.description}")
        self._bars = Progress(name, *columns, console=console, disable=not console.is_terminal)
        self._sweep = self._bars.add_task("[bold]sweep", total=len(self._trials), note="trials")

    def __enter__(self) -> "ProgressBars":
        if self._run.recorded:
            self.say(f"{len(self._run.recorded)} of {len(self._trials)} trials are already recorded")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._next_poll = 0.0
        self.update()
        self._bars.stop()

    def update(self) -> bool:
        """Show what is new, at most twice a second; return whether every trial is recorded."""
        began = time.monotonic()
        if began >= self._next_poll:
            ended = self._run.poll_records()
            for number, trial_id in enumerate(ended, len(self._run.recorded) - len(ended) + 1):
                self._print_ended(self._trials[trial_id], number)
            if not self._bars.disable:
                self._show_running()
            self._next_poll = time.monotonic() + poll_pause(began, POLL_SECONDS)
        return not self._run.missing

    def is_worked_on(self) -> bool:
        """Whether a worker, started by any command or launcher, holds a trial without a record."""
        return self._run.is_worked_on(self._leases)

    def why_stopped(self) -> str:
        """Return the last reason that a worker of this run gave for leaving a trial; empty if none did."""
        return self._run.why_stopped(self._attempts_before)

    def say(self, text: str) -> None:
        """Print a line about the run."""
        self._console.print(Text(printable(text)), soft_wrap=True)

    def _print_ended(self, trial: Trial, number: int) -> None:
        """Print the line of a recorded trial, which stays above the bars."""
        bar = self._running.pop(trial.trial_id, None)
        if bar is not None:
            self._bars.remove_task(bar)
        self._bars.update(self._sweep, completed=number)
        record, attempt = self._run.recorded[trial.trial_id], last_attempt(self._run.folder, trial.trial_id)
        took = f" in {attempt['seconds']:.1f} s" if "seconds" in attempt else ""
        reason = f": {record.reason}" if record.status != "done" and record.reason else ""
        line = f"[{number}/{len(self._trials)}] {trial_label(trial, self._axes)}: {record.status}{took}{reason}"
        style = "" if record.status == "done" else "yellow"
        self._console.print(Text(printable(line), style), soft_wrap=True)

    def _show_running(self) -> None:
        from rich.markup import escape

        running = {trial_id: one for trial_id, one in self._run.poll_attempts().items() if is_running(one)}
        for trial_id in set(self._running) - set(running):
            self._bars.remove_task(self._running.pop(trial_id))
        for trial_id, attempt in running.items():
            if trial_id not in self._running:
                label = escape(printable(trial_label(self._trials[trial_id], self._axes)))
                self._running[trial_id] = self._bars.add_task(label, total=None, note="starting")
            if attempt.get("steps"):
                note = f"{attempt.get('images_per_second', 0.0):.0f} images/s"
                bar = self._running[trial_id]
                self._bars.update(bar, total=attempt["steps"], completed=attempt.get("step", 0), note=note)
