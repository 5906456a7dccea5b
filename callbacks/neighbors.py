"""Draws queries of a nearest-neighbor classifier beside their nearest neighbors, and logs them as a table.

Source: https://cs231n.github.io/classification/#nearest-neighbor-classifier
"""

from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.first_batch import FirstBatch
from callbacks.media import log_table
from callbacks.pictures import as_pixels, image_grid, show
from callbacks.samples import tiles
from common.errors import UserError
from common.ranges import check_range
from modules.interpretation.feature_extraction import evaluating


@runtime_checkable
class HasNeighbors(Protocol):
    """A model that finds the nearest of its memorized images."""

    images: Tensor  # (N, *input_shape), memorized
    labels: Tensor  # (N,) int64

    def neighbors(self, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Returns distances (B, k) and indices into `images` (B, k) of the k nearest, nearest first."""


class Neighbors(FirstBatch):
    """Draws queries beside their neighbors at the end of `fit` (validation images) and of `test`.

    The queries are the first images of the first batch. The title of a neighbor is its class and its distance, green if
    the class is the query's and red if not. The table has a row for each query.

    Args:
        queries: Number of queries, ≥ 1.
        count: Number of neighbors of each query, ≥ 1.

    Raises:
        ValueError: If a value is below 1 or the model has no neighbors.
    """

    def __init__(self, queries: int = 8, count: int = 9) -> None:
        check_range("queries", queries, queries >= 1, "at least 1")
        check_range("count", count, count >= 1, "at least 1")
        self.queries = queries
        self.count = count
        self.first: tuple[Tensor, Tensor] | None = None  # images (Q, *input_shape), labels (Q,)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, HasNeighbors):
            raise UserError(
                f"{type(pl_module).__name__} has no neighbors to show; remove callbacks.Neighbors from "
                "trainer.callbacks."
            )

    def keep(self, batch: Any) -> None:
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
            distances, indices = pl_module.neighbors(queries, count)
        nearest = pl_module.images[indices]  # (Q, count, *input_shape)
        images = torch.cat([queries[:, None], nearest], 1).flatten(0, 1).cpu()
        if preprocessing := getattr(data, "preprocessing", None):
            images = preprocessing.inverse(images)
        if images.ndim != 4:
            return  # features are not pictures
        titles, colors, rows = [], [], []
        names = data.class_names
        for query, true, classes, row in zip(
            images.unflatten(0, (-1, 1 + count)),
            labels.tolist(),
            pl_module.labels[indices].tolist(),
            distances.tolist(),
            strict=True,
        ):
            titles += [names[true], *(f"{names[c]}\n{d:.4g}" for c, d in zip(classes, row, strict=True))]
            colors += ["black", *("green" if c == true else "red" for c in classes)]
            near = ", ".join(str(names[c]) for c in classes)
            far = ", ".join(f"{d:.4g}" for d in row)
            rows.append((as_pixels(query[:1])[0], str(names[true]), tiles(query[1:], count, zoom=1), near, far))
        picture = image_grid(images, titles, 1 + count, f"{split}: images, left, and their nearest neighbors", colors)
        show(trainer, f"neighbors/{split}", picture, caption=split)
        columns = ("query", "true class", "neighbors", "classes of neighbors", "distances")
        log_table(trainer, f"tables/neighbors/{split}", columns, rows)
