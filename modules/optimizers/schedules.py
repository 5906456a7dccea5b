"""Learning rate schedules over the length of the run: T steps in all, step t = 0, 1, …, full learning rate η.

    WarmupCosine   linear warmup over a fraction w of the run, then a cosine down to zero:
                   η_t = η (t + 1) / (w T + 1)                           while t < w T
                   η_t = η ½ (1 + cos(π (t − w T) / (T − w T)))          afterwards

    Triangular     linear from a η up to η at p T, then linear down to b η:
                   η_t = η (a + (1 − a) t / (p T))                       while t < p T
                   η_t = η (1 − (1 − b) (t − p T) / (T − p T))           afterwards

Warmup keeps the first, badly directed steps small; the decay makes the last steps small. Sources: P. Goyal et al.,
arXiv 1706.02677 for the warmup; I. Loshchilov, F. Hutter, arXiv 1608.03983 for the cosine; L. Smith, N. Topin, arXiv
1708.07120 for the triangle, which suits short runs.

    --lr_scheduler modules.WarmupCosine --lr_scheduler.warmup 0.2
    --lr_scheduler modules.Triangular --lr_scheduler.peak 0.23
"""

from abc import ABC, abstractmethod
from math import cos, pi
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from common.errors import UserError
from common.messages.counting import count
from common.ranges import check_range


class RunLengthScheduler(LRScheduler, ABC):
    """Base class of schedules over the whole run; the training loop calls `begin(run_steps)` once the length is known.

    Args:
        optimizer: Optimizer whose learning rates are scaled.
        total_steps: Length T in optimizer steps; None takes that of the run. Until `begin`, the rate is constant.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int | None = None) -> None:
        self.given_steps = self.total_steps = total_steps
        super().__init__(optimizer)

    @abstractmethod
    def factor(self, step: int, total_steps: int) -> float:
        """Returns the factor of the learning rate at `step` of `total_steps`, in [0, 1]."""

    def begin(self, run_steps: int) -> None:
        """Sets the length of the run, ≥ 1 optimizer steps, and the learning rate of the current step.

        A run of a given time calls it at every step with a new estimate.

        Raises:
            ValueError: If `total_steps` was given and is longer than the run.
        """
        if self.given_steps is not None and self.given_steps > run_steps:
            raise UserError(
                f"total_steps of the schedule is {self.given_steps}, but the run has {count(run_steps, 'step')} "
                "and would end "
                "before the learning rate is low; set at most that many, or leave total_steps out."
            )
        self.total_steps = self.given_steps or run_steps
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[float | Any]:
        """Returns the learning rate of each parameter group at the next step."""
        factor = 1.0
        if self.total_steps is not None:  # `last_epoch` is torch's name for the number of `step` calls
            factor = self.factor(min(self.last_epoch, self.total_steps), self.total_steps)
        return [rate * factor for rate in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Returns the state without the length, so that a run trained longer follows the schedule of its new length."""
        lengths = ("total_steps", "given_steps")
        return {name: value for name, value in super().state_dict().items() if name not in lengths}


class WarmupCosine(RunLengthScheduler):
    """Linear warmup, then a cosine down to zero.

    Args:
        optimizer: Optimizer whose learning rates are scaled.
        warmup: Fraction w of the run that the warmup takes, in [0, 1).
        total_steps: Length T of the schedule in optimizer steps; None takes the length of the run.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(self, optimizer: Optimizer, warmup: float = 0.2, total_steps: int | None = None) -> None:
        check_range("warmup", warmup, 0 <= warmup < 1, "in [0, 1)")
        self.warmup = warmup
        super().__init__(optimizer, total_steps)

    def factor(self, step: int, total_steps: int) -> float:
        """Returns the factor of the learning rate at `step` of `total_steps`, in [0, 1]."""
        warm = self.warmup * total_steps
        if step < warm:
            return (step + 1) / (warm + 1)  # > 0: with a rate of 0 the first step would do nothing
        return 0.5 * (1 + cos(pi * (step - warm) / max(1.0, total_steps - warm)))


class Triangular(RunLengthScheduler):
    """Linear increase to the peak, then linear decrease.

    Args:
        optimizer: Optimizer whose learning rates are scaled.
        start: Factor a of the learning rate at the first step, in [0, 1].
        peak: Fraction p of the run after which the rate is highest, in [0, 1); 0 starts at the peak.
        end: Factor b of the learning rate at the end of the run, in [0, 1].
        total_steps: Length T of the schedule in optimizer steps; None takes the length of the run.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start: float = 0.2,
        peak: float = 0.23,
        end: float = 0.07,
        total_steps: int | None = None,
    ) -> None:
        check_range("start", start, 0 <= start <= 1, "in [0, 1]")
        check_range("peak", peak, 0 <= peak < 1, "in [0, 1)")
        check_range("end", end, 0 <= end <= 1, "in [0, 1]")
        self.start, self.peak, self.end = start, peak, end
        super().__init__(optimizer, total_steps)

    def factor(self, step: int, total_steps: int) -> float:
        """Returns the factor of the learning rate at `step` of `total_steps`, in [0, 1]."""
        top = self.peak * total_steps
        if step < top:
            return self.start + (1 - self.start) * step / top
        return 1 - (1 - self.end) * (step - top) / (total_steps - top)
