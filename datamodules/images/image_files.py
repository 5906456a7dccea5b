"""Reads image files: finds them in folders, decodes them and resizes them to the size that a model takes.

An image is resized as a whole, whatever its aspect ratio, since a crop would cut off what its caption is about. Gray,
CMYK and 16-bit images become RGB. A file that can't be read (empty, truncated, no image, or so large that Pillow takes
it for a decompression bomb) is skipped and counted, or stops the run with one sentence.

Shapes: M images of a split, B of a batch, K of them that can be read, C channels, H×W pixels, S pixels of a side.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from common.errors import UserError
from datamodules.images.augmentation import Albumentations
from datamodules.loader import Batch


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the files given, and all files with an image's suffix in the folders given, sorted within each folder.

    Raises:
        ValueError: If there are no paths, a path does not exist, or a folder has no images.
    """
    if not paths:
        raise UserError("No images were given; set images to image files or folders.")
    files: list[Path] = []
    # Pillow can only write some formats, PDF among them.
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    for path in map(Path, paths):
        if path.is_dir():
            images = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
            if not images:
                raise UserError(f"{path} holds no image files; give a folder with PNG, JPEG or other images in it.")
            files += images
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path} does not exist; give image files or folders that hold some.")
    return files


def open_image(file: Path, mode: str) -> Image.Image:
    """Decodes a file of any color model to Pillow's `mode`, L or RGB, the right way up.

    Raises:
        ValueError: If the file is not an image or is truncated.
    """
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)  # cameras store the sensor's view and record how they were held
            if upright.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255 instead of scaling them
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert(mode)
    # Pillow reports damage within a file in many ways; a broken PNG is a SyntaxError.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} can't be read as an image ({error}); remove it or give another file.") from error


def read_images(files: Sequence[Path], shape: tuple[int, int, int]) -> Tensor:
    """Decodes files of any size and color model and resizes them to `shape` (C, H, W): (B, C, H, W) uint8.

    Raises:
        ValueError: If a file is not an image or is truncated.
    """
    channels, height, width = shape
    arrays = []
    for file in files:
        image = open_image(file, "L" if channels == 1 else "RGB")
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        arrays.append(np.asarray(resized).reshape(height, width, channels))
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def read_square(file: Path, size: int, resample: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """Decodes one file of any size and color model and resizes it to (S, S, 3) uint8.

    Raises:
        ValueError: If the file is not an image, is truncated or is too large.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a photograph of 90 to 180 megapixels
        return np.asarray(open_image(file, "RGB").resize((size, size), resample))


@dataclass
class ImageFileInputs:
    """Decodes the images of a split when a batch needs them, in a worker process or in this one.

    Args:
        files: Paths of the M images.
        size: S, the side in pixels of the images returned.
        skip: Whether to leave out images that can't be read; otherwise the first one raises an error.
        pipeline: Transforms images of `decode_size` to images of `size`; None leaves them.
        decode_size: Side in pixels to which images are resized before the pipeline; None takes `size`.
    """

    files: Sequence[Path]
    size: int
    skip: bool
    pipeline: Albumentations | None = None
    decode_size: int | None = None
    unreadable: Tensor = field(init=False)  # (M,) bool, shared by all worker processes

    def __post_init__(self) -> None:
        self.unreadable = torch.zeros(len(self.files), dtype=torch.bool).share_memory_()

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns images (K, 3, S, S) uint8 and their positions in the batch, (K,) int64.

        Raises:
            ValueError: If an image can't be read and `skip` is false, no image of the batch can be read, or the
                pipeline fails or returns another size.
        """
        pixels, positions = [], []
        for position, i in enumerate(batch.indices.tolist()):
            try:
                pixels.append(read_square(self.files[i], self.decode_size or self.size))
                positions.append(position)
            except ValueError as error:
                if not self.skip:
                    raise
                if not self.unreadable[i]:
                    self.unreadable[i] = True
                    warnings.warn(f"{error} It is skipped.", stacklevel=2)
        if not pixels:
            raise UserError(
                f"None of the {len(batch.indices)} images of a batch can be read, the first of them "
                f"{self.files[int(batch.indices[0])]}; repair the image files."
            )
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        if self.pipeline is not None:
            images = self.pipeline(images, batch)
        if images.shape[1:] != (3, self.size, self.size):
            raise UserError(
                f"The images have shape {tuple(images.shape[1:])} after augmentation; they must have "
                f"{(3, self.size, self.size)}: end the albumentations pipeline with a RandomCrop or Resize to that "
                "size, or set image_size to the pipeline's size."
            )
        return images, torch.tensor(positions)
