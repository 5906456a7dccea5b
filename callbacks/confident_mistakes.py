"""Draws the most confident mistakes of a classifier: highest probability for a wrong class."""

from itertools import chain

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.logit_reader import LogitReader, gather
from callbacks.pictures import image_grid, show
from common.ranges import check_range

Mistake = tuple[float, int, int, Tensor]  # probability, predicted class, true class, preprocessed image


class ConfidentMistakes(LogitReader):
    """Draws the most confident mistakes at the end of `fit` (validation images) and of `test`.

    Args:
        count: Number of mistakes, ≥ 1.

    Raises:
        ValueError: If the count is below 1.
    """

    def __init__(self, count: int = 20) -> None:
        check_range("count", count, count >= 1, "at least 1")
        self.count = count
        self.mistakes: list[Mistake] = []

    def reset(self) -> None:
        self.mistakes = []

    def keep(self, trainer: Trainer, logits: Tensor, images: Tensor, labels: Tensor, first: int) -> None:
        """Adds this batch's mistakes and keeps the most confident ones."""
        probabilities, predicted = logits.float().softmax(1).max(1)
        confidence = torch.where(predicted == labels, -1.0, probabilities)
        best, indices = confidence.topk(min(self.count, len(labels)))
        columns = (best.tolist(), predicted[indices].tolist(), labels[indices].tolist(), images[indices].cpu())
        mistakes = [mistake for mistake in zip(*columns, strict=True) if mistake[0] >= 0]
        self.mistakes = sorted(self.mistakes + mistakes, key=lambda mistake: -mistake[0])[: self.count]

    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        gathered = chain.from_iterable(gather(trainer, self.mistakes))
        mistakes = sorted(gathered, key=lambda mistake: -mistake[0])[: self.count]
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
