"""What a captioner sees: an image, or features of one, as a grid of L vectors that it can attend to.

    image (C, H, W)     convolutions – a grid of h × w vectors, L = hw
    features (L, D′)    as they are: the grid of a network that has looked at the images before
    features (D′)       a grid of one vector

    grid_l = LayerNorm(W f_l + b + p_l)

with a learned vector p_l for each place, or nothing would tell a captioner that attends to places which of them lie
left of which: attention is a sum over the grid in any order. Source: N. Carion et al., arXiv 2005.12872, section 3.2.

The convolutions are those of a network of timm, by name, or else our own for drawn scenes: stages of a convolution with
stride 2, batch normalization and ReLU. The first convolution is 5×5, the others 3×3. A stride computes a quarter of
what a convolution with pooling after it does.

Shapes: B images in a batch, C channels, H×W pixels, h×w = L places of the grid, D′ numbers in a feature, D width.
"""

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor, nn

from common.errors import UserError
from modules.networks.backbones import create_backbone


class ImageEncoder(nn.Module):
    """Images (B, C, H, W) or features (B, L, D′) or (B, D′) to a grid (B, L, D).

    Args:
        input_shape: of one image or its features.
        width: D, at least 1.
        channels: of each stage of our own convolutions, at least one stage.
        backbone: name of a model of timm instead of them, such as resnet18.
        pretrained: weights of the backbone: hub, a file, or None for random ones.
        freeze_backbone: leave the backbone as it is.

    Raises:
        ValueError: a value out of the range given above, or inputs of another shape.
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
                "give --model.backbone a name of timm, or leave them out."
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
                self.network = create_backbone(backbone, 0, input_shape[0], pretrained, {})
            self.network.requires_grad_(not freeze_backbone).to(memory_format=torch.channels_last)
        self.eval()  # or looking at zeros would move running averages
        with torch.no_grad():
            *grid, features = self._look(torch.zeros(1, *input_shape)).shape[1:]
        # Where the places of flat features lie, nobody says: a square number of them is taken for a square.
        side = isqrt(grid[0])
        self.grid = (grid[0], grid[1]) if len(grid) == 2 else (side, side) if side**2 == grid[0] else (1, grid[0])
        self.project = nn.Linear(features, width)
        self.places = nn.Parameter(0.02 * torch.randn(self.grid[0] * self.grid[1], width))
        self.norm = nn.LayerNorm(width)
        self.train()

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, *input_shape) to a grid (B, L, D)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self._look(inputs)
        grid: Tensor = self.norm(self.project(features.flatten(1, -2)) + self.places)
        return grid

    def _look(self, inputs: Tensor) -> Tensor:
        """Features of the places: (B, *input_shape) to (B, h, w, D′), or (B, L, D′) where they lie in a row."""
        if self.network is None:
            return inputs if inputs.ndim == 3 else inputs[:, None]
        images = inputs.contiguous(memory_format=torch.channels_last)
        if isinstance(self.network, nn.Sequential):
            return self.network(images).permute(0, 2, 3, 1)
        found: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        if found.ndim == 3:  # a transformer; its first vectors are of no place
            return found[:, int(getattr(self.network, "num_prefix_tokens", 0)) :]
        return found if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else found.permute(0, 2, 3, 1)

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Training or evaluation; a frozen backbone stays in evaluation, or its running averages would move."""
        super().train(mode)
        if self.frozen and self.network is not None:
            self.network.eval()
        return self


def _convolutions(input_shape: Sequence[int], channels: Sequence[int]) -> nn.Sequential:
    """Stages that halve height and width: (B, C, H, W) to (B, M, H/2ⁿ, W/2ⁿ)."""
    if not channels or min(channels) < 1:
        raise UserError(f"channels is {list(channels)}; give at least one stage with at least 1 channel each.")
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
