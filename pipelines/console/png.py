"""Writes a picture as a PNG file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def write_png(picture: "np.ndarray[Any, Any]", file: Path) -> None:
    """Writes a picture so that the file is there whole or not at all, and replaces an older one.

    Raises:
        OSError: the folder can't be written.
    """
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        Image.fromarray(picture).save(part, format="PNG")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
