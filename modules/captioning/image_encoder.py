"""Image encoder of captioners: an image, or precomputed features of one, to a grid of L vectors for attention.

    image (C, H, W)     convolutions, to a grid of h × w vectors f_l, L = hw
    features (L, D′)    the grid f_l itself, computed by another network beforehand
    features (D′)       a grid of one vector

    grid_l = LayerNorm(W f_l + b + p_l)

with a learned position embedding p_l: attention does not depend on the order of the grid, so that without p_l a
captioner could not tell left from right. Source: N. Carion et al., arXiv 2005.12872, section 3.2.

The convolutions are those of a timm model, or by default a small network for drawn scenes: stages of a convolution with
stride 2, batch normalization and ReLU. The first convolution is 5×5, the others 3×3. A stride of 2 needs a quarter of
the computation of a convolution followed by pooling.

Shapes: B images in a batch, C channels, H×W pixels, h×w = L positions of the grid, D′ features at each, D width.
"""

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.ranges import check_range
from modules.captioning.earlier_keys import read_earlier_keys
from modules.networks.backbones import create_backbone


class ImageEncoder(nn.Module):
    """Encodes images (B, C, H, W) or features (B, L, D′) or (B, D′) as a grid (B, L, D).

    Args:
        input_shape: Shape of one image or its features.
        width: Number of features D of the grid, ≥ 1.
        channels: Channels of each stage of the default convolutions, at least one stage.
        backbone: Name of a timm model to use instead of them, such as resnet18.
        pretrained: Weights of the backbone: hub for those that timm names, a file, or None for random weights.
        freeze_backbone: Whether to train only the layers after the backbone.

    Raises:
        ValueError: If a value is out of the range given above, or the inputs have another shape.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        width: int,
        channels: Sequence[int] = (32, 64, 128),
        backbone: str | None = None,
        pretrained: str | None = None,
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        if len(input_shape) not in (1, 2, 3) or min(input_shape) < 1:
            raise UserError(
                f"The data has shape {tuple(input_shape)}; a captioner takes images (C, H, W), grid features (L, D) "
                "or pooled features (D,)."
            )
        if backbone is None and (pretrained is not None or freeze_backbone):
            raise UserError(
                f"pretrained is {pretrained!r} and freeze_backbone is {freeze_backbone}, but there is no backbone; "
                "set backbone to the name of a timm model, or leave them out."
            )
        if len(input_shape) < 3 and backbone is not None:
            raise UserError(
                f"backbone is {backbone!r}, but the data has features of shape {tuple(input_shape)} instead of images; "
                "leave the backbone out."
            )
        self.frozen = freeze_backbone
        self.network: nn.Module | None = None
        if len(input_shape) == 3:
            if backbone is None:
                self.network = _convolutions(input_shape, channels)
            else:
                self.network = create_backbone(backbone, 0, input_shape[0], pretrained, {}, input_shape[1:])
            self.network.requires_grad_(not freeze_backbone).to(memory_format=torch.channels_last)
        self.eval()  # in training mode the zeros would change running averages
        with torch.no_grad():
            *grid, features = self._features(torch.zeros(1, *input_shape)).shape[1:]
        # The layout of precomputed features is unknown: a square number of them is taken for a square grid.
        side = isqrt(grid[0])
        self.grid = (grid[0], grid[1]) if len(grid) == 2 else (side, side) if side**2 == grid[0] else (1, grid[0])
        self.project = nn.Linear(features, width)
        self.positions = nn.Parameter(0.02 * torch.randn(self.grid[0] * self.grid[1], width))
        self.norm = nn.LayerNorm(width)
        self.train()
        read_earlier_keys(self, {"places": "positions"})

    def forward(self, inputs: Tensor) -> Tensor:
        """Encodes inputs (B, *input_shape) as a grid (B, L, D)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self._features(inputs)
        grid: Tensor = self.norm(self.project(features.flatten(1, -2)) + self.positions)
        return grid

    def _features(self, inputs: Tensor) -> Tensor:
        """Features of inputs (B, *input_shape): (B, h, w, D′), or (B, L, D′) if their layout is unknown."""
        if self.network is None:
            return inputs if inputs.ndim == 3 else inputs[:, None]
        images = inputs.contiguous(memory_format=torch.channels_last)
        if isinstance(self.network, nn.Sequential):
            return self.network(images).permute(0, 2, 3, 1)
        features: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        if features.ndim == 3:  # a transformer, whose class token and the like come first
            return features[:, int(getattr(self.network, "num_prefix_tokens", 0)) :]
        return features if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else features.permute(0, 2, 3, 1)

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Sets training or evaluation mode; a frozen backbone stays in evaluation mode with its running averages."""
        super().train(mode)
        if self.frozen and self.network is not None:
            self.network.eval()
        return self


def _convolutions(input_shape: Sequence[int], channels: Sequence[int]) -> nn.Sequential:
    """Builds n stages that each halve height and width: (B, C, H, W) to (B, M, H/2ⁿ, W/2ⁿ)."""
    valid = bool(channels) and min(channels) >= 1
    check_range("channels", list(channels), valid, "at least one stage, each with at least 1 channel")
    if min(input_shape[1:]) < 2 ** len(channels):
        raise UserError(
            f"{len(channels)} stages halve the image {len(channels)} times, but it has {input_shape[1]}×"
            f"{input_shape[2]} pixels; give at most {min(input_shape[1:]).bit_length() - 1} channels."
        )
    layers: list[nn.Module] = []
    before = input_shape[0]
    for after in channels:
        size = 3 if layers else 5
        conv = nn.Conv2d(before, after, size, stride=2, padding=size // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    return nn.Sequential(*layers)
