"""Checksums of data sets, which show whether a figure was measured on the same images."""

import datamodules
from datamodules import ImageDataModule


def data_checksum(name: str) -> str:
    """Returns the checksum of a data set with its default settings, `data.checksum` of a run on W&B.

    Args:
        name: Class of the data set, such as "CIFAR10". Its files are downloaded if they are missing.

    Raises:
        UserError: If the files can't be downloaded or read.
    """
    data: ImageDataModule = getattr(datamodules, name)()
    data.prepare_data()
    data.setup("validate")
    return str(data.identity()["checksum"])
