"""Checkpoints: written atomically, read without running code or accepting damage, compared with a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import LightningModule

from common.atomic_files import atomic_write
from common.checked_tensors import load_checked
from common.errors import UserError
from modules.captioning.earlier_keys import current_keys
from pipelines.run.run_folder import RunFolder

Checkpoint = dict[str, Any]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file in the same folder and renames it when it is complete.

    Lightning's own writes to the system's temporary folder and moves the file; on another disk that is a copy, and a
    kill during it leaves neither the old checkpoint nor the new one.
    """

    def save_checkpoint(self, checkpoint: Checkpoint, path: _PATH, storage_options: Any = None) -> None:
        target = Path(path)
        checkpoint = {**checkpoint, "state_dict": _without_other_memory(checkpoint["state_dict"])}
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


def _without_other_memory(weights: dict[str, Any]) -> dict[str, Any]:
    """Returns weights in which a view of a larger tensor, which torch would save whole, has memory of its own."""
    return {
        name: weight.clone() if weight.untyped_storage().nbytes() > weight.nbytes else weight
        for name, weight in weights.items()
    }


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint on the CPU; it may hold tensors and plain values only.

    Raises:
        ValueError: If the file is missing, truncated, damaged or not a checkpoint.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}; use the path of a .ckpt file or of a run's folder.")
    try:
        checkpoint = load_checked(path)
    except Exception as error:  # torch.load raises many kinds of errors
        raise UserError(
            f"{path} can't be read as a checkpoint: it is truncated, damaged or holds more than tensors and plain "
            "values; use another checkpoint of the run."
        ) from error
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    ):
        raise UserError(f"{path} is not a training checkpoint; use one that `fit` has written.")
    if "loops" not in checkpoint:
        checkpoint.setdefault("global_step", 0)  # of weights alone
    # A wrong step would give a test's metrics to another step, and a resume would drop rows of metrics.csv.
    step = checkpoint.get("global_step")
    if not isinstance(step, int) or step < 0:
        raise UserError(
            f"The training state in {path} can't be used (its global_step is {step!r}); use another checkpoint of the "
            "run."
        )
    checkpoint.setdefault("pytorch-lightning_version", lightning.__version__)  # Lightning needs both
    checkpoint.setdefault("epoch", 0)
    return cast(Checkpoint, checkpoint)


def step_reached(run: RunFolder, checkpoint: Path) -> int | None:
    """Returns the step of a run's last checkpoint; None if it is the given one, is missing or can't be read."""
    if not run.last.is_file() or (checkpoint.is_file() and checkpoint.samefile(run.last)):
        return None
    try:
        step = read_checkpoint(run.last).get("global_step")
    except UserError:
        return None
    return step if isinstance(step, int) else None


def kept_by_data(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Returns the `vocabulary` or `class_names` that a checkpoint has of its data, by that name."""
    states = [value for value in checkpoint.values() if isinstance(value, dict)]
    names = ("vocabulary", "class_names")
    return {name: state[name] for name in names for state in states if isinstance(state.get(name), list)}


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
        settings = checkpoint.get("hyper_parameters")
        of = str(
            settings["_class_path"] if isinstance(settings, dict) and "_class_path" in settings else "another model"
        )
        of = of.rsplit(".", 1)[-1]
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
