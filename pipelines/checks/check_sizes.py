"""How many examples the checks use: fewer for large networks, so that all checks together take a minute on one core.

Central differences evaluate the loss twice for each coordinate. In float64 on one core, ResNet-18 (1.1 · 10⁹ operations
an image of 32×32 pixels) needs 0.5 s for 10 images and 0.1 s for 2. A step of training on 50 images takes it 2 s.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class CheckSizes:
    """Numbers of examples.

    Attributes:
        overfitting: Images for overfitting and for the gradients' norms.
        gradients: Images for the comparison with central differences, ≥ 2.
        coordinates: Coordinates of all parameters that are compared; each parameter has at least one.
    """

    overfitting: int
    gradients: int
    coordinates: int


SMALL = CheckSizes(overfitting=50, gradients=10, coordinates=200)
LARGE = CheckSizes(overfitting=25, gradients=2, coordinates=60)
_LARGE_NETWORK = 0.5e9  # floating-point operations of the forward pass of an example


def check_sizes(model: Any, *inputs: Tensor) -> CheckSizes:
    """Returns the sizes for a model whose forward pass takes inputs (B, ...), B ≥ 2."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return SMALL
    with torch.no_grad(), torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        deepcopy(model).train()(*(values[:2] for values in inputs))
    return LARGE if counter.get_total_flops() / 2 > _LARGE_NETWORK else SMALL
