"""The errors of all readers of data files, and the largest size of a file."""

from pathlib import Path
from typing import Final

from common.commands import command
from common.errors import UserError

MAX_BYTES: Final = 64 * 2**20
"""The largest file (unpacked) that a reader accepts; the largest official one, MNIST's training images, has 45 MiB."""


class DataFileError(UserError):
    """A data file is missing or damaged, or has another content than its name says."""


def damaged(path: Path, problem: str, dataset: str | None) -> DataFileError:
    """Returns the error of a damaged file, to be downloaded again; `dataset` as `pipelines.data download` names it."""
    again = f"run {command('data', 'download', dataset)}" if dataset else "download it again"
    return DataFileError(f"{path} {problem}; delete it and {again}.")


def unreadable(path: Path, error: OSError, dataset: str | None) -> DataFileError:
    """Returns the error of a file that can't be opened; it may be intact, so the message does not say to delete it."""
    again = f"run {command('data', 'download', dataset)}" if dataset else "download it"
    return DataFileError(f"{path} can't be read ({error.strerror or error}); make it readable or {again}.")


def require(missing: list[str], folder: Path, dataset: str | None) -> None:
    """Checks that no files are missing from a folder.

    Raises:
        DataFileError: If `missing` has any names.
    """
    if missing:
        get = f"run {command('data', 'download', dataset)}" if dataset else "download the data set"
        names = ", ".join(missing)
        raise DataFileError(f"{names} not found in {folder.absolute()}; {get} or name another data folder.")
