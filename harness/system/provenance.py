"""Which code, libraries and machine made a result: recorded with it, but not part of a trial's identity."""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from twinbench.harness.system.commit import checkout_commit
from twinbench.methods.names import ENTRY_POINTS

ROOMS = ("methods", "sweeps", "results", "reports", "harness")
# What computes a number. It imports nothing of the package but itself, which tests/test_rooms.py holds.
COMPUTES = (
    "methods",
    "sweeps",
    "harness/__init__.py",
    "harness/system",
    "harness/data",
    "harness/training",
    "harness/evaluation",
    "harness/trial/__init__.py",
    "harness/trial/execute.py",
    "harness/trial/ranks.py",
)
# Stands before the hash in records; hashes without it, of earlier records, cover every file of the package. Change it
# when COMPUTES covers another kind of code, so that no hash is compared with one that covers something else.
KIND = "2:"
ROOT = Path(__file__).resolve().parent.parent.parent
COMMIT = "COMMIT"  # in a snapshot: the commit it was made from
CLEAR = Path("/proc/self/clear_refs")
VERSIONS_OF = ("torch", "torchvision", "numpy", "scikit-learn", "scipy")


@functools.cache
def code_hash() -> str:
    """Return "2:" and the sha256 over the Python files that compute a trial's numbers, added methods included."""
    return KIND + _hash_of(COMPUTES)


@functools.cache
def package_hash() -> str:
    """Return the sha256 over all Python files of the package, and of the packages that add methods."""
    return _hash_of(ROOMS)


def _hash_of(parts: Iterable[str]) -> str:
    """Hash names and contents of the Python files in `parts` of the package and in the packages that add methods."""
    total = hashlib.sha256()
    for code, root in [*((ROOT / part, ROOT) for part in parts), *((top, top.parent) for top in other_packages())]:
        for path in sorted(code.rglob("*.py")) if code.is_dir() else [code]:
            total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


@functools.cache
def other_packages() -> tuple[Path, ...]:
    """Return the modules and package folders of other installed packages that add methods."""
    modules = sorted({point.module for point in importlib.metadata.entry_points(group=ENTRY_POINTS)})
    return tuple(dict.fromkeys(path for module in modules for path in top_level(module)))


def top_level(module: str) -> list[Path]:
    """Return the top-level module or package folder that `module` is in, and nothing where it is no file.

    A package without `__init__.py` may have several folders: those that hold `module` are returned, with all that other
    distributions have put there.
    """
    top, _, rest = module.partition(".")
    spec = importlib.util.find_spec(top)  # of a top-level module: imports nothing
    if spec and spec.origin and Path(spec.origin).exists():
        return [Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)]
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    next_part = rest.partition(".")[0]
    return [folder for folder in folders if (folder / next_part).is_dir() or (folder / f"{next_part}.py").exists()]


@functools.cache
def commit() -> str:
    """Return the checkout's commit, with `+changes` if files differ from it; empty outside a checkout."""
    if (ROOT / COMMIT).exists():
        return (ROOT / COMMIT).read_text(encoding="utf-8")
    return checkout_commit(ROOT)


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ""
    return found


@functools.cache
def processor() -> str:
    """Return the CPU's kind, the instructions that torch uses, and a digest of what else selects kernels of a CPU."""
    import torch

    features = {**torch.cpu.get_capabilities(), "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", "")}
    kind = features.get("cpu_name") or platform.machine()
    about = hashlib.sha256(repr(sorted(features.items())).encode()).hexdigest()[:12]
    return f"{kind}, {torch.backends.cpu.get_cpu_capability()}, {about}"


def reset_peak_memory() -> None:
    """Reset what `peak_memory_bytes` counts, where the system allows it."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")  # proc(5): sets the peak to the current size


def peak_memory_bytes() -> int | None:
    """Return the peak memory of this process since `reset_peak_memory`; None where the system does not report it."""
    if not os.access(CLEAR, os.W_OK):
        return None
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
