"""Checks that training can continue from a checkpoint, which may have weights only or lack a part of its state."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.run.run_folder import RunFolder, as_typed

_RESTORING = {"_restore_modules_and_callbacks", "restore_training_state"}  # Lightning's functions that read a state
_PARTS = {
    "loops": "position in the run",
    "optimizer_states": "optimizer state",
    "lr_schedulers": "schedule",
    "callbacks": "state of random numbers and callbacks",
}


def check_training_state(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuses a checkpoint from which training can't continue; the message names what it can be used for.

    Raises:
        ValueError: If a part of the training state is missing or has another structure than `fit` writes.
    """
    lacks = [name for key, name in _PARTS.items() if key not in checkpoint]
    if not lacks and "RandomState" not in checkpoint["callbacks"]:
        lacks = [_PARTS["callbacks"]]
    if lacks:
        run = RunFolder.of_checkpoint(path)
        other = run is not None and run.last.is_file() and run.last.resolve() != path.resolve()
        instead = f"continue from {as_typed(run.last)}" if run is not None and other else "start a new run"
        raise UserError(
            f"Training can't continue from {path}, which lacks its {', '.join(lacks)} (as checkpoints with "
            f"save_weights_only); {instead}. Its weights can be used by test, validate, predict, export and the "
            "other commands."
        )
    try:
        progress = checkpoint["loops"]["fit_loop"]
        numbers = [progress["epoch_progress"]["current"][name] for name in ("ready", "processed", "completed")]
        numbers += [checkpoint["global_step"], bool(progress["epoch_loop.batch_progress"]["is_last_batch"])]
        sound = all(isinstance(number, int) and number >= 0 for number in numbers)
        sound &= all(isinstance(checkpoint[key], list) for key in ("optimizer_states", "lr_schedulers"))
        sound &= isinstance(checkpoint["callbacks"], dict)
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise _damaged(path, "its structure is not the one that fit writes")


@contextmanager
def refused_if_damaged(path: Path | None) -> Iterator[None]:
    """Reports an error while Lightning restores the state of a checkpoint in one sentence.

    Raises:
        ValueError: If the state of the checkpoint can't be restored.
    """
    try:
        yield
    except Exception as error:
        restoring = {frame.name for frame in traceback.extract_tb(error.__traceback__)} & _RESTORING
        if path is None or isinstance(error, UserError) or not restoring:
            raise
        raise _damaged(path, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"The training state in {path} can't be used ({reason}); use another checkpoint of the run.")
