"""Writes small CIFAR-10, MNIST and Fashion-MNIST files in their official formats, for the real readers to read."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def random_split(count: int, shape: tuple[int, ...], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random images (count, *shape) with balanced labels of ten classes in random order."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.permutation(np.arange(count) % 10)


def write_cifar10(root: Path, num_train: int = 100, num_test: int = 20, seed: int = 0) -> None:
    """Five training batches, the test batch and the names, as cifar-10-python.tar.gz unpacks them."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = random_split(num_train, (3072,), seed)
    parts = list(zip(np.array_split(images, 5), np.array_split(labels, 5), strict=True))
    for i, (pixels, classes) in enumerate([*parts, random_split(num_test, (3072,), seed + 1)]):
        batch = {b"data": pixels, b"labels": classes.tolist()}
        (folder / (f"data_batch_{i + 1}" if i < 5 else "test_batch")).write_bytes(pickle.dumps(batch, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": []}, 2))


def write_mnist(
    root: Path, name: str = "MNIST", num_train: int = 100, num_test: int = 20, seed: int = 0, packed: bool = True
) -> None:
    """The four IDX files of MNIST or FashionMNIST, packed as they are distributed or not."""
    folder = root / name / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", num_train), ("t10k", num_test)):
        images, labels = random_split(count, (28, 28), seed + (prefix == "t10k"))
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content += array.astype(np.uint8).tobytes()
            file = folder / f"{prefix}-{kind}-ubyte{'.gz' if packed else ''}"
            file.write_bytes(gzip.compress(content, 1) if packed else content)
