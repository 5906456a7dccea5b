"""Reads the official files of MNIST, in the IDX format, with numpy.

Source: http://yann.lecun.com/exdb/mnist/. Every reader either returns complete, checked arrays or raises
`DataFileError`; no file, however damaged or malicious, makes it allocate more than a small multiple of `MAX_BYTES`.

Shapes: N images of H rows and W columns.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.data_file_names import find_mnist_file
from datamodules.files.data_files import MAX_BYTES, damaged, require, unreadable

MNIST_NAMES: Final = {
    True: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    False: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The images file and the labels file of the training set (True) and of the test set (False), without `.gz`."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_IDX_LABELS: Final = 0x00000801
_IDX_IMAGES: Final = 0x00000803


def read_idx(path: Path, dataset: str | None = None) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes, raw or gzip.

    Args:
        path: The file; it is read as gzip if its name ends in `.gz` or it starts with gzip's magic number.
        dataset: Name of the data set for `python -m pipelines.data download` in error messages.

    Returns:
        A writable array: labels (N,) for magic number 0x00000801, images (N, H, W) for 0x00000803.

    Raises:
        DataFileError: If the file can't be read, has another magic number, or has another size than its header says.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            packed = path.suffix == ".gz" or file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if packed:
                with gzip.open(file) as stream:
                    return _read_idx_stream(stream, None, path, dataset)
            return _read_idx_stream(file, size, path, dataset)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, f"is not a complete gzip file ({error})", dataset) from error
    except OSError as error:
        raise unreadable(path, error, dataset) from error


def read_mnist(folder: Path, train: bool, dataset: str | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Reads MNIST, or a data set in its format such as Fashion-MNIST.

    Args:
        folder: Folder of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two `t10k-` files, each
            uncompressed (which is preferred, as it is faster to read) or with the suffix `.gz`; names that programs
            give them while unpacking are known too.
        train: Whether to read the training files, or else the `t10k` test files.
        dataset: Name of the data set for `python -m pipelines.data download` in error messages.

    Returns:
        Images (N, 1, 28, 28) in [0, 255] and labels (N,) in [0, 9].

    Raises:
        DataFileError: If a file is missing or damaged, or the numbers of images and labels differ.
    """
    names = MNIST_NAMES[train]
    paths = [find_mnist_file(folder, name) for name in names]
    require([f"{name}[.gz]" for name, path in zip(names, paths, strict=True) if path is None], folder, dataset)
    images_path, labels_path = (path for path in paths if path is not None)

    images = read_idx(images_path, dataset)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise damaged(images_path, f"holds an array of shape {images.shape} instead of (N, 28, 28)", dataset)
    labels = read_idx(labels_path, dataset)
    if labels.shape != (len(images),):
        problem = f"holds an array of shape {labels.shape} instead of one label for each of {len(images)} images"
        raise damaged(labels_path, problem, dataset)
    if labels.max() > 9:
        raise damaged(labels_path, f"holds the label {labels.max()}, which is not in [0, 9]", dataset)
    return images.reshape(-1, 1, 28, 28), labels.astype(np.int64)


def _read_idx_stream(stream: io.BufferedIOBase, size: int | None, path: Path, dataset: str | None) -> NDArray[np.uint8]:
    """Reads the header, then the pixels into one array; `size` is the file's size in bytes, if known."""
    head = stream.read(4)
    magic = int.from_bytes(head, "big")
    if len(head) < 4 or magic not in (_IDX_LABELS, _IDX_IMAGES):
        problem = f"starts with 0x{head.hex()} instead of 0x00000801 (IDX labels) or 0x00000803 (IDX images)"
        raise damaged(path, problem, dataset)
    ndim = magic & 0xFF
    head = stream.read(4 * ndim)
    if len(head) < 4 * ndim:
        raise damaged(path, f"ends inside its header, which has {4 + 4 * ndim} bytes", dataset)
    shape = struct.unpack(f">{ndim}I", head)
    count = math.prod(shape)
    if count > MAX_BYTES:
        raise damaged(path, f"has a header for {shape} bytes, more than the {MAX_BYTES} accepted", dataset)
    if size is not None and size != 4 + 4 * ndim + count:
        problem = f"has {size} bytes instead of the {4 + 4 * ndim + count} for shape {shape} in its header"
        raise damaged(path, problem, dataset)

    array = np.empty(count, np.uint8)
    filled = 0
    while filled < count and (read := stream.readinto(array.data[filled:])):
        filled += read
    if filled < count:
        raise damaged(path, f"ends after {filled} of the {count} bytes that its header announces", dataset)
    # Reading past the end also makes gzip compare its checksum.
    if stream.read(1):
        raise damaged(path, f"has more than the {count} bytes that its header announces", dataset)
    return array.reshape(shape)
