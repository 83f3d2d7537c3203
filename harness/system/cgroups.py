"""Limits that cgroups (version 2) of a container or a SLURM job set for this process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def own_cgroups() -> Iterator[Path]:
    """Yield the folder of this process's cgroup and those of its parents: each may have a limit."""
    own = _own()
    yield from (own, *own.parents)


def least_quota() -> float:
    """Return how many processors' worth of time this process may use; infinite without a limit."""
    found = [float("inf")]
    for folder in own_cgroups():
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number: no limit
            quota, period = (int(word) for word in (folder / "cpu.max").read_text().split())
            found.append(quota / period)
    return min(found)


def _own() -> Path:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            if line.startswith("0::/"):
                return CGROUPS / line.removeprefix("0::/")
    return CGROUPS
