"""Checkpoints: written atomically, read without running code, resumed exactly."""

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from common.atomic_files import atomic_write
from common.errors import UserError
from modules.captioning.earlier_keys import current_keys

Checkpoint = dict[str, Any]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file in the same folder and renames it when it is complete.

    Lightning's own writes to the system's temporary folder and moves the file; on another disk that is a copy, and a
    kill during it leaves neither the old checkpoint nor the new one.
    """

    def save_checkpoint(self, checkpoint: Checkpoint, path: _PATH, storage_options: Any = None) -> None:
        target = Path(path)
        try:
            with atomic_write(target, sync=True) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # torch reports a full disk as a RuntimeError
            raise OSError(f"{target} can't be written ({str(error).splitlines()[0]}); is the disk full?") from error

    def load_checkpoint(
        self,
        path: _PATH,
        map_location: Callable[..., Any] | None = lambda storage, location: storage,
        weights_only: bool | None = True,
    ) -> Checkpoint:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint on the CPU; it may hold tensors and plain values only.

    Raises:
        ValueError: If the file is missing, truncated, damaged or not a checkpoint.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}; use the path of a .ckpt file or of a run's folder.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds of errors
        raise UserError(
            f"{path} can't be read as a checkpoint: it is truncated, damaged or holds more than tensors and plain "
            "values; use another checkpoint of the run."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a training checkpoint; use one that `fit` has written.")
    return checkpoint


def check_weights_fit(checkpoint: Checkpoint, module: LightningModule, path: Path) -> None:
    """Compares a checkpoint's weights with a module's by name and shape.

    A tensor of length 0 in the module accepts any length: images that a model memorizes are not there yet.

    Raises:
        ValueError: If a weight is missing, unexpected or of another shape.
    """
    weights = current_keys(module, checkpoint["state_dict"])
    stored = {name: tuple(value.shape) for name, value in weights.items()}
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if stored.keys() != expected.keys():
        name = min(stored.keys() ^ expected.keys())
        where = "the checkpoint lacks" if name in expected else "the model lacks"
        of = str(checkpoint.get("hyper_parameters", {}).get("_class_path", "another model")).rsplit(".", 1)[-1]
        raise UserError(
            f"{path} is a checkpoint of {of} and does not fit {type(module).__name__}: {where} {name}; use the "
            "configuration that the checkpoint was trained with."
        )
    for name, shape in expected.items():
        if shape[:1] == (0,) and stored[name][1:] == shape[1:]:
            continue
        if stored[name] != shape:
            raise UserError(
                f"{path} does not fit: {name} has shape {stored[name]} in it and {shape} in this "
                f"{type(module).__name__}; use the data and settings that the checkpoint was trained with."
            )


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
        self._restored = state_dict["ranks"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._restored is None:
            return
        if len(self._restored) == trainer.world_size:  # with another world size there is no right state
            state = self._restored[trainer.global_rank]
            torch.set_rng_state(state["torch"])
            random.setstate(_tuples(state["python"]))
            kind, keys, *rest = state["numpy"]
            np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
            if "cuda" in state and torch.cuda.is_available():
                torch.cuda.set_rng_state(state["cuda"])
        self._restored = None


def _tuples(value: Any) -> Any:
    """Converts nested lists back to tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
