"""Which runs of a pack can share their training steps."""

from typing import Any

import torch
from lightning.pytorch import LightningModule

from datamodules.loader import BatchLoader
from modules.base.buffered_metrics import BufferedMetrics
from pipelines.packs.packed_epoch_loop import PackedEpochLoop
from pipelines.packs.stacked_models import common_settings


def why_alone(loop: PackedEpochLoop) -> str | None:
    """Returns why a run can't share its training steps with others, None if it can."""
    trainer: Any = loop.trainer
    model: Any = loop.model
    overridden = (
        "optimizer_step",
        "backward",
        "optimizer_zero_grad",
        "configure_gradient_clipping",
        "lr_scheduler_step",
    )
    own = [name for name in overridden if getattr(type(model), name) is not getattr(LightningModule, name)]
    # One of the user's may skip the rest of an epoch.
    if type(model).on_train_batch_start not in (
        LightningModule.on_train_batch_start,
        BufferedMetrics.on_train_batch_start,
    ):
        own.append("on_train_batch_start")
    if not hasattr(model, "count_training_batch") or not model.automatic_optimization:
        return f"{type(model).__name__} takes its optimizer's steps itself"
    if own:
        return f"{type(model).__name__} has an {own[0]} of its own"
    if trainer.world_size > 1:
        return "each trial has several devices"
    if not isinstance(trainer.train_dataloader, BatchLoader):
        return "its data module has a loader of its own"
    if len(trainer.optimizers) != 1 or isinstance(trainer.optimizers[0], torch.optim.LBFGS):
        return "its optimizer computes the loss several times in a step"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return "16-mixed scales its losses"
    if trainer.accumulate_grad_batches != 1:
        return "it accumulates gradients"
    if (trainer.val_check_batch or 0) < trainer.num_training_batches and trainer.enable_validation:
        return "it validates within an epoch"
    if any(getattr(callback, "watches_layers", False) for callback in trainer.callbacks):
        return "a callback reads the outputs of its layers in a step"
    if any(config.reduce_on_plateau and config.interval == "step" for config in trainer.lr_scheduler_configs):
        return "its schedule reads a metric at every step"
    return None


def stack_key(loop: PackedEpochLoop) -> tuple[Any, ...]:
    """Returns what models must have in common so that their steps are computed together."""
    trainer: Any = loop.trainer
    model = loop.model
    tensors = [
        (name, tensor.shape, tensor.dtype) for name, tensor in (*model.named_parameters(), *model.named_buffers())
    ]
    loader = loop.loader
    return (
        type(model),
        repr(sorted(common_settings(model).items(), key=lambda item: item[0])),
        repr(tensors),
        trainer.precision,
        str(trainer.strategy.root_device),
        (id(loader.fetch), loader.seed, loader.batch_size),
        trainer.num_training_batches,
        trainer.current_epoch,
        loop.batch_progress.current.ready,
    )
