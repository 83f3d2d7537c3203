"""Runs a sweep on Ray, in detached, restartable actors, each of which imports torch once and then runs trials.

Ray places the actors by the resources they request, and restarts one elsewhere when its process or node dies. They
belong to the cluster and not to the driver: a driver that is started again finds them by name. There are as many as can
work at once, however many trials there are, and no trial passes through the driver.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from twinbench.harness.launchers.launcher import (
    CannotStart,
    LaunchOptions,
    Outcome,
    cluster_mistakes,
    count_missing,
    count_statuses,
    watched,
)
from twinbench.harness.launchers.ray_connection import LOCAL, address_of, connected
from twinbench.harness.launchers.site import RaySite, read_site
from twinbench.harness.monitor.progress_bars import POLL_SECONDS
from twinbench.harness.performance.pack_size import with_best_pack
from twinbench.harness.run_folder.heartbeat import is_cancelled
from twinbench.harness.run_folder.layout import missing, read_launches
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:  # these import torch, which checking the options does without
    from twinbench.harness.launchers.ray_actors import Actors
    from twinbench.harness.monitor.progress_bars import ProgressBars
    from twinbench.harness.planning import Plan
    from twinbench.harness.trial.execute import Surroundings

LOOK_EVERY_SECONDS = 2.0


@dataclass(frozen=True)
class RayLauncher:
    """Runs trials in `options.workers` actors, None for as many as the cluster has room for."""

    site: RaySite
    options: LaunchOptions
    address_from: str = "--address"

    def run(self, planned: "Plan", surroundings: "Surroundings", watch: "ProgressBars") -> Outcome:
        """Start the actors and wait until every trial is recorded, or return at once with `detach`."""
        surroundings = surroundings.absolute()
        folder = surroundings.run_folder
        with connected(self.site, self.address_from):
            from twinbench.harness.launchers.ray_actors import Actors  # imports Ray, which `connected` sets up first

            actors = Actors(surroundings, self.site)
            found_actors = bool(actors.alive())  # of an earlier command on the same folder
            if self.options.detach:
                self._start(actors, planned, found_actors, watch)
                return Outcome(count_statuses(planned, folder), is_detached=True)

            def work() -> None:
                self._start(actors, planned, found_actors, watch)
                self._wait(actors, planned, watch)

            outcome = watched(planned, folder, watch, work)
            if found_actors and outcome.is_interrupted:
                left = "the workers of an earlier command continue; the same command watches again, `cancel` ends them"
                return replace(outcome, stopped=left, is_interrupted=False)
            if outcome.stopped and not actors.are_lost():
                actors.stop()
            return outcome

    def _start(self, actors: "Actors", planned: "Plan", found_actors: bool, watch: "ProgressBars") -> None:
        """Start actors for the missing trials, in packs of the best size.

        Packs are not measured while an earlier command's actors work: they hold the room that the task would wait for.
        """
        todo = missing(planned, actors.surroundings.run_folder)
        if not todo:
            return

        def measure(trial: Trial, threads: int, largest: int) -> Mapping[int, float]:
            watch.say("a task on Ray measures how many trials should take turns in one process")
            return actors.seconds_in_packs(trial, planned.image_size, threads, largest, self.options.workers)

        count = min(len(todo), self.options.workers or actors.capacity(watch.say))
        measures = self.options.measures_packs and not found_actors
        actors.surroundings = with_best_pack(actors.surroundings, todo, count, measure if measures else None, watch.say)
        actors.start(count, watch.say)

    def _wait(self, actors: "Actors", planned: "Plan", watch: "ProgressBars") -> None:
        """Wait until every trial is recorded, and start actors again when all are gone.

        Raises CannotStart when the head is lost, or when new actors end without finishing a trial.
        """
        folder = actors.surroundings.run_folder
        last_missing, looked_at, rounds_without_progress = count_missing(planned, folder), time.monotonic(), 0
        while not watch.update():
            time.sleep(POLL_SECONDS)
            if time.monotonic() - looked_at < LOOK_EVERY_SECONDS:
                continue
            looked_at = time.monotonic()
            if actors.are_lost():
                raise CannotStart("the head of the Ray cluster does not answer")
            if actors.alive():
                continue
            now_missing = count_missing(planned, folder)
            if is_cancelled(folder) or not now_missing:
                return
            if watch.is_worked_on():  # by another command's workers, so no trial is free
                continue
            rounds_without_progress = rounds_without_progress + 1 if now_missing == last_missing else 0
            if reason := actors.why_ended() if rounds_without_progress else "":
                raise CannotStart(reason)
            if rounds_without_progress > 1:  # the first may be the end of an earlier command's actors
                return
            last_missing = now_missing
            actors.start(min(now_missing, self.options.workers or actors.capacity(watch.say)), watch.say)


def from_options(options: LaunchOptions) -> RayLauncher:
    """Return the launcher. InvalidInput for options that it cannot use."""
    site = read_site(RaySite, "ray", options.site, options.ray)
    site = replace(site, address=options.address or site.address)
    mistakes = cluster_mistakes("ray", options, site.gpus)
    if options.isolate:
        problem = "cannot fork a process for each trial from Ray's processes, which have threads"
        mistakes.append(Mistake("--isolate", "", problem, "ray", "local, slurm"))
    if options.detach and address_of(site) == LOCAL:
        problem = "needs a Ray cluster that outlives this command"
        mistakes.append(Mistake("--detach", "", problem, allowed="--address, or RAY_ADDRESS"))
    if mistakes:
        raise InvalidInput(mistakes)
    return RayLauncher(site, options, _address_from(options))


def _address_from(options: LaunchOptions) -> str:
    """Return where the cluster's address was given, for errors."""
    if options.address:
        return "--address"
    is_changed = any(change.partition("=")[0] == "address" for change in options.ray)
    return "--ray: address" if is_changed or not options.site else f"{options.site}: address"


def cancel_waiting(run_folder: Path, notes: Sequence[Path]) -> None:
    """End actors of these launches that wait for a place, on clusters that can be reached from here.

    They would end once they had a place, but until then a cluster that grows would make room for them.
    """
    for launch in read_launches(notes, "launcher", "address", "name"):
        if launch["launcher"] != "ray" or launch["address"] == LOCAL:
            continue
        import ray

        from twinbench.harness.launchers.ray_actors import stop_named

        site = RaySite(address=launch["address"])
        # Where Ray fails, the mark in the folder ends the actors once they have a place.
        with contextlib.suppress(OSError, InvalidInput, ray.exceptions.RayError), connected(site):
            stop_named(launch["name"], run_folder)
