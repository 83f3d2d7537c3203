"""Keep freed memory in the process, recognise out-of-memory errors, and check the memory left for another trial."""

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
_SPARE = 1.25  # free memory that another trial needs, in multiples of what one took at its first update
_OUT_OF_MEMORY = (  # texts of CUDA and Triton; of the CPU's allocator; of cuBLAS and cuDNN, to version 8 and from 9 on
    *("out of memory", "DefaultCPUAllocator"),
    *("STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED", "HOST_ALLOCATION_FAILED"),
)
_BYTES = 2**30  # blocks up to this size come from the heap, and up to this much free memory at its end is kept
_MOST_BEFORE = 2**25  # the largest mmap threshold that glibc before 2.35 accepts


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "gnu_get_libc_version") else None


@functools.cache
def keep_freed_memory() -> None:
    """Keep freed memory in the process: otherwise a batch's tensors are returned and page-faulted in at every step.

    Sets this in glibc once per process, and does nothing on other systems. Costs up to 1 GiB that no other process can
    use.
    """
    library = _glibc()
    if library and any(library.mallopt(_MMAP_THRESHOLD, most) for most in (_BYTES, _MOST_BEFORE)):
        library.mallopt(_TRIM_THRESHOLD, _BYTES)


def give_back_freed_memory() -> None:
    """Return what `keep_freed_memory` has kept, so that a trial's peak does not include the previous trial's."""
    if library := _glibc():
        library.malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; only torch's GPU allocator has an exception of its own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


@contextlib.contextmanager
def oom_as_memory_error() -> Iterator[None]:
    """Raise MemoryError for every error that means that memory ran out."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(str(error)) from error


class Room:
    """Tells whether a pack's next trial fits in the memory of `device`, from what earlier ones took when they began.

    `begun` counts the trials that were allowed to begin.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.begun = 0
        self._taken = self._before = 0
        self._is_full = False

    def has_room_for_another(self) -> bool:
        """Return whether one more trial may begin; call it before each.

        The first always may, and its memory is the estimate until the second's is known. After one refusal all are
        refused: a trial that did not begin says nothing about the memory of the next.
        """
        if self._is_full:
            return False
        if not self.begun and self._device.type == "cuda":  # or memory cached by earlier packs would count as taken
            gc.collect()
            torch.cuda.empty_cache()
        free = available_bytes(self._device)
        # On a GPU, count only this process: others allocate and free memory at the same time.
        held = torch.cuda.memory_reserved(self._device) if self._device.type == "cuda" else -free
        taken, self._before = held - self._before, held
        self._taken = max(self._taken, taken) if self.begun > 2 else taken  # the first also loads the dataset
        if self.begun and free < _SPARE * self._taken:
            self._is_full = True
            return False
        self.begun += 1
        return True


def available_bytes(device: torch.device) -> int:
    """Return the free bytes of a GPU, or else of the system within the cgroups' limits; 2^62 if nothing is known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [2**62]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    for folder in own_cgroups():
        with contextlib.suppress(OSError, ValueError):  # "max" is not a number: no limit
            limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
            found.append(limit - used + _reclaimable(folder))
    return min(found)


def _reclaimable(cgroup: Path) -> int:
    """Return the bytes of cached files, memory-mapped images among them, which the kernel frees when needed.

    Active ones count too: a mapped dataset becomes active, since every epoch reads it again.
    """
    lines = (cgroup / "memory.stat").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))
