"""Lookahead: a slow copy of the weights that follows the fast ones, and to which they are drawn back.

    every k steps, at step t of T:   slow ← α slow + (1 − α) fast,    fast ← slow,    α = 0.95ᵏ (t / T)³
    at the end:                      fast ← slow

Early on α is near 0 and nothing happens; towards the end the slow weights are an average over many steps, which does
what a still smaller learning rate would do, without the loss of pace. Batch normalization's running averages are among
the weights here, since they must fit them.

torch's AveragedModel and Lightning's WeightAveraging keep an average beside the training, which never comes back to it.

Sources: M. Zhang et al., arXiv 1907.08610; α as in K. Jordan, arXiv 2404.00498, section 3.4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import UserError

_DECAY = 0.95


class Lookahead:
    """The slow weights of a training.

    Args:
        every: k, at least 1.

    Raises:
        ValueError: k below 1.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise UserError(f"Lookahead every {every} steps is not possible; give at least 1.")
        self.every = every
        self.slow: list[Tensor] = []  # of the fast ones' shapes, in their order; empty until `begin`

    @torch.no_grad()
    def begin(self, fast: Sequence[Tensor]) -> None:
        """Starts from the fast weights, unless a checkpoint brought slow ones along."""
        if self.slow:
            self.slow = [slow.to(weight.device) for slow, weight in zip(self.slow, fast, strict=True)]
        else:
            self.slow = [weight.clone() for weight in fast]

    @torch.no_grad()
    def after_step(self, fast: Sequence[Tensor], step: int, total_steps: int) -> None:
        """What follows the optimizer's step `step`, counted from 1, of `total_steps`; changes `fast` in place."""
        if step % self.every == 0:
            alpha = _DECAY**self.every * (step / total_steps) ** 3
            torch._foreach_lerp_(self.slow, list(fast), 1 - alpha)
        elif step != total_steps:
            return
        torch._foreach_copy_(list(fast), self.slow)
