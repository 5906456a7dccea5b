"""Reads and classifies images in batches, and writes tables of results."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from pipelines.interpretation.inspected_model import InspectedModel

BATCH_SIZE = 16  # enough to use the processor well, small enough for large networks


class ImageBatch(NamedTuple):
    """A batch of image files.

    Attributes:
        files: Image files.
        names: Names of their results, all different.
        images: Images (B, C, H, W) in [0, 1].
        probabilities: Class probabilities (B, K).
    """

    files: list[Path]
    names: list[str]
    images: Tensor
    probabilities: Tensor

    @property
    def predicted(self) -> Tensor:
        """Most probable classes (B,)."""
        return self.probabilities.argmax(1)


def image_batches(inspected: InspectedModel, files: Sequence[Path]) -> Iterator[ImageBatch]:
    """Yields the images in batches with their class probabilities, and shows a progress bar.

    Raises:
        ValueError: If a file is not an image.
    """
    stems = [file.stem for file in files]
    names = [stem if stems.count(stem) == 1 else f"{stem}_{i}" for i, stem in enumerate(stems)]
    with tqdm(total=len(files), unit="image", disable=None, leave=False) as bar:
        for start in range(0, len(files), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            images = inspected.read(files[part]).to(inspected.device)
            with torch.no_grad():
                probabilities = inspected.model(images).float().softmax(1)
            yield ImageBatch(list(files[part]), names[part], images, probabilities)
            bar.update(len(images))


def write_table(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Writes rows with equal keys as CSV, numbers with six significant digits."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def picture_side(inspected: InspectedModel) -> float:
    """Returns the size at which to draw an image, in inches of 120 pixels, at least one pixel per pixel."""
    return max(1.35, 1.1 * inspected.image_shape[1] / 120)
