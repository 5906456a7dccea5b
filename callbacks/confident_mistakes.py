"""Draws the most confident mistakes of a classifier: highest probability for a wrong class."""

from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import image_grid, show
from common.ranges import check_range

Mistake = tuple[float, int, int, Tensor]  # probability, predicted class, true class, preprocessed image


class ConfidentMistakes(Callback):
    """Draws the most confident mistakes at the end of `fit` (validation images) and of `test`.

    It reads the logits (B, K) that the model's validation and test steps return.

    Args:
        count: Number of mistakes, ≥ 1.

    Raises:
        ValueError: If the count is below 1.
    """

    def __init__(self, count: int = 20) -> None:
        check_range("count", count, count >= 1, "at least 1")
        self.count = count
        self.mistakes: list[Mistake] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mistakes = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mistakes = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._keep(outputs, *batch)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._keep(outputs, *batch)

    @torch.no_grad()
    def _keep(self, logits: Tensor, images: Tensor, labels: Tensor) -> None:
        """Adds this batch's mistakes and keeps the most confident ones: logits (B, K), images (B, ...), labels (B,)."""
        probabilities, predicted = logits.float().softmax(1).max(1)
        confidence = torch.where(predicted == labels, -1.0, probabilities)
        best, indices = confidence.topk(min(self.count, len(labels)))
        columns = (best.tolist(), predicted[indices].tolist(), labels[indices].tolist(), images[indices].cpu())
        mistakes = [mistake for mistake in zip(*columns, strict=True) if mistake[0] >= 0]
        self.mistakes = sorted(self.mistakes + mistakes, key=lambda mistake: -mistake[0])[: self.count]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer, "test")

    def _show(self, trainer: Trainer, split: str) -> None:
        mistakes = self.mistakes
        if trainer.world_size > 1:
            gathered: list[list[Mistake]] = [[] for _ in range(trainer.world_size)]
            dist.all_gather_object(gathered, mistakes)
            mistakes = sorted(chain.from_iterable(gathered), key=lambda mistake: -mistake[0])[: self.count]
        data = getattr(trainer, "datamodule", None)
        if not mistakes or data is None:
            return
        images = torch.stack([image for *_, image in mistakes])
        if preprocessing := getattr(data, "preprocessing", None):
            images = preprocessing.inverse(images)
        if images.ndim != 4:
            return  # features are not pictures
        names = data.class_names
        titles = [f"{names[predicted]} {p:.0%}\nis {names[true]}" for p, predicted, true, _ in mistakes]
        show(trainer, f"mistakes/{split}", image_grid(images, titles, 5, f"most confident mistakes, {split}"))
