"""The steps between two rows of training metrics, where the user sets none."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class LogInterval(Callback):
    """Lowers Lightning's 50 steps to the steps of an epoch, so that a short epoch has its point of a training curve."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets `trainer.log_every_n_steps` to the optimizer steps of an epoch if these are fewer."""
        settings: Any = trainer  # some of its attributes are unknown to mypy
        steps = settings.num_training_batches / settings.accumulate_grad_batches  # infinite for a stream
        settings.log_every_n_steps = int(min(settings.log_every_n_steps, max(1, steps)))
