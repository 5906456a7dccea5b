"""Inputs from image files: decoded and resized when a batch needs them, by worker processes or here.

An image is resized to a square as a whole, whatever its own proportions: a crop would cut off what its caption speaks
of. Gray, CMYK and 16-bit images become RGB. What can't be read (a file of no bytes, cut short, no image, or one so
huge that Pillow takes it for an attack) is skipped and counted, or stops the run with a sentence.

Shapes: M images of a split, B of a batch, K of them that can be read, S side in pixels.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import UserError
from datamodules.images.augmentation import Albumentations
from datamodules.images.image_files import open_image
from datamodules.loader import Batch


@dataclass
class ImageFileInputs:
    """Images of a split, decoded when they are asked for.

    Args:
        files: of the M images.
        size: S, of the images that come out.
        skip: leave out images that can't be read, or else stop at the first.
        pipeline: transforms the images, which it gets at `decode_size`, and gives them back at `size`.
        decode_size: side in pixels that images are resized to before the pipeline; None takes `size`.
    """

    files: Sequence[Path]
    size: int
    skip: bool
    pipeline: Albumentations | None = None
    decode_size: int | None = None
    unreadable: Tensor = field(init=False)  # (M,) bool, seen by all worker processes

    def __post_init__(self) -> None:
        self.unreadable = torch.zeros(len(self.files), dtype=torch.bool).share_memory_()

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (K, 3, S, S) uint8 and their places in the batch (K,) int64.

        Raises:
            ValueError: an image that can't be read and is not to be skipped, a batch in which none can be read, or a
                pipeline that fails or gives back another size.
        """
        pixels, kept = [], []
        for place, i in enumerate(batch.indices.tolist()):
            try:
                pixels.append(read_square(self.files[i], self.decode_size or self.size))
                kept.append(place)
            except ValueError as error:
                if not self.skip:
                    raise
                if not self.unreadable[i]:
                    self.unreadable[i] = True
                    warnings.warn(f"{error} It is skipped.", stacklevel=2)
        if not pixels:
            raise UserError(
                f"None of the {len(batch.indices)} images of a batch can be read, the first of them "
                f"{self.files[int(batch.indices[0])]}; mend the image files."
            )
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        if self.pipeline is not None:
            images = self.pipeline(images, batch)
        if images.shape[1:] != (3, self.size, self.size):
            raise UserError(
                f"The images have shape {tuple(images.shape[1:])} after augmentation; they must have "
                f"{(3, self.size, self.size)}: end the albumentations pipeline with a RandomCrop or Resize to that "
                "size, or set image_size to what it gives."
            )
        return images, torch.tensor(kept)


def read_square(file: Path, size: int, resample: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """One file of any size and color model as (S, S, 3) uint8.

    Raises:
        ValueError: a file that is no image, is cut short or is too huge.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # a photograph of 90 to 180 megapixels
        return np.asarray(open_image(file, "RGB").resize((size, size), resample))
