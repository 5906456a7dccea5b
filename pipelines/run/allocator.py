"""Lets a CPU keep the memory of a step for the next one.

Linux gives every large tensor fresh pages and takes them back when it is freed. A convolutional network allocates the
same hundreds of megabytes at every step, and on a CPU the page faults take as long as the arithmetic. glibc's malloc
can keep what is freed, and torch can ask for huge pages: `benchmarks/networks.py` measures what that gains.
"""

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt's names for its settings: `man mallopt`


def keep_freed_memory() -> None:
    """Sets up malloc for training; call it before torch is imported. Does nothing where the C library is another.

    A process then holds on to the most memory that it ever used.
    """
    if not sys.platform.startswith("linux"):
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first allocation
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return
    mallopt(_MMAP_MAX, 0)  # large blocks from the heap too, instead of pages of their own
    mallopt(_TRIM_THRESHOLD, -1)  # and never back to the system
    mallopt(_TOP_PAD, 256 * 2**20)  # bytes by which the heap grows: few large steps instead of many small ones
