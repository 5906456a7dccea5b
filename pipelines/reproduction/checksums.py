"""Checksums of data sets, by which one knows whether a figure was measured on the same images."""

from hashlib import blake2b

import datamodules
from datamodules import ImageDataModule


def data_checksum(name: str) -> str:
    """Returns the checksum of a data set's training images and classes as they are read from `data/`.

    Args:
        name: Class of the data set, such as "CIFAR10". Its files are downloaded if they are missing.

    Raises:
        UserError: If the files can't be downloaded or read.
    """
    data: ImageDataModule = getattr(datamodules, name)()
    data.prepare_data()
    images, labels = data.read(train=True)
    return blake2b(images.tobytes() + labels.tobytes(), digest_size=6).hexdigest()
