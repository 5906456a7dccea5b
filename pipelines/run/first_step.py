"""The first step of an attempt at a run: until then, nothing that the previous attempt left is replaced."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class FirstStep(Callback):
    """Calls a function after the first optimizer step, or the first batch of a model without optimizers.

    Many settings fail only there: an optimizer with another one's restored state, a batch that needs too much memory.

    Args:
        begin: The function, called with the trainer on all ranks.
    """

    def __init__(self, begin: Callable[[Trainer], None]) -> None:
        self._begin: Callable[[Trainer], None] | None = begin
        self._start = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._begin is not None and (trainer.global_step > self._start or not trainer.optimizers):
            begin, self._begin = self._begin, None
            begin(trainer)
