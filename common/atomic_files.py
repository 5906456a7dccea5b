"""Atomic file writes: to a temporary file that is renamed when it is complete, so no reader sees a partial file.

    with atomic_write(folder / "config.yaml") as temporary:
        temporary.write_text(text)

The temporary file lies beside the target, as `.NAME.0.tmp`, since a rename is atomic only within a file system. Its
writer holds a lock on it, which the system releases when a process dies, however it dies: the next writer of the same
target removes what a killed one left, `remove_abandoned` what killed ones left in a whole folder. Writers at the same
time use `.NAME.1.tmp` and so on; the last one to finish decides the content. On a file system without locks, files left
by killed processes stay.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.file_locks import close_locked, is_at, lock, remove_unlocked

# A write to an open file reports these without the file's name.
_UNNAMED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # earlier versions had a process id where the number is


@contextmanager
def atomic_write(target: Path, sync: bool = False) -> Iterator[Path]:
    """Replaces a file by the one that the `with` block writes to the path yielded; an exception leaves the old one.

    Args:
        target: The file; its folder is made if it does not exist. It gets the permissions of a newly opened file.
        sync: Whether to flush the content to the disk before the rename, so that a power cut can't leave an empty file.

    Raises:
        OSError: If the folder or the file can't be written; names the target, not the temporary file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, descriptor = _create(target)
    try:
        yield temporary
        if sync:
            os.fsync(descriptor)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (named := _named(error, target, temporary)) is not None:
            raise named from error
        raise
    finally:
        close_locked(descriptor)


@contextmanager
def named_errors(file: Path) -> Iterator[None]:
    """Gives errors of the disk the name of the file that the `with` block writes to: Python's have none.

    Raises:
        OSError: The error, with the name.
    """
    try:
        yield
    except OSError as error:
        raise _named(error, file, file) or error from None


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files that killed writers left in a folder, whatever their targets; others stay."""
    for temporary in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(temporary.name):
            remove_unlocked(temporary)


def _named(error: OSError, target: Path, temporary: Path) -> OSError | None:
    """Returns an error that names the target; None for one that already names another file."""
    if error.filename is None and error.errno in _UNNAMED:
        return OSError(error.errno, os.strerror(error.errno), str(target))
    if error.filename is not None and os.fspath(error.filename) == str(temporary):
        return OSError(error.errno, error.strerror, str(target))
    return None


def _create(target: Path) -> tuple[Path, int]:
    """Creates and locks an empty temporary file: its path and an open file descriptor."""
    number = 0
    while True:
        temporary = target.with_name(f".{target.name}.{number}.tmp")
        try:
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not remove_unlocked(temporary):
                number += 1
            continue
        except OSError as error:
            raise _named(error, target, temporary) or error from None
        try:
            if lock(descriptor, wait=False, if_unsupported=True) and is_at(descriptor, temporary):
                return temporary, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another process took it for abandoned before it was locked
