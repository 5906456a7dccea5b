"""Alerts of a run, which W&B sends as an email or a Slack message if `wandb.alerts` is true."""

from collections.abc import Sequence
from contextlib import suppress

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger

from pipelines.checkpoints.best_checkpoint import BestCheckpoint


def alert(loggers: Sequence[Logger], title: str, text: str, failed: bool) -> None:
    """Sends an alert to every W&B run of a run; one that can't be sent is dropped.

    Args:
        loggers: Loggers of the run.
        title: Title, such as "svm finished".
        text: Text.
        failed: Whether it is an error.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            with suppress(Exception):  # the run is at its end, and its server may be gone
                logger.experiment.alert(title=title, text=text, level="ERROR" if failed else "INFO")


def result(trainer: Trainer | None) -> str:
    """Returns the best value of the monitored metric and the step that a run has reached, in one line."""
    if trainer is None:
        return ""
    best = [
        f"best {callback.monitor} {float(callback.best_model_score):.4f}"
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, BestCheckpoint) and callback.best_model_score is not None
    ]
    return ", ".join([*best, f"{trainer.global_step} steps"])
