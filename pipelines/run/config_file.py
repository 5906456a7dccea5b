"""How the command line and configuration files are read, and how a run keeps what came of them."""

import os
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback


class Parser(LightningArgumentParser):
    """Raises its errors, so that they can be explained in one sentence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)  # or a misspelled option would pass as the short form of another
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise ArgumentError(None, message) from ex


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
