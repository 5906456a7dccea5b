"""Stops a training that has diverged, at next to no cost: losses are kept on the device and looked at now and then.

To look at a loss in every step would make a GPU wait in every step. So losses are only kept, and looked at, many at
once, when figures are logged, before validation and before a checkpoint is written. What has diverged is therefore
never saved, and the step at which it began is known all the same.

Shapes: S steps since the last look, L losses of a step.
"""

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from common.errors import UserError


class FiniteLossGuard:
    """Watches losses, and the weights of the networks that they belong to, for what is no finite number.

    Args:
        names: of the L losses, as the sentence will call them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._recent: list[Tensor] = []  # (L,) each

    def keep(self, losses: Tensor) -> None:
        """Keeps the losses of a step, (L,), in any process."""
        self._recent.append(losses)

    def stop(self, trainer: Trainer, networks: Mapping[str, nn.Module]) -> None:
        """Raises if something since the last look was not finite; all processes must call it together.

        Raises:
            ValueError: a loss that is no finite number, with the step at which it first was, or such weights.
        """
        if not self._recent:
            return
        first = trainer.global_step - len(self._recent) + 1
        # The mean over processes, or one of them would stop and leave the others waiting.
        losses = trainer.strategy.reduce(torch.stack(self._recent), reduce_op="mean")  # (S, L)
        assert isinstance(losses, Tensor)
        self._recent = []
        for step, values in enumerate(losses.tolist(), start=first):
            for name, value in zip(self.names, values, strict=True):
                if not isfinite(value):
                    raise UserError(_sentence(f"at step {step} the {name} is {value}"))
        for name, network in networks.items():
            sums = torch.stack([weights.detach().sum() for weights in network.parameters()])
            if not sums.isfinite().all():
                raise UserError(_sentence(f"after step {trainer.global_step} weights of the {name} are not finite"))


def _sentence(what: str) -> str:
    return (
        f"The training diverged: {what}; it stopped, and the last checkpoint is from before. Try smaller learning "
        "rates, or shorten the gradients."
    )
