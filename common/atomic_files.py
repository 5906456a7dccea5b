"""Files that appear whole or not at all, made by one process at a time, and refusals to write as sentences."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from filelock import FileLock

from common.errors import UserError


class DownloadError(UserError):
    """A file cannot be had from any mirror, or cannot be stored."""


def all_at_once(folder: Path, there: Callable[[], bool], make: Callable[[Path], None]) -> Path:
    """Fills a folder in such a way that all of its new files appear at once, or none; one process at a time.

    Args:
        folder: the folder to make or to add to.
        there: whether nothing is left to do, asked when no other process is at it.
        make: writes the files into a temporary folder beside it.

    Returns:
        `folder`.

    Raises:
        DownloadError: the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    with locked(folder.with_name(f".{folder.name}.lock")):
        if there():
            return folder
        with writing(temporary):
            shutil.rmtree(temporary, ignore_errors=True)  # a killed process may have left one behind
            temporary.mkdir()
        try:
            make(temporary)
            with writing(folder):
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
    """Waits until no other process holds this lock file, which is made if it does not exist.

    Raises:
        DownloadError: its folder cannot be written, or its file system has no locks.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire()
        except NotImplementedError as error:
            raise OSError("its file system has no file locks") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to write into a `DownloadError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise DownloadError(
                f"{path.absolute()} cannot be written because the disk or quota is full; free some space and run the "
                "same command again, which continues an unfinished download."
            ) from error
        raise DownloadError(
            f"{path.absolute()} cannot be written ({error.strerror or error}); make its folder writable or name "
            "another data folder."
        ) from error
