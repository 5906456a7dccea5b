"""Exponential moving average (EMA) of the weights of a network.

    w̄ ← d w̄ + (1 − d) w,    d = min(decay, (1 + t) / (10 + t)) at step t

At the start d is small, so that the average soon forgets the random initial weights. Running statistics of batch
normalization are averaged like weights.

Source: Y. Yazıcı et al., "The Unusual Effectiveness of Averaging in GAN Training", arXiv 1806.04498.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from common.ranges import check_range


class WeightAverage(nn.Module):
    """A copy of a network whose weights are the moving average of the original's; called like the original.

    Args:
        network: Network with the initial weights.
        decay: Largest decay d, in [0, 1).

    Raises:
        ValueError: If the decay is out of its range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        check_range("ema_decay", decay, 0 <= decay < 1, "in [0, 1)")
        self.decay = decay
        self.network = deepcopy(network).requires_grad_(False)

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Updates the average with the weights of the network after `step` steps."""
        average: Any = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        average(_floats(self.network), _floats(network), None)


def _floats(network: nn.Module) -> list[Tensor]:
    """Weights and running statistics of batch normalization, without its counter of batches."""
    return [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
