"""What models made of affine layers W x + b share: their settings, their weights at the start, and their penalty.

Source of the starting weights: K. He et al., arXiv 1502.01852; https://cs231n.github.io/neural-networks-2/#init
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.errors import UserError

_LEVEL = 1e-2  # weights no larger than this give scores near 0


def check_settings(reg: float = 0.0, weight_scale: float | None = None, dropout: float = 0.0) -> None:
    """Refuses settings out of range.

    Raises:
        ValueError: a negative λ, a weight scale that is not above 0, a dropout probability outside [0, 1).
    """
    if not reg >= 0:
        raise UserError(f"reg is {reg}; give 0 (no regularization) or more.")
    if weight_scale is not None and not weight_scale > 0:
        raise UserError(f"weight_scale is {weight_scale}; give a standard deviation above 0, such as 0.001.")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is {dropout}; it must be in [0, 1), where 0 drops nothing.")


def initialize(layers: Sequence[nn.Linear], weight_scale: float | None) -> None:
    """Draws the weights of a network's layers, first to last, from a normal distribution, and sets the biases to 0.

    Args:
        layers: first to last.
        weight_scale: standard deviation of all; None takes He's √(2/fan-in), and a tenth of it in the last layer, so
            that all classes start level.
    """
    for layer in layers:
        share = 0.1 if layer is layers[-1] else 1.0
        nn.init.normal_(layer.weight, std=weight_scale or share * (2 / layer.in_features) ** 0.5)
        nn.init.zeros_(layer.bias)


def starts_level(weight_scale: float | None) -> bool:
    """Whether `initialize` leaves all scores near 0, so that the loss before training is known."""
    return weight_scale is None or weight_scale <= _LEVEL


def penalty(layers: Sequence[nn.Linear], reg: float) -> Tensor:
    """½ λ Σ ‖W‖² over the layers, a scalar; the biases are not regularized."""
    return 0.5 * reg * torch.stack([layer.weight.square().sum() for layer in layers]).sum()
