"""Image files that a person hands in for prediction: found in folders, decoded, resized to a data set's size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from common.errors import UserError


def find_images(paths: Sequence[str]) -> list[Path]:
    """The files given, and all files with an image's ending in the folders given, sorted within each folder.

    Raises:
        ValueError: nothing given, a path that does not exist, or a folder without images.
    """
    if not paths:
        raise UserError("No images were given; name image files or folders with --images.")
    files: list[Path] = []
    # Some formats, PDF among them, can be written only.
    endings = {ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in endings and file.is_file())
            if not found:
                raise UserError(f"{path} holds no image files; give a folder with PNG, JPEG or other images in it.")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path} does not exist; give image files or folders that hold some.")
    return files


def open_image(file: Path, mode: str) -> Image.Image:
    """Decodes a file of any color model to Pillow's `mode`, L or RGB, the right way up.

    Raises:
        ValueError: a file that is no image or is cut short.
    """
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)  # cameras store the sensor's view and note how it was held
            if upright.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255 instead of scaling them
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert(mode)
    # Pillow reports damage within a file in many ways; a broken PNG is a SyntaxError.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} can't be read as an image ({error}); remove it or give another file.") from error


def read_images(files: Sequence[Path], shape: tuple[int, int, int]) -> Tensor:
    """Decodes files of any size and color model and resizes them to `shape` (C, H, W): (B, C, H, W) uint8.

    Raises:
        ValueError: a file that is no image or is cut short.
    """
    channels, height, width = shape
    arrays = []
    for file in files:
        image = open_image(file, "L" if channels == 1 else "RGB")
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        arrays.append(np.asarray(resized).reshape(height, width, channels))
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
