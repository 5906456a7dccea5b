"""Atomic file writes: to a temporary file that is renamed when it is complete, so no reader sees a partial file.

    with atomic_write(folder / "config.yaml") as temporary:
        temporary.write_text(text)

The temporary file lies beside the target, as `.NAME.0.tmp`, since a rename is atomic only within a file system. Its
writer holds a lock on it, which the system releases when a process dies, however it dies: the next writer of the same
target removes what a killed one left, and writers at the same time use `.NAME.1.tmp` and so on; the last one to finish
decides the content. On a file system without locks, files left by killed processes stay.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(target: Path, sync: bool = False) -> Iterator[Path]:
    """Replaces a file by the one that the `with` block writes to the path yielded; an exception leaves the old one.

    Args:
        target: The file; its folder is made if it does not exist. It gets the permissions of a newly opened file.
        sync: Whether to flush the content to the disk before the rename, so that a power cut can't leave an empty file.

    Raises:
        OSError: If the folder or the file can't be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, descriptor = _create(target)
    try:
        yield temporary
        if sync:
            os.fsync(descriptor)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not unlock it while a forked process has it open
        os.close(descriptor)


def _create(target: Path) -> tuple[Path, int]:
    """Creates and locks an empty temporary file: its path and an open file descriptor."""
    number = 0
    while True:
        temporary = target.with_name(f".{target.name}.{number}.tmp")
        try:
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not _remove_abandoned(temporary):
                number += 1
            continue
        try:
            if _lock(descriptor, if_unsupported=True) and _is_at(descriptor, temporary):
                return temporary, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process took it for abandoned before it was locked


def _remove_abandoned(temporary: Path) -> bool:
    """Removes a temporary file that no process has locked; false if a process writes it or it can't be removed."""
    try:
        descriptor = os.open(temporary, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # another user's
    try:
        if not _lock(descriptor, if_unsupported=False):
            return False
        if _is_at(descriptor, temporary):
            temporary.unlink(missing_ok=True)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _lock(descriptor: int, if_unsupported: bool) -> bool:
    """Locks an open file without waiting; false if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return if_unsupported
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to an open file: a writer may have renamed it since."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
