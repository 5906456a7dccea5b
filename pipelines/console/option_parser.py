"""A command's options, for the pipelines that are no `LightningCLI`."""

import argparse

from common.errors import UserError


class OptionParser(argparse.ArgumentParser):
    """Raises its errors, so that they end in one sentence like all others. `prog` is `python -m pipelines.NAME`."""

    def error(self, message: str) -> None:  # type: ignore[override]  # raises rather than exits
        command = " ".join(self.prog.split()[:3])  # without the name of a subcommand
        raise UserError(f"{message[0].upper()}{message[1:]}; see {command} --help.")
