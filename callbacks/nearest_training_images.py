"""Shows samples beside their nearest training images, to see whether a generator memorizes its training set.

A generator that memorizes generates images at distance near 0 from a training image. What counts as near depends on the
data, so the distances are compared with those of real images that were not trained on:

    ratio = median over samples of the distance to the nearest training image
            ÷ the same median over validation images

A ratio near 1 means that samples are as far from the training images as held-out images are; near 0, they are
memorized. Blurred or simple samples can have a ratio below 1 as well, so look at the picture.

Distance: l2 of pixels in [0, 255], by exact search (`modules/neighbors/nearest_neighbors.py`).

Shapes: N images, C channels, H×W pixels, k neighbors.
"""

from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.media import log_table
from callbacks.pictures import as_pixels, image_grid, show
from callbacks.samples import ImageGenerator, check_generates, tiles
from common.errors import UserError
from common.ranges import check_range
from modules.neighbors.nearest_neighbors import NearestNeighbors


@runtime_checkable
class HasSplits(Protocol):
    """A data module that holds its images in memory."""

    splits: dict[str, tuple[Tensor, Tensor]]  # of each split images (N, C, H, W) uint8 and labels (N,)


class NearestTrainingImages(Callback):
    """Draws samples and their nearest training images at the end of `fit`, with distances and the ratio above.

    They are logged as a table too, with a row for each sample.

    Args:
        rows: Number of samples shown, ≥ 1.
        neighbors: Number of training images beside each sample, ≥ 1.
        num_samples: Number of samples, and largest number of validation images, for the ratio, ≥ `rows`.
        seed: Seed of the samples' latents.

    Raises:
        ValueError: If a value is out of its range, the model generates no images, or the data is not held in memory.
    """

    def __init__(self, rows: int = 8, neighbors: int = 7, num_samples: int = 1000, seed: int = 2) -> None:
        check_range("rows", rows, rows >= 1, "at least 1")
        check_range("neighbors", neighbors, neighbors >= 1, "at least 1")
        check_range("num_samples", num_samples, num_samples >= rows, f"at least rows, {rows}")
        self.rows = rows
        self.neighbors = neighbors
        self.num_samples = num_samples
        self.seed = seed
        self.ratio: float | None = None  # of the last picture

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_generates(pl_module, self)
        if not isinstance(trainer.datamodule, HasSplits):  # type: ignore[attr-defined]
            raise UserError(
                "NearestTrainingImages searches the images of a data module that holds them in memory, such as MNIST; "
                "use one, or remove callbacks.NearestTrainingImages from trainer.callbacks."
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, ImageGenerator) and isinstance(data, HasSplits)
        latents = pl_module.latents(self.num_samples, torch.Generator().manual_seed(self.seed))
        samples = pl_module.generate(latents).cpu().mul(255).round().byte()
        training, unseen = data.splits["train"][0].cpu(), data.splits["val"][0][: self.num_samples].cpu()
        memory = NearestNeighbors(training)
        count = min(self.neighbors, len(training))
        distances, indices = memory.search(samples, count)
        title = "samples, left, and their nearest training images"
        if len(unseen):
            self.ratio = float(distances[:, 0].median() / memory.search(unseen, 1)[0].median().clamp(min=1e-12))
            title += f"; distance {self.ratio:.2f} × that of new images"
        pairs = torch.cat([samples[: self.rows, None], training[indices[: self.rows]]], 1).float() / 255
        titles = [
            text
            for row in distances[: self.rows].tolist()
            for text in ("sample", *(f"{distance:.0f}" for distance in row))
        ]
        show(trainer, "nearest_training_images", image_grid(pairs.flatten(0, 1), titles, 1 + count, title))
        rows = [
            (as_pixels(pair[:1])[0], tiles(pair[1:], count, zoom=1), row[0], ", ".join(f"{d:.0f}" for d in row))
            for pair, row in zip(pairs, distances[: self.rows].tolist(), strict=True)
        ]
        columns = ("sample", "nearest training images", "smallest distance", "distances")
        log_table(trainer, "tables/samples", columns, rows)
