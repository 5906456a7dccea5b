"""Optimizers of the fast recipe: SGD whose settings do not depend on batch size and momentum, and Muon for filters.

torch's SGD with Nesterov momentum μ, rate η and weight decay λ, on the gradient g of the mean loss of a batch:

    d ← g + λ w
    v ← μ v + d
    w ← w − η (d + μ v)

Over time, a gradient moves the weights by η / (1 − μ) times itself. The learning rate L and the weight decay W are
therefore given per 1,024 examples, and for batches of B images

    η = L (B / 1024) (1 − μ)             λ = W / L

1,024 examples then move the weights by L times their mean gradient and decay them by the factor 1 − W, for any B and μ.

Muon (`modules/optimizers/muon.py`) trains the filters. Filters before batch normalization may have any norm, since only
w / ‖w‖ matters. They are rescaled to ‖w‖ = √M after each step; since a Muon step has norm η √M, it always changes a
layer by the fraction η.

Sources: K. Jordan, arXiv 2404.00498, section 3.3 (the paper has 1 + 1 / (1 − μ) instead of 1 / (1 − μ)).

Shapes: M filters, the rows of a matrix (M, fan-in).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from common.ranges import check_range
from modules.optimizers.muon import Muon

_NEWTON_STEPS = 3  # instead of five: the singular values need not be very close to 1
_EXAMPLES = 1024


def decoupled_sgd(
    groups: Iterable[tuple[Iterable[nn.Parameter], float]],
    lr: float,
    weight_decay: float,
    momentum: float,
    batch_size: int,
) -> SGD:
    """Returns SGD with Nesterov momentum in the units above.

    Args:
        groups: Parameters and the factor of their learning rate; all have the same `weight_decay`.
        lr: Learning rate L, > 0.
        weight_decay: Weight decay W, ≥ 0.
        momentum: Momentum μ, in (0, 1).
        batch_size: Images B of a step over all processes.

    Raises:
        ValueError: If a value is out of its range.
    """
    check_range("lr", lr, lr > 0, "> 0, such as 10")
    check_range("weight_decay", weight_decay, weight_decay >= 0, "≥ 0")
    check_range("momentum", momentum, 0 < momentum < 1, "in (0, 1), such as 0.85")
    rate = batch_size / _EXAMPLES * (1 - momentum)
    settings: list[dict[str, Any]] = [
        {"params": list(parameters), "lr": factor * lr * rate, "weight_decay": weight_decay / (factor * lr)}
        for parameters, factor in groups
    ]
    return SGD(settings, momentum=momentum, nesterov=True)


def filter_muon(filters: Sequence[nn.Parameter], lr: float, momentum: float) -> Muon:
    """Returns Muon for matrices of filters whose norm `normalize` resets after each step.

    Args:
        filters: Matrices (M, fan-in).
        lr: Relative change η of a layer in one step, > 0.
        momentum: Momentum μ, in [0, 1).

    Raises:
        ValueError: If a value is out of its range.
    """
    check_range("filter_lr", lr, lr > 0, "> 0, such as 0.24")
    check_range("filter_momentum", momentum, 0 <= momentum < 1, "in [0, 1), such as 0.6")
    # "original" lengthens the steps of matrices with more rows than columns, so that every step has the norm √M.
    group = {"params": list(filters), "use_muon": True}
    settings: dict[str, Any] = {"ns_steps": _NEWTON_STEPS, "ns_coefficients": "original", "adjust_lr_fn": "original"}
    return Muon([group], lr, momentum, nesterov=True, **settings)


@torch.no_grad()
def normalize(filters: Sequence[nn.Parameter]) -> None:
    """Rescales each matrix of filters (M, fan-in) to the norm √M."""
    for matrix in filters:
        matrix.mul_(len(matrix) ** 0.5 / matrix.norm())


class ChainedOptimizer(Optimizer):
    """Several optimizers that step as one: schedules, checkpoints and the Trainer see a single optimizer.

    Args:
        optimizers: Optimizers of disjoint parameters.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        # The same group dictionaries as the parts have: a schedule that changes a rate here changes it there.
        super().__init__([group for part in optimizers for group in part.param_groups], {})
        self._share_state()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps each optimizer; `closure`, which computes loss and gradients, is called once."""
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
            part.__setstate__({"state": self.state, "param_groups": self.param_groups[first:last]})
            first = last
