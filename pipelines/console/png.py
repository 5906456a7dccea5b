"""Writes pictures as PNG files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.atomic_files import atomic_write

if TYPE_CHECKING:
    import numpy as np


def write_png(picture: "np.ndarray[Any, Any]", file: Path) -> None:
    """Writes a picture atomically, replacing an older file.

    Raises:
        OSError: If the folder is not writable.
    """
    from PIL import Image

    with atomic_write(file) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
