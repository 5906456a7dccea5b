"""Reading of command line and configuration files, and the config.yaml of a run."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, Namespace, _loaders_dumpers
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning_utilities.core.enums import StrEnum

from common.atomic_files import atomic_write
from common.earlier_names import current_config
from common.yaml_text import StrictSafeLoader, load_yaml
from pipelines.settings.config_check import check_file
from pipelines.settings.linked_settings import LINKED
from pipelines.settings.user_modules import find_modules_of, first_line

# The parser's own takes the last of two equal keys, reads 1:30 as 90, and has no limits.
_loaders_dumpers.yaml_default_loader = StrictSafeLoader  # type: ignore[assignment]  # set when first used

# A default of a callback may be an enum, as Timer's interval is, which YAML can't write.
yaml.SafeDumper.add_multi_representer(StrEnum, lambda dumper, value: dumper.represent_str(str(value.value)))


class Parser(LightningArgumentParser):
    """A parser that raises its errors, so that they can be explained in one sentence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)  # a misspelled option must not pass as the abbreviation of another
        super().__init__(*args, **kwargs)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Parses a configuration file.

        Raises:
            ValueError: If it is not YAML with settings; names the file and the line.
        """
        check_file(Path(path))
        find_modules_of(Path(path))
        return super().parse_path(path, *args, **kwargs)

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        """Parses a configuration; one that an earlier version wrote is read under current names."""
        return super().parse_string(with_current_names(content), *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise ArgumentError(None, message) from ex


def load_config(content: str, name: str = "the configuration") -> Any:
    """Returns the content of a configuration in YAML, with every class path and setting under its current name.

    Args:
        content: The YAML.
        name: What an error calls it, such as its path.

    Raises:
        ValueError: If it can't be read.
    """
    return current_config(load_yaml(content, name))


def with_current_names(content: str) -> str:
    """Returns YAML with every class path and setting under its current name, and as it is if none was renamed."""
    config = load_yaml(content, "the configuration")
    current = current_config(config)
    return content if current == config else yaml.safe_dump(current, sort_keys=False)


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration to config.yaml in the run's folder.

    A run that goes on keeps the file of its previous attempt until `write` is called after the first step: with
    settings that fail before it, the run could not be resumed any more.
    """

    _written = False

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and not (Path(trainer.default_root_dir) / "config.yaml").exists():
            self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Writes the file, on rank 0, unless it has done so."""
        if self._written or not trainer.is_global_zero:
            return
        self._written = True
        config = self.config.clone()
        config.pop("ckpt_path", None)  # a resumed run names its checkpoint itself
        with atomic_write(Path(trainer.default_root_dir) / "config.yaml") as temporary:
            # What the data set has is found in it again; what was given instead is found only here.
            linked = all(config.get(f"model.init_args.{name}") is None for name in LINKED)
            dumped = self.parser.dump(config, skip_none=False, skip_validation=True, skip_link_targets=linked)
            temporary.write_text(first_line() + dumped)
