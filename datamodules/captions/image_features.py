"""Features of image files from a frozen network, computed once and kept on disk in half precision.

A captioner that is not to train the network along (K. Xu et al., "Show, attend and tell", arXiv 1502.03044) then reads
a few hundred kilobytes an image instead of decoding it and running the network.

Features lie in `FOLDER/<digest>.npy`, float16, memory-mapped, followed by one byte an image: whether it could be read.
The digest is that of the network, its weights, how images are prepared, and names, sizes and times of the image files:
no change of any of them can meet an old file. A file gets its name when it is whole. One process computes, others that
need the same file wait for it. COCO's grid of 7×7 places and 1,280 features takes 15 GB; old files may be deleted.

Shapes: N image files, M images of a split, B in a batch, L places of the grid, D features.
"""

import os
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

from common.errors import UserError
from datamodules.captions.coco_files import BadSamples
from datamodules.captions.frozen_backbone import FrozenBackbone
from datamodules.loader import Batch, BatchLoader

_BATCH = 64
_LARGEST = 65504.0  # of float16


@dataclass
class StoredFeatures:
    """Inputs that lie in a file of features; it is opened anew for each batch, which costs next to nothing.

    Args:
        file: of N images' features.
        rows: of the split's M images in it, (M,) int64.
    """

    file: Path
    rows: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (B, L, D) or (B, D) float16 of the batch, and all its places (B,)."""
        stored = np.load(self.file, mmap_mode="r", allow_pickle=False)
        return torch.from_numpy(stored[self.rows[batch.indices].numpy()]), torch.arange(len(batch.indices))


@dataclass
class FeaturesOfFiles:
    """Fetches the features of image files that a person hands in for prediction.

    Args:
        files: of the images.
        backbone: the network.
    """

    files: Sequence[Path]
    backbone: FrozenBackbone

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (B, L, D) or (B, D) and the images' indices (B,).

        Raises:
            ValueError: a file that can't be read as an image.
        """
        pixels = np.stack([self.backbone.read(self.files[i]) for i in batch.indices.tolist()])
        return self.backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2)), batch.indices


def store_features(
    backbone: FrozenBackbone,
    files: Sequence[Path],
    folder: Path,
    bad: BadSamples,
    device: torch.device,
    num_workers: int,
) -> tuple[Path, Tensor]:
    """Makes sure that the features of image files lie in a folder.

    Args:
        backbone: the network.
        files: of the N images.
        folder: of the features; made if it does not exist.
        bad: what happens to images that can't be read.
        device: computes the features.
        num_workers: processes that decode images.

    Returns:
        The file, and which of its rows are of images that can be read, (N,) bool.

    Raises:
        ValueError: an image that can't be read if bad samples are to stop, or a folder that can't be written.
    """
    file = folder / f"{_digest(backbone, files)}.npy"
    shape = (len(files), *backbone.shape)
    if (readable := _readable(file, shape)) is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{file.stem}.lock"):
                if (readable := _readable(file, shape)) is None:  # else another process has just been here
                    readable = _compute(backbone, files, file, shape, bad, device, num_workers)
        except OSError as error:
            raise UserError(
                f"The features can't be kept in {folder} ({error.strerror or error}); make it writable, free "
                f"{2 * np.prod(shape) / 1e9:.1f} GB there, or give features: pooled, which need far less."
            ) from error
    if unreadable := int((~readable).sum()):
        first = files[int((~readable).nonzero()[0])]
        bad.found("images that can't be read", f"{first} can't be read as an image", unreadable)
    if not readable.any():
        raise UserError(f"None of the {len(files)} images can be read, the first of them {files[0]}; mend them.")
    return file, readable


def _digest(backbone: FrozenBackbone, files: Sequence[Path]) -> str:
    key = blake2b(backbone.digest.encode(), digest_size=16)
    for file in files:
        state = file.stat()
        key.update(f"{file.parent.name}/{file.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return key.hexdigest()


def _readable(file: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Which images of a file of features could be read, (N,) bool; None if the file is missing or damaged."""
    if not file.exists():
        return None
    try:
        stored = np.load(file, mmap_mode="r", allow_pickle=False)
        flags = np.fromfile(file, np.uint8, offset=stored.offset + stored.nbytes)
        if stored.shape != shape or stored.dtype != np.float16 or len(flags) != len(stored):
            raise UserError(f"{stored.dtype} of shape {stored.shape} with {len(flags)} flags")
        return torch.from_numpy(flags).bool()
    except (OSError, ValueError, EOFError) as error:
        warnings.warn(f"{file} is damaged ({error}), so the features are computed anew.", stacklevel=2)
        return None


@dataclass
class _Pixels:
    """Fetches images as the network takes them, black if they can't be read, and whether they can."""

    files: Sequence[Path]
    backbone: FrozenBackbone
    stop: bool

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        size = self.backbone.size
        pixels = np.zeros((len(batch.indices), size, size, 3), np.uint8)
        readable = torch.ones(len(batch.indices), dtype=torch.bool)
        for place, i in enumerate(batch.indices.tolist()):
            try:
                pixels[place] = self.backbone.read(self.files[i])
            except ValueError:
                if self.stop:
                    raise
                readable[place] = False
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
    """Computes a file of features under a temporary name; returns which images could be read, (N,) bool."""
    temporary = file.with_name(f".{file.stem}.part")  # the lock is held: no other process writes it
    stored = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
    fetch = _Pixels(files, backbone, stop=bad.policy == "stop")
    backbone.config, backbone.shape  # noqa: B018  # so that workers get them ready
    batches = BatchLoader(fetch, len(files), _BATCH, num_workers=num_workers)
    flags, done = [], 0
    try:
        with tqdm(total=len(files), desc=f"{backbone.name} {backbone.form}", unit="image", disable=None) as progress:
            for images, readable in batches:
                backbone.network.to(device)
                found = backbone(images).clamp(-_LARGEST, _LARGEST).half().cpu()
                stored[done : done + len(found)] = found.numpy()
                flags.append(readable)
                done += len(found)
                progress.update(len(found))
        stored.flush()
        with temporary.open("ab") as stream:
            stream.write(torch.cat(flags).to(torch.uint8).numpy().tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
        backbone.network.cpu()
    return torch.cat(flags)
