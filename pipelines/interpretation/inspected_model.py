"""Loads a run of this project or a model of timm as a network whose input is pixels in [0, 1].

The preprocessing becomes part of the network: the fitted one of a run, or mean and standard deviation of timm's
configuration. So gradients are with respect to the pixels that a picture shows.

Shapes: C channels, H×W pixels, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.timm_models import create_timm_model
from datamodules import ImageDataModule
from datamodules.images.image_files import open_image, read_images
from datamodules.images.preprocessing import Preprocessing
from modules import Classifier
from pipelines.run.load_model import restore, untrained
from pipelines.run.run_folder import find_run


@dataclass(frozen=True)
class InspectedModel:
    """A network with its class names and a function that reads its images.

    Attributes:
        model: Network from pixels in [0, 1], (B, C, H, W), to logits (B, K), in evaluation mode.
        name: Name of the network for messages.
        class_names: Names of the K classes.
        image_shape: Shape (C, H, W) of an image.
        read: Function from image files to pixels (B, C, H, W) in [0, 1].
        brightness: Mean of the training images in [0, 1], if it is known.
    """

    model: nn.Module
    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    read: Callable[[Sequence[Path]], Tensor]
    brightness: float | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def inspect_run(path: str, invert: bool = False) -> InspectedModel:
    """Loads the network of a checkpoint file or run folder with its preprocessing.

    Args:
        path: Checkpoint file or run folder.
        invert: Whether to invert the images that it reads.

    Raises:
        ValueError: If there is no checkpoint, the model is not an image classifier, or it has no gradient with respect
            to the pixels.
    """
    run, checkpoint = find_run(path)
    model, data = untrained(run, checkpoint)
    if not isinstance(model, Classifier) or not isinstance(data, ImageDataModule):
        raise UserError(
            f"{checkpoint} is of {type(model).__name__} on {type(data).__name__}, which is not an image classifier; "
            "use a run of one."
        )
    preprocessing = data.preprocessing
    if not isinstance(preprocessing, Preprocessing):
        raise UserError(
            f"{checkpoint} classifies features ({preprocessing.method}), which have no gradient with respect to the "
            "pixels; use a run whose network's input is images."
        )
    if preprocessing.method == "pixels":
        raise UserError(
            f"{checkpoint} is of {type(model).__name__}, which compares pixels as integers and has no gradient with "
            "respect to them; use a run of a network."
        )
    restore(model, data, checkpoint)
    _prepend(model, lambda pixels: preprocessing(255 * pixels))
    return InspectedModel(
        model.to(_device()),
        f"{type(model).__name__} on {type(data).__name__}",
        tuple(data.class_names),
        data.image_shape,
        lambda files: read_images(files, data.image_shape, invert, data.resize).float() / 255,
        data.brightness,
    )


def inspect_timm(name: str, weights: Path | None, invert: bool = False) -> InspectedModel:
    """Loads a pretrained model of timm with its transform and, for ImageNet, its class names.

    Args:
        name: Name of the model in timm.
        weights: File of weights; None downloads timm's pretrained weights.
        invert: Whether to invert the images that it reads.

    Raises:
        ValueError: If the model is unknown, or the weights are missing or do not fit.
    """
    import timm
    from timm.data import create_transform, resolve_data_config

    model = _timm_model(name, weights)
    config = resolve_data_config({}, model=model)
    transform = create_transform(**config, normalize=False)  # to uint8
    mean, std = (torch.tensor(config[key]).reshape(-1, 1, 1) for key in ("mean", "std"))  # (C, 1, 1)
    _prepend(model, lambda pixels: (pixels - mean.to(pixels.device)) / std.to(pixels.device))
    mode = "L" if config["input_size"][0] == 1 else "RGB"

    def read(files: Sequence[Path]) -> Tensor:
        pixels = torch.stack([transform(open_image(file, mode)) for file in files]).float() / 255
        return 1 - pixels if invert else pixels

    title = f"{name} of timm {timm.__version__}"
    return InspectedModel(model.to(_device()), title, _timm_classes(model), config["input_size"], read)


def _timm_model(name: str, weights: Path | None) -> Any:
    if weights is not None and not weights.is_file():
        raise UserError(
            f"There is no file of weights at {weights}; set --weights to a file, or omit it to download them."
        )
    model = create_timm_model(name, "hub" if weights is None else str(weights)).eval()
    if not getattr(model, "num_classes", 0):
        raise UserError(f"{name} is not a classifier; use a model of timm that has classes.")
    return model


def _timm_classes(model: Any) -> tuple[str, ...]:
    """Returns ImageNet's class names if the number of classes is that of an ImageNet subset, otherwise indices."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if subset is None:
        return tuple(map(str, range(model.num_classes)))
    return tuple(ImageNetInfo(subset).label_descriptions())


def _prepend(model: nn.Module, preprocess: Callable[[Tensor], Tensor]) -> None:
    model.register_forward_pre_hook(lambda _, inputs: (preprocess(inputs[0]),))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def to_uint8(images: Tensor) -> np.ndarray:
    """Converts images (B, C, H, W) in [0, 1] to (B, H, W, 3) uint8, the layout of image files."""
    levels = (images.detach().cpu().expand(-1, 3, -1, -1) * 255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).numpy()
