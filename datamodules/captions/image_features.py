"""Features of image files from a frozen network, computed once and cached on disk in half precision.

A captioner with a frozen backbone (K. Xu et al., "Show, attend and tell", arXiv 1502.03044) then reads a few hundred
kilobytes an image instead of decoding it and running the network.

The cache is `FOLDER/<digest>.npy`, float16, memory-mapped, followed by one byte an image: whether it could be read. The
digest covers the network, its weights, the preprocessing, and names, sizes and modification times of the image files,
so that any change of them leads to a new file. A file gets its name when it is complete. One process computes it while
others that need it wait. COCO's grid of 7×7 positions and 1,280 features takes 15 GB; old files may be deleted.

Shapes: N image files, M images of a split, B in a batch, L positions of the grid, D features.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from common.atomic_files import atomic_write
from common.errors import UserError
from datamodules.captions.coco_files import BadSamples
from datamodules.captions.frozen_backbone import FrozenBackbone
from datamodules.files.given_images import GivenImages
from datamodules.loader import Batch, BatchLoader

_BATCH = 64
_LARGEST = 65504.0  # of float16


@dataclass
class StoredFeatures:
    """Fetches inputs from a file of features, opened anew for each batch, which costs next to nothing.

    Args:
        file: Features of N images.
        rows: Rows of the split's M images in the file, (M,) int64.
    """

    file: Path
    rows: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns features (B, L, D) or (B, D) float16, and all indices in the batch, (B,)."""
        stored = np.load(self.file, mmap_mode="r", allow_pickle=False)
        return torch.from_numpy(stored[self.rows[batch.indices].numpy()]), torch.arange(len(batch.indices))


@dataclass
class FeaturesOfFiles:
    """Computes features of the user's image files for prediction.

    Args:
        given: Image files.
        backbone: Network that computes the features.
    """

    given: GivenImages
    backbone: FrozenBackbone

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns features (B, L, D) or (B, D), of a black image if unreadable, and indices in `given.files`, (B,)."""
        size = self.backbone.size
        pixels = self.given.read(batch.indices.tolist(), self.backbone.read, (size, size, 3))
        return self.backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2)), batch.indices


def store_features(
    backbone: FrozenBackbone,
    files: Sequence[Path],
    folder: Path,
    bad: BadSamples,
    device: torch.device,
    num_workers: int,
) -> tuple[Path, Tensor]:
    """Finds the file with the features of image files in a folder, or computes it.

    Args:
        backbone: Network that computes the features.
        files: N image files.
        folder: Folder of the features, created if it does not exist.
        bad: Policy for images that can't be read.
        device: Device that computes the features.
        num_workers: Number of processes that decode images.

    Returns:
        The file, and which of its rows belong to readable images, (N,) bool.

    Raises:
        ValueError: If an image can't be read and the policy is to stop, or the folder can't be written.
    """
    file = folder / f"{_digest(backbone, files)}.npy"
    shape = (len(files), *backbone.shape)
    if (readable := _readable(file, shape)) is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{file.stem}.lock"):
                if (readable := _readable(file, shape)) is None:  # else another process has just computed it
                    readable = _compute(backbone, files, file, shape, bad, device, num_workers)
        except OSError as error:
            raise UserError(
                f"The features can't be written to {folder} ({error.strerror or error}); make it writable, free "
                f"{2 * np.prod(shape) / 1e9:.1f} GB there, or set features to pooled, which takes far less."
            ) from error
    if unreadable := int((~readable).sum()):
        first = files[int((~readable).nonzero()[0])]
        bad.report("images that can't be read", f"{first} can't be read as an image", unreadable)
    if not readable.any():
        raise UserError(f"None of the {len(files)} images can be read, the first of them {files[0]}; repair them.")
    return file, readable


def _digest(backbone: FrozenBackbone, files: Sequence[Path]) -> str:
    key = blake2b(backbone.digest.encode(), digest_size=16)
    for file in files:
        stat = file.stat()
        key.update(f"{file.parent.name}/{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return key.hexdigest()


def _readable(file: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Returns which images of a file of features were readable, (N,) bool; None if it is missing or damaged."""
    if not file.exists():
        return None
    try:
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
        flags = np.fromfile(file, np.uint8, offset=stored.offset + stored.nbytes)
        if stored.shape != shape or stored.dtype != np.float16 or len(flags) != len(stored):
            raise UserError(f"{stored.dtype} of shape {stored.shape} with {len(flags)} flags")
        return torch.from_numpy(flags).bool()
    except (OSError, ValueError, EOFError) as error:
        warnings.warn(f"{file} is damaged ({error}), so the features are computed again.", stacklevel=2)
        return None


@dataclass
class _Pixels:
    """Fetches images as the network takes them, black if unreadable, and which of them are readable."""

    files: Sequence[Path]
    backbone: FrozenBackbone
    stop: bool

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        size = self.backbone.size
        pixels = np.zeros((len(batch.indices), size, size, 3), np.uint8)
        readable = torch.ones(len(batch.indices), dtype=torch.bool)
        for row, i in enumerate(batch.indices.tolist()):
            try:
                pixels[row] = self.backbone.read(self.files[i])
            except ValueError:
                if self.stop:
                    raise
                readable[row] = False
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), readable


def _compute(
    backbone: FrozenBackbone,
    files: Sequence[Path],
    file: Path,
    shape: tuple[int, ...],
    bad: BadSamples,
    device: torch.device,
    num_workers: int,
) -> Tensor:
    """Computes a file of features; returns which images are readable, (N,) bool."""
    fetch = _Pixels(files, backbone, stop=bad.policy == "stop")
    backbone.config, backbone.shape  # noqa: B018  # computed before the workers start
    batches = BatchLoader(fetch, len(files), _BATCH, num_workers=num_workers)
    flags, done = [], 0
    title = f"{backbone.name} {backbone.form}"
    try:
        with atomic_write(file, sync=True) as temporary:
            stored = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
            with tqdm(total=len(files), desc=title, unit="image", disable=None) as progress:
                for images, readable in batches:
                    backbone.network.to(device)
                    features = backbone(images).clamp(-_LARGEST, _LARGEST).half().cpu()
                    stored[done : done + len(features)] = features.numpy()
                    flags.append(readable)
                    done += len(features)
                    progress.update(len(features))
            stored.flush()
            with temporary.open("ab") as stream:
                stream.write(torch.cat(flags).to(torch.uint8).numpy().tobytes())
    finally:
        backbone.network.cpu()
    return torch.cat(flags)
