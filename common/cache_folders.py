"""Where results computed from data are kept: beside the data, or in the user's cache folder if that may only be read.

The user's cache folder is `$XDG_CACHE_HOME/lightning-231n`, or `~/.cache/lightning-231n`. The name of a file has to
identify its content, since all data sets share that folder.
"""

import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from common.atomic_files import remove_abandoned


def cache_folders(beside_data: Path) -> list[Path]:
    """Returns the folders in which to look for a result, the one beside the data first."""
    return [beside_data, user_cache() / beside_data.name]


def user_cache() -> Path:
    """Returns the user's cache folder, which may not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lightning-231n"


def writable_folder(folders: Sequence[Path]) -> Path | None:
    """Returns the first folder that can be written, making it if necessary; None if there is none.

    It warns if that is not the first one, and removes what killed processes left half-written in the folder.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):  # permissions alone don't tell, on a network's disk for one
                pass
        except OSError:
            continue
        remove_abandoned(folder)
        if folder != folders[0]:
            warnings.warn(f"{folders[0]} can't be written, so its files are kept in {folder}.", stacklevel=2)
        return folder
    return None
