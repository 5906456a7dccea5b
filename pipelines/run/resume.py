"""Exact resume: the checkpoint that a run continues from, and the random number generators of all ranks in it.

The position in the data is the loader's own state (`datamodules/loader.py`).
"""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from pipelines.checkpoints.checkpoint_io import Checkpoint


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt`, from which a run resumes, at the end of every epoch and, if set, more often.

    Args:
        dirpath: Folder of the checkpoints; the command line sets it.
        every_n_train_steps: Steps between additional checkpoints.
        train_time_interval: Time between additional checkpoints, such as 00:10:00.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
    ) -> None:
        super().__init__(
            dirpath,
            "last",
            every_n_train_steps=every_n_train_steps,
            train_time_interval=train_time_interval,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Saves the checkpoint as the last one: loggers that upload checkpoints would take it for the best one."""
        self.best_model_path, self.last_model_path = "", filepath
        super()._save_checkpoint(trainer, filepath)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: Checkpoint) -> None:
        """Marks an epoch that max_steps, max_time or early stopping cut short as one to be continued.

        Lightning 2.6 takes it for one that has ended and would begin its batches again.
        """
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        if not trainer.is_last_batch:
            for counts in progress.values():
                counts["processed"] = counts["completed"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # After an epoch's last batch the checkpoint waits for the epoch's end: Lightning 2.6 resumes from one written
        # in between with its count of epochs one too low, and a second resume would repeat an epoch.
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self._last_global_step_saved != trainer.global_step:  # the base class does one or the other
            self._save_checkpoint(trainer, str(Path(self.dirpath or ".") / f"last{self.FILE_EXTENSION}"))


class RandomState(Callback):
    """Stores the random number generators of all ranks in the checkpoint: a resumed run draws the same numbers.

    Lightning stores none. They are restored right before the first training step after a resume, since hooks and data
    loaders before it may draw numbers too.
    """

    def __init__(self) -> None:
        self._restored: list[Checkpoint] | None = None

    def state_dict(self) -> Checkpoint:
        state: Checkpoint = {"torch": torch.get_rng_state(), "python": random.getstate()}
        kind, keys, *rest = np.random.get_state(legacy=True)
        state["numpy"] = [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest]
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state()
        of_ranks = [state]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            of_ranks = [{} for _ in range(dist.get_world_size())]
            dist.all_gather_object(of_ranks, state)
        return {"ranks": of_ranks}

    def load_state_dict(self, state_dict: Checkpoint) -> None:
        """Takes over the state of a checkpoint.

        Raises:
            Exception: Of several kinds, if it is damaged.
        """
        for state in state_dict["ranks"]:
            torch.Generator().set_state(state["torch"])
            random.Random().setstate(_tuples(state["python"]))
            np.random.RandomState().set_state(_of_numpy(state["numpy"]))
        self._restored = state_dict["ranks"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._restored is None:
            return
        if len(self._restored) == trainer.world_size:  # with another world size there is no right state
            state = self._restored[trainer.global_rank]
            torch.set_rng_state(state["torch"])
            random.setstate(_tuples(state["python"]))
            np.random.set_state(_of_numpy(state["numpy"]))
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"])
        self._restored = None


def _of_numpy(state: Any) -> Any:
    """Converts the stored state of NumPy's generator back to the form that NumPy takes."""
    kind, keys, *rest = state
    return (kind, keys.numpy().astype(np.uint32), *rest)


def _tuples(value: Any) -> Any:
    """Converts nested lists back to tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
