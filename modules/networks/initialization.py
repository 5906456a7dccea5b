"""Initialization and L2 regularization of affine layers W x + b.

Sources: K. He et al., arXiv 1502.01852; https://cs231n.github.io/neural-networks-2/#init
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.ranges import check_range

_LEVEL = 1e-2  # with weights up to this scale, the scores are near 0


def check_settings(reg: float = 0.0, weight_scale: float | None = None, dropout: float = 0.0) -> None:
    """Refuses settings that are out of range.

    Raises:
        ValueError: If λ is negative, the weight scale is not positive, or the dropout probability is outside [0, 1).
    """
    check_range("reg", reg, reg >= 0, "≥ 0")
    check_range("weight_scale", weight_scale, weight_scale is None or weight_scale > 0, "> 0, such as 0.001")
    check_range("dropout", dropout, 0 <= dropout < 1, "in [0, 1)")


def initialize(layers: Sequence[nn.Linear], weight_scale: float | None) -> None:
    """Draws the weights of affine layers from a normal distribution and sets the biases to 0.

    Args:
        layers: Layers of a network, first to last.
        weight_scale: Standard deviation of all weights; None takes He's √(2/fan-in), and a tenth of it in the last
            layer, so that all classes start with nearly equal scores.
    """
    for layer in layers:
        factor = 0.1 if layer is layers[-1] else 1.0
        nn.init.normal_(layer.weight, std=weight_scale or factor * (2 / layer.in_features) ** 0.5)
        nn.init.zeros_(layer.bias)


def starts_near_zero(weight_scale: float | None) -> bool:
    """Returns whether `initialize` leaves all scores near 0, so that the initial loss is known."""
    return weight_scale is None or weight_scale <= _LEVEL


def l2_penalty(layers: Sequence[nn.Linear], reg: float | Tensor) -> Tensor:
    """Returns ½ λ Σ ‖W‖² over the layers, a scalar; biases are not regularized."""
    return 0.5 * reg * torch.stack([layer.weight.square().sum() for layer in layers]).sum()
