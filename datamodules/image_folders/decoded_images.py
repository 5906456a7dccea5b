"""Images that are decoded when they are indexed, a stand-in for a tensor of them that would not fit in memory.

Shapes: N images, M of them, C channels, H×W pixels.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.machine.cores import usable_cores
from common.messages.counting import count
from datamodules.images.image_files import Resize, read_resized
from datamodules.loader import Batch

_IN_THREADS = 64  # images from which threads decode them: Pillow holds no lock while it decodes
_NAMED = 5  # unreadable files that a message names; the others are counted


@dataclass
class DecodedImages:
    """Image files as a sequence of uint8 images; indexing decodes them.

    An image that can't be read is black, marked in `unreadable`, and reported once.

    Args:
        files: The N image files.
        shape: Shape (C, H, W) of every image.
        resize: How an image of another aspect ratio becomes one of H×W pixels.

    Attributes:
        unreadable: Which of the files could not be read, (N,) bool, shared by all worker processes.
    """

    files: Sequence[Path]
    image_shape: tuple[int, int, int]
    resize: Resize = "crop"
    unreadable: Tensor = field(init=False)

    device = torch.device("cpu")

    def __post_init__(self) -> None:
        self.unreadable = torch.zeros(len(self.files), dtype=torch.bool).share_memory_()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (N, C, H, W) of the tensor of all images."""
        return (len(self.files), *self.image_shape)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: int | slice | Tensor) -> Tensor:
        """Decodes images: (C, H, W) uint8 of one index, (M, C, H, W) of a slice or of indices (M,)."""
        if isinstance(indices, int):
            if not -len(self) <= indices < len(self):
                raise IndexError(indices)  # ends an iteration
            return self.index_select(0, torch.tensor([indices % len(self)]))[0]
        return self.index_select(0, torch.arange(len(self))[indices])

    def __getattr__(self, name: str) -> Any:
        """Refuses what only a tensor has, in a sentence."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise UserError(
            f"The {count(len(self), 'image')} are decoded batch by batch, and this needs all of them in memory; set "
            "max_memory to a larger number of GiB, or size to a smaller number of pixels."
        )

    def index_select(self, dimension: int, indices: Tensor) -> Tensor:
        """Decodes images by their indices (M,): (M, C, H, W) uint8, black where one can't be read."""
        channels, height, width = self.image_shape
        images = np.zeros((len(indices), height, width, channels), np.uint8)
        errors: dict[int, UserError] = {}

        def decode(row_and_index: tuple[int, int]) -> None:
            row, index = row_and_index
            try:
                images[row] = read_resized(self.files[index], self.image_shape, resize=self.resize, draft=True)
            except UserError as error:
                errors[index] = error

        numbered = list(enumerate(indices.tolist()))
        if len(numbered) >= _IN_THREADS and torch.utils.data.get_worker_info() is None:
            with ThreadPoolExecutor(usable_cores()) as threads:
                list(threads.map(decode, numbered))
        else:
            for pair in numbered:
                decode(pair)
        self._report({index: error for index, error in sorted(errors.items()) if not self.unreadable[index]})
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def _report(self, errors: dict[int, UserError]) -> None:
        if not errors:
            return
        self.unreadable[list(errors)] = True
        named = [str(error).partition("; remove it")[0] for error in list(errors.values())[:_NAMED]]
        more = f"; and {len(errors) - _NAMED:,} more" if len(errors) > _NAMED else ""
        warnings.warn(
            f"{count(len(errors), 'image')} can't be read and {'is' if len(errors) == 1 else 'are'} left out: "
            f"{'; '.join(named)}{more}",
            stacklevel=2,
        )


@dataclass
class ReadableBatches:
    """Leaves the images that can't be read out of the batches of a function.

    Args:
        fetch: Function that returns the inputs (B, …) and labels (B,) of a batch.
        images: The images that it decodes.
    """

    fetch: Callable[[Batch], tuple[Tensor, Tensor]]
    images: DecodedImages

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the inputs and labels of the K ≥ 1 readable images of the batch.

        If none of them can be read, the images that follow in the split take their place: a step needs an image.

        Raises:
            ValueError: If no image of the split can be read.
        """
        for _ in range(len(self.images)):
            inputs, labels = self.fetch(batch)
            readable = ~self.images.unreadable[batch.indices]
            if readable.all():
                return inputs, labels
            if readable.any():
                return inputs[readable], labels[readable]
            batch = replace(batch, indices=(batch.indices + 1) % len(self.images))
        raise UserError(f"None of the {count(len(self.images), 'image')} of a split can be read; repair the files.")


@dataclass
class DecodedBatches:
    """Fetches images without augmentation.

    Args:
        images: Images of a split.
        labels: Class of each image, (N,) int64.
    """

    images: DecodedImages
    labels: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the batch's images (B, C, H, W) uint8 and labels (B,)."""
        return self.images.index_select(0, batch.indices), self.labels[batch.indices]
