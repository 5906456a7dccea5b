"""Draws saliency maps of validation images during training: which pixels matter for the correct class."""

from typing import Literal, get_args

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.attribution_pictures import saliency_picture
from callbacks.pictures import show
from callbacks.pixel_pictures import PixelPictures, class_names, probabilities
from common.errors import UserError
from modules.interpretation.grad_cam import grad_cam
from modules.interpretation.saliency import saliency, smooth_grad

Method = Literal["gradient", "smoothgrad", "grad_cam"]


class SaliencyMaps(PixelPictures):
    """Draws images, their saliency maps and overlays, every `every_n_epochs` epochs and at the end.

    Args:
        every_n_epochs: Number of epochs between two pictures, ≥ 1.
        num_images: Number of images of the first validation batch, ≥ 1.
        method: Method: gradient, smoothgrad or grad_cam.

    Raises:
        ValueError: If a value is out of its range or the model does not take images.
    """

    def __init__(self, every_n_epochs: int = 5, num_images: int = 8, method: Method = "gradient") -> None:
        super().__init__(every_n_epochs, num_images)
        if method not in get_args(Method):
            raise UserError(f"method is {method!r}; it must be one of {', '.join(get_args(Method))}.")
        self.method = method

    def draw(self, trainer: Trainer, model: LightningModule, images: Tensor, labels: Tensor, when: str) -> None:
        find = {"gradient": saliency, "smoothgrad": smooth_grad, "grad_cam": grad_cam}[self.method]
        maps: Tensor = find(model, images, labels)
        shares = probabilities(model, images)
        names = class_names(trainer, shares.shape[1])
        titles = [f"{names[label]} {share[label]:.0%}" for share, label in zip(shares, labels.tolist(), strict=True)]
        show(trainer, "saliency", saliency_picture(images, maps, titles, self.method, columns=2), caption=when)
