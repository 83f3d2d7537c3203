"""Report how a trial's training goes: to its attempt's file, its log and its curves file."""

import time

from twinbench.harness.run_folder.leases import Attempt, now
from twinbench.harness.run_folder.live_curves import LiveCurves
from twinbench.harness.training.checkpoint import Progress
from twinbench.harness.training.loop import finished_curves
from twinbench.harness.trial.execute import Report
from twinbench.results.attempts import trial_folder


def reporter(attempt: Attempt) -> Report:
    """Return a function that writes the progress to the attempt's file and, once an epoch, to the log and the curves.

    Images per second are by the wall clock, so that the time left can be estimated from them: they include evaluation
    between epochs and the turns of a pack's other trials.
    """
    began, images_before = 0.0, 0
    printed, live_curves = -1, LiveCurves(trial_folder(attempt.run_folder, attempt.trial_id))

    def report(progress: Progress, step: int, steps: int) -> None:
        nonlocal printed, began, images_before
        if printed < 0:  # training starts: the data are read, and earlier attempts have seen these images
            began, images_before = time.perf_counter(), progress.images_seen
        rate = (progress.images_seen - images_before) / max(time.perf_counter() - began, 1e-9)
        attempt.report(step=step, steps=steps, epoch=progress.epoch, images_per_second=rate)
        if progress.epoch != printed:
            printed = progress.epoch
            loss = (progress.curves.get("loss") or [None])[-1]
            details = "" if loss is None else f", loss {loss:.5g}, {rate:.0f} images/s"
            print(f"{now()} epoch {progress.epoch}, step {step} of {steps}{details}", flush=True)
            live_curves.write(lambda: finished_curves(progress))

    return report
