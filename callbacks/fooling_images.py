"""Draws fooling images during training: small changes that make the network predict another class."""

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.attribution_pictures import fooling_picture
from callbacks.pictures import show
from callbacks.pixel_pictures import PixelPictures, class_names, probabilities
from common.ranges import check_range
from modules.interpretation.fooling_images import fool


class FoolingImages(PixelPictures):
    """Draws images, their fooling images and the magnified change, every `every_n_epochs` epochs and at the end.

    The target is the class after the predicted one; the caption says how many fool the network and by what change.

    Args:
        every_n_epochs: Number of epochs between two pictures, ≥ 1.
        num_images: Number of images of the first validation batch, ≥ 1.
        step: Root mean square change of one step, > 0.
        max_steps: Number of steps after which an image counts as failed, ≥ 1.

    Raises:
        ValueError: If a value is out of its range or the model does not take images.
    """

    def __init__(self, every_n_epochs: int = 5, num_images: int = 8, step: float = 0.001, max_steps: int = 100) -> None:
        super().__init__(every_n_epochs, num_images)
        check_range("step", step, step > 0, "> 0")
        check_range("max_steps", max_steps, max_steps >= 1, "at least 1")
        self.step = step
        self.max_steps = max_steps

    def draw(self, trainer: Trainer, model: LightningModule, images: Tensor, labels: Tensor, when: str) -> None:
        before = probabilities(model, images)
        names = class_names(trainer, before.shape[1])
        result = fool(model, images, (before.argmax(1) + 1) % before.shape[1], self.step, self.max_steps)
        after = probabilities(model, result.images)
        titles = [
            (f"{names[int(one.argmax())]} {one.max():.0%}", f"{names[int(other.argmax())]} {other.max():.0%}")
            for one, other in zip(before, after, strict=True)
        ]
        picture = fooling_picture(result.images - result.change, result.images, titles, columns=2)
        count, change = int(result.succeeded.sum()), float(result.largest.median())
        caption = f"{count} of {len(images)} fool the network, median L∞ {change:.4f}, {when}"
        show(trainer, "fooling", picture, caption=caption)
