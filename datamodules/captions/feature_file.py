"""A file of image features: an .npy file, then which images could be read, and checksums of everything.

    .npy header and features        (N, L, D) or (N, D) float16
    N bytes                         whether each image could be read
    N × 4 bytes                     CRC-32 of each image's features, little-endian
    4 bytes                         CRC-32 of the header and of the bytes before these

Shapes: N images, B in a batch, L positions of the grid, D features.
"""

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.files.data_files import DataFileError

_CHECKED_AT_ONCE = 1 << 30  # bytes, read within a second; larger files are checked image by image


@dataclass
class FeatureFile:
    """Features of N images on disk, mapped into memory anew for each batch, which costs next to nothing.

    Attributes:
        path: The file.
        readable: Which images could be read, (N,) bool.
        checksums: CRC-32 of each image's features, (N,).
        checked: Which images' features have been compared with their checksum, (N,) bool, shared by all workers.
    """

    path: Path
    readable: Tensor
    checksums: np.ndarray
    checked: Tensor

    @classmethod
    def open(cls, path: Path, shape: tuple[int, ...]) -> "FeatureFile":
        """Opens a file of features of a shape, (N, L, D) or (N, D).

        Raises:
            Exception: If the file is damaged or was written without checksums; numpy raises many types.
        """
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        if stored.shape != shape or stored.dtype != np.float16:
            raise ValueError(f"{stored.dtype} of shape {stored.shape}")
        count, end = len(stored), stored.offset + stored.nbytes
        with path.open("rb") as stream:
            head = stream.read(stored.offset)
            stream.seek(end)
            rest = stream.read()
        if len(rest) != 5 * count + 4 or zlib.crc32(head + rest[:-4]) != int.from_bytes(rest[-4:], "little"):
            raise ValueError("wrong checksum")
        checksums = np.frombuffer(rest, "<u4", count, count)
        readable = torch.from_numpy(np.frombuffer(rest, np.uint8, count).astype(bool))
        file = cls(path, readable, checksums, torch.zeros(count, dtype=torch.bool).share_memory_())
        if stored.nbytes <= _CHECKED_AT_ONCE:
            for rows in torch.arange(count).split(256):
                file.read(rows)
        return file

    def read(self, rows: Tensor) -> np.ndarray:
        """Returns the features of images by their rows, (B,): (B, L, D) or (B, D) float16.

        Raises:
            DataFileError: If they are damaged.
        """
        features: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)[rows.numpy()]
        new = (~self.checked[rows]).nonzero().flatten()
        if len(new):
            found = np.array(row_checksums(features[new.numpy()]), "<u4")
            if (found != self.checksums[rows[new].numpy()]).any():
                raise DataFileError(f"{self.path} is damaged; delete it, and the next run computes it again.")
            self.checked[rows[new]] = True
        return features


def read_feature_file(path: Path, shape: tuple[int, ...]) -> FeatureFile | None:
    """Opens a file of features; returns None if it is missing, or, with a warning, damaged."""
    if not path.exists():
        return None
    try:
        return FeatureFile.open(path, shape)
    except Exception as error:  # a damaged header makes numpy and Python's parser raise many types
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        warnings.warn(f"{path} is damaged ({reason}), so the features are computed again.", stacklevel=2)
        return None


def row_checksums(features: np.ndarray) -> list[int]:
    """Returns CRC-32 of each image's features, (B, L, D) or (B, D)."""
    return [zlib.crc32(row.data) for row in np.ascontiguousarray(features)]


def trailer(path: Path, checksums: Sequence[int], readable: Tensor) -> bytes:
    """Returns what follows the .npy file at `path` of N images."""
    offset = np.load(path, mmap_mode="r", allow_pickle=False).offset
    with path.open("rb") as stream:
        head = stream.read(offset)
    rest = readable.to(torch.uint8).numpy().tobytes() + np.array(checksums, "<u4").tobytes()
    return rest + zlib.crc32(head + rest).to_bytes(4, "little")
