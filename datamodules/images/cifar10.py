"""CIFAR-10: 50,000 training and 10,000 test photographs, 32×32 in color, ten classes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. Files: `root/cifar-10-batches-py/`, the Python version.
"""

import numpy as np

from common.data_file_names import cifar10_folder
from datamodules.files.archives import extract_tar
from datamodules.files.cifar_files import read_cifar10
from datamodules.files.download import fetch
from datamodules.files.official_files import CIFAR10 as ARCHIVE
from datamodules.files.official_files import CIFAR10_MEMBERS
from datamodules.images.image_data_module import ImageDataModule


class CIFAR10(ImageDataModule):
    """CIFAR-10: 50,000 training and 10,000 test photographs, 32×32 in color, ten classes."""

    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    image_shape = (3, 32, 32)
    official_sizes = (50_000, 10_000)

    def prepare_data(self) -> None:
        """Downloads and unpacks the batches (170 MB), unless they exist."""
        folder = cifar10_folder(self.root)
        batches = set(CIFAR10_MEMBERS) - {"batches.meta"}  # it holds the class names alone
        if not all((folder / name).is_file() for name in batches):
            archive = fetch(ARCHIVE, self.root)
            extract_tar(archive, self.root / "cifar-10-batches-py", CIFAR10_MEMBERS)

    def read(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        return read_cifar10(cifar10_folder(self.root), train)
