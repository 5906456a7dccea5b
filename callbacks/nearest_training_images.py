"""Draws samples beside their nearest training images, to see whether a generator memorizes its training set.

A generator that memorizes generates images at distance near 0 from a training image. A single picture can't
say what "nearly" is, so the distances are held against those of real images that the model never saw:

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

from callbacks.pictures import image_grid, show
from callbacks.samples import Generates, check_generates
from common.errors import UserError
from modules.neighbors.nearest_neighbors import NearestNeighbors


@runtime_checkable
class HasSplits(Protocol):
    """A data module that holds its images in memory."""

    splits: dict[str, tuple[Tensor, Tensor]]  # of each split images (N, C, H, W) uint8 and labels (N,)


class NearestTrainingImages(Callback):
    """Draws samples and their nearest training images at the end of `fit`, with distances and the ratio above.

    Args:
        rows: Number of samples shown, ≥ 1.
        neighbors: Number of training images beside each, ≥ 1.
        num_samples: Number of samples, and largest number of validation images, for the ratio, ≥ `rows`.
        seed: Seed of the samples' latents.

    Raises:
        ValueError: a value out of the range given above, a model that makes no images, or data not held in memory.
    """

    def __init__(self, rows: int = 8, neighbors: int = 7, num_samples: int = 1000, seed: int = 2) -> None:
        if rows < 1 or neighbors < 1 or num_samples < rows:
            raise UserError(
                f"rows is {rows}, neighbors is {neighbors} and num_samples is {num_samples}; give at least 1 row, "
                "1 neighbor and a sample for each row."
            )
        self.rows = rows
        self.neighbors = neighbors
        self.num_samples = num_samples
        self.seed = seed
        self.ratio: float | None = None  # of the last picture

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_generates(pl_module, self)
        if not isinstance(trainer.datamodule, HasSplits):  # type: ignore[attr-defined]
            raise UserError(
                "NearestTrainingImages looks through the images of a data module that holds them in memory, such as "
                "MNIST; give one, or take callbacks.NearestTrainingImages from trainer.callbacks."
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, Generates) and isinstance(data, HasSplits)
        latents = pl_module.latents(self.num_samples, torch.Generator().manual_seed(self.seed))
        samples = pl_module.generate(latents).cpu().mul(255).round().byte()
        training, unseen = data.splits["train"][0].cpu(), data.splits["val"][0][: self.num_samples].cpu()
        memory = NearestNeighbors(training)
        count = min(self.neighbors, len(training))
        distances, places = memory.search(samples, count)
        title = "samples, left, and their nearest training images"
        if len(unseen):
            self.ratio = float(distances[:, 0].median() / memory.search(unseen, 1)[0].median().clamp(min=1e-12))
            title += f"; distance {self.ratio:.2f} × that of new images"
        shown = torch.cat([samples[: self.rows, None], training[places[: self.rows]]], 1).flatten(0, 1)
        titles = [
            text
            for row in distances[: self.rows].tolist()
            for text in ("sample", *(f"{distance:.0f}" for distance in row))
        ]
        show(trainer, "nearest_training_images", image_grid(shown.float() / 255, titles, 1 + count, title))
