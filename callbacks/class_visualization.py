"""Draws class visualizations during training: for each class, an image that maximizes its score."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import image_grid, show
from callbacks.pixel_pictures import PixelPictures, class_names, probabilities
from common.ranges import check_range
from modules.interpretation.class_visualization import visualize_classes


class ClassVisualization(PixelPictures):
    """Draws an image for each class by gradient ascent from noise, every `every_n_epochs` epochs and at the end.

    Args:
        every_n_epochs: Number of epochs between two pictures, ≥ 1.
        max_classes: Number of classes to show, the first ones, ≥ 1.
        steps: Steps of gradient ascent, ≥ 1.

    Raises:
        ValueError: If a value is below 1 or the model does not take images.
    """

    def __init__(self, every_n_epochs: int = 5, max_classes: int = 10, steps: int = 100) -> None:
        super().__init__(every_n_epochs, num_images=1)
        check_range("max_classes", max_classes, max_classes >= 1, "at least 1")
        check_range("steps", steps, steps >= 1, "at least 1")
        self.max_classes = max_classes
        self.steps = steps

    def draw(self, trainer: Trainer, model: LightningModule, images: Tensor, labels: Tensor, when: str) -> None:
        number = probabilities(model, images).shape[1]
        classes = torch.arange(min(self.max_classes, number), device=images.device)
        channels, height, width = images.shape[1:]
        drawn = visualize_classes(model, classes, (channels, height, width), self.steps)
        picture = image_grid(drawn, class_names(trainer, number)[: len(classes)], 5, f"class visualization {when}")
        show(trainer, "class_visualization", picture, caption=when)
