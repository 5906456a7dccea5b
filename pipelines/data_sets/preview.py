"""A picture of training images and of what augmentation makes of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from pipelines.data_sets.image_data_sets import DATA_SETS, make

if TYPE_CHECKING:
    import numpy as np

_COLUMNS = 10  # one for each class
_MOST_IMAGES = 200


def preview(name: str, root: Path, count: int, seed: int, augmentation: dict[str, Any]) -> "np.ndarray[Any, Any]":
    """Training images with their classes, and below them the same images augmented if augmentation is set.

    Args:
        name: of the data set.
        root: folder of the data files.
        count: how many images, 1 to 200, as evenly from all classes as they go.
        seed: of the augmentation.
        augmentation: settings of the datamodule, such as crop_padding.

    Returns:
        The picture, (height, width, 3) uint8.

    Raises:
        ValueError: a count or setting out of range, or files that are missing or damaged.
    """
    if not 1 <= count <= _MOST_IMAGES:
        raise UserError(f"n is {count}; give 1 to {_MOST_IMAGES} images.")
    if DATA_SETS[name].captions:
        classified = ", ".join(known for known, data_set in DATA_SETS.items() if not data_set.captions)
        raise UserError(f"preview shows images by their classes, and {name} has captions; give one of {classified}.")
    import numpy as np
    import torch

    from callbacks.pictures import image_grid
    from datamodules.loader import Batch

    # Quick by its last three settings: nothing is held out or fitted, and only these images are stored.
    data = make(name, root, **augmentation, val_fraction=0.0, preprocessing="scale", subset=count)
    fetch = data.train_dataloader().fetch
    images, labels = data.splits["train"]
    place = [int((labels[:i] == label).sum()) for i, label in enumerate(labels)]  # within the image's class
    order = torch.tensor(sorted(range(count), key=lambda i: (place[i], int(labels[i]))))
    titles = [data.class_names[label] for label in labels[order]]
    picture = image_grid(images[order] / 255, titles, _COLUMNS, f"{data.__class__.__name__}: {count} training images")
    if not augmentation:
        return picture
    augmented, _ = fetch(Batch(order, seed, count, 0))
    title = f"The same images after {', '.join(_described(key, value) for key, value in augmentation.items())}"
    most = 14 * min(count, _COLUMNS)  # characters that fit above the images
    title = title if len(title) <= most else title[: most - 1] + "…"
    return np.concatenate([picture, image_grid(augmented / 255, titles, _COLUMNS, title)])


def _described(key: str, value: Any) -> str:
    if isinstance(value, list):  # of an albumentations pipeline, the names alone
        return " → ".join(entry if isinstance(entry, str) else next(iter(entry)) for entry in value)
    return key if value is True else f"{key} {value:g}"
