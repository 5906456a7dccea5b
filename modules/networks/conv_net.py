"""Convolutional network: stages of convolution, normalization, ReLU and pooling, then a linear classifier.

    {{conv – normalization – ReLU} × convs_per_stage – pool} × (number of stages)  –  mean over positions  –  affine

Every convolution keeps height and width; every pooling halves them. What is left of the image is averaged over its
positions, which makes the last layer small and lets an object be anywhere.

Sources: https://cs231n.github.io/convolutional-networks/; K. Simonyan, A. Zisserman, arXiv 1409.1556 for stacked 3×3
convolutions; M. Lin et al., arXiv 1312.4400 for the mean over positions; normalization: `normalization.py`.

    python -m pipelines.train fit --config convnet

Shapes: B images in a batch, C channels, H×W pixels, M channels of a stage, K classes.
"""

from collections.abc import Sequence
from math import log
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.base.classifier import Classifier
from modules.networks.initialization import check_settings
from modules.networks.normalization import ImageNorm, image_norm


class ConvNet(Classifier):
    """Stages of convolutions, each ending in a pooling that halves height and width.

    Args:
        input_shape: (C, H, W) of the images; H and W at least 2 to the power of the number of stages.
        num_classes: K, at least 2.
        channels: M of each stage, each at least 1.
        convs_per_stage: convolutions before each pooling, at least 1.
        kernel_size: side of the convolutions in pixels, odd.
        normalization: none, batch, layer or group, after each convolution.
        groups: of the channels in group normalization; divides the channels of each stage.
        pooling: max or avg, over 2×2 pixels.
        dropout: Probability of dropping a value before the last layer, in [0, 1). The course's p is 1 − dropout.

    Raises:
        ValueError: a value out of the range given above, or inputs that are not images.
    """

    class_templates: ClassVar[bool] = False  # whether `templates` has one for each class

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        channels: Sequence[int] = (64, 128, 256),
        convs_per_stage: int = 2,
        kernel_size: int = 3,
        normalization: ImageNorm = "batch",
        groups: int = 16,
        pooling: Literal["max", "avg"] = "max",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_classes)
        _check_images(input_shape, len(channels))
        if not channels or any(number < 1 for number in channels):
            raise UserError(f"channels is {list(channels)}; give at least one stage with at least 1 channel each.")
        if convs_per_stage < 1:
            raise UserError(f"convs_per_stage is {convs_per_stage}; give at least 1.")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"kernel_size is {kernel_size}; give an odd number, such as 3.")
        if pooling not in ("max", "avg"):
            raise UserError(f"pooling is {pooling!r}; give max or avg.")
        check_settings(dropout=dropout)
        self.save_hyperparameters(logger=False)
        self.stages = nn.ModuleList()
        before = input_shape[0]
        for width in channels:
            layers: list[nn.Module] = []
            for _ in range(convs_per_stage):
                conv = nn.Conv2d(before, width, kernel_size, padding=kernel_size // 2, bias=normalization == "none")
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                layers += [conv, image_norm(normalization, width, groups), nn.ReLU()]
                before = width
            if pooling == "max":  # commutes with ReLU, which then has a quarter left to do
                layers.insert(-1, nn.MaxPool2d(2))
            else:
                layers.append(nn.AvgPool2d(2))
            self.stages.append(nn.Sequential(*layers))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(before, num_classes)
        nn.init.normal_(self.output.weight, std=0.01)  # small, so that all classes start level
        nn.init.zeros_(self.output.bias)
        self.example_input_array = torch.zeros(2, *input_shape)
        self.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        maps = images.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            maps = stage(maps)  # (B, M, H/2, W/2), (B, M, H/4, W/4), …
        logits: Tensor = self.output(self.dropout(maps.mean((2, 3))))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy: logits (B, K), labels (B,) to a scalar. Regularize with the optimizer's weight_decay."""
        return F.cross_entropy(logits, labels)

    def expected_initial_loss(self) -> float:
        """ln K: with nearly equal scores every class has probability 1/K."""
        return log(self.num_classes)

    def templates(self) -> Tensor:
        """The filters of the first convolution: (M, C, kernel_size, kernel_size)."""
        first = self.stages[0][0]  # type: ignore[index]
        assert isinstance(first, nn.Conv2d)
        return first.weight.detach()

    def feature_maps(self, images: Tensor) -> dict[str, Tensor]:
        """What each stage makes of images (B, C, H, W): its name to maps (B, M, H/2, W/2), (B, M, H/4, W/4), …"""
        maps, found = images.contiguous(memory_format=torch.channels_last), {}
        for number, stage in enumerate(self.stages, start=1):
            maps = found[f"stage {number}"] = stage(maps)
        return found


def _check_images(input_shape: Sequence[int], stages: int) -> None:
    if len(input_shape) != 3:
        raise UserError(
            f"A convolutional network takes images (C, H, W), but the data has shape {tuple(input_shape)}; give a "
            "preprocessing that keeps them images, such as standardize."
        )
    if min(input_shape[1:]) < 2**stages:
        raise UserError(
            f"{stages} stages halve the image {stages} times, but it has {input_shape[1]}×{input_shape[2]} pixels; "
            f"give at most {min(input_shape[1:]).bit_length() - 1} stages."
        )
