"""What all classifiers share: the steps, their figures, and the confusion matrix behind every accuracy.

A topic is a subclass that says `forward` (images to logits) and `loss` (logits and labels to a scalar).

Shapes: B images in a batch, K classes.
"""

import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from common.errors import UserError
from modules.base.buffered_metrics import BufferedMetrics

ImageBatch = tuple[Tensor, Tensor]  # preprocessed images (B, ...), labels (B,) int64


class Classifier(BufferedMetrics):
    """Classifies images into `num_classes` classes; logs `train/…`, `val/…` and `test/…` loss and accuracy.

    Args:
        num_classes: K, at least 2.

    Raises:
        ValueError: fewer than 2 classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise UserError(f"num_classes is {num_classes}; a classifier needs at least 2.")
        self.num_classes = num_classes
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)
        # In float64, or the sum over a data set would depend on how its batches were shared among processes.
        self.eval_loss = MeanMetric().set_dtype(torch.float64)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The training loss of one batch: logits (B, K), labels (B,) to a scalar. A topic's own."""
        raise NotImplementedError(f"{type(self).__name__} must say its loss.")

    def training_targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What one step learns: images (B, ...) and targets for `loss`. A topic that mixes images says how."""
        return images, labels

    def test_logits(self, images: Tensor) -> Tensor:
        """Logits of `test` and `predict`: images (B, ...) to (B, K). A topic with test-time augmentation says how."""
        logits: Tensor = self(images)
        return logits

    def expected_initial_loss(self) -> float | None:
        """What `loss` should be before training, when all logits are near 0; None if nothing is known."""
        return None

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        images, labels = batch
        images, targets = self.training_targets(images, labels)
        logits = self(images)
        loss = self.loss(logits, targets)
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

    def on_test_epoch_end(self) -> None:
        loss, matrix = self._evaluation_result()
        by_class = matrix.diag() / matrix.sum(1)
        self.log_dict({"test/loss": loss, "test/accuracy": matrix.trace() / matrix.sum(), "test/images": matrix.sum()})
        self.log_dict(
            {f"test/accuracy/{name}": value for name, value in zip(self._class_names(), by_class, strict=True)}
        )

    def _evaluation_result(self) -> tuple[Tensor, Tensor]:
        """Mean loss and confusion matrix (K, K), rows the true classes, over all processes; starts counting anew."""
        loss, matrix = self.eval_loss.compute(), self.confusion.compute().double()
        self.confusion_matrix = matrix.long()
        self.eval_loss.reset()
        self.confusion.reset()
        return loss, matrix

    def _class_names(self) -> list[str]:
        data = getattr(self.trainer, "datamodule", None)
        return list(getattr(data, "class_names", range(self.num_classes)))

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Probabilities of the classes, (B, K): the softmax of the logits."""
        return self.test_logits(batch[0]).float().softmax(1)
