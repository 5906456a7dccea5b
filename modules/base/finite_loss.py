"""Stops a run whose loss or weights are no longer finite, without synchronizing with the device at every step.

Reading a loss at every step would make the CPU wait for the GPU at every step. Losses are therefore kept on the device
and checked together: when metrics are logged, before validation and before a checkpoint is written. A diverged model is
never saved, and the step at which it diverged is still reported.

Shapes: S steps since the last check, L losses of a step.
"""

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from common.errors import UserError


class FiniteLossGuard:
    """Checks losses, and the weights of the networks they train, for NaN and inf.

    Args:
        names: Names of the L losses in the error message.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._recent: list[Tensor] = []  # (L,) each

    def record(self, losses: Tensor) -> None:
        """Records the losses (L,) of a step on the device."""
        self._recent.append(losses)

    def check(self, trainer: Trainer, networks: Mapping[str, nn.Module]) -> None:
        """Raises if a loss since the last check or a weight is not finite; all ranks must call it together.

        Raises:
            ValueError: If a loss or weight is NaN or inf; names the first such step.
        """
        if not self._recent:
            return
        first = trainer.global_step - len(self._recent) + 1
        # The mean over ranks: if a single rank stopped, the others would wait for it.
        losses = trainer.strategy.reduce(torch.stack(self._recent), reduce_op="mean")  # (S, L)
        assert isinstance(losses, Tensor)
        self._recent = []
        for step, values in enumerate(losses.tolist(), start=first):
            for name, value in zip(self.names, values, strict=True):
                if not isfinite(value):
                    raise UserError(_message(f"at step {step} the {name} is {value}"))
        for name, network in networks.items():
            sums = torch.stack([weights.detach().sum() for weights in network.parameters()])
            if not sums.isfinite().all():
                raise UserError(_message(f"after step {trainer.global_step} weights of the {name} are not finite"))


def _message(problem: str) -> str:
    return (
        f"Training diverged: {problem}; it was stopped, and the last checkpoint is from an earlier step. Try smaller "
        "learning rates or gradient clipping."
    )
