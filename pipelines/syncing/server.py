"""Queries W&B's server for a run, and the arguments under which the run is tracked there."""

from pathlib import Path
from typing import Any

from common.messages.reasons import reason_of
from pipelines.loggers.tracked_settings import tracked_settings
from pipelines.run.config_file import load_config
from pipelines.tracking.run_id import wandb_run_id
from pipelines.tracking.secrets import without_passwords
from pipelines.tracking.wandb_options import OPTIONS, RunLabels, WandbOptions

_SECONDS = 20  # for an answer


def run_on_server(folder: Path) -> Any:
    """Returns the run of a folder, None if the server has none.

    Raises:
        Exception: Of several kinds, if the server does not answer.
    """
    import wandb

    init = init_arguments(folder)
    path = [init["entity"]] if "entity" in init else []
    try:
        return wandb.Api(timeout=_SECONDS).run("/".join([*path, init["project"], wandb_run_id(folder.name)]))
    except (ValueError, wandb.errors.CommError) as error:
        if "could not find" in str(error).lower():
            return None
        raise


def init_arguments(folder: Path) -> dict[str, Any]:
    """Returns the keyword arguments of `wandb.init` with which the run in a folder is tracked."""
    config = _config(folder)
    given = {**_of_own_logger(config), **{k: v for k, v in (config.get("wandb") or {}).items() if v is not None}}
    options = WandbOptions(**{name: given[name] for name in OPTIONS if name in given})
    return options.init_arguments(RunLabels(folder.parent.name, folder.name, ()), first=False)


def _of_own_logger(config: dict[str, Any]) -> dict[str, Any]:
    """Returns project and entity of a WandbLogger of the user's."""
    loggers = (config.get("trainer") or {}).get("logger")
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if isinstance(logger, dict) and str(logger.get("class_path")).endswith("WandbLogger"):
            settings = logger.get("init_args") or {}
            return {name: settings[name] for name in ("project", "entity") if settings.get(name)}
    return {}


def settings_of(folder: Path) -> dict[str, Any]:
    """Returns the settings of the run in a folder that W&B has of it."""
    return tracked_settings(_config(folder))


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.yaml"
    loaded = load_config(file.read_text(encoding="utf-8"), str(file)) if file.is_file() else {}
    return loaded if isinstance(loaded, dict) else {}


def problem_of(error: Exception) -> str:
    """Returns the message of an error in one line."""
    return without_passwords(reason_of(error))
