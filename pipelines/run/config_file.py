"""How the command line and configuration files are read, and how a run keeps what came of them."""

import os
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from common.earlier_names import current_config


class Parser(LightningArgumentParser):
    """Raises its errors, so that they can be explained in one sentence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)  # or a misspelled option would pass as the short form of another
        super().__init__(*args, **kwargs)

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        """Parses a configuration; one that an earlier version wrote is read under the names of today."""
        return super().parse_string(with_current_names(content), *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise ArgumentError(None, message) from ex


def with_current_names(content: str) -> str:
    """Returns YAML with every class path and setting under its name of today, and as it is if none was renamed."""
    try:
        config = yaml.safe_load(content)
    except yaml.YAMLError:
        return content  # the parser explains what is wrong
    current = current_config(config)
    return content if current == config else yaml.safe_dump(current, sort_keys=False)


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run's folder, anew when a run is continued."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config.clone()
        config.pop("ckpt_path", None)  # a run that goes on names its checkpoint itself
        temporary = folder / f".config.{os.getpid()}.tmp"
        temporary.write_text(self.parser.dump(config, skip_none=False, skip_validation=True))
        temporary.replace(folder / "config.yaml")
