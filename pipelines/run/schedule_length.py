"""Tells a schedule that spans the run how long the run is, and steps it with every optimizer step."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer

from common.errors import UserError
from modules.optimizers.schedules import RunLengthScheduler


def configure_optimizers(
    module: LightningModule, optimizer: Optimizer, lr_scheduler: Any = None
) -> OptimizerLRScheduler:
    """What Lightning is given: torch's schedules go on once an epoch, a schedule over the whole run once a step."""
    if isinstance(lr_scheduler, RunLengthScheduler):
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": "step"}}
    configured: Any = LightningCLI.configure_optimizers(module, optimizer, lr_scheduler)
    return configured


class ScheduleLength(Callback):
    """Begins the schedules when training starts, fresh or resumed.

    Not earlier: asking Lightning 2.6 for the number of steps makes it build the data loader, and one that is built
    before a checkpoint is restored goes on at the start of an epoch.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for config in trainer.lr_scheduler_configs:
            if not isinstance(config.scheduler, RunLengthScheduler):
                continue
            steps = trainer.estimated_stepping_batches
            if steps == float("inf"):
                raise UserError(
                    f"{type(config.scheduler).__name__} spans the whole run, but its length is not known; give "
                    "--trainer.max_epochs or --trainer.max_steps."
                )
            config.scheduler.begin(int(steps))
