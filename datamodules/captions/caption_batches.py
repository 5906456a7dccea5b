"""Fetches batches of images with captions, one sample a caption in training, one an image in evaluation.

The inputs of the images, pixels or features of a frozen network, come from an `InputSource`. An image that can't be
read and is to be skipped is left out of its batch.

The fetchers are classes rather than closures, so that worker processes that don't fork can unpickle them.

Shapes: N captions, M images of a split, B of a batch, L longest caption in words, T longest in the batch, END included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from common.errors import UserError
from common.messages.counting import count
from common.vocabulary import PAD
from datamodules.files.given_images import GivenImages
from datamodules.images.image_files import read_given_images
from datamodules.loader import Batch


class InputSource(Protocol):
    """Fetches the inputs of a batch's images by their indices in the split."""

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns inputs (K, …) of the K ≤ B readable images, and their indices in the batch, (K,) int64."""
        ...


@dataclass
class StoredInputs:
    """Inputs held in memory.

    Args:
        stored: Inputs of the split's images, (M, …).
    """

    stored: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the batch's inputs (B, …) and all indices in the batch, (B,)."""
        return self.stored.index_select(0, batch.indices), torch.arange(len(batch.indices))


@dataclass
class TrainingBatches:
    """Fetches training batches, in which one sample is one caption with its image.

    Args:
        inputs: Source of the images' inputs.
        images: Index of each caption's image in the split, (N,) int64.
        tokens: Ids START w₁ … wₙ END PAD … of each caption, (N, L + 2).
    """

    inputs: InputSource
    images: Tensor
    tokens: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns inputs (B, …) and tokens (B, T + 1) int64."""
        inputs, samples = readable(self.inputs, batch, self.images)
        return inputs, trimmed(self.tokens[samples])


@dataclass
class EvaluationBatches:
    """Fetches evaluation batches, in which one sample is one image with all its captions.

    Args:
        inputs: Source of the images' inputs.
        tokens: Ids of each image's first caption, (M, L + 2).
        captions: All captions of each image.
    """

    inputs: InputSource
    tokens: Tensor
    captions: Sequence[list[str]]

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, list[list[str]]]:
        """Returns inputs (B, …), tokens (B, T + 1) int64 and the references, B lists of captions."""
        inputs, indices = readable(self.inputs, batch, torch.arange(len(self.captions)))
        return inputs, trimmed(self.tokens[indices]), [self.captions[i] for i in indices.tolist()]


@dataclass
class ImageFileBatches:
    """Fetches the user's image files for prediction.

    Args:
        given: Image files.
        shape: Shape (C, H, W) that the images are resized to.
    """

    given: GivenImages
    shape: tuple[int, int, int]

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns images (B, C, H, W) uint8, black if unreadable, and their indices in `given.files`, (B,)."""
        return read_given_images(self.given, batch.indices, self.shape), batch.indices


def readable(inputs: InputSource, batch: Batch, images: Tensor) -> tuple[Tensor, Tensor]:
    """Fetches the inputs of a batch without the images that can't be read.

    If none of them can be, the samples that follow in the split take their place: a step needs a sample.

    Args:
        inputs: Source of the images' inputs.
        batch: Samples of the split.
        images: Index of each sample's image, (N,) int64.

    Returns:
        Inputs (K, …), K ≥ 1, and the indices of their samples, (K,).

    Raises:
        ValueError: If no image of the split can be read.
    """
    for _ in range(len(images)):
        fetched, kept = inputs(replace(batch, indices=images[batch.indices]))
        if len(kept):
            return fetched, batch.indices[kept]
        batch = replace(batch, indices=(batch.indices + 1) % len(images))
    raise UserError(
        f"None of the {count(len(images.unique()), 'image')} of a split can be read; repair the image files."
    )


def trimmed(tokens: Tensor) -> Tensor:
    """Returns tokens (B, L + 2) without the columns that contain only PAD: (B, T + 1) int64."""
    longest = int(tokens.ne(PAD).sum(1).max())
    return tokens[:, :longest].long()
