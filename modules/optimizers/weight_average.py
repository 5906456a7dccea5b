"""Exponential moving average of a network's weights: a second network that stands still where the first one circles.

    w̄ ← d w̄ + (1 − d) w,    d = min(decay, (1 + t) / (10 + t)) at step t

At the start d is small, so that the average soon forgets the weights that were drawn at random. Running figures of
batch normalization are averaged as the weights are.

Source: Y. Yazıcı et al., "The Unusual Effectiveness of Averaging in GAN Training", arXiv 1806.04498.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from common.errors import UserError


class WeightAverage(nn.Module):
    """The average of a network, called as the network is.

    Args:
        network: whose weights it starts with.
        decay: the largest d, in [0, 1).

    Raises:
        ValueError: a decay out of the range given above.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise UserError(f"The decay of an average is {decay}; give a number from 0 up to, but not, 1.")
        self.decay = decay
        self.network = deepcopy(network).requires_grad_(False)

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the weights that the network has after `step` steps."""
        average: Any = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        average(_floats(self.network), _floats(network), None)


def _floats(network: nn.Module) -> list[Tensor]:
    """Weights, and the running figures of batch normalization without the number of batches."""
    return [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
