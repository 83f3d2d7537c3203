"""The launchers by name."""

from collections.abc import Callable

from twinbench.harness.launchers import local, ray, slurm
from twinbench.harness.launchers.launcher import Launcher, LaunchOptions

LAUNCHERS: dict[str, Callable[[LaunchOptions], Launcher]] = {
    "local": local.from_options,
    "ray": ray.from_options,
    "slurm": slurm.from_options,
}
