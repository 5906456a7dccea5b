"""Features instead of pixels: HOG and hue histograms side by side, computed once for a data set, then standardized.

    x' = (x − m) / s        m, s: mean and standard deviation of each feature over the training split; x' = 0 if s = 0

Source: https://cs231n.github.io/assignments2024/assignment1/ (higher-level representations: image features)

    python -m pipelines.train fit --config features

All features of a data set are kept in one file, `<root>/features/<digest>.npy`. Its name is a digest of the images, of
which features they are and of `VERSION`, so no change of any of them can meet an old file.

Shapes: N images of a data set, B of a batch, C channels, H×W pixels, D features.
"""

import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common.errors import UserError
from datamodules.images.augmentation import Flip, sides
from datamodules.images.hog import hog
from datamodules.images.hue_histogram import hue_histogram
from datamodules.loader import Batch

FeatureName = Literal["hog", "hue"]

VERSION = 1  # of the numbers that hog and hue_histogram give: raise it with every change of them or of their defaults
_TILE = 200  # images at a time: their intermediate results fit into the cache of a core
_CHUNK = 4096  # images whose features are turned into float64 at a time while fitting
_CHECKSUM_BYTES = 4
_NO_VARIATION = 1e-6  # standard deviation (of features in [0, 1]) below which a feature counts as constant


class Features:
    """Turns uint8 images into standardized features; takes the place of `Preprocessing` in a data module.

    Args:
        names: which features, one or more of hog and hue, each once.

    Raises:
        ValueError: none, an unknown one, or one given twice.
    """

    def __init__(self, names: Sequence[FeatureName]) -> None:
        known = get_args(FeatureName)
        if not names or len(set(names)) < len(names) or not set(names) <= set(known):
            raise UserError(f"features is {list(names)}; give one or more of {', '.join(known)}, each once.")
        self.names = tuple(names)
        self.fitted: dict[str, Tensor] = {}  # scale and shift, (D,) each; empty before `fit`

    @property
    def method(self) -> str:
        """What is done to the images, as checkpoints record it: the features' names joined by +."""
        return "+".join(self.names)

    def compute(self, images: Tensor) -> Tensor:
        """Features before they are standardized: (B, C, H, W) uint8 to (B, D) float32 in [0, 1].

        Raises:
            ValueError: hue of images in gray.
        """
        return torch.cat([hog(images) if name == "hog" else hue_histogram(images) for name in self.names], 1)

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Shape of the features, (D,), of an image of shape (C, H, W)."""
        return tuple(self.compute(torch.zeros(1, *image_shape, dtype=torch.uint8)).shape[1:])

    def fit(self, features: Tensor) -> None:
        """Fits mean and standard deviation to the training split: its features (N, D), or uint8 images (N, C, H, W)."""
        if features.ndim == 4:
            features = compute_all(self, features)
        mean = torch.stack([chunk.double().sum(0) for chunk in features.split(_CHUNK)]).sum(0) / len(features)
        squares = torch.stack([(chunk.double() - mean).square().sum(0) for chunk in features.split(_CHUNK)])
        std = (squares.sum(0) / len(features)).sqrt()
        scale = torch.where(std > _NO_VARIATION, 1 / std, 0)  # a constant feature says nothing
        self.fitted = {"scale": scale.float(), "shift": (-mean * scale).float()}

    def __call__(self, batch: Tensor) -> Tensor:
        """Standardizes features (B, D), or those of uint8 images (B, C, H, W): (B, D) float32."""
        fitted = {name: tensor.to(batch.device) for name, tensor in self.fitted.items()}
        features = self.compute(batch) if batch.ndim == 4 else batch
        return torch.addcmul(fitted["shift"], features, fitted["scale"])

    def inverse(self, outputs: Tensor) -> Tensor:
        """The features as they are, (B, D): no image can be made of them."""
        return outputs

    def weights_as_images(self, weights: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
        """The weights as they are, (M, D): no image can be made of them."""
        return weights


@dataclass
class FeatureBatches:
    """Fetches batches of features, with two copies of each image a random one of them.

    Args:
        stored: (N, 1, D), or (N, 2, D) where the second copy is that of the mirrored images.
        labels: (N,) int64.
        flip: how the copies are drawn, if there are two.
    """

    stored: Tensor
    labels: Tensor
    flip: Flip = True

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's features (B, D) float32 and labels (B,) int64."""
        copies = self.stored.shape[1]
        indices = batch.indices.to(self.labels.device, non_blocking=True)
        rows = indices * copies
        if copies == 2:
            rows = rows + sides(batch, self.flip).to(rows.device, non_blocking=True)
        return self.stored.flatten(0, 1).index_select(0, rows), self.labels[indices]


def compute_all(features: Features, images: Tensor) -> Tensor:
    """Features of a whole data set, tile by tile: (N, C, H, W) uint8 to (N, D) float32."""
    found = torch.empty(len(images), *features.output_shape(tuple(images.shape[1:])))  # type: ignore[arg-type]
    tiles = zip(images.split(_TILE), found.split(_TILE), strict=True)
    with tqdm(total=len(images), desc=features.method, unit="image", delay=2, disable=None, leave=False) as progress:
        for tile, place in tiles:
            place.copy_(features.compute(tile))
            progress.update(len(tile))
    return found


def cached(features: Features, images: Tensor, folder: Path) -> Tensor:
    """`compute_all`, or what it gave for the same images before, read from `folder`.

    Several processes may do this at once: each writes a file of its own, and the last to finish gives it its name. A
    damaged file is computed anew, and a folder that can't be written to is done without, each with a warning.
    """
    images = images.contiguous()
    key = blake2b(f"{VERSION} {features.method} {tuple(images.shape)}".encode(), digest_size=16)
    key.update(images.numpy().data)
    file = folder / f"{key.hexdigest()}.npy"
    shape = (len(images), *features.output_shape(tuple(images.shape[1:])))  # type: ignore[arg-type]
    if file.exists():
        try:
            return _read(file, shape)
        except (OSError, ValueError, EOFError) as error:
            warnings.warn(f"{file} is damaged ({error}), so the features are computed anew.", stacklevel=2)
    found = compute_all(features, images)
    temporary = file.with_name(f".{file.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.save(stream, found.numpy(), allow_pickle=False)
            stream.write(_checksum(found))
        temporary.replace(file)
    except OSError as error:
        warnings.warn(
            f"The features can't be kept in {folder} ({error.strerror}), so each run computes them.", stacklevel=2
        )
        if temporary.exists():
            temporary.unlink()
    return found


def _read(file: Path, shape: tuple[int, ...]) -> Tensor:
    """A file of features, (N, D) float32: an .npy file, then the checksum of its values.

    Raises:
        ValueError: anything else in the file.
    """
    with file.open("rb") as stream:
        array = np.load(stream, allow_pickle=False)
        if array.shape != shape or array.dtype != np.float32:
            raise UserError(f"{array.dtype} of shape {array.shape}")
        found = torch.from_numpy(array)
        if stream.read() != _checksum(found):
            raise UserError("wrong checksum")
    return found


def _checksum(features: Tensor) -> bytes:
    return zlib.crc32(features.numpy().data).to_bytes(_CHECKSUM_BYTES, "big")
