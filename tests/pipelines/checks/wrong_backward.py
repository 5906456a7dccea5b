"""A layer with a wrong gradient, for tests of the checks before training."""

from typing import Any

import torch
from torch import Tensor


class WrongBackward(torch.autograd.Function):
    """The identity, with a gradient too large by a tenth."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 1.1 * gradients[0]
