"""Draws the strongest feature maps of each stage of a convolutional network.

The stages are those of the model's `feature_maps`, if it has that method; otherwise the outputs of the last layer of
each map size are captured by forward hooks.

Source: https://cs231n.github.io/understanding-cnn/#vis
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.pictures import figure_to_array, show
from common.errors import UserError
from common.ranges import check_range
from modules.interpretation.feature_extraction import evaluating, feature_maps, find_layer, map_layers, stage_layers


@runtime_checkable
class HasFeatureMaps(Protocol):
    """A model that can show its feature maps."""

    def feature_maps(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the output (B, M, h, w) of each stage for images (B, C, H, W), by name."""


class FeatureMaps(Callback):
    """Draws feature maps of the first validation images at the end of `fit`.

    Each row shows an image and, for each stage, the maps with the largest mean; black is 0, white the largest value.

    Args:
        num_images: Number of images, ≥ 1.
        maps_per_stage: Number of maps of each stage, ≥ 1.
        layers: Names of the layers to show, such as stages.0.3; None shows the stages.

    Raises:
        ValueError: If a value is below 1, a layer does not exist, or the model has no feature maps.
    """

    def __init__(self, num_images: int = 6, maps_per_stage: int = 6, layers: Sequence[str] | None = None) -> None:
        check_range("num_images", num_images, num_images >= 1, "at least 1")
        check_range("maps_per_stage", maps_per_stage, maps_per_stage >= 1, "at least 1")
        self.num_images = num_images
        self.maps_per_stage = maps_per_stage
        self.layers = layers
        self._images: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        example = pl_module.example_input_array
        if isinstance(example, Tensor):
            example = example[:1].to(pl_module.device)
            with evaluating(pl_module):
                for name in self.layers or []:
                    find_layer(pl_module, name, example)
                has_maps = isinstance(pl_module, HasFeatureMaps) or bool(map_layers(pl_module, example))
        else:
            has_maps = isinstance(pl_module, HasFeatureMaps)
        if not has_maps:
            raise UserError(
                f"{type(pl_module).__name__} has no feature maps to show; remove callbacks.FeatureMaps from "
                "trainer.callbacks."
            )

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: tuple[Tensor, Tensor], *_: object
    ) -> None:
        if self._images is None:
            self._images = batch[0][: self.num_images].clone()

    @torch.no_grad()
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._images is None:
            return
        with evaluating(pl_module):
            if self.layers is None and isinstance(pl_module, HasFeatureMaps):
                maps = pl_module.feature_maps(self._images)
            else:
                names = self.layers or stage_layers(pl_module, self._images[:1])
                maps = feature_maps(pl_module, names, self._images)
        data = getattr(trainer, "datamodule", None)
        preprocessing = getattr(data, "preprocessing", None)
        images = preprocessing.inverse(self._images) if preprocessing else self._images
        show(trainer, "feature_maps", feature_map_picture(images, maps, self.maps_per_stage))


def feature_map_picture(images: Tensor, maps: dict[str, Tensor], maps_per_stage: int) -> np.ndarray:
    """Draws images (B, C, H, W) in [0, 1] with their strongest maps; returns the picture (height, width, 3) uint8."""
    from matplotlib.figure import Figure

    columns = 1 + sum(min(maps_per_stage, stage.shape[1]) for stage in maps.values())
    figure = Figure(figsize=(0.75 * columns, 0.8 * len(images) + 0.5), dpi=120, layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    for row, image in zip(axes, images.detach().float().cpu(), strict=True):
        row[0].imshow(image.expand(3, -1, -1).permute(1, 2, 0).numpy(), interpolation="nearest")
    column = 1
    for name, stage in maps.items():
        stage = stage.detach().float().cpu()
        count = min(maps_per_stage, stage.shape[1])
        for row, channels in zip(axes, stage, strict=True):
            strongest = channels.mean((1, 2)).topk(count).indices
            for axis, channel in zip(row[column : column + count], channels[strongest], strict=True):
                axis.imshow(channel.numpy(), cmap="gray", vmin=0, interpolation="nearest")
        title = f"{name}: {stage.shape[2]}×{stage.shape[3]}, {count} of {stage.shape[1]}"
        axes[0, column].set_title(title, fontsize=8, loc="left")
        column += count
    for axis in axes.flatten():
        axis.axis("off")
    return figure_to_array(figure)
