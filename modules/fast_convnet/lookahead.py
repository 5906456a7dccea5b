"""Lookahead: slow weights that average the fast ones of the optimizer, which are moved back to them.

    every k steps, at step t of T:   slow ← α slow + (1 − α) fast,    fast ← slow,    α = 0.95ᵏ (t / T)³
    at the end:                      fast ← slow

At first α is near 0 and nothing changes; towards the end the slow weights are an average over many steps, which has the
effect of a still smaller learning rate without its slow progress. The running averages of batch normalization are
averaged as well, since they must match the weights.

torch's AveragedModel and Lightning's WeightAveraging keep an average too, but do not move the trained weights to it.

Sources: M. Zhang et al., arXiv 1907.08610; α as in K. Jordan, arXiv 2404.00498, section 3.4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.ranges import check_range

_DECAY = 0.95


class Lookahead:
    """Holds the slow weights of a training run.

    Args:
        every: Steps k between updates, ≥ 1.

    Raises:
        ValueError: If k is below 1.
    """

    def __init__(self, every: int) -> None:
        check_range("lookahead", every, every >= 1, "at least 1 step")
        self.every = every
        self.slow: list[Tensor] = []  # shapes and order of the fast weights; empty until `begin`

    @torch.no_grad()
    def begin(self, fast: Sequence[Tensor]) -> None:
        """Initializes the slow weights from the fast ones, unless a checkpoint has set them."""
        if self.slow:
            self.slow = [slow.to(weight.device) for slow, weight in zip(self.slow, fast, strict=True)]
        else:
            self.slow = [weight.clone() for weight in fast]

    @torch.no_grad()
    def after_step(self, fast: Sequence[Tensor], step: int, total_steps: int) -> None:
        """Updates slow and fast weights in place every k steps and at the end; `step` is counted from 1."""
        if step % self.every == 0:
            alpha = _DECAY**self.every * (step / total_steps) ** 3
            torch._foreach_lerp_(self.slow, list(fast), 1 - alpha)
        elif step != total_steps:
            return
        torch._foreach_copy_(list(fast), self.slow)


def float_state(network: nn.Module) -> list[Tensor]:
    """Returns the weights and running averages of a network in the order of its state dict."""
    return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
