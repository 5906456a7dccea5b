"""Training metrics that are summed on the device and logged every `log_every_n_steps`.

`self.log` costs 0.4 ms a call whether or not the value is written, as much as a whole step of a linear model. Summing
and logging now and then avoids that, and a plot shows the mean since its last point instead of the noise of one batch.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from modules.base.earlier_checkpoints import EarlierCheckpoints
from modules.base.preprocessed_inputs import before_forward, refuse_unprocessed


class BufferedMetrics(EarlierCheckpoints):
    """A LightningModule that logs `train/…` metrics as means over all batches since the last log."""

    takes_pixels: ClassVar[bool] = False  # whether inputs may be uint8, as a loader returns them
    # Settings that may differ between models trained as one stack (`pipelines/packs`): numbers that `training_step`
    # reads as attributes of these names, probabilities of dropout layers, and what only initial weights depend on.
    stackable: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(before_forward)
        self._sums: dict[str, Tensor] = {}  # of each metric since the last log, on the device
        self._number: int | Tensor = 0  # images or words in these sums
        self._logged_step = 0  # the step of the last log
        self._lr = 1e-3  # of Adam, if nothing else is configured
        self._restored: dict[str, Any] = {}  # what a checkpoint from between two logs holds of them

    def count_training_batch(self, number: int | Tensor, **sums: Tensor) -> None:
        """Adds the metrics of a batch, each summed over `number` images or words, without synchronizing with a GPU."""
        for name, total in sums.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros((), device=total.device)
            elif self._sums[name].device != total.device:  # restored from a checkpoint
                self._sums[name] = self._sums[name].to(total.device)
            self._sums[name].add_(total.detach())
        self._number = self._number + number

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with learning rate 1e-3, which trains any topic tolerably; the command line's `--optimizer` replaces it.

        Source: https://cs231n.github.io/neural-networks-3/#ada
        """
        return torch.optim.Adam(self.parameters(), lr=self._lr)

    @property
    def lr(self) -> float:
        """Learning rate of `configure_optimizers`, which Lightning's `Tuner.lr_find` sets.

        Raises:
            AttributeError: If the module, or the command line, configures its optimizers in another way.
        """
        configured = getattr(self.configure_optimizers, "__func__", None)
        if configured is not BufferedMetrics.configure_optimizers:
            raise AttributeError(f"{type(self).__name__} configures its optimizers itself")
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = value

    def on_train_start(self) -> None:
        self._logged_step = self.global_step
        restored, self._restored = self._restored, {}
        if restored and restored["step"] == self.global_step:  # training goes on from that checkpoint
            first = self.trainer.global_rank == 0  # the sums over all ranks
            self._sums = {name: total if first else torch.zeros(()) for name, total in restored["sums"].items()}
            self._number = restored["number"] if first else 0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        refuse_unprocessed(self, batch[0] if isinstance(batch, list | tuple) else batch)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer: Any = self.trainer  # some of its attributes are unknown to mypy
        every = trainer.log_every_n_steps  # 0 turns logging off
        # While gradients accumulate, global_step does not change and Lightning drops what is logged.
        if not every or self.global_step % every or self.global_step == self._logged_step:
            return
        sums = list(self._sums.values())
        totals_and_number = torch.stack([*sums, torch.full_like(sums[0], float(self._number))])
        *totals, number = trainer.strategy.reduce(totals_and_number, reduce_op="sum").tolist()
        means = {f"train/{name}": total / number for name, total in zip(self._sums, totals, strict=True)}
        self.log_dict(means, prog_bar=True)
        self._sums, self._number, self._logged_step = {}, 0, self.global_step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the sums since the last log, so that a resumed run logs the mean over the whole window."""
        if not self._sums:
            return
        trainer: Any = self.trainer
        every = trainer.log_every_n_steps
        if every and self.global_step % every == 0 and self.global_step != self._logged_step:
            return  # they are logged as soon as the checkpoint is written
        totals = {name: trainer.strategy.reduce(total, reduce_op="sum").cpu() for name, total in self._sums.items()}
        number = torch.as_tensor(self._number, dtype=torch.float64, device=self.device)
        number = trainer.strategy.reduce(number, reduce_op="sum")
        checkpoint["training_metrics"] = {"step": self.global_step, "sums": totals, "number": float(number)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the sums of a checkpoint until training goes on from it."""
        self._restored = checkpoint.get("training_metrics", {})
