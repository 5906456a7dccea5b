"""Reads and classifies images in batches, and writes tables of results."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from common.errors import UserError
from datamodules.files.given_images import GivenImages
from pipelines.console.outputs import unique_names, write_csv
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


def image_batches(
    inspected: InspectedModel, given: GivenImages, suffixes: Sequence[str] = ("",), taken: Sequence[str] = ()
) -> Iterator[ImageBatch]:
    """Yields the readable images in batches with their class probabilities, and shows a progress bar.

    Args:
        inspected: Network.
        given: Image files; those that can't be read are noted in it.
        suffixes: What is added to an image's name for each of its results.
        taken: Names of other results.

    Raises:
        ValueError: If no file can be read as an image.
    """
    names = unique_names(given.files, suffixes, taken)
    with tqdm(total=len(given.files), unit="image", disable=None, leave=False) as bar:
        for start in range(0, len(given.files), BATCH_SIZE):
            read: dict[int, Tensor] = {}
            for index, file in enumerate(given.files[start : start + BATCH_SIZE], start):
                try:
                    read[index] = inspected.read([file])[0]
                    given.brightness[index] = float(read[index].mean())
                except UserError as error:
                    given.unreadable[index] = str(error)
                bar.update()
            if not read:
                continue
            images = torch.stack(list(read.values())).to(inspected.device)
            with torch.no_grad():
                probabilities = inspected.model(images).float().softmax(1)
            yield ImageBatch([given.files[i] for i in read], [names[i] for i in read], images, probabilities)
    given.check_any_readable()


def write_table(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Writes rows with equal keys as CSV, numbers with six significant digits."""
    cells = [[f"{value:.6g}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    write_csv([list(rows[0]), *cells], file)


def picture_side(inspected: InspectedModel) -> float:
    """Returns the size at which to draw an image, in inches of 120 pixels, at least one pixel per pixel."""
    return max(1.35, 1.1 * inspected.image_shape[1] / 120)
