"""Logs a table of predictions: image, true class, prediction, confidence and loss of mistakes and of other images.

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.logit_reader import BufferedLogitReader, gather
from callbacks.media import log_table
from callbacks.mistakes_by_class import HasEvaluationImages
from callbacks.pictures import as_pixels
from common.ranges import check_range
from modules.interpretation.feature_extraction import evaluating

COLUMNS = ("index", "image", "true class", "prediction", "confidence", "loss")


class Prediction(NamedTuple):
    """What the model computed for an image."""

    confidence: float  # largest class probability
    image: int  # index of the image in the split
    label: int  # true class
    predicted: int  # class of the largest probability
    logits: Tensor  # (K,)


class PredictionTable(BufferedLogitReader):
    """Logs a table of predictions at the end of `fit` (validation images) and of `test`.

    It has the most confident mistakes, then the first images of the split, which are the same in all runs on the same
    data, so that runs can be joined by the index. Loggers that take no tables, and data modules without
    `evaluation_images`, have none.

    Args:
        mistakes: Number of mistakes, ≥ 0.
        sample: Number of first images, right or wrong, ≥ 0.

    Raises:
        ValueError: If a number is negative.
    """

    def __init__(self, mistakes: int = 32, sample: int = 32) -> None:
        check_range("mistakes", mistakes, mistakes >= 0, "at least 0")
        check_range("sample", sample, sample >= 0, "at least 0")
        self.num_mistakes = mistakes
        self.num_sample = sample
        self.reset()

    def reset(self) -> None:
        super().reset()
        self.mistakes: list[Prediction] = []  # most confident first
        self.sample: list[Prediction] = []

    def count(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Keeps the most confident mistakes so far, and the first images of the split."""
        confidence, predicted = logits.float().softmax(1).max(1)

        def predictions(rows: Tensor) -> list[Prediction]:
            columns = (
                confidence[rows].tolist(),
                indices[rows].tolist(),
                labels[rows].tolist(),
                predicted[rows].tolist(),
            )
            return [Prediction(*values) for values in zip(*columns, logits[rows].cpu(), strict=True)]

        of_mistakes = torch.where(predicted == labels, -1.0, confidence)
        rows = of_mistakes.argsort(descending=True, stable=True)[: self.num_mistakes]  # of equal ones the first
        self.mistakes = _most_confident(self.mistakes + predictions(rows[of_mistakes[rows] >= 0]), self.num_mistakes)
        self.sample += predictions((indices < self.num_sample).nonzero().flatten())

    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        self.flush()
        gathered = gather(trainer, (self.mistakes, self.sample))
        data = getattr(trainer, "datamodule", None)
        mistakes = _most_confident([p for of_rank, _ in gathered for p in of_rank], self.num_mistakes)
        shown = {p.image for p in mistakes}
        sample = [p for _, of_rank in gathered for p in of_rank if p.image not in shown]
        predictions = mistakes + sorted(sample, key=lambda p: p.image)
        if not predictions or not isinstance(data, HasEvaluationImages):
            return
        images = as_pixels(data.evaluation_images(split, torch.tensor([p.image for p in predictions])))
        names = [str(name) for name in data.class_names]
        rows = [
            (p.image, image, names[p.label], names[p.predicted], p.confidence, loss)
            for p, image, loss in zip(predictions, images, _losses(pl_module, predictions), strict=True)
        ]
        log_table(trainer, f"tables/predictions/{split}", COLUMNS, rows)


def _most_confident(mistakes: list[Prediction], count: int) -> list[Prediction]:
    """Returns the mistakes of highest probability; ties are resolved by the index in the split."""
    return sorted(mistakes, key=lambda mistake: (-mistake.confidence, mistake.image))[:count]


@torch.no_grad()
def _losses(model: LightningModule, predictions: list[Prediction]) -> list[float]:
    """Returns the model's loss of each image, cross-entropy if it has no function `loss`."""
    loss: Any = getattr(model, "loss", F.cross_entropy)
    with evaluating(model):  # training may smooth the labels
        return [
            float(loss(p.logits[None].to(model.device), torch.tensor([p.label], device=model.device)))
            for p in predictions
        ]
