"""Draws training images before and after augmentation."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from pipelines.console import formatting
from pipelines.data_sets.image_data_sets import DATA_SETS, make

if TYPE_CHECKING:
    import numpy as np

_COLUMNS = 10  # one for each class
_MAX_IMAGES = 200


def preview(name: str, root: Path, count: int, seed: int, augmentation: dict[str, Any]) -> "np.ndarray[Any, Any]":
    """Draws training images with their classes and, below them, the same images after augmentation, if there is any.

    Args:
        name: Name of the data set.
        root: Folder of the data sets.
        count: Number of images, in [1, 200], in equal numbers from each class where possible.
        seed: Seed of the augmentation.
        augmentation: Settings of the data module, such as crop_padding.

    Returns:
        Picture (height, width, 3), uint8.

    Raises:
        ValueError: If the count or a setting is out of range, or files are missing or damaged.
    """
    if not 1 <= count <= _MAX_IMAGES:
        raise UserError(f"n is {count}; it must be in [1, {_MAX_IMAGES}].")
    if name in DATA_SETS and DATA_SETS[name].captions:
        classified = ", ".join(known for known, data_set in DATA_SETS.items() if not data_set.captions)
        raise UserError(f"preview draws images with classes, and {name} has captions; use one of {classified}.")
    import numpy as np
    import torch

    from callbacks.pictures import image_grid
    from datamodules.loader import Batch

    # The last three settings make it fast: no validation split, no fitted preprocessing, only these images in memory.
    data = make(name, root, **augmentation, val_fraction=0.0, preprocessing="scale", subset=count)
    fetch = data.train_dataloader().fetch
    images, labels = data.splits["train"]
    rank = [int((labels[:i] == label).sum()) for i, label in enumerate(labels)]  # within the image's class
    order = torch.tensor(sorted(range(len(labels)), key=lambda i: (rank[i], int(labels[i]))))
    titles = [data.class_names[label] for label in labels[order]]
    count = len(order)
    picture = image_grid(
        images[order] / 255, titles, _COLUMNS, f"{type(data).__name__}: {formatting.count(count, 'training image')}"
    )
    if not augmentation.keys() - {"size"}:
        return picture
    augmented, _ = fetch(Batch(order, seed, count, 0))
    settings = (_described(key, value) for key, value in augmentation.items() if key != "size")
    title = f"The same images after {', '.join(settings)}"
    width = 14 * min(count, _COLUMNS)  # characters that fit above the images
    title = title if len(title) <= width else title[: width - 1] + "…"
    return np.concatenate([picture, image_grid(augmented / 255, titles, _COLUMNS, title)])


def _described(key: str, value: Any) -> str:
    if isinstance(value, list):  # an Albumentations pipeline: the names of its transforms
        return " → ".join(entry if isinstance(entry, str) else next(iter(entry)) for entry in value)
    return key if value is True else f"{key} {value:g}"
