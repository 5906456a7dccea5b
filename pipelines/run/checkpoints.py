"""Checkpoints that survive a kill or a full disk at any moment, are read without running code, and resume exactly."""

import os
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

from common.errors import UserError

Checkpoint = dict[str, Any]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name beside its own and renames it when it is whole.

    Lightning's own writes to the system's folder for temporary files and moves it; where that is another disk the move
    is a copy, and a kill in the middle of it leaves neither the old checkpoint nor the new one.
    """

    def save_checkpoint(self, checkpoint: Checkpoint, path: _PATH, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # or a power cut after the rename leaves an empty file
            temporary.replace(target)
        except RuntimeError as error:  # torch's writer reports a full disk as a RuntimeError without its number
            raise OSError(f"{target} can't be written ({str(error).splitlines()[0]}); is the disk full?") from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self,
        path: _PATH,
        map_location: Callable[..., Any] | None = lambda storage, location: storage,
        weights_only: bool | None = True,
    ) -> Checkpoint:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint on the CPU, tensors and plain values only.

    Raises:
        ValueError: no such file, cut short or damaged, or not a checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}; give the path of a .ckpt file or of a run's folder.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its reader stumbles over
        raise UserError(
            f"{path} can't be read as a checkpoint: it is cut short, damaged or holds more than tensors and plain "
            "values; take another checkpoint of the run."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} holds no training checkpoint; give one that `fit` has written.")
    return checkpoint


def check_weights_fit(checkpoint: Checkpoint, module: LightningModule, path: Path) -> None:
    """Compares a checkpoint's weights with a module's by name and shape.

    A tensor of length 0 in the module takes any length from the checkpoint: what a model memorizes, it has not yet.

    Raises:
        ValueError: a weight that is missing, left over, or of another shape.
    """
    stored = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if stored.keys() != wanted.keys():
        name = min(stored.keys() ^ wanted.keys())
        where = "the checkpoint lacks" if name in wanted else "the model lacks"
        of = str(checkpoint.get("hyper_parameters", {}).get("_class_path", "another model")).rsplit(".", 1)[-1]
        raise UserError(
            f"{path} is a checkpoint of {of} and does not fit {type(module).__name__}: {where} {name}; use the "
            "configuration that the checkpoint was trained with."
        )
    for name, shape in wanted.items():
        if shape[:1] == (0,) and stored[name][1:] == shape[1:]:
            continue
        if stored[name] != shape:
            raise UserError(
                f"{path} does not fit: {name} has shape {stored[name]} in it and {shape} in this "
                f"{type(module).__name__}; use the data and settings that the checkpoint was trained with."
            )


class LastCheckpoint(ModelCheckpoint):
    """Writes `last.ckpt`, from which a run goes on, at the end of every epoch, and more often if asked to.

    Args:
        dirpath: the run's folder of checkpoints; the command line sets it.
        every_n_train_steps: write it after every so many steps too.
        train_time_interval: or after every so much time, such as 00:10:00.
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
    """Keeps the random state of every process in the checkpoint, so that a resumed run draws what it would have drawn.

    Lightning stores none. The state is put back right before the first training step after a resume, since hooks and
    data loaders in between may draw too.
    """

    def __init__(self) -> None:
        self._restored: list[Checkpoint] | None = None

    def state_dict(self) -> Checkpoint:
        mine: Checkpoint = {"torch": torch.get_rng_state(), "python": random.getstate()}
        kind, keys, *rest = np.random.get_state(legacy=True)
        mine["numpy"] = [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest]
        if torch.cuda.is_available():
            mine["cuda"] = torch.cuda.get_rng_state()
        everyone = [mine]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            everyone = [{} for _ in range(dist.get_world_size())]
            dist.all_gather_object(everyone, mine)
        return {"ranks": everyone}

    def load_state_dict(self, state_dict: Checkpoint) -> None:
        self._restored = state_dict["ranks"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._restored is None:
            return
        if len(self._restored) == trainer.world_size:  # with another number of processes there is no right state
            mine = self._restored[trainer.global_rank]
            torch.set_rng_state(mine["torch"])
            random.setstate(_tuples(mine["python"]))
            kind, keys, *rest = mine["numpy"]
            np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
            if "cuda" in mine and torch.cuda.is_available():
                torch.cuda.set_rng_state(mine["cuda"])
        self._restored = None


def _tuples(value: Any) -> Any:
    """Lists back to the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
