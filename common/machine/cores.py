"""The number of CPU cores that this process may use."""

import os


def usable_cores() -> int:
    """Returns the number of cores that the scheduler, a container or `taskset` leaves to this process, ≥ 1."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
