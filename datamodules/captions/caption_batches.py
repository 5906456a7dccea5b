"""Fetches batches of images with captions: training ones a caption, evaluation ones an image, with all its references.

What a model is given of an image (pixels, or features of a frozen network) comes from an `Inputs`. An image that can't
be read and is to be skipped is left out of its batch.

The fetchers are classes and not closures: where worker processes don't fork, they get them pickled.

Shapes: N captions, M images of a split, B of a batch, L longest caption in words, T longest in the batch, END included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from datamodules.captions.vocabulary import PAD
from datamodules.images.image_files import read_images
from datamodules.loader import Batch


class Inputs(Protocol):
    """Gives the inputs of a batch's images, by their indices in the split."""

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Inputs (K, …) of the K ≤ B images that can be read, and their places in the batch, (K,) int64."""
        ...


@dataclass
class StoredInputs:
    """Inputs that lie in memory.

    Args:
        stored: of the images, (M, …).
    """

    stored: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's inputs (B, …) and all their places."""
        return self.stored.index_select(0, batch.indices), torch.arange(len(batch.indices))


@dataclass
class TrainingBatches:
    """One sample is one caption with its image.

    Args:
        inputs: of the images.
        images: the image of each caption, (N,) int64.
        tokens: START w₁ … wₙ END PAD … of each caption, (N, L + 2).
    """

    inputs: Inputs
    images: Tensor
    tokens: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Inputs (B, …) and tokens (B, T + 1) int64."""
        inputs, kept = self.inputs(replace(batch, indices=self.images[batch.indices]))
        return inputs, trimmed(self.tokens[batch.indices[kept]])


@dataclass
class EvaluationBatches:
    """One sample is one image with all its captions.

    Args:
        inputs: of the images.
        tokens: of each image's first caption, (M, L + 2).
        captions: of each image.
    """

    inputs: Inputs
    tokens: Tensor
    captions: Sequence[list[str]]

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, list[list[str]]]:
        """Inputs (B, …), tokens (B, T + 1) int64 and the references, B lists of captions."""
        inputs, kept = self.inputs(batch)
        indices = batch.indices[kept]
        return inputs, trimmed(self.tokens[indices]), [self.captions[i] for i in indices.tolist()]


@dataclass
class ImageFileBatches:
    """Image files that a person hands in for prediction.

    Args:
        files: of the images.
        shape: (C, H, W) that they are resized to.
    """

    files: Sequence[Path]
    shape: tuple[int, int, int]

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) uint8 and their indices (B,).

        Raises:
            ValueError: a file that is no image.
        """
        return read_images([self.files[i] for i in batch.indices.tolist()], self.shape), batch.indices


def trimmed(tokens: Tensor) -> Tensor:
    """Tokens (B, L + 2) without the columns in which all are PAD: (B, T + 1) int64."""
    longest = int(tokens.ne(PAD).sum(1).max())
    return tokens[:, :longest].long()
