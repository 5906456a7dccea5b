"""Chooses the loggers of a run: metrics.csv always, W&B unless it is off or replaced by other loggers."""

import sys
from collections.abc import Callable
from glob import escape
from itertools import chain
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from common.errors import UserError
from pipelines.artifacts.model_files import ModelFiles
from pipelines.loggers.tracked_settings import tracked_settings
from pipelines.loggers.user_loggers import (
    continue_mlflow,
    init_arguments_of,
    keep_training,
    listed,
    wandb_logger_of,
)
from pipelines.syncing.resume import go_on
from pipelines.tracking.metrics_csv import MetricsCSV
from pipelines.tracking.run_id import wandb_run_id
from pipelines.tracking.wandb_files import parts
from pipelines.tracking.wandb_mode import wandb_mode
from pipelines.tracking.wandb_options import RunLabels, WandbOptions
from pipelines.tracking.wandb_run import start_wandb


def run_loggers(
    folder: Path,
    configured: Any,
    resume_step: int | None,
    config: Callable[[], dict[str, Any]],
    options: WandbOptions,
    labels: RunLabels,
    beside: bool = False,
) -> list[Logger]:
    """Returns MetricsCSV, and the loggers of `trainer.logger`: W&B by default, none if false.

    Args:
        folder: Folder of the run, `<topic>/<run id>`.
        configured: Value of `trainer.logger`: a logger, a list of them, true, false or None. A WandbLogger in it is
            replaced by the default one, with its settings; of a subclass, the logger itself has the run.
        resume_step: Step from which the run is resumed; None to keep all rows of metrics.csv.
        config: Returns the resolved configuration, which W&B records.
        options: The run's settings on W&B.
        labels: What the run is called on a dashboard.
        beside: Whether the run is still training: W&B takes rows from one process of a run at a time.

    Raises:
        ValueError: If a configured logger would mix the run with an earlier one, or delete its metrics.
    """
    loggers: list[Logger] = [MetricsCSV(folder, resume_step)]
    first = getattr(rank_zero_only, "rank", 0) == 0
    own_wandb = wandb_logger_of(configured)
    own = [logger for logger in listed(configured) if logger is not own_wandb]
    settings = tracked_settings(config()) if first and configured is not False and not beside else {}
    for logger in [*own, *([own_wandb] if own_wandb else [])] if first else []:
        _check_own(logger, folder, new=resume_step == 0)
    for logger in own:
        keep_training(logger)
        if first and settings:
            _describe(logger, folder, settings, new=resume_step == 0)
    loggers += own
    if not first or (own and own_wandb is None) or configured is False:
        return loggers
    mode = wandb_mode(options.mode)
    if beside:
        if mode != "disabled":
            print(
                "W&B: not tracked, because the run is still training; its metrics are in metrics.csv.", file=sys.stderr
            )
        return loggers
    arguments = options.init_arguments(labels, first=not parts(folder)) | init_arguments_of(own_wandb)
    tracked = start_wandb(folder, wandb_run_id(folder.name), arguments, settings, mode)
    if tracked is None:
        return loggers
    if resume_step is not None:
        tracked.arrived = go_on(tracked.experiment, folder, resume_step)
        if models := options.models_to_log or (own_wandb is not None and own_wandb._log_model):
            tracked.models = ModelFiles(folder, each=models == "all")
    if own_wandb is not None and type(own_wandb) is not WandbLogger:
        own_wandb._experiment, own_wandb._log_model = tracked.experiment, False
        return [*loggers, own_wandb]
    return [*loggers, tracked]


def _describe(logger: Logger, folder: Path, settings: dict[str, Any], new: bool) -> None:
    """Gives a logger of the user's the settings of a new run; one of a run that goes on continues what it has."""
    if new:
        logger.log_hyperparams(settings)
    else:
        continue_mlflow(logger, folder)


def _check_own(logger: Logger, folder: Path, new: bool) -> None:
    """Checks a logger that the command line configures: none may mix a run with an earlier one, or replace its files.

    Args:
        logger: The logger.
        folder: Folder of the run.
        new: Whether the run starts at step 0.

    Raises:
        ValueError: If Lightning's CSVLogger would delete a file, or a new run has the id of an earlier one on W&B.
    """
    if isinstance(logger, CSVLogger) and (file := Path(logger.log_dir) / "metrics.csv").is_file():
        raise UserError(
            f"The CSVLogger would delete {file} of an earlier run; set another --trainer.logger.version, or leave it "
            "out: every run writes its own metrics.csv."
        )
    if isinstance(logger, WandbLogger) and new and logger.version is not None:
        pattern = f"wandb/*run-*-{escape(logger.version)}/"
        places = [Path(logger.save_dir or ".").glob(pattern), folder.parent.parent.glob(f"*/*/{pattern}")]
        if earlier := next(chain(*places), None):
            raise UserError(
                f"The id {logger.version!r} of the W&B logger is that of the run in {earlier}; set another "
                "--trainer.logger.id for a new run, or continue that run with --ckpt_path."
            )
