"""One sweep from its file to a full run folder: plan, check, hand out what is missing, show how it goes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twinbench.harness.monitor.progress_bars import Watch
from twinbench.harness.planning import Plan
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import missing, why_unplanned, why_unwritable
from twinbench.results.record import recorded_ids
from twinbench.sweeps.errors import InvalidInput


class CannotStart(Exception):
    """Workers end before they take a trial; the text says why."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: trials by status, those of earlier runs among them, and what stopped it early, if anything."""

    statuses: dict[str, int]
    stopped: str = ""


def _count_missing(planned: Plan, run_folder: Path) -> int:
    """How many trials workers will still find. CannotStart where somebody has broken the plan meanwhile."""
    try:
        return len(missing(planned, run_folder))
    except InvalidInput as error:
        raise CannotStart(str(error)) from error


def _watched(
    planned: Plan, run_folder: Path, watch: Watch, work: Callable[[], None], otherwise: str = "nobody said why"
) -> Outcome:
    """Does the work under the watch, and says in words what stopped it early; `otherwise` where nobody told why."""
    from twinbench.harness.trial.worker import Unwritable

    stopped = ""
    try:
        with watch:
            work()
    except KeyboardInterrupt:
        stopped = "interrupted; the same command goes on from here"
    except (Unwritable, CannotStart) as error:
        stopped = f"stopped: {error}; the same command goes on from here"
    if is_cancelled(run_folder):
        stopped = "cancelled; the same command goes on from here"
    statuses = count_statuses(planned, run_folder)
    if not stopped and "missing" in statuses:
        # a disk may be so full that no worker could leave word of it
        reason = watch.why_left() or why_unwritable(run_folder) or _why_unplanned(run_folder, planned) or otherwise
        stopped = f"stopped: no worker is left: {reason}; the same command goes on from here"
    return Outcome(statuses, stopped)


def _why_unplanned(run_folder: Path, planned: Plan) -> str:
    try:
        return why_unplanned(run_folder, planned)
    except InvalidInput as error:  # somebody has broken the plan meanwhile
        return str(error)


def count_statuses(planned: Plan, run_folder: Path) -> dict[str, int]:
    """How many trials ended how; `missing` are those without a record."""
    recorded = recorded_ids(run_folder)
    return dict(Counter(recorded.get(trial.trial_id, "missing") for trial in planned.trials))
