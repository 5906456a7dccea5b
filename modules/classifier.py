"""What all classifiers share: the steps, running training figures, and the confusion matrix behind every accuracy.

A topic is a subclass that says `forward` (images to logits) and `loss` (logits and labels to a scalar).

`self.log` costs 0.4 ms a call whether the figure is written or not, as much as a linear model's whole step. So the
training figures are summed in tensors on the device and logged once every `log_every_n_steps`: what a plot shows is
the mean since its last point, not one batch's noise.

Shapes: B images in a batch, K classes.
"""

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

ImageBatch = tuple[Tensor, Tensor]  # preprocessed images (B, ...), labels (B,) int64


@dataclass
class _Sums:
    """Over the training batches since the last log; nothing here makes a GPU wait, so `images` stays in Python."""

    loss: Tensor  # scalars on the device
    correct: Tensor
    images: int = 0


class Classifier(L.LightningModule):
    """Classifies images into `num_classes` classes; logs `train/…`, `val/…` and `test/…` loss and accuracy.

    Args:
        num_classes: K, at least 2.

    Raises:
        ValueError: fewer than 2 classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; a classifier needs at least 2.")
        self.num_classes = num_classes
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)
        # In float64, or the sum over a data set would depend on how its batches were shared among processes.
        self.eval_loss = MeanMetric().set_dtype(torch.float64)
        self._train_sums: _Sums | None = None
        self._logged_step = 0  # the step of the last log

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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at 1e-3, which trains any topic tolerably; the command line's --optimizer takes its place.

        Source: https://cs231n.github.io/neural-networks-3/#ada
        """
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def on_train_start(self) -> None:
        self._logged_step = self.global_step

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        images, labels = batch
        images, targets = self.training_targets(images, labels)
        logits = self(images)
        loss = self.loss(logits, targets)
        self._count_training_batch(loss.detach(), logits.detach(), labels)
        return loss

    def _count_training_batch(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        sums = self._train_sums
        if sums is None or sums.loss.device != labels.device:
            zero = torch.zeros((), device=labels.device)
            sums = self._train_sums = _Sums(zero, zero.clone())
        sums.loss.add_(loss, alpha=len(labels))
        sums.correct.add_((logits.argmax(1) == labels).sum())
        sums.images += len(labels)

    def on_train_batch_end(self, outputs: Any, batch: ImageBatch, batch_idx: int) -> None:
        trainer: Any = self.trainer  # its attributes are set where mypy does not look
        every = trainer.log_every_n_steps  # 0 turns logging off
        # While gradients accumulate, the step stands still and Lightning drops what is logged.
        if not every or self.global_step % every or self.global_step == self._logged_step:
            return
        sums = self._train_sums
        assert sums is not None
        counted = torch.stack([sums.loss, sums.correct, torch.full_like(sums.loss, sums.images)])
        *totals, images = trainer.strategy.reduce(counted, reduce_op="sum").tolist()
        loss, correct = (total / images for total in totals)
        self.log_dict({"train/loss": loss, "train/accuracy": correct}, prog_bar=True)
        self._train_sums, self._logged_step = None, self.global_step

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
