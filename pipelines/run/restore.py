"""The model and data module of a checkpoint, as `fit` left them: weights and preprocessing; no data files are read."""

from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.run.build import build
from pipelines.run.checkpoints import check_weights_fit, read_checkpoint
from pipelines.run.run_folder import RunFolder


def untrained(run: RunFolder) -> tuple[Any, Any]:
    """Model and data module as `fit` began with them."""
    built = build(["test", "--config", str(run.config)], run.topic)
    return built.model, built.datamodule


def restore(model: Any, data: Any, checkpoint: Path) -> None:
    """Gives a model and a data module, as `untrained` makes them, what a checkpoint holds; leaves the model evaluating.

    Raises:
        ValueError: a damaged checkpoint, or one that does not fit.
    """
    stored = read_checkpoint(checkpoint)
    check_weights_fit(stored, model, checkpoint)
    model.on_load_checkpoint(stored)
    model.load_state_dict(stored["state_dict"])
    if type(data).__qualname__ not in stored:
        raise UserError(f"{checkpoint} lacks the preprocessing of {type(data).__name__}; take one that `fit` wrote.")
    data.load_state_dict(stored[type(data).__qualname__])
    model.eval()
