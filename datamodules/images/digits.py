"""Digits: scikit-learn's 1,797 handwritten digits, 8×8 in grayscale with 17 levels, which need no download.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998. There the 1,797 are the test
set of a larger collection; here every fifth image of the file is a test image.
"""

import numpy as np

from datamodules.images.image_data_module import ImageDataModule


class Digits(ImageDataModule):
    """Digits: scikit-learn's 1,797 handwritten digits, 8×8 in grayscale, which need no download."""

    class_names = tuple("0123456789")
    image_shape = (1, 8, 8)
    official_sizes = (1437, 360)

    def read(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits  # takes a second to import

        digits = load_digits()
        chosen = (np.arange(len(digits.target)) % 5 == 0) != train
        images = np.rint(digits.images[chosen, None] * (255 / 16)).astype(np.uint8)
        return images, digits.target[chosen].astype(np.int64)
