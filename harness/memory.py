"""Freed memory stays with the process: a batch's tensors would else be given back and faulted in anew at every step."""

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3), glibc
_BYTES = 2**30  # a block up to this size comes from the heap, and the heap's free end is kept up to this size


@functools.cache
def keep_freed_memory() -> None:
    """Tells glibc so, once in a process; nothing on other systems. Costs up to 1 GiB that no other process can use."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_TRIM_THRESHOLD, _BYTES)
        library.mallopt(_MMAP_THRESHOLD, _BYTES)
