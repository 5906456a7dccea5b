"""Argument parser of the commands that are not a `LightningCLI`."""

import argparse

from common.errors import UserError


class OptionParser(argparse.ArgumentParser):
    """An argparse parser that raises `UserError`; `prog` is `python -m pipelines.NAME`."""

    def error(self, message: str) -> None:  # type: ignore[override]  # raises rather than exits
        command = " ".join(self.prog.split()[:3])  # without the name of a subcommand
        raise UserError(f"{message[0].upper()}{message[1:]}; see {command} --help.")
