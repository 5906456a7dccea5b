"""Shows what a nearest-neighbor classifier finds: queries in the first column, each beside its nearest neighbors.

Source: https://cs231n.github.io/classification/#nearest-neighbor-classifier
"""

from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import image_grid, show
from common.errors import UserError
from modules.interpretation.feature_extraction import evaluating


@runtime_checkable
class HasNeighbors(Protocol):
    """A model that finds memorized images like those it is given."""

    images: Tensor  # (N, *input_shape), memorized
    labels: Tensor  # (N,) int64

    def neighbors(self, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and places in `images` of the k nearest, nearest first: (B, k), (B, k)."""


class Neighbors(Callback):
    """Queries beside their neighbors at the end of `fit` (validation images) and of `test`.

    The first images of the first batch are shown. A neighbor of the query's class has a green title, any other a red
    one; with it stands its distance.

    Args:
        queries: how many, at least 1.
        count: neighbors of each, at least 1.

    Raises:
        ValueError: a value below 1, or a model without neighbors.
    """

    def __init__(self, queries: int = 8, count: int = 9) -> None:
        if queries < 1 or count < 1:
            raise UserError(f"queries is {queries} and count is {count}; give at least 1 for each.")
        self.queries = queries
        self.count = count
        self.first: tuple[Tensor, Tensor] | None = None  # images (Q, *input_shape), labels (Q,)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, HasNeighbors):
            raise UserError(
                f"{type(pl_module).__name__} has no neighbors to show; take callbacks.Neighbors out of "
                "trainer.callbacks."
            )

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._keep(batch, batch_idx)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self._keep(batch, batch_idx)

    def _keep(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            images, labels = batch
            self.first = images[: self.queries].clone(), labels[: self.queries].clone()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, pl_module, "test")

    @torch.no_grad()
    def _show(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        assert isinstance(pl_module, HasNeighbors)
        data = getattr(trainer, "datamodule", None)
        if self.first is None or data is None:
            return
        queries, labels = self.first
        count = min(self.count, len(pl_module.images))
        with evaluating(pl_module):
            distances, places = pl_module.neighbors(queries, count)
        found = pl_module.images[places]  # (Q, count, *input_shape)
        images = torch.cat([queries[:, None], found], 1).flatten(0, 1).cpu()
        if preprocessing := getattr(data, "preprocessing", None):
            images = preprocessing.inverse(images)
        if images.ndim != 4:
            return  # features, not pixels: nothing to look at
        titles, colors = [], []
        for true, near, far in zip(labels.tolist(), pl_module.labels[places].tolist(), distances.tolist(), strict=True):
            titles += [
                data.class_names[true],
                *(f"{data.class_names[c]}\n{d:.4g}" for c, d in zip(near, far, strict=True)),
            ]
            colors += ["black", *("green" if c == true else "red" for c in near)]
        picture = image_grid(images, titles, 1 + count, f"{split}: images, left, and their nearest neighbors", colors)
        show(trainer, f"neighbors/{split}", picture, caption=split)
