"""Creates model and data module of a command line, as `fit` does, without writing anything."""

from typing import Any

from pipelines.run import cli


class Untrained(cli.TopicCLI):
    """Parses and instantiates as `pipelines.train` does, but creates no run folder and does not train."""

    def before_instantiate_classes(self) -> None:
        settings = self.config[self.subcommand]
        settings["trainer.logger"], settings["trainer.callbacks"] = False, None  # they may write files

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def _run_subcommand(self, subcommand: str) -> None:
        """Does nothing."""


def build(arguments: list[str], topic: str) -> Untrained:
    """Returns the `model`, `datamodule` and `config` of a resolved command line.

    Raises:
        ValueError: If an argument is unknown or a value is out of range.
    """
    cli.quiet()
    return Untrained(arguments, topic)
