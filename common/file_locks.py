"""Locks on files by `flock`, which the system releases when the process that holds one ends, however it ends.

A file may be replaced by a rename while another process waits for its lock; a lock counts only on the file that the
path leads to.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def open_locked(path: Path, wait: bool) -> int | None:
    """Opens a file for reading and writing, creates it if it is missing, and locks it.

    On a file system without locks the file is opened without one.

    Args:
        path: The file.
        wait: Whether to wait while another process holds the lock.

    Returns:
        File descriptor, for `close_locked`; None if another process holds the lock and `wait` is false.

    Raises:
        OSError: If the file can't be opened or created.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not lock(descriptor, wait, if_unsupported=True):
                os.close(descriptor)
                return None
            if is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was replaced or removed before it was locked


def close_locked(descriptor: int) -> None:
    """Unlocks and closes a file: closing alone would not unlock it while a forked process has it open."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock on a file, which is created if it is missing, and holds it during the `with` block.

    Raises:
        OSError: If the file can't be opened, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        close_locked(descriptor)


def is_locked(descriptor: int) -> bool:
    """Returns whether another process holds the lock on an open file; false on a file system without locks.

    If not, this one holds a shared lock until it closes the file.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def lock(descriptor: int, wait: bool, if_unsupported: bool) -> bool:
    """Locks an open file; false if another process holds the lock, `if_unsupported` on a file system without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return if_unsupported
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Returns whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove_unlocked(path: Path) -> bool:
    """Removes a file that a killed process has left, by its lock; false if it is in use or can't be removed."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # another user's
    try:
        if not lock(descriptor, wait=False, if_unsupported=False):
            return False
        if is_at(descriptor, path):
            path.unlink(missing_ok=True)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
