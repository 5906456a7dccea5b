"""Loggers that a user sets as `trainer.logger`: each is given the run's folder, name and id, as W&B is by default."""

import copy
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from pydoc import locate
from typing import Any
from urllib.parse import urlsplit

from jsonargparse import Namespace
from lightning.pytorch.loggers import CometLogger, CSVLogger, LitLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger

from common.errors import UserError
from common.messages.reasons import reason_of
from common.messages.shortening import shorten
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_mode import accepts_connections
from pipelines.tracking.wandb_options import PROJECT, RunLabels, WandbOptions

_PACKAGES: dict[type[Any], tuple[str, ...]] = {
    # one of which the logger imports
    TensorBoardLogger: ("tensorboard", "tensorboardX"),
    MLFlowLogger: ("mlflow",),
    CometLogger: ("comet_ml",),
    LitLogger: ("litlogger",),
}
_LIGHTNINGS_NAME = "lightning_logs"  # default name of projects and experiments
_OF_RUN = ("dir", "id", "resume", "anonymous", "settings")  # arguments of wandb.init that the run itself sets

for _logger in (CSVLogger, TensorBoardLogger):  # they require save_dir, which is the run's folder unless it is set
    _logger.__init__.__defaults__ = (None, *(_logger.__init__.__defaults__ or ()))


def check_packages(configured: Any) -> None:
    """Checks that the packages of configured loggers are installed.

    Args:
        configured: Parsed value of `trainer.logger`, before the classes are created.

    Raises:
        UserError: If one is missing.
    """
    for kind, _ in _classes(configured):
        for owner, packages in _PACKAGES.items():
            if issubclass(kind, owner) and not any(map(find_spec, packages)):
                raise UserError(
                    f"{kind.__name__} needs the package {packages[0]}; install it with `pip install {packages[0]}`, or "
                    "leave trainer.logger out."
                )


def placed(configured: Any, folder: Path, labels: RunLabels) -> Any:
    """Returns a copy of a parsed `trainer.logger` in which each logger without a folder or project has the run's.

    Args:
        configured: Value of `trainer.logger`, before the classes are created.
        folder: Folder of the run.
        labels: What the run is called.
    """
    configured = copy.deepcopy(configured)
    for kind, settings in _classes(configured):
        if issubclass(kind, CSVLogger | TensorBoardLogger) and settings.get("save_dir") is None:
            settings["save_dir"] = str(folder)
            if settings.get("name") == _LIGHTNINGS_NAME:
                settings["name"] = "csv" if issubclass(kind, CSVLogger) else "tensorboard"
            if issubclass(kind, TensorBoardLogger) and settings.get("version") is None:
                settings["version"] = ""  # a run that goes on continues in its folder
        elif issubclass(kind, MLFlowLogger):
            _place_mlflow(settings, folder, labels)
    return configured


def _place_mlflow(settings: Namespace, folder: Path, labels: RunLabels) -> None:
    """Fills in the settings of an MLFlowLogger; without a server, all runs share a database, as MLflow's page does."""
    server = urlsplit(settings.get("tracking_uri") or "")
    database = folder.parent.parent / "mlflow.db"
    if server.scheme in ("http", "https") and not accepts_connections(server.geturl()):
        _print(f"MLflow at {server.netloc} can't be reached: this run is tracked in {database}.")
        settings["tracking_uri"] = None
    if settings.get("tracking_uri") is None and settings.get("save_dir") in (None, "./mlruns"):
        settings["tracking_uri"] = f"sqlite:///{database.resolve()}"
        settings["artifact_location"] = settings.get("artifact_location") or str(database.with_name("mlruns").resolve())
    if settings.get("experiment_name") == _LIGHTNINGS_NAME:
        settings["experiment_name"] = PROJECT
    settings["run_name"] = settings.get("run_name") or labels.name
    given = settings.get("tags") or {}
    settings["tags"] = {"topic": labels.tags[0], "data": labels.tags[-1], "run": folder.name, **given}


def not_created(error: Exception) -> str | None:
    """Returns one sentence for a parser's error about a logger that could not be created; None for another error."""
    text = str(error)
    kind = re.search(r"Given value: Namespace\(class_path='([\w.]*Logger)'", text)
    reason = re.search(r"Errors:\s+- (.*)", text)
    if kind is None or reason is None:
        return None
    name = kind[1].rpartition(".")[2]
    return f"{name} can't be created ({shorten(reason[1].rstrip('.'), 300)}); correct it, or leave trainer.logger out."


def continue_mlflow(logger: Logger, folder: Path) -> None:
    """Makes an MLFlowLogger continue the MLflow run of a run's folder, if there is one; ids are MLflow's own choice."""
    if not isinstance(logger, MLFlowLogger) or logger._run_id is not None:
        return
    client: Any = logger._mlflow_client
    experiment = client.get_experiment_by_name(logger._experiment_name)
    if experiment is not None:
        found = client.search_runs([experiment.experiment_id], f"tags.run = '{folder.name}'", max_results=1)
        logger._run_id = found[0].info.run_id if found else None


def wandb_logger_of(configured: Any) -> WandbLogger | None:
    """Returns the WandbLogger of a created `trainer.logger`; None if there is none.

    Raises:
        UserError: If there are several.
    """
    found = [logger for logger in listed(configured) if isinstance(logger, WandbLogger)]
    if len(found) > 1:
        raise UserError(f"trainer.logger has {len(found)} WandbLoggers, but a run is one run on W&B; leave out one.")
    return found[0] if found else None


def with_logger(options: WandbOptions, logger: WandbLogger | None) -> WandbOptions:
    """Returns the keys `wandb.*`, those that are not set with what a WandbLogger was given for them."""
    if logger is None:
        return options
    given = {
        **logger._wandb_init,
        "log_model": logger._log_model or None,
        "mode": "offline" if logger._offline else None,
    }
    if given["project"] == _LIGHTNINGS_NAME:
        del given["project"]
    unset = [field.name for field in fields(options) if getattr(options, field.name) is None]
    return replace(options, **{name: given[name] for name in unset if given.get(name) is not None})


def init_arguments_of(logger: WandbLogger | None) -> dict[str, Any]:
    """Returns the arguments of `wandb.init` of a WandbLogger that no key `wandb.*` sets, such as id and config."""
    given = {} if logger is None else {name: value for name, value in logger._wandb_init.items() if value is not None}
    own = [name for name in given if name not in {field.name for field in fields(WandbOptions)} | set(_OF_RUN)]
    found = {name: given[name] for name in own}
    if "id" in given:
        found["id"] = given["id"]
    if given.get("dir", ".") != ".":
        found["dir"] = given["dir"]
    return found


def keep_training(logger: Logger) -> None:
    """Makes a logger print one line when its service fails and ignore later calls, so that the training continues."""
    if isinstance(logger, MLFlowLogger | CometLogger):
        failed: list[Exception] = []
        for name in ("log_metrics", "log_hyperparams", "save", "finalize", "after_save_checkpoint"):
            setattr(logger, name, _kept(getattr(logger, name), type(logger).__name__, failed))


def _kept(method: Callable[..., Any], name: str, failed: list[Exception]) -> Callable[..., Any]:
    @wraps(method)
    def kept(*args: Any, **kwargs: Any) -> Any:
        if failed:
            return None
        try:
            return method(*args, **kwargs)
        except Exception as error:  # whatever the service does
            failed.append(error)
            _print(f"{name} can't track this run any more ({reason_of(error)}): its metrics are in metrics.csv.")
            return None

    return kept


def listed(configured: Any) -> Sequence[Any]:
    """Returns the loggers of `trainer.logger`, which is one, a list of them, true, false or None."""
    several = configured if isinstance(configured, list) else [configured]
    return [logger for logger in several if logger not in (None, True, False)]


def _classes(configured: Any) -> Iterator[tuple[type[Logger], Namespace]]:
    """Yields class and settings of each parsed logger."""
    for parsed in listed(configured):
        kind = locate(str(parsed.get("class_path"))) if isinstance(parsed, Namespace) else None
        if isinstance(kind, type) and issubclass(kind, Logger):
            if "init_args" not in parsed:
                parsed["init_args"] = Namespace()
            yield kind, parsed["init_args"]


def _print(message: str) -> None:
    print(without_passwords(message), file=sys.stderr)
