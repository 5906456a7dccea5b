"""Base of the callbacks that read the logits of every image of a validation or test."""

from abc import abstractmethod
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from common.errors import UserError

_BUFFERED = 8192  # images whose logits are kept at most


class LogitReader(Callback):
    """Passes the logits that the model's validation and test steps return to `keep`, which subclasses define.

    `finish` follows at the end of `fit` (for the last validation) and of `test`.
    """

    @abstractmethod
    def reset(self) -> None:
        """Forgets all batches, before a validation or test."""

    @abstractmethod
    def keep(self, trainer: Trainer, logits: Tensor, images: Tensor, labels: Tensor, first: int) -> None:
        """Keeps what `finish` needs of a batch: logits (B, K), images (B, ...), labels (B,).

        Args:
            trainer: Trainer of the run.
            logits: Logits (B, K).
            images: Preprocessed images (B, ...).
            labels: True classes (B,).
            first: Index of the batch's first image in the split, if the data module's loader is the project's.
        """

    @abstractmethod
    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Shows what was kept of the split `val` or `test`; called on all ranks."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset()

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reset()

    @torch.no_grad()
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            raise UserError(
                f"The validation and test steps of {type(pl_module).__name__} return no logits (B, K); return them, or "
                f"remove callbacks.{type(self).__name__} from trainer.callbacks."
            )
        images, labels = batch
        loader = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
        batch_size = getattr(loader, "batch_size", None) or len(labels)  # less than the setting if images are few
        first = (batch_idx * trainer.world_size + trainer.global_rank) * batch_size
        self.keep(trainer, outputs, images, labels, first)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finish(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finish(trainer, pl_module, "test")


class BufferedLogitReader(LogitReader):
    """Passes the logits of many batches at once to `count`, which subclasses define; `finish` calls `flush` first.

    Most validations are followed by another one, and what a callback would compute of them is never shown.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Tensor, int]] = []  # logits, labels and index of the first image

    @abstractmethod
    def count(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Adds images: logits (N, K), true classes (N,) and indices in the split (N,)."""

    def reset(self) -> None:
        self._batches = []

    def keep(self, trainer: Trainer, logits: Tensor, images: Tensor, labels: Tensor, first: int) -> None:
        """Keeps a batch, and counts all that are kept once they are many."""
        self._batches.append((logits.detach(), labels, first))
        if len(self._batches) * len(labels) >= _BUFFERED:
            self.flush()

    @torch.no_grad()
    def flush(self) -> None:
        """Counts the images that are kept."""
        batches, self._batches = self._batches, []
        if batches:
            logits, labels, firsts = zip(*batches, strict=True)
            indices = [torch.arange(first, first + len(of)) for first, of in zip(firsts, labels, strict=True)]
            self.count(torch.cat(logits), torch.cat(labels), torch.cat(indices).to(labels[0].device))


def gather(trainer: Trainer, value: Any) -> list[Any]:
    """Returns the values of all ranks; call it on all ranks."""
    if trainer.world_size == 1:
        return [value]
    gathered: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(gathered, value)
    return gathered
