"""Locks by which the launchers of a sweep agree on which of them are alive.

`flock` reaches all machines that share the folder, and the operating system releases a lock when the last process that
holds it ends, however it ends.
"""

import os
import secrets
from pathlib import Path

from common.file_locks import is_locked, open_locked, remove_unlocked


class LauncherLock:
    """Marks this process as a living launcher by a lock on a file of its own, and removes those of killed launchers.

    Args:
        folder: Folder of the files of all launchers of a sweep.

    Attributes:
        launcher: Name of this launcher, and of its file.
        descriptor: File descriptor; a process that inherits it holds the lock until it ends.
    """

    def __init__(self, folder: Path) -> None:
        for left in folder.iterdir():
            remove_unlocked(left)
        self.launcher = f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"
        self._path = folder / self.launcher
        descriptor = open_locked(self._path, wait=True)
        assert descriptor is not None
        self.descriptor = descriptor

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self.descriptor)


def any_alive(folder: Path) -> bool:
    """Returns whether any launcher of a sweep, possibly of another machine, still holds its lock."""
    return any(is_alive(folder, file.name) for file in folder.glob("*"))


def is_alive(folder: Path, launcher: str) -> bool:
    """Returns whether a launcher, possibly of another machine, still holds its lock."""
    try:
        with (folder / launcher).open() as file:
            return is_locked(file.fileno())
    except OSError:
        return False
