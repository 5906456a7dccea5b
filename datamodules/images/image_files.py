"""Reads image files and resizes them to the size that a model takes.

    stretch  resized as a whole, whatever its aspect ratio: a crop would cut off what a caption is about
    crop     the largest centered window of the aspect ratio H:W, resized
    pad      resized to fit into H×W, centered on black

How a file is decoded to grayscale or RGB: `datamodules/files/image_decoding.py`. A file that can't be read is skipped
and counted, or stops the run with one sentence.

Shapes: M images of a split, B of a batch, K of them that can be read, C channels, H×W pixels, S pixels of a side.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from common.errors import UserError
from datamodules.files.given_images import GivenImages
from datamodules.files.image_decoding import open_image
from datamodules.images.augmentation import Albumentations
from datamodules.loader import Batch

Resize = Literal["stretch", "crop", "pad"]


def read_images(
    files: Sequence[Path], shape: tuple[int, int, int], invert: bool = False, resize: Resize = "stretch"
) -> Tensor:
    """Decodes files of any size and color model and resizes them to `shape` (C, H, W): (B, C, H, W) uint8.

    Args:
        files: Image files.
        shape: Shape (C, H, W) of the results.
        invert: Whether to invert the images, such as dark ink on white paper.
        resize: How an image of another aspect ratio becomes one of H×W pixels.

    Raises:
        ValueError: If a file can't be read as an image.
    """
    return _channels_first(np.stack([read_resized(file, shape, invert, resize) for file in files]))


def read_given_images(
    given: GivenImages,
    indices: Tensor,
    shape: tuple[int, int, int],
    invert: bool = False,
    resize: Resize = "stretch",
) -> Tensor:
    """Decodes files by their indices (B,), black where a file can't be read: (B, C, H, W) uint8; as `read_images`."""
    channels, height, width = shape
    decode = partial(read_resized, shape=shape, invert=invert, resize=resize)
    return _channels_first(given.read(indices.tolist(), decode, (height, width, channels)))


def read_resized(
    file: Path, shape: tuple[int, int, int], invert: bool = False, resize: Resize = "stretch", draft: bool = False
) -> np.ndarray:
    """Decodes one file and resizes it to `shape` (C, H, W): (H, W, C) uint8.

    Args:
        file: Image file.
        shape: Shape (C, H, W) of the image, channels last in the result.
        invert: Whether to invert the image.
        resize: How an image of another aspect ratio becomes one of H×W pixels.
        draft: Whether to decode a large JPEG at a fraction of its size that is still large enough, several times as
            fast; pixels then differ slightly from those of the whole image.

    Raises:
        ValueError: If the file can't be read as an image.
    """
    channels, height, width = shape
    image = open_image(file, "L" if channels == 1 else "RGB", max(height, width) if draft else None)
    image = ImageOps.invert(image) if invert else image
    if resize == "pad":
        image = ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC)
    elif resize == "crop":
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    else:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, channels)


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def read_square(file: Path, size: int, resample: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """Decodes one file of any size and color model and resizes it to (S, S, 3) uint8.

    Raises:
        ValueError: If the file can't be read as an image.
    """
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
            ValueError: If an image can't be read and `skip` is false, or the pipeline fails or returns another size.
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
            return torch.empty(0, 3, self.size, self.size, dtype=torch.uint8), torch.tensor(
                positions, dtype=torch.int64
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
