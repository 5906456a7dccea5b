"""Learning rates that follow the length of the run, with T its steps, t = 0, 1, … the step and η the full rate.

    WarmupCosine   linear warm-up over a share w of the run, then a cosine down to zero:
                   η_t = η (t + 1) / (w T + 1)                           while t < w T
                   η_t = η ½ (1 + cos(π (t − w T) / (T − w T)))          afterwards

    Triangular     straight up from a share a to the peak at p T, and straight down to a share b:
                   η_t = η (a + (1 − a) t / (p T))                       while t < p T
                   η_t = η (1 − (1 − b) (t − p T) / (T − p T))           afterwards

Warm-up keeps the first, large and ill-directed steps from doing harm; what comes after it lets the run end in small
ones. Sources: P. Goyal et al., arXiv 1706.02677 for the warm-up; I. Loshchilov, F. Hutter, arXiv 1608.03983 for the
cosine; L. Smith, N. Topin, arXiv 1708.07120 for the triangle, which short runs like best.

    --lr_scheduler modules.WarmupCosine --lr_scheduler.warmup 0.2
    --lr_scheduler modules.Triangular --lr_scheduler.peak 0.23
"""

from math import cos, pi
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from common.errors import UserError


class RunLengthScheduler(LRScheduler):
    """A schedule over the whole run, step by step; who trains tells it by `begin` how long the run is.

    Args:
        optimizer: whose learning rates are scaled.
        total_steps: T, in optimizer steps; None takes those of the run, and until they are known the rate stands still.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int | None = None) -> None:
        self.given_steps = self.total_steps = total_steps
        super().__init__(optimizer)

    def share(self, step: int, total_steps: int) -> float:
        """Share of the full learning rate at `step` of `total_steps`, in [0, 1]. A schedule's own."""
        raise NotImplementedError(f"{type(self).__name__} must say its share.")

    def begin(self, run_steps: int) -> None:
        """Tells how long the run is, in optimizer steps of at least 1, and sets the learning rate of the step at hand.

        Raises:
            ValueError: the schedule was made for more steps than the run has.
        """
        if self.given_steps is not None and self.given_steps > run_steps:
            raise UserError(
                f"total_steps of the schedule is {self.given_steps}, but the run has {run_steps} steps and would end "
                "before the learning rate is low; give at most that many, or leave it out."
            )
        self.total_steps = self.given_steps or run_steps
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[float | Any]:
        """Learning rate of each parameter group at the step that comes next."""
        # `last_epoch` is torch's name for the number of `step` calls
        share = (
            1.0 if self.total_steps is None else self.share(min(self.last_epoch, self.total_steps), self.total_steps)
        )
        return [rate * share for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """All but the run's length, so that a run that is trained longer gets the schedule of its new length."""
        lengths = ("total_steps", "given_steps")
        return {name: value for name, value in super().state_dict().items() if name not in lengths}


class WarmupCosine(RunLengthScheduler):
    """Linear warm-up, then a cosine down to zero.

    Args:
        optimizer: whose learning rates are scaled.
        warmup: w, share of the run's steps that the warm-up takes, in [0, 1).
        total_steps: T, the optimizer steps of the run; None takes them from the run.

    Raises:
        ValueError: a share out of the range given above.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.2, total_steps: int | None = None) -> None:
        if not 0 <= warmup < 1:
            raise UserError(f"warmup is {warmup}; give a share of the run from 0 up to, but not, 1.")
        self.warmup = warmup
        super().__init__(optimizer, total_steps)

    def share(self, step: int, total_steps: int) -> float:
        """Share of the full learning rate at `step` of `total_steps`, in [0, 1]."""
        warm = self.warmup * total_steps
        if step < warm:
            return (step + 1) / (warm + 1)  # above 0, or the first step would be lost
        return 0.5 * (1 + cos(pi * (step - warm) / max(1.0, total_steps - warm)))


class Triangular(RunLengthScheduler):
    """Straight up to the peak, and straight down.

    Args:
        optimizer: whose learning rates are scaled.
        start: a, share of the learning rate at the first step, in [0, 1].
        peak: p, share of the run after which the rate is full, in [0, 1); 0 begins there.
        end: b, share of the learning rate that is reached when the run is over, in [0, 1].
        total_steps: T, the optimizer steps of the run; None takes them from the run.

    Raises:
        ValueError: a share out of the range given above.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start: float = 0.2,
        peak: float = 0.23,
        end: float = 0.07,
        total_steps: int | None = None,
    ) -> None:
        if not (0 <= start <= 1 and 0 <= end <= 1):
            raise UserError(f"start is {start} and end is {end}; give shares of the learning rate from 0 to 1.")
        if not 0 <= peak < 1:
            raise UserError(f"peak is {peak}; give a share of the run from 0 up to, but not, 1.")
        self.start, self.peak, self.end = start, peak, end
        super().__init__(optimizer, total_steps)

    def share(self, step: int, total_steps: int) -> float:
        """Share of the full learning rate at `step` of `total_steps`, in [0, 1]."""
        top = self.peak * total_steps
        if step < top:
            return self.start + (1 - self.start) * step / top
        return 1 - (1 - self.end) * (step - top) / (total_steps - top)
