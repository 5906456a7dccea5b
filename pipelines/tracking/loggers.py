"""Chooses the loggers of a run: metrics.csv always, W&B unless it is off or replaced by other loggers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from pipelines.tracking.flat_settings import flat_settings
from pipelines.tracking.metrics_csv import MetricsCSV
from pipelines.tracking.run_id import wandb_run_id
from pipelines.tracking.wandb_run import start_wandb


def run_loggers(
    folder: Path, configured: Any, resume_step: int | None, config: Callable[[], dict[str, Any]]
) -> list[Logger]:
    """Returns MetricsCSV, and the loggers of `trainer.logger`: W&B by default, none if false.

    Args:
        folder: Folder of the run, `<topic>/<run id>`.
        configured: Value of `trainer.logger`: a logger, a list of them, true, false or None.
        resume_step: Step from which the run is resumed; None to keep all rows of metrics.csv.
        config: Returns the resolved configuration, which W&B records.
    """
    loggers: list[Logger] = [MetricsCSV(folder, resume_step)]
    if configured not in (None, True, False):
        loggers += configured if isinstance(configured, list) else [configured]
    elif configured is not False and getattr(rank_zero_only, "rank", 0) == 0:
        wandb_logger = start_wandb(folder, wandb_run_id(folder.name), folder.parent.name, flat_settings(config()))
        loggers += [wandb_logger] if wandb_logger else []
    return loggers
