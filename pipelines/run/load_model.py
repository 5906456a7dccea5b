"""Restores model and data module from a checkpoint, with weights and preprocessing but without data files."""

from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.checkpoints.checkpoint_io import check_weights_fit, read_checkpoint
from pipelines.checkpoints.recorded_settings import check_model_complete
from pipelines.run.build import build
from pipelines.run.run_folder import RunFolder


def untrained(run: RunFolder, checkpoint: Path | None = None) -> tuple[Any, Any]:
    """Returns model and data module as `fit` created them, untrained; with the checkpoint's vocabulary or classes."""
    built = build(["test", "--config", str(run.config)], run.topic, checkpoint)
    return built.model, built.datamodule


def restore(model: Any, data: Any, checkpoint: Path) -> None:
    """Loads a checkpoint into a model and data module of `untrained`, and sets the model to evaluation mode.

    Raises:
        ValueError: If the checkpoint is damaged or does not fit.
    """
    stored = read_checkpoint(checkpoint)
    check_model_complete(stored, RunFolder.of_checkpoint(checkpoint))
    check_weights_fit(stored, model, checkpoint)
    if type(data).__qualname__ not in stored:
        raise UserError(f"{checkpoint} lacks the preprocessing of {type(data).__name__}; use one that `fit` wrote.")
    try:
        model.on_load_checkpoint(stored)
        model.load_state_dict(stored["state_dict"])
        data.load_state_dict(stored[type(data).__qualname__])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"The state in {checkpoint} can't be used ({reason}); use another checkpoint.") from error
    model.eval()
