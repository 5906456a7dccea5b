"""Writes to a folder of data files that several processes may share: locks, folders that appear complete, and errors.

Every refusal of the operating system to write becomes a `DownloadError`, one sentence that says what to do.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from common.errors import UserError


class DownloadError(UserError):
    """A file can't be downloaded from any mirror, or can't be stored."""


def fill_folder(folder: Path, is_complete: Callable[[], bool], write_files: Callable[[Path], None]) -> Path:
    """Makes a folder or adds files to it, so that all new files appear at once or none; one process at a time.

    Args:
        folder: The folder to make or to add to.
        is_complete: Tells whether nothing is left to do; called while no other process fills the folder.
        write_files: Writes the files into a temporary folder, which lies beside `folder`.

    Returns:
        `folder`.

    Raises:
        DownloadError: If the folder can't be written.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    with locked(folder.with_name(f".{folder.name}.lock")):
        if is_complete():
            return folder
        with storage_errors(temporary):
            shutil.rmtree(temporary, ignore_errors=True)  # a killed process may have left one
            temporary.mkdir()
        try:
            write_files(temporary)
            with storage_errors(folder):
                if folder.is_dir():
                    for path in temporary.iterdir():
                        path.replace(folder / path.name)
                else:
                    temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process holds a lock file, then holds it; the file is made if it does not exist.

    Raises:
        DownloadError: If the lock file can't be written, or its file system has no locks.
    """
    from filelock import FileLock

    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, mode=0o666)  # another user may come to need it
        try:
            lock.acquire()
        except NotImplementedError as error:
            raise OSError("its file system has no file locks") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write a path into a `DownloadError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise DownloadError(
                f"{path.absolute()} can't be written because the disk or quota is full; free some space and run the "
                "same command again, which continues an unfinished download."
            ) from error
        raise DownloadError(
            f"{path.absolute()} can't be written ({error.strerror or error}); make its folder writable or name "
            "another data folder."
        ) from error
