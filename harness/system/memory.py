"""Memory that a process keeps, and memory that is left for one more trial."""

import contextlib
import ctypes
import functools
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from twinbench.harness.system.cgroups import own_cgroups

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3), glibc
_SPARE = 1.25  # times what a trial took at its first update: what is left for another's later ones
_SAID_WITHOUT_MEMORY = (  # by CUDA and Triton; on a CPU; by cuBLAS and cuDNN, to version 8 and from version 9 on
    *("out of memory", "DefaultCPUAllocator"),
    *("STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED", "HOST_ALLOCATION_FAILED"),
)
_BYTES = 2**30  # a block up to this size comes from the heap, and the heap's free end is kept up to this size
_MOST_BEFORE = 2**25  # that glibc before 2.35 takes for the former; told more, it takes nothing


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "gnu_get_libc_version") else None


@functools.cache
def keep_freed_memory() -> None:
    """Freed memory stays with the process: a batch's tensors would else be given back, and faulted in at every step.

    Told to glibc, once in a process; nothing on other systems. Costs up to 1 GiB that no other process can use.
    """
    library = _glibc()
    if library and any(library.mallopt(_MMAP_THRESHOLD, most) for most in (_BYTES, _MOST_BEFORE)):
        library.mallopt(_TRIM_THRESHOLD, _BYTES)


def give_back_freed_memory() -> None:
    """What was kept by `keep_freed_memory` until now: the next trial's peak is not to hold the last one's."""
    if library := _glibc():
        library.malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ended. torch has an exception of its own for that only where its GPU allocator finds none."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID_WITHOUT_MEMORY)


@contextlib.contextmanager
def oom_as_memory_error() -> Iterator[None]:
    """Turns whatever says that memory ended into MemoryError."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(str(error)) from error


class Room:
    """Whether a pack's next trial finds memory on `device`, by what those before it took as they began.

    `begun` counts those that were asked for and did.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.begun = 0
        self._taken = self._before = 0
        self._is_full = False

    def has_room_for_another(self) -> bool:
        """Asked before each trial begins. The first always may; what it takes counts until the second's is known.

        Once there was none there is none: what the trial that was refused took, nothing, tells of no other.
        """
        if self._is_full:
            return False
        if not self.begun and self._device.type == "cuda":  # what earlier packs left here would else count as taken
            gc.collect()
            torch.cuda.empty_cache()
        free = available_bytes(self._device)
        # What others on a GPU take and leave meanwhile is not what a trial took.
        held = torch.cuda.memory_reserved(self._device) if self._device.type == "cuda" else -free
        taken, self._before = held - self._before, held
        self._taken = max(self._taken, taken) if self.begun > 2 else taken  # the first takes the dataset's, too
        if self.begun and free < _SPARE * self._taken:
            self._is_full = True
            return False
        self.begun += 1
        return True


def available_bytes(device: torch.device) -> int:
    """What is free on a GPU; else what the system, or the cgroups' limits, leave. 2^62 where nothing says so."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [2**62]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    for folder in own_cgroups():
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
            found.append(limit - used + _reclaimable(folder))
    return min(found)


def _reclaimable(cgroup: Path) -> int:
    """Bytes of files that were read and are kept for another time, mapped images among them: they give way.

    The active ones too: a mapped dataset that every epoch reads again becomes active.
    """
    lines = (cgroup / "memory.stat").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))
