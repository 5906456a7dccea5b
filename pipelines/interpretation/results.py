"""What every command does with images and figures: read in batches, classify, write a table of figures."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from pipelines.interpretation.inspected_model import InspectedModel

BATCH = 16  # images at a time: enough to keep the processor busy, little enough for large networks


class Photos(NamedTuple):
    """A batch of image files.

    Attributes:
        files: where they came from.
        names: of their results, different for each.
        images: (B, C, H, W) in [0, 1].
        probabilities: of the classes, (B, K).
    """

    files: list[Path]
    names: list[str]
    images: Tensor
    probabilities: Tensor

    @property
    def predicted(self) -> Tensor:
        """(B,) the most probable class of each."""
        return self.probabilities.argmax(1)


def photos(subject: InspectedModel, files: Sequence[Path]) -> Iterator[Photos]:
    """The images in batches, classified, with a bar that shows how far it is.

    Raises:
        ValueError: a file that is no image.
    """
    stems = [file.stem for file in files]
    names = [stem if stems.count(stem) == 1 else f"{stem}_{i}" for i, stem in enumerate(stems)]
    with tqdm(total=len(files), unit="image", disable=None, leave=False) as bar:
        for start in range(0, len(files), BATCH):
            part = slice(start, start + BATCH)
            images = subject.read(files[part]).to(subject.device)
            with torch.no_grad():
                probabilities = subject.model(images).float().softmax(1)
            yield Photos(list(files[part]), names[part], images, probabilities)
            bar.update(len(images))


def write_table(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Rows of equal keys as CSV, numbers with six digits."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def side_of(subject: InspectedModel) -> float:
    """How large to draw an image, in inches of 120 pixels: no smaller than it is."""
    return max(1.35, 1.1 * subject.image_shape[1] / 120)
