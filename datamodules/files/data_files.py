"""What the readers of data files share: the error for a file that can't be used, and how much a file may hold."""

from pathlib import Path
from typing import Final

from common.errors import UserError

MAX_BYTES: Final = 64 * 2**20
"""The largest file (unpacked) that a reader accepts; the largest official one, MNIST's training images, has 45 MiB."""


class DataFileError(UserError):
    """A data file is missing, damaged, or not what its name says."""


def damaged(path: Path, problem: str, dataset: str | None) -> DataFileError:
    """Says what is wrong with a file, and to get it anew; `dataset` as `pipelines.data download` names it."""
    again = f"run python -m pipelines.data download {dataset}" if dataset else "download it again"
    return DataFileError(f"{path} {problem}; delete it and {again}.")


def unreadable(path: Path, error: OSError, dataset: str | None) -> DataFileError:
    """Says that a file can't be opened. It may be whole, so "delete it" would be bad advice."""
    again = f"run python -m pipelines.data download {dataset}" if dataset else "download it"
    return DataFileError(f"{path} cannot be read ({error.strerror or error}); make it readable or {again}.")


def require(missing: list[str], folder: Path, dataset: str | None) -> None:
    """Raises a `DataFileError` if files are missing from a folder."""
    if missing:
        get = f"run python -m pipelines.data download {dataset}" if dataset else "download the data set"
        names = ", ".join(missing)
        raise DataFileError(f"{names} not found in {folder.absolute()}; {get} or name another data folder.")
