"""The best figures of a run in its W&B summary, by which the dashboard's table shows and sorts it.

W&B's own summary is each metric's last value. With `define_metric(summary="max")` it would be a dictionary,
{"val/accuracy": {"max": 0.69}}, under which neither the table nor a sweep finds `val/accuracy`; so the summary of the
monitored metric is set here, and W&B's own is turned off.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from pipelines.checkpoints.best_checkpoint import BestCheckpoint
from pipelines.syncing.arrived import STEP

Summary = dict[str, Any]


class WandbSummary(Callback):
    """Sets the summary: the best value of the monitored metric, and `best/…` with the figures of best.ckpt.

    `best/step` and `best/epoch` are those that best.ckpt has, `best/val/loss` and others what its weights scored, and
    `best/checkpoint` is its path. They are sent at the end of the epoch. `best/metric` is the monitored metric.

    Args:
        monitor: Metric by which the best checkpoint is chosen; None for none.
        mode: "min" or "max".
        checkpoint: Path of best.ckpt as the summary shows it.
    """

    def __init__(self, monitor: str | None, mode: str, checkpoint: str) -> None:
        self.monitor, self.mode, self.checkpoint = monitor, mode, checkpoint
        self._best: float | None = None
        self._sent: dict[str, float] = {}

    def state_dict(self) -> Summary:
        """Returns the best value, so that a resumed run that is tracked offline has it."""
        return {"monitor": self.monitor, "mode": self.mode, "best": self._best}

    def load_state_dict(self, state_dict: Summary) -> None:
        """Takes over the best value so far, unless the monitored metric has changed."""
        if (state_dict["monitor"], state_dict["mode"]) == (self.monitor, self.mode):
            self._best = state_dict["best"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.monitor is None:
            return
        for run in _runs(trainer):
            run.define_metric(self.monitor, step_metric=STEP, summary="none")
        _send(trainer, {"best/metric": self.monitor, **({} if self._best is None else {self.monitor: self._best})})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._send_best_value(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send_best_value(trainer)  # of a metric of the training
        self._send_figures(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send_figures(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Sends the figures of a checkpoint that was written within the epoch."""
        self._send_figures(trainer)

    def _send_best_value(self, trainer: Trainer) -> None:
        value = float(trainer.callback_metrics.get(self.monitor or "", math.nan))
        sign = 1 if self.mode == "max" else -1
        if (
            self.monitor is not None
            and math.isfinite(value)
            and (self._best is None or sign * value > sign * self._best)
        ):
            self._best = value
            _send(trainer, {self.monitor: value})

    def _send_figures(self, trainer: Trainer) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint) and callback.best_figures not in ({}, self._sent):
                self._sent = callback.best_figures
                figures = {f"best/{name}": value for name, value in self._sent.items()}
                _send(trainer, {**figures, "best/checkpoint": self.checkpoint})


def _send(trainer: Trainer, summary: Summary) -> None:
    for run in _runs(trainer):
        with suppress(ConnectionError):  # W&B's service has ended
            run.summary.update(summary)


def _runs(trainer: Trainer) -> Iterator[Any]:
    """Yields the W&B runs of a run, on rank 0."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        if isinstance(logger, WandbLogger):
            yield logger.experiment
