"""Fits schedules to the length of the run, in epochs, steps or time, and steps them after every optimizer step."""

from math import ceil
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from common.errors import UserError
from modules.optimizers.schedules import RunLengthScheduler

_UNKNOWN = 10**12  # steps of a run of which no time has passed yet


def configure_optimizers(
    module: LightningModule, optimizer: Optimizer, lr_scheduler: Any = None
) -> OptimizerLRScheduler:
    """Configures Lightning to step torch's schedules once an epoch and `RunLengthScheduler`s once a step."""
    if isinstance(lr_scheduler, RunLengthScheduler):
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": "step"}}
    configured: Any = LightningCLI.configure_optimizers(module, optimizer, lr_scheduler)
    return configured


class ScheduleLength(Callback):
    """Calls `begin` of the schedules when training starts or resumes; in a run with `max_time`, at every step.

    The number of steps of a run with `max_time` is estimated from the time that the steps so far have taken.

    Not earlier: `estimated_stepping_batches` of Lightning 2.6 builds the data loader, and a loader built before a
    checkpoint is restored would continue at the start of an epoch.
    """

    def __init__(self) -> None:
        self._timer: Timer | None = None
        self._steps: float = 0  # of the run, by epochs and steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the length of schedules.

        Raises:
            ValueError: If a schedule spans the run and its length is unknown, or is shorter than the run and ends.
        """
        self._steps = trainer.estimated_stepping_batches
        timers = (callback for callback in _callbacks(trainer) if isinstance(callback, Timer))
        self._timer = next((timer for timer in timers if timer.time_remaining() is not None), None)
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, RunLengthScheduler):
                if self._steps == float("inf") and self._timer is None:
                    raise UserError(
                        f"{type(config.scheduler).__name__} spans the whole run, but its length is not known; set "
                        "--trainer.max_epochs, --trainer.max_steps or --trainer.max_time."
                    )
                config.scheduler.begin(self._length(trainer))
            elif self._steps != float("inf") and isinstance(trainer.num_training_batches, int):
                steps_of_epoch = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
                length = ceil(self._steps / steps_of_epoch) if config.interval == "epoch" else int(self._steps)
                _compare(config.scheduler, length // config.frequency, config.interval)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._timer is None:
            return
        length = self._length(trainer)
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, RunLengthScheduler):
                config.scheduler.begin(length)

    def _length(self, trainer: Trainer) -> int:
        """Returns the number of steps of the run, as it is known or estimated now."""
        if self._timer is None:
            return int(self._steps)
        elapsed = self._timer.time_elapsed()
        passed = trainer.strategy.broadcast(elapsed / (elapsed + (self._timer.time_remaining() or 0) or 1))
        estimated = max(trainer.global_step + 1, trainer.global_step / passed) if passed > 0 else _UNKNOWN
        return int(min(self._steps, estimated))


def _compare(schedule: LRScheduler, length: int, interval: str) -> None:
    """Compares torch's schedules of a fixed length with that of the run, in epochs or steps."""
    if isinstance(schedule, OneCycleLR) and schedule.total_steps < length:
        raise UserError(
            f"total_steps of OneCycleLR is {schedule.total_steps}, but the run has {length} {interval}s; set "
            f"--lr_scheduler.total_steps {length}."
        )
    if isinstance(schedule, CosineAnnealingLR) and schedule.T_max != length:
        happens = (
            f"so the learning rate rises again after {interval} {schedule.T_max}"
            if schedule.T_max < length
            else "so the learning rate does not come down to its end"
        )
        _print(
            f"schedule: T_max of CosineAnnealingLR is {schedule.T_max}, but the run has {length} {interval}s, {happens}"
            f"; set --lr_scheduler.T_max {length}, or use --lr_scheduler WarmupCosine, which follows the run."
        )


def _callbacks(trainer: Any) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks
    return callbacks


@rank_zero_only
def _print(message: str) -> None:
    print(message)
