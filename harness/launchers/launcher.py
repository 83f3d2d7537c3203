"""What every launcher is given, does and returns, and the parts of a run that all launchers share."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import missing, why_unplanned, why_unwritable
from twinbench.results.record import recorded_ids
from twinbench.sweeps.errors import InvalidInput, Mistake

if TYPE_CHECKING:  # these import torch, which checking the options does without
    from twinbench.harness.monitor.progress_bars import ProgressBars
    from twinbench.harness.planning import Plan
    from twinbench.harness.trial.execute import Surroundings


@dataclass(frozen=True)
class LaunchOptions:
    """The options of `twinbench run` from which launchers are made.

    `workers` is None for as many as the machine or cluster has room for. `slurm` and `ray` hold KEY=VALUE changes to
    the tables of the `site` file. With `measures_threads` and `measures_packs` the launcher times training steps to
    choose the number of threads and the size of packs. `address` is that of a Ray cluster, before the site file's.
    """

    device: str = "auto"
    workers: int | None = None
    workers_per_gpu: int = 1
    processes_per_trial: int = 1
    measures_threads: bool = False
    measures_packs: bool = False
    isolate: bool = False
    detach: bool = False
    site: Path | None = None
    slurm: tuple[str, ...] = ()
    ray: tuple[str, ...] = ()
    address: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its trials by status, those of earlier runs included, and why it stopped early, if it did.

    `is_interrupted`: Ctrl-C ended the trials that were running. `is_detached`: a cluster has the work and the command
    did not wait for it.
    """

    statuses: dict[str, int]
    stopped: str = ""
    is_interrupted: bool = False
    is_detached: bool = False


class Launcher(Protocol):
    """Starts workers and hands them trials. All that comes back comes through the run folder."""

    def run(self, planned: "Plan", surroundings: "Surroundings", watch: "ProgressBars") -> Outcome:
        """Run the trials of the plan that have no record, and return how that ended."""


class CannotStart(Exception):
    """Workers end before they take a trial; the text says why."""


def cluster_mistakes(launcher: str, options: LaunchOptions, gpus: float) -> list[Mistake]:
    """Return the mistakes of options that a cluster cannot serve; `gpus` are those requested for one worker."""
    mistakes, processes = [], options.processes_per_trial
    if options.measures_threads:
        allowed = "a number: the resources requested from a cluster depend on it"
        mistakes.append(
            Mistake("--threads", "", f"auto cannot be combined with --launcher {launcher}", allowed=allowed)
        )
    if gpus and processes > 1 and gpus < processes:
        allowed = f"at least {processes}, a GPU for each process of a trial"
        mistakes.append(Mistake(f"--{launcher}", "gpus", "are too few", gpus, allowed))
    return mistakes


def watched(
    planned: "Plan",
    run_folder: Path,
    watch: "ProgressBars",
    work: Callable[[], None],
    unknown_reason: str = "no worker left a reason",
) -> Outcome:
    """Call `work` while `watch` shows progress, and return how the run ended.

    `unknown_reason` is given as the reason where trials are missing and nothing else explains why.
    """
    from twinbench.harness.trial.worker import Unwritable

    stopped, is_interrupted = "", False
    try:
        with watch:
            work()
    except KeyboardInterrupt:
        stopped, is_interrupted = "interrupted", True
    except (Unwritable, CannotStart) as error:
        stopped = f"stopped: {error}"
    if is_cancelled(run_folder):
        stopped, is_interrupted = "cancelled", False
    statuses = count_statuses(planned, run_folder)
    if not stopped and "missing" in statuses:
        # A disk may be so full that no worker could leave its reason.
        reason = watch.why_stopped() or why_unwritable(run_folder) or why_unplanned(run_folder, planned)
        stopped = f"stopped: no worker is left: {reason or unknown_reason}"
    return Outcome(statuses, stopped and f"{stopped}; run the same command again to continue", is_interrupted)


def count_missing(planned: "Plan", run_folder: Path) -> int:
    """Return how many trials workers will still find. CannotStart if the plan has become unreadable during the run."""
    try:
        return len(missing(planned, run_folder))
    except InvalidInput as error:
        raise CannotStart(str(error)) from error


def count_statuses(planned: "Plan", run_folder: Path) -> dict[str, int]:
    """Return the number of trials by status; those without a record count as `missing`."""
    recorded = recorded_ids(run_folder)
    return dict(Counter(recorded.get(trial.trial_id, "missing") for trial in planned.trials))
