"""Draws templates during training: the weights of each class, first-layer unit or filter as images.

Source: https://cs231n.github.io/linear-classify/#interpret
"""

from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import image_grid, show, stretch
from common.errors import UserError
from common.ranges import check_range


@runtime_checkable
class HasTemplates(Protocol):
    """A model whose weights have the shape of its input."""

    class_templates: bool  # whether there is one per class, in order, or one per first-layer unit

    def templates(self) -> Tensor:
        """Returns one template per class or unit, (M, *input_shape)."""


class Templates(Callback):
    """Draws the templates before training, every `every_n_epochs` epochs and at the end.

    Args:
        every_n_epochs: Number of epochs between two pictures, ≥ 1.
        max_templates: Largest number of templates, ≥ 1.

    Raises:
        ValueError: If a value is below 1 or the model has no templates.
    """

    def __init__(self, every_n_epochs: int = 1, max_templates: int = 100) -> None:
        check_range("every_n_epochs", every_n_epochs, every_n_epochs >= 1, "at least 1")
        check_range("max_templates", max_templates, max_templates >= 1, "at least 1")
        self.every_n_epochs = every_n_epochs
        self.max_templates = max_templates

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, HasTemplates):
            raise UserError(
                f"{type(pl_module).__name__} has no templates to show; remove callbacks.Templates from "
                "trainer.callbacks."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            self._show(trainer, pl_module, "before training")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0 or trainer.should_stop or epoch == trainer.max_epochs:
            self._show(trainer, pl_module, f"after epoch {epoch}")

    @torch.no_grad()
    def _show(self, trainer: Trainer, pl_module: LightningModule, when: str) -> None:
        assert isinstance(pl_module, HasTemplates)
        weights = pl_module.templates()[: self.max_templates].float().cpu()
        data = getattr(trainer, "datamodule", None)
        if preprocessing := getattr(data, "preprocessing", None):
            weights = preprocessing.weights_as_images(weights, data.image_shape)  # type: ignore[union-attr]
        if weights.ndim != 4 or weights.shape[1] not in (1, 3):
            return  # features are not pictures
        names = getattr(data, "class_names", ())
        by_class = pl_module.class_templates
        titles = list(names) if by_class and len(names) == len(weights) else [str(i) for i in range(len(weights))]
        columns = 5 if len(weights) <= 10 else 10
        title = f"{type(pl_module).__name__} {'templates' if by_class else 'first layer'} {when}"
        picture = image_grid(stretch(weights), titles, columns, title)
        show(trainer, "templates", picture, caption=when)
