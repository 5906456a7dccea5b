"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images, 28×28 in grayscale, ten classes, in IDX files.

Sources: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/; H. Xiao, K. Rasul, R. Vollgraf, arXiv
1708.07747. Files: `root/MNIST/raw/` and `root/FashionMNIST/raw/`, compressed (.gz) or not.
"""

import numpy as np

from common.data_file_names import find_mnist_file
from datamodules.files import official_files
from datamodules.files.download import fetch
from datamodules.files.idx_files import read_mnist
from datamodules.images.image_data_module import ImageDataModule


class MNIST(ImageDataModule):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 28×28 in grayscale."""

    class_names: tuple[str, ...] = tuple("0123456789")
    image_shape = (1, 28, 28)
    official_sizes = (60_000, 10_000)
    files = official_files.MNIST
    download_name = "mnist"

    def prepare_data(self) -> None:
        """Downloads the four files (12 MB, or 31 MB of Fashion-MNIST), unless they exist."""
        folder = self.root / type(self).__name__ / "raw"
        for file in self.files:
            if find_mnist_file(folder, file.name.removesuffix(".gz")) is None:
                fetch(file, folder)

    def read(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        return read_mnist(self.root / type(self).__name__ / "raw", train, self.download_name)


class FashionMNIST(MNIST):
    """Fashion-MNIST: articles of clothing in ten classes, a harder drop-in replacement for MNIST."""

    class_names = (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    files = official_files.FASHION_MNIST
    download_name = "fashion_mnist"
