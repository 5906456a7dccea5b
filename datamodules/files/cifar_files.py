"""Reads the official files of CIFAR-10, pickles written by Python 2, with numpy and without executing them.

Source: https://www.cs.toronto.edu/~kriz/cifar.html. The reader either returns complete, checked arrays or raises
`DataFileError`; no file, however damaged or malicious, makes it run code or allocate more than a small multiple of
`MAX_BYTES`: see `array_unpickler.py`.

Shapes: N images.
"""

import pickle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.files.array_unpickler import UnpickledArray, UnsafePickle, unpickle
from datamodules.files.data_files import MAX_BYTES, damaged, require, unreadable


def read_cifar10(
    folder: Path, train: bool, dataset: str | None = "cifar10"
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Reads the Python version of CIFAR-10 without executing its pickles.

    Args:
        folder: The folder `cifar-10-batches-py`, with `data_batch_1` to `data_batch_5` and `test_batch`.
        train: Whether to read the five training batches in order, or else the test batch.
        dataset: Name of the data set for `python -m pipelines.data download` in error messages.

    Returns:
        Images (N, 3, 32, 32) in [0, 255], channels red, green, blue, and labels (N,) in [0, 9].

    Raises:
        DataFileError: If a file is missing or damaged, or its pickle holds more than bytes, numbers and numpy arrays.
    """
    names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    require([name for name in names if not (folder / name).is_file()], folder, dataset)
    batches = [_read_cifar10_batch(folder / name, dataset) for name in names]
    # Concatenating also copies, so that the result is writable and does not keep the pickle's bytes in memory.
    images = np.concatenate([images for images, _ in batches])
    return images.reshape(-1, 3, 32, 32), np.concatenate([labels for _, labels in batches])


def _read_cifar10_batch(path: Path, dataset: str | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Reads one batch as (N, 3072) bytes and (N,) labels."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise damaged(path, f"has {size} bytes, more than the {MAX_BYTES} that a CIFAR-10 batch may have", dataset)
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error, dataset) from error

    try:
        batch = unpickle(content)
        if type(batch) is not dict:
            raise pickle.UnpicklingError(f"it holds a {type(batch).__name__} instead of a dict")
        images = _images(batch.get(b"data", batch.get("data")))
        labels = _labels(batch.get(b"labels", batch.get("labels")), len(images))
    except UnsafePickle as error:
        raise damaged(path, f"is refused, because its pickle would run code ({error})", dataset) from error
    except Exception as error:  # unpickling damaged bytes can raise nearly any exception
        problem = f"is not a complete CIFAR-10 batch ({str(error)[:200] or type(error).__name__})"
        raise damaged(path, problem, dataset) from error
    return images, labels


def _images(data: object) -> NDArray[np.uint8]:
    images = data.values if isinstance(data, UnpickledArray) else None
    if images is None or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072 or len(images) == 0:
        description = "no array" if images is None else f"{images.dtype} array of shape {images.shape}"
        raise pickle.UnpicklingError(f"'data' is {description}; it must be a uint8 array of shape (N, 3072)")
    return images


def _labels(labels: object, count: int) -> NDArray[np.int64]:
    if isinstance(labels, UnpickledArray) and labels.values is not None:
        labels = labels.values.tolist()
    if not isinstance(labels, list) or len(labels) != count or not all(type(label) is int for label in labels):
        raise pickle.UnpicklingError(f"'labels' is not a list of {count} integers, one for each image")
    if min(labels) < 0 or max(labels) > 9:
        raise pickle.UnpicklingError(f"'labels' has values in [{min(labels)}, {max(labels)}] instead of [0, 9]")
    return np.array(labels, dtype=np.int64)
