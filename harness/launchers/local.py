"""Runs a sweep in worker processes of this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from twinbench.harness.launchers.launcher import LaunchOptions, Outcome, watched
from twinbench.harness.performance.pack_size import seconds_in_packs, with_best_pack, with_best_threads
from twinbench.harness.run_folder.layout import missing
from twinbench.harness.system.devices import choose_devices, cores, first_devices, spread
from twinbench.sweeps.errors import InvalidInput, Mistake
from twinbench.sweeps.trial import Trial

if TYPE_CHECKING:  # these import torch, which checking the options does without
    from twinbench.harness.monitor.progress_bars import ProgressBars
    from twinbench.harness.planning import Plan
    from twinbench.harness.trial.execute import Surroundings


@dataclass(frozen=True)
class LocalLauncher:
    """Runs trials in `options.workers` processes, spread over `devices`.

    By default there is one for each entry of `devices`, and on a CPU one for every `threads` cores.
    """

    devices: tuple[str, ...]
    options: LaunchOptions

    def run(self, planned: "Plan", surroundings: "Surroundings", watch: "ProgressBars") -> Outcome:
        """Run until every trial is recorded, by this command or by another on the same folder."""
        from twinbench.harness.launchers.worker_pool import WorkerPool

        folder = surroundings.run_folder
        todo = missing(planned, folder)
        surroundings = self._tuned(planned, todo, surroundings, watch)
        workers = min(len(todo), self._workers(surroundings))
        pool = WorkerPool(surroundings, workers, self.devices)

        def work() -> None:
            if todo:
                pool.run(watch.update)

        return watched(planned, folder, watch, work)

    def _workers(self, surroundings: "Surroundings") -> int:
        """Return how many workers there would be for an endless sweep."""
        if self.options.workers:
            return self.options.workers
        if self.devices == ("cpu",):
            return max(1, cores() // (surroundings.threads * surroundings.processes))
        return len(self.devices)

    def _tuned(
        self, planned: "Plan", todo: Sequence[Trial], surroundings: "Surroundings", watch: "ProgressBars"
    ) -> "Surroundings":
        """Return `surroundings` with the measured number of threads and the best size of packs."""

        def workers_with(threads: int) -> int:
            return self._workers(replace(surroundings, threads=threads))

        def measure(trial: Trial, threads: int, largest: int) -> Mapping[int, float]:
            # With all workers that may share the device, however few trials are left: the next command uses it too.
            device = self.devices[0]
            sharing = spread(workers_with(threads), self.devices).count(device)
            return seconds_in_packs(trial, planned.image_size, device, threads, largest, watch.say, sharing)

        if self.options.measures_threads and self.devices == ("cpu",):
            surroundings = with_best_threads(surroundings, todo, cores(), workers_with, measure, watch.say)
        workers = min(len(todo), workers_with(surroundings.threads))
        return with_best_pack(surroundings, todo, workers, measure if self.options.measures_packs else None, watch.say)


def from_options(options: LaunchOptions) -> LocalLauncher:
    """Return the launcher. InvalidInput for options that need a cluster and for devices that are not there."""
    if options.detach:
        problem = "needs a cluster, which continues the work"
        raise InvalidInput([Mistake("--detach", "", problem, "local", "ray, slurm")])
    devices = first_devices(choose_devices(options.device), options.processes_per_trial, options.workers_per_gpu)
    return LocalLauncher(tuple(devices), options)
