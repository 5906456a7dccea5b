"""Features instead of pixels: HOG, hue and color histograms, concatenated, cached for each data set and standardized.

    x' = (x − m) / s        m, s: mean and standard deviation of each feature over the training split; x' = 0 if s = 0

Source: https://cs231n.github.io/assignments2024/assignment1/ (higher-level representations: image features)

    python -m pipelines.train fit --config features

All features of a data set are cached in one file, `<root>/features/<digest>.npy`. The digest covers the images, the
names of the features and `VERSION`, so that any change of them leads to a new file.

Shapes: N images of a data set, B of a batch, C channels, H×W pixels, D features.
"""

import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common.atomic_files import atomic_write, remove_abandoned
from common.errors import UserError
from datamodules.images.augmentation import Flip, draw_mirrored
from datamodules.images.color_histograms import color_histogram, hue_histogram
from datamodules.images.hog import hog
from datamodules.loader import Batch

FeatureName = Literal["hog", "hue", "color"]

_FUNCTIONS: dict[FeatureName, Callable[[Tensor], Tensor]] = {
    "hog": hog,
    "hue": hue_histogram,
    "color": color_histogram,
}
VERSION = 1  # of the results of these functions: raise it with every change of them or of their defaults
_TILE = 200  # images at a time, whose intermediate results fit into the cache of a core
_CHUNK = 4096  # images whose features are converted to float64 at a time while fitting
_CHECKSUM_BYTES = 4
_NO_VARIATION = 1e-6  # standard deviation (of features in [0, 1]) below which a feature counts as constant


class Features:
    """Computes standardized features of uint8 images; it replaces `Preprocessing` in a data module.

    Args:
        names: Names of the features: one or more of hog, hue and color, each once.

    Raises:
        ValueError: If there is no name, an unknown one, or one given twice.
    """

    def __init__(self, names: Sequence[FeatureName]) -> None:
        known = get_args(FeatureName)
        if not names or len(set(names)) < len(names) or not set(names) <= set(known):
            raise UserError(f"features is {list(names)}; it must be one or more of {', '.join(known)}, each once.")
        self.names = tuple(names)
        self.fitted: dict[str, Tensor] = {}  # scale and shift, (D,) each; empty before `fit`

    @property
    def method(self) -> str:
        """Name of the preprocessing in checkpoints: the features' names joined by +."""
        return "+".join(self.names)

    def compute(self, images: Tensor) -> Tensor:
        """Computes features before they are standardized: (B, C, H, W) uint8 to (B, D) float32 in [0, 1].

        Raises:
            ValueError: If the features include hue and the images are grayscale.
        """
        return torch.cat([_FUNCTIONS[name](images) for name in self.names], 1)

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Returns the shape of the features, (D,), of an image of shape (C, H, W)."""
        return tuple(self.compute(torch.zeros(1, *image_shape, dtype=torch.uint8)).shape[1:])

    def fit(self, features: Tensor) -> None:
        """Fits mean and standard deviation to the training split: its features (N, D), or uint8 images (N, C, H, W)."""
        if features.ndim == 4:
            features = compute_all(self, features)
        mean = torch.stack([chunk.double().sum(0) for chunk in features.split(_CHUNK)]).sum(0) / len(features)
        squares = torch.stack([(chunk.double() - mean).square().sum(0) for chunk in features.split(_CHUNK)])
        std = (squares.sum(0) / len(features)).sqrt()
        scale = torch.where(std > _NO_VARIATION, 1 / std, 0)  # a constant feature becomes 0
        self.fitted = {"scale": scale.float(), "shift": (-mean * scale).float()}

    def __call__(self, batch: Tensor) -> Tensor:
        """Standardizes features (B, D), or those of uint8 images (B, C, H, W): (B, D) float32."""
        fitted = {name: tensor.to(batch.device) for name, tensor in self.fitted.items()}
        features = self.compute(batch) if batch.ndim == 4 else batch
        return torch.addcmul(fitted["shift"], features, fitted["scale"])

    def inverse(self, outputs: Tensor) -> Tensor:
        """Returns the features unchanged, (B, D), since they can't be converted to images."""
        return outputs

    def weights_as_images(self, weights: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
        """Returns the weights unchanged, (M, D), since they can't be converted to images."""
        return weights


@dataclass
class FeatureBatches:
    """Fetches batches of features, of the images or at random of the mirrored images.

    Args:
        stored: Features of the images, (N, 1, D), or of the images and the mirrored images, (N, 2, D).
        labels: Class of each image, (N,) int64.
        flip: How mirrored images are drawn, if their features are stored.
    """

    stored: Tensor
    labels: Tensor
    flip: Flip = True

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the batch's features (B, D) float32 and labels (B,) int64."""
        copies = self.stored.shape[1]
        indices = batch.indices.to(self.labels.device, non_blocking=True)
        rows = indices * copies
        if copies == 2:
            rows = rows + draw_mirrored(batch, self.flip).to(rows.device, non_blocking=True)
        return self.stored.flatten(0, 1).index_select(0, rows), self.labels[indices]


def compute_all(features: Features, images: Tensor) -> Tensor:
    """Computes the features of a whole data set, tile by tile: (N, C, H, W) uint8 to (N, D) float32."""
    result = torch.empty(len(images), *features.output_shape(tuple(images.shape[1:])))  # type: ignore[arg-type]
    tiles = zip(images.split(_TILE), result.split(_TILE), strict=True)
    with tqdm(total=len(images), desc=features.method, unit="image", delay=2, disable=None, leave=False) as progress:
        for tile, part in tiles:
            part.copy_(features.compute(tile))
            progress.update(len(tile))
    return result


def cached_features(features: Features, images: Tensor, folder: Path) -> Tensor:
    """Reads the features of a whole data set from a file in `folder`, or computes and writes them: (N, D) float32.

    Several processes may write the file at once. If it is damaged, the features are computed again; if the folder can't
    be written, they are not cached. Both cause a warning.
    """
    images = images.contiguous()
    key = blake2b(f"{VERSION} {features.method} {tuple(images.shape)}".encode(), digest_size=16)
    key.update(images.numpy().data)
    file = folder / f"{key.hexdigest()}.npy"
    shape = (len(images), *features.output_shape(tuple(images.shape[1:])))  # type: ignore[arg-type]
    if file.exists():
        try:
            return _read(file, shape)
        except Exception as error:  # a damaged header makes numpy and Python's parser raise many types
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            warnings.warn(f"{file} is damaged ({reason}), so the features are computed again.", stacklevel=2)
    result = compute_all(features, images)
    try:
        remove_abandoned(folder)
        with atomic_write(file) as temporary, temporary.open("wb") as stream:
            np.save(stream, result.numpy(), allow_pickle=False)
            stream.write(_checksum(result))
    except OSError as error:
        warnings.warn(
            f"The features can't be written to {folder} ({error.strerror}), so each run computes them.", stacklevel=2
        )
    return result


def _read(file: Path, shape: tuple[int, ...]) -> Tensor:
    """Reads a file of features, (N, D) float32: an .npy file, then the checksum of its values.

    Raises:
        ValueError: If the file has another content.
    """
    with file.open("rb") as stream:
        array = np.load(stream, allow_pickle=False)
        if array.shape != shape or array.dtype != np.float32:
            raise UserError(f"{array.dtype} of shape {array.shape}")
        features = torch.from_numpy(array)
        if stream.read() != _checksum(features):
            raise UserError("wrong checksum")
    return features


def _checksum(features: Tensor) -> bytes:
    return zlib.crc32(features.numpy().data).to_bytes(_CHECKSUM_BYTES, "big")
