"""Base class of all classifiers: training and evaluation steps, metrics, and the confusion matrix behind each accuracy.

A topic subclasses it and defines `forward` (images to logits) and `loss` (logits and labels to a scalar).

Shapes: B images in a batch, K classes.
"""

from abc import ABC, abstractmethod
from math import nan
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from common.ranges import check_range
from modules.base.buffered_metrics import BufferedMetrics

ImageBatch = tuple[Tensor, Tensor]  # preprocessed images (B, ...), labels (B,) int64


class Classifier(BufferedMetrics, ABC):
    """Classifies images into `num_classes` classes; logs loss and accuracy as `train/…`, `val/…` and `test/…`.

    The accuracy of each class is `val/accuracy/CLASS` and `test/accuracy/CLASS`.

    Args:
        num_classes: Number of classes K, ≥ 2.

    Raises:
        ValueError: If there are fewer than 2 classes.
    """

    metrics_by_class: ClassVar[tuple[str, ...]] = ("val/accuracy",)  # logged for each class too, as NAME/CLASS

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        check_range("num_classes", num_classes, num_classes >= 2, "at least 2")
        self.num_classes = num_classes
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)
        # float64: a float32 sum over a data set would depend on how its batches are divided among processes.
        self.eval_loss = MeanMetric(nan_strategy=nan).set_dtype(torch.float64)  # a NaN is not left out
        self._class_weights: Tensor | None = None  # (K,), of the training loss, if the data has any

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the training loss of a batch, a scalar, of logits (B, K) and labels (B,)."""

    def training_targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the images (B, ...) and targets of a training step; a subclass may mix images here."""
        return images, labels

    def test_logits(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) for `test` and `predict`; a subclass may add test-time augmentation here."""
        logits: Tensor = self(images)
        return logits

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that training and validation log."""
        return ("train/loss", "train/accuracy", "val/loss", "val/accuracy")

    def expected_initial_loss(self) -> float | None:
        """Returns the loss to expect before training, when all logits are near 0, or None if it is unknown."""
        return None

    def on_train_start(self) -> None:
        super().on_train_start()
        weights = getattr(getattr(self.trainer, "datamodule", None), "class_weights", None)
        self._class_weights = None if weights is None else weights.to(self.device)

    def weighted_loss(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Returns the mean over a batch of each image's loss times the weight of its class.

        Args:
            logits: Logits (B, K).
            targets: Labels (B,), or targets (B, K), whose weight is that of their classes in proportion.
            weights: Weight of each class, (K,).
        """
        losses = torch.vmap(lambda scores, target: self.loss(scores[None], target[None]))(logits, targets)  # (B,)
        of_images = weights[targets] if targets.ndim == 1 else targets.to(weights) @ weights
        return (losses * of_images).mean()

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        images, labels = batch
        images, targets = self.training_targets(images, labels)
        logits = self(images)
        weights = self._class_weights
        loss = self.loss(logits, targets) if weights is None else self.weighted_loss(logits, targets, weights)
        correct = (logits.detach().argmax(1) == labels).sum()
        self.count_training_batch(len(labels), loss=loss.detach() * len(labels), accuracy=correct)
        return loss

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Counts the batch and returns its logits (B, K), for callbacks."""
        return self._count_evaluation_batch(self(batch[0]), batch[1])

    def test_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Counts the batch and returns its logits (B, K), for callbacks."""
        return self._count_evaluation_batch(self.test_logits(batch[0]), batch[1])

    def _count_evaluation_batch(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.confusion.update(logits, labels)
        self.eval_loss.update(self.loss(logits, labels).double(), len(labels))
        return logits

    def on_validation_epoch_end(self) -> None:
        loss, matrix = self._evaluation_result()
        self.log_dict({"val/loss": loss, "val/accuracy": matrix.trace() / matrix.sum()}, prog_bar=True)
        self.log_dict(self._accuracy_by_class("val", matrix))

    def on_test_epoch_end(self) -> None:
        loss, matrix = self._evaluation_result()
        self.log_dict({"test/loss": loss, "test/accuracy": matrix.trace() / matrix.sum(), "test/images": matrix.sum()})
        self.log_dict(self._accuracy_by_class("test", matrix))

    def _accuracy_by_class(self, split: str, matrix: Tensor) -> dict[str, Tensor]:
        """Returns the accuracy of each class that has images, by metric name, of a confusion matrix (K, K)."""
        images, correct = matrix.sum(1), matrix.diag()
        by_class = zip(self._class_names(), correct / images, images.tolist(), strict=True)
        return {f"{split}/accuracy/{name}": accuracy for name, accuracy, number in by_class if number}

    def _evaluation_result(self) -> tuple[Tensor, Tensor]:
        """Mean loss and confusion matrix (K, K), rows the true classes, over all processes, and resets both."""
        loss, matrix = self.eval_loss.compute(), self.confusion.compute().double()
        self.confusion_matrix = matrix.long()
        self.eval_loss.reset()
        self.confusion.reset()
        return loss, matrix

    def _class_names(self) -> list[str]:
        data = getattr(self.trainer, "datamodule", None)
        return list(getattr(data, "class_names", range(self.num_classes)))

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Returns class probabilities (B, K), the softmax of the logits."""
        return self.test_logits(batch[0]).float().softmax(1)
