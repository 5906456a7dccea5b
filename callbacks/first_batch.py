"""Base of the callbacks that show the first batch of a validation or test."""

from abc import abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class FirstBatch(Callback):
    """Passes the first batch of every validation and test to `keep`, which subclasses define."""

    @abstractmethod
    def keep(self, batch: Any) -> None:
        """Stores the part of the batch that will be shown."""

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if batch_idx == 0:
            self.keep(batch)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if batch_idx == 0:
            self.keep(batch)
