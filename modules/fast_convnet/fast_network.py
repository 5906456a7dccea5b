"""A small, fast convolutional network for images of about 32×32 pixels.

    whitening 2×2 – GELU – {conv 3×3 – pool – norm – GELU – conv 3×3 – norm – GELU} × 3 – max over positions – linear

    whitening         the first layer makes patches uncorrelated; only its bias learns (`whitening.py`)
    Dirac             convolutions begin as the identity (`matrix_conv.py`)
    norm              batch normalization without scale, since the next layer has one; its running averages follow fast
                      (by 0.4 a step), for a run has few steps
    head              logits are divided by 9, so that the loss does not grow steep before the features are good

Source: K. Jordan, arXiv 2404.00498, section 3 and appendix A; `residual` and wider groups are for 96 % (section 4).

Shapes: B images, C channels, H×W pixels, M channels of a group, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.fast_convnet.matrix_conv import MatrixConv2d
from modules.fast_convnet.whitening import Whitening

_NORM_MOMENTUM = 0.4
_HEAD_SCALE = 1 / 9


class ConvGroup(nn.Module):
    """Convolutions, the first of which is followed by a pooling that halves height and width.

    Args:
        channels: that come in.
        width: M, channels that go out.
        convs: how many convolutions, at least 1.
        dirac: whether they begin as the identity.
        residual: add what the first made to what the last makes (K. He et al., arXiv 1512.03385).
    """

    def __init__(self, channels: int, width: int, convs: int, dirac: bool, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.convs = nn.ModuleList(MatrixConv2d(width if i else channels, width, 3, dirac) for i in range(convs))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, momentum=_NORM_MOMENTUM) for _ in range(convs))
        for norm in self.norms:
            norm.weight.requires_grad_(False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) to maps (B, M, H/2, W/2)."""
        first = maps = F.gelu(self.norms[0](F.max_pool2d(self.convs[0](maps), 2)))
        for number, (conv, norm) in enumerate(zip(self.convs[1:], self.norms[1:], strict=True), start=2):
            maps = norm(conv(maps))
            if self.residual and number == len(self.convs):
                maps = maps + first
            maps = F.gelu(maps)
        return maps


class FastNetwork(nn.Module):
    """The network above.

    Args:
        input_shape: (C, H, W) of the images; H and W above 2 to the power of the number of groups.
        num_classes: K.
        widths: M of each group, each at least 1.
        convs_per_group: convolutions of a group, at least 1.
        residual: add a group's first maps to its last ones.
        whitening: whether the first layer is to be fitted; otherwise it is drawn and learns.
        dirac: whether convolutions begin as the identity.
        whitening_epsilon: ε of the whitening.

    Raises:
        ValueError: a value out of the range given above, or inputs that are not images.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        widths: Sequence[int],
        convs_per_group: int,
        residual: bool,
        whitening: bool,
        dirac: bool,
        whitening_epsilon: float,
    ) -> None:
        super().__init__()
        _check_images(input_shape, len(widths))
        if not widths or min(*widths, convs_per_group) < 1:
            raise UserError(
                f"widths is {list(widths)} and convs_per_group {convs_per_group}; give at least one group with at "
                "least 1 channel and convolution each."
            )
        channels = input_shape[0]
        self.first: Whitening | nn.Conv2d = (
            Whitening(channels, epsilon=whitening_epsilon) if whitening else nn.Conv2d(channels, 8 * channels, 2)
        )  # as many filters
        groups, before = [], len(self.first.weight)
        for width in widths:
            groups.append(ConvGroup(before, width, convs_per_group, dirac, residual))
            before = width
        self.groups = nn.Sequential(*groups)
        self.head = nn.Linear(before, num_classes, bias=False)
        self.to(memory_format=torch.channels_last)  # twice as fast in half precision, on GPUs and CPUs

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        maps = F.gelu(self.first(images.contiguous(memory_format=torch.channels_last)))  # (B, 8C, H − 1, W − 1)
        logits: Tensor = self.head(self.groups(maps).amax((2, 3)))
        return logits * _HEAD_SCALE

    def filters(self) -> list[nn.Parameter]:
        """The matrices (M, fan-in) of the groups' convolutions."""
        return [layer.weight for layer in self.modules() if isinstance(layer, MatrixConv2d)]

    def biases(self) -> list[nn.Parameter]:
        """Of the first layer and the normalizations."""
        return [parameter for name, parameter in self.named_parameters() if name.endswith("bias")]

    def other_weights(self) -> list[nn.Parameter]:
        """The last layer's, and the first layer's if it learns."""
        layers = (self.head, self.first)
        return [layer.weight for layer in layers if isinstance(layer.weight, nn.Parameter)]


def _check_images(input_shape: Sequence[int], groups: int) -> None:
    if len(input_shape) != 3:
        raise UserError(
            f"A convolutional network takes images (C, H, W), but the data has shape {tuple(input_shape)}; give a "
            "preprocessing that keeps them images, such as standardize."
        )
    smallest = min(input_shape[1:])
    if smallest - 1 < 2**groups:  # the first layer takes one pixel off
        raise UserError(
            f"{groups} groups halve maps of {smallest - 1} pixels {groups} times, one fewer than the image has; give "
            f"at most {max(0, (smallest - 1).bit_length() - 1)} widths, or larger images."
        )
