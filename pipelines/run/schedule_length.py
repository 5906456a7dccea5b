"""Sets the length of schedules that span the run, and steps them after every optimizer step."""

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
    """Configures Lightning to step torch's schedules once an epoch and `RunLengthScheduler`s once a step."""
    if isinstance(lr_scheduler, RunLengthScheduler):
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler, "interval": "step"}}
    configured: Any = LightningCLI.configure_optimizers(module, optimizer, lr_scheduler)
    return configured


class ScheduleLength(Callback):
    """Calls `begin` of the schedules when training starts or resumes.

    Not earlier: `estimated_stepping_batches` of Lightning 2.6 builds the data loader, and a loader built before a
    checkpoint is restored would continue at the start of an epoch.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for config in trainer.lr_scheduler_configs:
            if not isinstance(config.scheduler, RunLengthScheduler):
                continue
            steps = trainer.estimated_stepping_batches
            if steps == float("inf"):
                raise UserError(
                    f"{type(config.scheduler).__name__} spans the whole run, but its length is not known; set "
                    "--trainer.max_epochs or --trainer.max_steps."
                )
            config.scheduler.begin(int(steps))
