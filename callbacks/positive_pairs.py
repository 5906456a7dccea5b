"""Draws positive pairs of contrastive learning: the two views of some training images."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.pictures import image_grid, show
from common.errors import UserError
from common.ranges import check_range


class PositivePairs(Callback):
    """Draws views of the first training batch when `fit` begins.

    Each pair is a column, below the name of its class, which training does not use.

    Args:
        pairs: Number of pairs, ≥ 1.

    Raises:
        ValueError: If the number is below 1, or the training batches contain no pairs.
    """

    def __init__(self, pairs: int = 12) -> None:
        check_range("pairs", pairs, pairs >= 1, "at least 1")
        self.pairs = pairs
        self._shown = False

    @torch.no_grad()
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._shown:
            return
        self._shown = True
        views, labels = batch
        if views.ndim != 5 or views.shape[1] != 2:
            raise UserError(
                f"The training batches {tuple(views.shape)} contain no pairs of views; set data.two_views to {{}}, or "
                "remove callbacks.PositivePairs from trainer.callbacks."
            )
        data = getattr(trainer, "datamodule", None)
        pairs = views[: self.pairs].transpose(0, 1)  # (2, pairs, C, H, W)
        images = pairs.flatten(0, 1)
        if preprocessing := getattr(data, "preprocessing", None):
            images = preprocessing.inverse(images)
        names = getattr(data, "class_names", None)
        titles = [names[label] if names else str(label) for label in labels[: self.pairs].tolist()]
        titles += [""] * len(titles)
        show(trainer, "positive_pairs", image_grid(images, titles, pairs.shape[1], "Two views of each image"))
