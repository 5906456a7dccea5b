"""Nesterov's SGD whose settings keep their meaning when the batch or the momentum changes, and Muon beside it.

torch's SGD with Nesterov momentum μ, rate η and weight decay λ, on the gradient g of the mean loss of a batch:

    d ← g + λ w
    v ← μ v + d
    w ← w − η (d + μ v)

In the end one gradient moves the weights by η / (1 − μ) times itself. What matters is that sum for each example seen,
so a learning rate L and a weight decay W are given per 1,024 examples, and for batches of B images

    η = L (B / 1024) (1 − μ)             λ = W / L

1,024 examples then move the weights by L times their mean gradient and shrink them by the share W, whatever B and μ.

Muon moves a matrix along the nearest matrix with all singular values 1, so that no direction is left behind:

    v ← (1 − μ) g + μ v
    w ← w − η orthogonalize((1 − μ) g + μ v)

Filters before batch normalization may have any length, since only w / ‖w‖ matters. So they are set back to ‖w‖ = √M
after each step, and as a step has the length η √M too, it always changes a layer by the share η.

Sources: K. Jordan, arXiv 2404.00498, section 3.3 (the paper has 1 + 1 / (1 − μ) in place of 1 / (1 − μ));
K. Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024, https://kellerjordan.github.io/posts/muon/

Shapes: M filters, the rows of a matrix (M, fan-in).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Muon, Optimizer

from common.dtype_support import FastStep
from common.errors import UserError

_NEWTON_STEPS = 3  # of torch's five: the singular values need not be very near to 1
_EXAMPLES = 1024


def decoupled_sgd(
    groups: Iterable[tuple[Iterable[nn.Parameter], float]],
    lr: float,
    weight_decay: float,
    momentum: float,
    batch_size: int,
) -> SGD:
    """Nesterov's SGD in the units above.

    Args:
        groups: parameters, and the share of `lr` that they get; all shrink by the same `weight_decay`.
        lr: L, above 0.
        weight_decay: W, at least 0.
        momentum: μ, in (0, 1).
        batch_size: B, images of a step over all processes.

    Raises:
        ValueError: a value out of the range given above.
    """
    if not lr > 0:
        raise UserError(f"lr is {lr}; give a learning rate above 0, such as 10.")
    if not weight_decay >= 0:
        raise UserError(f"weight_decay is {weight_decay}; give 0 (none) or more.")
    if not 0 < momentum < 1:
        raise UserError(f"momentum is {momentum}; give a share above 0 and below 1, such as 0.85.")
    rate = batch_size / _EXAMPLES * (1 - momentum)
    settings: list[dict[str, Any]] = [
        {"params": list(parameters), "lr": share * lr * rate, "weight_decay": weight_decay / (share * lr)}
        for parameters, share in groups
    ]
    return SGD(settings, momentum=momentum, nesterov=True)


class FilterMuon(FastStep, Muon):
    """torch's Muon, in float32 on devices that only imitate bfloat16."""


def filter_muon(filters: Sequence[nn.Parameter], lr: float, momentum: float) -> FilterMuon:
    """Muon for matrices of filters whose length is set anew by `normalize` after each step.

    Raises:
        ValueError: a learning rate that is not above 0, or a momentum out of [0, 1).
    """
    if not lr > 0 or not 0 <= momentum < 1:
        raise UserError(
            f"filter_lr is {lr} and filter_momentum {momentum}; give a learning rate above 0, such as 0.24, and a "
            "momentum of 0 or more and below 1, such as 0.6."
        )
    # "original" lengthens the steps of matrices with more rows than columns, so that every step has the length √M.
    return FilterMuon(filters, lr, 0.0, momentum, ns_steps=_NEWTON_STEPS, adjust_lr_fn="original")


@torch.no_grad()
def normalize(filters: Sequence[nn.Parameter]) -> None:
    """Gives each matrix of filters (M, fan-in) the length √M."""
    for matrix in filters:
        matrix.mul_(len(matrix) ** 0.5 / matrix.norm())


class ChainedOptimizer(Optimizer):
    """Several optimizers that step as one, so that a step is one step to schedules, checkpoints and the Trainer.

    Args:
        optimizers: each with parameters of its own.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        # The parts' own group dictionaries: a schedule that changes a rate here changes it there.
        super().__init__([group for part in optimizers for group in part.param_groups], {})
        self._share_state()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps each of them; `closure`, which computes loss and gradients, is called once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.optimizers:
            part.step()
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # torch's load_state_dict ends here, with new groups and a new state
        self._share_state()

    def _share_state(self) -> None:
        first = 0
        for part in self.optimizers:
            last = first + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[first:last], self.state
            first = last
