"""W&B's own settings: its settings files and environment variables, read without importing wandb, which is slow."""

import configparser
import os
from pathlib import Path

from common.errors import UserError

# Variables whose name is not WANDB_ and the setting's name in capitals.
_VARIABLES = {
    "root_dir": "WANDB_DIR",
    "run_name": "WANDB_NAME",
    "run_tags": "WANDB_TAGS",
    "app_url_override": "WANDB_APP_URL",
}


def wandb_setting(name: str) -> str | None:
    """Returns a setting as W&B's client finds it, or None.

    An environment variable precedes `./wandb/settings`, which `wandb offline`, `wandb disabled` and `wandb init` write;
    that precedes `~/.config/wandb/settings`, in which `wandb login --host` stores the server.

    Args:
        name: Name of the setting in the files, such as "mode", "base_url", "project" or "run_group".

    Raises:
        UserError: If a settings file can't be read; what it would switch off must not be sent.
    """
    variable = os.environ.get(_VARIABLES.get(name, f"WANDB_{name.upper()}"))
    if variable:
        return variable
    for file in _files():
        if value := _read(file).get(name):
            return value
    return None


def _files() -> list[Path]:
    """Returns the paths of the settings files, the one that counts most first."""
    folders = [Path.cwd()]
    if wandb_dir := os.environ.get("WANDB_DIR"):
        folders.insert(0, Path(wandb_dir).expanduser())  # where `wandb offline` writes if this variable is set
    local = [folder / (".wandb" if (folder / ".wandb").exists() else "wandb") / "settings" for folder in folders]
    config_dir = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    return [*local, Path(config_dir).expanduser() / "settings"]


def _read(file: Path) -> dict[str, str]:
    parser = configparser.ConfigParser()
    try:
        if not file.exists():
            return {}
        with file.open(encoding="utf-8") as lines:
            parser.read_file(lines)
        return dict(parser.items("default")) if parser.has_section("default") else {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"W&B's settings file {file} can't be read ({reason}); correct or delete it.") from None


def base_url() -> str:
    """Returns the URL of W&B's server, or of the self-hosted server that W&B's client is set to."""
    return (wandb_setting("base_url") or "https://api.wandb.ai").rstrip("/")
