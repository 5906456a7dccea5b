"""Verifies a folder or CSV file of the user's own images: classes, splits, files that can't be read."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from pipelines.console.formatting import count
from pipelines.data_sets.image_data_sets import make

if TYPE_CHECKING:
    from datamodules import ImageDataModule

_NAMED = 10  # unreadable files that are named; the others are counted


def num_training_images(path: str, root: Path) -> int:
    """Returns the number of images that a preview of a folder or CSV file of own images can show.

    Raises:
        ValueError: If the folder or CSV file can't be used.
    """
    data: Any = make(path, root, val_fraction=0.0)
    return len(data.split_indices["train"])


def verify_own_images(data: "ImageDataModule") -> list[str]:
    """Decodes all images, and returns lines with the images of each split and class.

    Raises:
        ValueError: If the folder or CSV file can't be used, or an image can't be read; the message names the files.
    """
    import numpy as np

    from datamodules import ImageFolder
    from datamodules.image_folders.decoded_images import DecodedImages

    assert isinstance(data, ImageFolder)
    found, splits = data.labeled_files, data.split_indices
    lines = [str(data.labels_file or data.folder)]
    for split, indices in splits.items():
        lines.append(f"  {split:<5}  {count(len(indices), 'image')}")
    of_split = {
        split: np.bincount(found.labels[indices], minlength=data.num_classes) for split, indices in splits.items()
    }
    width = max(map(len, found.class_names))
    for i, name in enumerate(found.class_names):
        numbers = ", ".join(f"{counts[i]:,} {split}" for split, counts in of_split.items())
        lines.append(f"  class {name:<{width}}  {numbers}")
    lines += [f"  left out  {kind}: {number:,}" for kind, number in sorted(found.left_out.items())]
    images = DecodedImages(found.files, (3, 8, 8))  # a few pixels are enough to see whether an image can be decoded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are named below
        for start in range(0, len(images), 1000):
            images[start : start + 1000]
    if not images.unreadable.any():
        return [*lines, "  files  all can be read"]
    unreadable = [str(found.files[i]) for i in images.unreadable.nonzero().flatten().tolist()]
    more = f" and {len(unreadable) - _NAMED:,} more" * (len(unreadable) > _NAMED)
    print("\n".join(lines), flush=True)
    raise UserError(
        f"{count(len(unreadable), 'image')} can't be read, {', '.join(unreadable[:_NAMED])}{more}; repair or delete "
        "them."
    )
