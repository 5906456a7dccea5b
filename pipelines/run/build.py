"""Creates model and data module of a command line, as `fit` does, without writing anything."""

from pathlib import Path
from typing import Any

from pipelines.checkpoints.checkpoint_io import kept_by_data, read_checkpoint
from pipelines.console.lightning_messages import quiet
from pipelines.run import cli


class Untrained(cli.TopicCLI):
    """Parses and instantiates as `pipelines.train` does, but creates no run folder and does not train.

    Args:
        arguments: Command line after the program's name, with resolved paths.
        topic: Name of the topic.
        checkpoint: Checkpoint whose vocabulary or class names replace those of the data, which may be gone.
    """

    def __init__(self, arguments: list[str], topic: str, checkpoint: Path | None = None) -> None:
        self._checkpoint = checkpoint
        super().__init__(arguments, topic)

    def before_instantiate_classes(self) -> None:
        self.kept = kept_by_data(read_checkpoint(self._checkpoint)) if self._checkpoint else {}
        settings = self.config[self.subcommand]
        settings["trainer.logger"], settings["trainer.callbacks"] = False, None  # they may write files

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def _run_subcommand(self, subcommand: str) -> None:
        """Does nothing."""


def build(arguments: list[str], topic: str, checkpoint: Path | None = None) -> Untrained:
    """Returns the `model`, `datamodule` and `config` of a resolved command line.

    Raises:
        ValueError: If an argument is unknown or a value is out of range.
    """
    quiet()
    return Untrained(arguments, topic, checkpoint)
