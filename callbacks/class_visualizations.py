"""Shows the image that a network finds most typical of each class, as training goes on."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import image_grid, show
from callbacks.pixel_pictures import PixelPictures, class_names, probabilities
from common.errors import UserError
from modules.interpretation.class_visualization import visualize_classes


class ClassVisualization(PixelPictures):
    """An image for each class, drawn from noise, every `every_n_epochs` epochs and at the end.

    Args:
        every_n_epochs: epochs between two pictures, at least 1.
        max_classes: how many classes to show at most, the first ones, at least 1.
        steps: of gradient ascent, at least 1.

    Raises:
        ValueError: a value below 1, or a model that is not given images.
    """

    def __init__(self, every_n_epochs: int = 5, max_classes: int = 10, steps: int = 100) -> None:
        super().__init__(every_n_epochs, num_images=1)
        if max_classes < 1 or steps < 1:
            raise UserError(f"max_classes is {max_classes} and steps is {steps}; give at least 1 for each.")
        self.max_classes = max_classes
        self.steps = steps

    def draw(self, trainer: Trainer, model: LightningModule, images: Tensor, labels: Tensor, when: str) -> None:
        number = probabilities(model, images).shape[1]
        classes = torch.arange(min(self.max_classes, number), device=images.device)
        channels, height, width = images.shape[1:]
        drawn = visualize_classes(model, classes, (channels, height, width), self.steps)
        picture = image_grid(drawn, class_names(trainer, number)[: len(classes)], 5, f"most typical images {when}")
        show(trainer, "class_visualization", picture, caption=when)
