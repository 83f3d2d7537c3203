"""Measure how long a training's updates take, and decide when its state is saved."""

import time
from collections.abc import Callable

from twinbench.harness.training.batches import Batch, Batches
from twinbench.harness.training.checkpoint import Progress
from twinbench.harness.training.cuda_graphs import synchronise
from twinbench.harness.training.task import Task

SAVE_EVERY_SECONDS = 300.0
SAVES_COST = 0.05  # largest share of the time between saves: saving can take as long as a short epoch on a GPU
SOLO = range(32, 64)  # the updates of an attempt that are timed: warmed up, and with one draw of batches among them


class UpdateTimer:
    """Adds the seconds of every update to a progress, and measures what an update of SOLO takes on its own.

    A task that `keeps_its_turn` makes the batches of those updates itself and does not pause between them: on a GPU the
    updates of the pack's other trainings would otherwise run at the same time.
    """

    def __init__(self, task: Task, progress: Progress, batches: Batches) -> None:
        self._task, self._progress, self._batches = task, progress, batches
        self._started = self._before_solo = 0.0

    def start(self, number: int) -> None:
        """Start timing update `number` of this attempt, before its batch is made."""
        if number == SOLO[0]:
            synchronise(self._task.device)
            self._before_solo = self._progress.train_seconds
            if self._task.keeps_its_turn:
                self._batches.forget()
        self._started = time.perf_counter()

    def stop(self, number: int, batch: Batch, ends_epoch: bool) -> None:
        """Add the update's seconds, and those of making its batch, to the progress."""
        progress = self._progress
        if number == SOLO[-1] or (number in SOLO and ends_epoch):
            synchronise(self._task.device)
        shared = batch.seconds if batch.is_shared else 0.0
        progress.train_seconds += time.perf_counter() - self._started + shared
        progress.shared_seconds += shared
        if number == SOLO[-1]:
            progress.solo_step_seconds = (progress.train_seconds - self._before_solo) / len(SOLO)
            if self._task.keeps_its_turn:  # what was drawn on this training's stream is not for the others
                self._batches.forget()

    def may_pause(self, number: int) -> bool:
        """Whether others may take their turn after update `number`."""
        return not (self._task.keeps_its_turn and number in SOLO[:-1])


class StateSaver:
    """Saves a training's state every few minutes, and after those epochs for which that costs little time."""

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save
        self._saved_at, self._took = time.monotonic(), 0.0

    def is_due(self) -> bool:
        """Whether the last save is more than SAVE_EVERY_SECONDS ago."""
        return time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS

    def save(self) -> None:
        """Save the state now."""
        started = time.monotonic()
        self._save()
        self._saved_at = time.monotonic()
        self._took = self._saved_at - started

    def end_epoch(self, is_last: bool) -> None:
        """Save after the last epoch, and after others unless saving takes too much of the time between saves."""
        if is_last or self._took <= SAVES_COST * (time.monotonic() - self._saved_at):
            self.save()
