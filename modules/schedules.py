"""A learning rate that follows the length of the run: linear warm-up, then a cosine down to zero.

    step t = 0, 1, … of T, warm-up share w:    η_t = η (t + 1) / (w T + 1)                         while t < w T
                                               η_t = η ½ (1 + cos(π (t − w T) / (T − w T)))        afterwards

Warm-up keeps the first, large and ill-directed steps from doing harm; the cosine lets the run end in small ones.
Sources: P. Goyal et al., arXiv 1706.02677 for the warm-up; I. Loshchilov, F. Hutter, arXiv 1608.03983 for the cosine.

    --lr_scheduler modules.WarmupCosine --lr_scheduler.warmup 0.2
"""

from math import cos, pi
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupCosine(LRScheduler):
    """Warm-up and cosine over the whole run, step by step; `pipelines.train` tells it how long the run is.

    Args:
        optimizer: whose learning rates are scaled.
        warmup: share of the run's steps that the warm-up takes, in [0, 1).
        total_steps: T, the optimizer steps of the run; None until it is known, when the learning rate stands still.

    Raises:
        ValueError: a share out of the range given above.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.2, total_steps: int | None = None) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup is {warmup}; give a share of the run from 0 up to, but not, 1.")
        self.warmup = warmup
        self.total_steps = total_steps
        super().__init__(optimizer)

    def begin(self, total_steps: int) -> None:
        """Sets the length of the run, in optimizer steps of at least 1, and the learning rate of the step at hand."""
        self.total_steps = total_steps
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[float | Any]:
        """Learning rate of each parameter group at the step that comes next."""
        return [rate * self._share() for rate in self.base_lrs]

    def _share(self) -> float:
        """Share of the full learning rate at the step that comes next, in [0, 1]."""
        if self.total_steps is None:
            return 1.0
        warm = self.warmup * self.total_steps
        step = self.last_epoch  # torch's name for the number of `step` calls
        if step < warm:
            return (step + 1) / (warm + 1)  # above 0, or the first step would be lost
        return 0.5 * (1 + cos(pi * min(1.0, (step - warm) / max(1.0, self.total_steps - warm))))

    def state_dict(self) -> dict[str, Any]:
        """All but the run's length, so that a run that is trained longer gets the schedule of its new length."""
        return {name: value for name, value in super().state_dict().items() if name != "total_steps"}
