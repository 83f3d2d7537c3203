"""What the cgroups of this process, under version 2, leave it: those of a container or of a SLURM job."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def own_cgroups() -> Iterator[Path]:
    """The folder of this process's, and of all that it lies in: each may have a limit."""
    own = _own()
    yield from (own, *own.parents)


def least_quota() -> float:
    """Processors' worth of time that this process may take; infinite where nothing says so."""
    found = [float("inf")]
    for folder in own_cgroups():
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            quota, period = (int(word) for word in (folder / "cpu.max").read_text().split())
            found.append(quota / period)
    return min(found)


def _own() -> Path:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                return CGROUPS / line.removeprefix("0::/")
    return CGROUPS
