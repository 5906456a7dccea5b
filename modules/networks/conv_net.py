"""Convolutional network: stages of convolution, normalization, ReLU and pooling, then a linear classifier.

    {{conv – normalization – ReLU} × convs_per_stage – pool} × (number of stages)  –  mean over positions  –  affine

Every convolution keeps height and width, unless `padding` is false; every pooling halves them. The last feature maps
are averaged over their positions, which keeps the classifier small and independent of where an object is.

Sources: https://cs231n.github.io/convolutional-networks/; K. Simonyan, A. Zisserman, arXiv 1409.1556 for stacked 3×3
convolutions; M. Lin et al., arXiv 1312.4400 for global average pooling; normalization: `normalization.py`.

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
from common.ranges import check_range
from modules.base.classifier import Classifier
from modules.networks.initialization import check_settings
from modules.networks.normalization import ImageNorm, image_norm


class ConvNet(Classifier):
    """Convolutional network in stages, each ending in a pooling that halves height and width.

    Args:
        input_shape: Shape (C, H, W) of the images; H and W at least 2 to the power of the number of stages.
        num_classes: Number of classes K, ≥ 2.
        channels: Channels M of each stage, each ≥ 1.
        convs_per_stage: Convolutions before each pooling, in [1, 1000].
        kernel_size: Side of the convolution kernels in pixels, odd.
        normalization: Normalization after each convolution: none, batch, layer or group.
        groups: Number of groups in group normalization; it must divide the channels of each stage.
        pooling: Pooling over 2×2 pixels: max or avg.
        dropout: Probability of dropping a value before the last layer, in [0, 1); the course's p is 1 − dropout.
        padding: Whether convolutions pad with zeros to keep height and width; without, each takes kernel_size − 1
            pixels of them.

    Raises:
        ValueError: If a value is out of its range, the inputs are not images, or no pixel is left of them.
    """

    class_templates: ClassVar[bool] = False  # `templates` returns one per filter, not per class
    stackable: ClassVar[frozenset[str]] = frozenset({"dropout"})

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
        padding: bool = True,
    ) -> None:
        super().__init__(num_classes)
        _check_images(input_shape, len(channels))
        valid = len(channels) > 0 and all(number >= 1 for number in channels)
        check_range("channels", list(channels), valid, "at least one stage, each with at least 1 channel")
        check_range("convs_per_stage", convs_per_stage, 1 <= convs_per_stage <= 1000, "in [1, 1000]")
        check_range("kernel_size", kernel_size, kernel_size >= 1 and kernel_size % 2 == 1, "odd, such as 3")
        check_range("pooling", repr(pooling), pooling in ("max", "avg"), "max or avg")
        check_settings(dropout=dropout)
        if not padding:
            _check_unpadded(input_shape, len(channels), convs_per_stage, kernel_size)
        self.save_hyperparameters(logger=False)
        self.stages = nn.ModuleList()
        before = input_shape[0]
        for width in channels:
            layers: list[nn.Module] = []
            for _ in range(convs_per_stage):
                border = kernel_size // 2 if padding else 0
                conv = nn.Conv2d(before, width, kernel_size, padding=border, bias=normalization == "none")
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                layers += [conv, image_norm(normalization, width, groups), nn.ReLU()]
                before = width
            if pooling == "max":  # max pooling commutes with ReLU, which then has a quarter of the values
                layers.insert(-1, nn.MaxPool2d(2))
            else:
                layers.append(nn.AvgPool2d(2))
            self.stages.append(nn.Sequential(*layers))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(before, num_classes)
        nn.init.normal_(self.output.weight, std=0.01)  # small, so that all classes start with nearly equal scores
        nn.init.zeros_(self.output.bias)
        self.example_input_array = torch.zeros(2, *input_shape)
        self.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, K) of images (B, C, H, W)."""
        maps = images.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            maps = stage(maps)  # (B, M, H/2, W/2), (B, M, H/4, W/4), …
        logits: Tensor = self.output(self.dropout(maps.mean((2, 3))))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy, a scalar, of logits (B, K) and labels (B,).

        The optimizer's weight decay regularizes the weights.
        """
        return F.cross_entropy(logits, labels)

    def expected_initial_loss(self) -> float:
        """Returns ln K: with nearly equal scores, every class has probability about 1/K."""
        return log(self.num_classes)

    def templates(self) -> Tensor:
        """Returns the filters of the first convolution, (M, C, kernel_size, kernel_size)."""
        first = self.stages[0][0]  # type: ignore[index]
        assert isinstance(first, nn.Conv2d)
        return first.weight.detach()

    def feature_maps(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the output of each stage for images (B, C, H, W), by name: (B, M, H/2, W/2), (B, M, H/4, W/4), …"""
        maps, outputs = images.contiguous(memory_format=torch.channels_last), {}
        for number, stage in enumerate(self.stages, start=1):
            maps = outputs[f"stage {number}"] = stage(maps)
        return outputs


def _check_images(input_shape: Sequence[int], stages: int) -> None:
    if len(input_shape) != 3:
        raise UserError(
            f"A convolutional network takes images (C, H, W), but the data has shape {tuple(input_shape)}; "
            "choose a preprocessing that keeps them images, such as standardize."
        )
    if min(input_shape[1:]) < 2**stages:
        raise UserError(
            f"{stages} stages halve the image {stages} times, but it has {input_shape[1]}×{input_shape[2]} pixels; "
            f"use at most {min(input_shape[1:]).bit_length() - 1} stages."
        )


def _check_unpadded(input_shape: Sequence[int], stages: int, convs: int, kernel_size: int) -> None:
    side = min(input_shape[1:])
    for stage in range(1, stages + 1):
        side = (side - convs * (kernel_size - 1)) // 2
        if side < 1:
            raise UserError(
                f"Without padding, stage {stage} leaves no pixel of {input_shape[1]}×{input_shape[2]}: kernel_size is "
                f"{kernel_size}, convs_per_stage {convs}; make them smaller, use fewer stages, or set padding to true."
            )
