"""Logs the training diagnostics that the course recommends: gradient norms, update ratios and speed.

    health/gradient_norm   ‖g‖ over all parameters, before any clipping
    health/update_ratio    ‖Δw‖ / ‖w‖ of one step; about 1e-3 is usual; far from that, change the learning rate
    health/lr              learning rate of the first parameter group
    health/images_per_s    training images over all ranks, without the time of validation and pictures

Source: https://cs231n.github.io/neural-networks-3/#baby
"""

from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer


class TrainingHealth(Callback):
    """Logs gradient norm, update ratio, learning rate and speed every `trainer.log_every_n_steps` steps.

    In between it costs almost nothing.
    """

    def __init__(self) -> None:
        self._before: list[Tensor] | None = None  # parameters before the measured step
        self._gradient_norm = 0.0
        self._lr = 0.0
        self._images = 0
        self._seconds = 0.0
        self._last = 0.0

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that training logs."""
        return tuple(f"health/{name}" for name in ("gradient_norm", "update_ratio", "lr", "images_per_s"))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = perf_counter()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not every or (trainer.global_step + 1) % every:  # 0 turns logging off
            return
        parameters = [p for p in pl_module.parameters() if p.grad is not None]
        self._gradient_norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        self._lr = float(optimizer.param_groups[0]["lr"])  # now, since a scheduler may change it before the batch ends
        self._before = [p.detach().clone() for p in parameters]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = perf_counter()
        self._seconds += now - self._last
        self._last = now
        self._images += len(batch[0])
        if self._before is None:
            return
        parameters = [p.detach() for p in pl_module.parameters() if p.grad is not None]
        changes = [new - old for new, old in zip(parameters, self._before, strict=True)]
        update = torch.nn.utils.get_total_norm(changes) / torch.nn.utils.get_total_norm(self._before).clamp(min=1e-12)
        metrics = {
            "health/gradient_norm": self._gradient_norm,
            "health/update_ratio": float(update),
            "health/lr": self._lr,
            "health/images_per_s": self._images * trainer.world_size / max(self._seconds, 1e-9),
        }
        pl_module.log_dict(metrics)
        self._before, self._images, self._seconds = None, 0, 0.0
