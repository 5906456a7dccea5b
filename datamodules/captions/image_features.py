"""Features of image files from a frozen network, computed once and cached on disk in half precision.

A captioner with a frozen backbone (K. Xu et al., "Show, attend and tell", arXiv 1502.03044) then reads 125 kB an
image (a grid of 7×7 positions and 1,280 features) instead of decoding it and running the network.

The cache is `FOLDER/<digest>.npy`, float16, memory-mapped, with checksums (`feature_file.py`). The digest covers the
network, its weights, the preprocessing, and names, sizes and modification times of the image files, so that any change
of them leads to a new file. A file gets its name when it is complete. One process computes it while others that need it
wait. For all of COCO this grid takes 15 GB; old files may be deleted.

A damaged file is computed again. Checking 15 GB takes too long for every start, so the features of a large file are
checked when an image is first used, and damage then ends the run. If FOLDER may only be read, new files are kept in the
user's cache folder.

Shapes: N image files, M images of a split, B in a batch, L positions of the grid, D features.
"""

import shutil
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
from common.cache_folders import cache_folders, writable_folder
from common.errors import UserError
from common.messages.counting import count
from datamodules.captions.coco_files import BadSamples
from datamodules.captions.feature_file import FeatureFile, read_feature_file, row_checksums, trailer
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

    file: FeatureFile
    rows: Tensor

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns features (B, L, D) or (B, D) float16, and all indices in the batch, (B,).

        Raises:
            DataFileError: If the features of an image are damaged.
        """
        return torch.from_numpy(self.file.read(self.rows[batch.indices])), torch.arange(len(batch.indices))


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
) -> tuple[FeatureFile, Tensor]:
    """Finds the file with the features of image files in a folder, or computes it.

    Args:
        backbone: Network that computes the features.
        files: N image files.
        folder: Folder of the features, created if it does not exist; if it can't be written, the user's cache folder
            takes new files.
        bad: Policy for images that can't be read.
        device: Device that computes the features.
        num_workers: Number of processes that decode images.

    Returns:
        The file, and which of its rows belong to readable images, (N,) bool.

    Raises:
        ValueError: If an image can't be read and the policy is to stop, or the folder can't be written.
    """
    name = f"{_digest(backbone, files)}.npy"
    shape = (len(files), *backbone.shape)
    folders = cache_folders(folder)
    stored = next((found for place in folders if (found := read_feature_file(place / name, shape))), None)
    if stored is None:
        target = writable_folder(folders)
        needed = 2 * int(np.prod(shape))
        if target is None or shutil.disk_usage(target).free < needed:
            problem = "no space is left" if target else f"neither it nor {folders[1]} can be written"
            raise _not_written(target or folder, problem, needed)
        file = target / name
        try:
            with FileLock(target / f".{file.stem}.lock", mode=0o666):  # another user may come to need it
                if (stored := read_feature_file(file, shape)) is None:  # else another process has just computed it
                    _compute(backbone, files, file, shape, bad, device, num_workers)
                    stored = FeatureFile.open(file, shape)
        except OSError as error:
            raise _not_written(target, error.strerror or str(error), needed) from error
    readable = stored.readable
    if unreadable := int((~readable).sum()):
        first = files[int((~readable).nonzero()[0])]
        bad.report("images that can't be read", f"{first} can't be read as an image", unreadable)
    if not readable.any():
        raise UserError(
            f"None of the {count(len(files), 'image')} can be read, the first of them {files[0]}; repair them."
        )
    return stored, readable


def _not_written(folder: Path, problem: str, needed: int) -> UserError:
    return UserError(
        f"The features can't be written to {folder} ({problem}); make it writable, free {needed / 1e9:.1f} GB there, "
        "set XDG_CACHE_HOME to a folder for them, or set features to pooled, which takes far less."
    )


def _digest(backbone: FrozenBackbone, files: Sequence[Path]) -> str:
    key = blake2b(backbone.digest.encode(), digest_size=16)
    for file in files:
        stat = file.stat()
        key.update(f"{file.parent.name}/{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return key.hexdigest()


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
) -> None:
    """Computes a file of features."""
    fetch = _Pixels(files, backbone, stop=bad.policy == "stop")
    backbone.config, backbone.shape  # noqa: B018  # computed before the workers start
    batches = BatchLoader(fetch, len(files), _BATCH, num_workers=num_workers)
    flags, checksums, done = [], [], 0
    title = f"{backbone.name} {backbone.form}"
    try:
        with atomic_write(file, sync=True) as temporary:
            stored = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
            with tqdm(total=len(files), desc=title, unit="image", disable=None) as progress:
                for images, readable in batches:
                    backbone.network.to(device)
                    features = backbone(images).clamp(-_LARGEST, _LARGEST).half().cpu()
                    stored[done : done + len(features)] = features.numpy()
                    checksums += row_checksums(features.numpy())
                    flags.append(readable)
                    done += len(features)
                    progress.update(len(features))
            stored.flush()
            with temporary.open("ab") as stream:
                stream.write(trailer(temporary, checksums, torch.cat(flags)))
    finally:
        backbone.network.cpu()
