"""Checks the callbacks in `trainer.callbacks`, and refuses those that can't work in a run.

docs/trainer.md lists how a run treats each of Lightning's callbacks.
"""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BaseFinetuning,
    BasePredictionWriter,
    BatchSizeFinder,
    Checkpoint,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    ProgressBar,
    StochasticWeightAveraging,
)

from common.errors import UserError
from common.messages.counting import count

_BASE_CLASSES = (BaseFinetuning, BasePredictionWriter, Callback, Checkpoint, ProgressBar)
_REFUSED: dict[type[Callback], str] = {
    BatchSizeFinder: (
        "would train with a batch size that no file of the run records; try values of data.batch_size, or call "
        "Tuner.scale_batch_size in a script"
    ),
    LearningRateFinder: (
        "would train with a learning rate that no file of the run records; search optimizer.lr with a sweep, or call "
        "Tuner.lr_find in a script"
    ),
    ModelPruning: (
        "takes a function, which config.yaml can't record, so that the run could be neither resumed nor "
        "tested; use it in a script"
    ),
    StochasticWeightAveraging: (
        "averages the weights after the last checkpoint is written, so no checkpoint has the average; use "
        "WeightAveraging or EMAWeightAveraging, whose weights are validated and saved"
    ),
}


def user_callbacks(configured: Any, model: LightningModule, trainer: Any) -> list[Callback]:
    """Returns the callbacks of `trainer.callbacks` as a list, after checking that they can work in the run.

    Args:
        configured: Callbacks of the configuration: one, several or None.
        model: Model of the run.
        trainer: Settings of the Trainer.

    Raises:
        ValueError: If a callback is a base class, or can't work with this model or in a run.
    """
    callbacks: list[Callback] = [configured] if isinstance(configured, Callback) else list(configured or [])
    for callback in callbacks:
        name = type(callback).__name__
        if type(callback) in _BASE_CLASSES:
            raise UserError(f"trainer.callbacks has {name}, which is a base class and does nothing; use a subclass.")
        for refused, reason in _REFUSED.items():
            if isinstance(callback, refused):
                raise UserError(f"trainer.callbacks has {name}, which {reason}.")
        if isinstance(callback, BackboneFinetuning) and not hasattr(model, "backbone"):
            raise UserError(
                f"trainer.callbacks has {name}, but {type(model).__name__} has no attribute backbone; use the topic "
                "finetune, or model.freeze_backbone of a model that has it."
            )
    if not model.automatic_optimization:
        _check_manual_optimization(callbacks, model, trainer)
    return callbacks


def _check_manual_optimization(callbacks: Sequence[Callback], model: LightningModule, trainer: Any) -> None:
    """Refuses gradient clipping and accumulation, which Lightning does for automatic optimization only."""
    kind = type(model).__name__
    if trainer["gradient_clip_val"]:
        advice = "use model.clip_norm" if hasattr(model, "clip_norm") else "leave it out"
        raise UserError(
            f"trainer.gradient_clip_val is {trainer['gradient_clip_val']}, but {kind} steps its optimizers itself; "
            f"{advice}."
        )
    scheduled = any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks)
    if scheduled or trainer["accumulate_grad_batches"] not in (None, 1):
        given = "GradientAccumulationScheduler" if scheduled else "trainer.accumulate_grad_batches"
        raise UserError(
            f"{given} accumulates gradients over batches, but {kind} steps its optimizers itself; leave it out, and "
            "use a larger data.batch_size."
        )


def with_progress_bar(callbacks: list[Callback], shown: bool, hidden: bool) -> tuple[list[Callback], bool]:
    """Returns the callbacks with the progress bar to be shown, and whether one is shown.

    Args:
        callbacks: Callbacks of the configuration, which may have a progress bar.
        shown: Value of `trainer.enable_progress_bar`, by default whether the output is a terminal.
        hidden: Whether the command line turns it off.
    """
    bars = [callback for callback in callbacks if isinstance(callback, ProgressBar)]
    if hidden:
        return [callback for callback in callbacks if callback not in bars], False
    if shown and not bars:
        from pipelines.console.progress_bar import ProgressBar as Redrawn

        return [*callbacks, Redrawn()], True
    return callbacks, shown or bool(bars)


class MonitorCheck(Callback):
    """Refuses early stopping by a training metric that an epoch is too short to log."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the steps of an epoch with the steps between two logs.

        Raises:
            ValueError: If the metric would not exist at the end of the first epoch.
        """
        settings: Any = trainer  # some of its attributes are unknown to mypy
        steps, every = (
            int(settings.num_training_batches // settings.accumulate_grad_batches),
            settings.log_every_n_steps,
        )
        for callback in settings.early_stopping_callbacks:
            assert isinstance(callback, EarlyStopping)
            if callback.monitor.startswith("train/") and not 0 < every <= steps:
                raise UserError(
                    f"EarlyStopping monitors {callback.monitor}, which is logged every {every} steps, but an epoch has "
                    f"{steps}; set trainer.log_every_n_steps to at most {steps}."
                )


class AccumulationCheck(Callback):
    """Refuses gradient accumulation over more batches than an epoch has.

    Lightning steps at the end of every epoch and divides the sum of the gradients by the number of batches asked for,
    so that a short epoch would train with a fraction of the gradient, and config.yaml would record another batch size.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares the batches of a step with those of an epoch.

        Raises:
            ValueError: If an epoch has fewer.
        """
        settings: Any = trainer  # some of its attributes are unknown to mypy
        name, batches = "trainer.accumulate_grad_batches", settings.accumulate_grad_batches
        for callback in settings.callbacks:
            if isinstance(callback, GradientAccumulationScheduler):
                name, batches = "The largest value of GradientAccumulationScheduler", max(callback.scheduling.values())
        of_epoch = settings.num_training_batches
        if batches > of_epoch > 0 and not settings.fast_dev_run:
            raise UserError(
                f"{name} is {batches}, but an epoch has {count(of_epoch, 'batch')}, and its end is the end "
                f"of a step; set it to at most {of_epoch}, or use a larger data.batch_size instead."
            )
