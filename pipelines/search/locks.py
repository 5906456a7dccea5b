"""Locks by which the launchers of a sweep agree: on who writes, and on which launchers are alive.

`flock` reaches all machines that share the folder, and the operating system releases a lock when the last process that
holds it ends, however it ends.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import TextIO

from common.file_locks import open_locked, remove_unlocked


class FileLock:
    """An exclusive lock on a file, as Optuna's journal takes it.

    Optuna's own locks are not released when a process is killed; they expire after half a minute.

    Args:
        path: The file; it is created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def acquire(self) -> bool:
        self._file = self._path.open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        assert self._file is not None
        self._file.close()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class LauncherLock:
    """Marks this process as a living launcher by a lock on a file of its own, and removes those of killed launchers.

    Args:
        folder: Folder of the files of all launchers of a sweep.
    """

    def __init__(self, folder: Path) -> None:
        for left in folder.iterdir():
            remove_unlocked(left)
        self.launcher = f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"
        self._path = folder / self.launcher
        descriptor = open_locked(self._path, wait=True)
        assert descriptor is not None
        self._file = os.fdopen(descriptor, "w")

    def fileno(self) -> int:
        """Returns the file descriptor; the lock is held until it is closed in every process that inherits it."""
        return self._file.fileno()

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def is_alive(folder: Path, launcher: str) -> bool:
    """Returns whether a launcher, possibly of another machine, still holds its lock."""
    try:
        with (folder / launcher).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
