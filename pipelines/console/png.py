"""Writes pictures, as PNG files or in the format that a file's name says."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.atomic_files import atomic_write
from common.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF", ".tif": "TIFF",
    ".tiff": "TIFF",
}  # fmt: skip
_OTHERS = (".pdf", ".svg", ".eps", ".ps", ".npy", ".npz", ".txt", ".csv", ".json", ".mp4", ".avi", ".zip", ".html")


def is_picture(file: Path) -> bool:
    """Returns whether a name is that of a picture, rather than of a folder.

    Raises:
        ValueError: If it is that of a file in which pictures are not written, such as samples.pdf.
    """
    suffix = file.suffix.lower()
    if suffix in _OTHERS:
        raise UserError(f"--out is {file}, but pictures are not written as {suffix}; give a name that ends in .png.")
    return suffix in _FORMATS


def write_png(picture: "np.ndarray[Any, Any]", file: Path) -> None:
    """Writes a picture atomically, replacing an older file: in the format of the file's name, else as PNG.

    Raises:
        OSError: If the folder is not writable.
    """
    from PIL import Image

    with atomic_write(file) as temporary:
        Image.fromarray(picture).save(temporary, format=_FORMATS.get(file.suffix.lower(), "PNG"), quality=95)
