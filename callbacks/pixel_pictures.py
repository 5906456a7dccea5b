"""Base of the callbacks for interpretation: when they draw, on which images, and the network applied to pixels."""

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from common.errors import UserError
from common.ranges import check_range
from modules.interpretation.feature_extraction import evaluating, taking_pixels


@runtime_checkable
class Invertible(Protocol):
    """A preprocessing of images that can be undone for display."""

    def __call__(self, images: Tensor) -> Tensor:
        """Preprocesses pixels in [0, 255], (B, C, H, W)."""

    def inverse(self, outputs: Tensor) -> Tensor:
        """Returns pixels in [0, 1], (B, C, H, W), of preprocessed inputs."""


class PixelPictures(Callback):
    """Draws every `every_n_epochs` epochs and at the end of `fit`; subclasses define `draw`.

    While it draws, the model is in evaluation mode and takes pixels in [0, 1], to which the data's preprocessing is
    applied first. The random numbers of training are left unchanged.

    Args:
        every_n_epochs: Number of epochs between two pictures, ≥ 1.
        num_images: Number of images of the first validation batch, ≥ 1.

    Raises:
        ValueError: If a value is below 1 or the model does not take images.
    """

    def __init__(self, every_n_epochs: int, num_images: int) -> None:
        check_range("every_n_epochs", every_n_epochs, every_n_epochs >= 1, "at least 1")
        check_range("num_images", num_images, num_images >= 1, "at least 1")
        self.every_n_epochs = every_n_epochs
        self.num_images = num_images
        self._batch: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def draw(self, trainer: Trainer, model: LightningModule, images: Tensor, labels: Tensor, when: str) -> None:
        """Draws images (B, C, H, W) in [0, 1] of classes (B,); `when` is the title's text for the epoch."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if not isinstance(getattr(data, "preprocessing", None), Invertible):
            raise UserError(
                f"{type(data).__name__} has no images whose preprocessing can be inverted for display; "
                f"remove callbacks.{type(self).__name__} from trainer.callbacks."
            )

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: tuple[Tensor, Tensor], *_: object
    ) -> None:
        if self._batch is None:
            images, labels = batch
            self._batch = images[: self.num_images].clone(), labels[: self.num_images].clone()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or trainer.should_stop or epoch == trainer.max_epochs
        if not due or self._batch is None:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        preprocessing = data.preprocessing
        images, labels = (tensor.to(pl_module.device) for tensor in self._batch)
        pixels = preprocessing.inverse(images)
        if pixels.ndim != 4:
            return  # features are not pictures
        with evaluating(pl_module), taking_pixels(pl_module, lambda shown: preprocessing(255 * shown)):
            self.draw(trainer, pl_module, pixels, labels, f"after epoch {epoch}")


def class_names(trainer: Trainer, number: int) -> list[str]:
    """Returns the data module's class names, or numbers."""
    return list(getattr(getattr(trainer, "datamodule", None), "class_names", map(str, range(number))))


@torch.no_grad()
def probabilities(model: LightningModule, images: Tensor) -> Tensor:
    """Returns class probabilities (B, K) of images (B, C, H, W)."""
    probabilities: Tensor = model(images).float().softmax(1)
    return probabilities
