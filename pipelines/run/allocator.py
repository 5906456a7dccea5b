"""Memory allocation for training on CPUs: freed memory is kept for the next step.

Linux maps fresh pages for every large tensor and unmaps them when it is freed. A convolutional network allocates the
same hundreds of megabytes at every step, and on a CPU the page faults take as long as the arithmetic. glibc's malloc
can keep freed memory, and torch can request huge pages; `benchmarks/networks.py` measures the gain.
"""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt's names for its settings: `man mallopt`


def keep_freed_memory() -> None:
    """Configures glibc's malloc for training; call it before torch is imported. Does nothing with another C library.

    The process then keeps its peak memory.
    """
    if not sys.platform.startswith("linux"):
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return
    mallopt(_MMAP_MAX, 0)  # large blocks come from the heap too, not from mmap
    mallopt(_TRIM_THRESHOLD, -1)  # freed memory is never returned to the system
    mallopt(_TOP_PAD, 256 * 2**20)  # bytes by which the heap grows
