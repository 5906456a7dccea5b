"""The model and data of a command line as `fit` begins with them: checked, built, and nothing written."""

from typing import Any

from pipelines.run import cli


class Untrained(cli.TopicCLI):
    """Parses and builds as `pipelines.train` does, but neither makes a run folder nor trains."""

    def before_instantiate_classes(self) -> None:
        mine = self.config[self.subcommand]
        mine["trainer.logger"], mine["trainer.callbacks"] = False, None  # they may write files once they are built

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        return None

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing: what was built is all that is wanted."""


def build(arguments: list[str], topic: str) -> Untrained:
    """Its `model` and `datamodule`, untrained, and its `config`, of a resolved command line.

    Raises:
        ValueError: arguments that can't be understood, or values out of range.
    """
    cli.quiet()
    return Untrained(arguments, topic)
