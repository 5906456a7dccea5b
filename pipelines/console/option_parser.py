"""Argument parser of the commands that are not a `LightningCLI`."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.user_paths import user_path
from pipelines.console.near_names import nearest, suggest

_KINDS = {"int": "an integer", "float": "a number"}


class OptionParser(argparse.ArgumentParser):
    """An argparse parser that raises `UserError`; `prog` is `python -m pipelines.NAME`, and a command after it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)  # a misspelled option must not pass as the abbreviation of another
        super().__init__(*args, **kwargs)

    def parse_known_args(  # type: ignore[override]  # narrower types
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses as argparse does, with ~ in paths replaced; a command refuses what it does not know."""
        found, rest = super().parse_known_args(args, namespace)
        if rest and len(self.prog.split()) > 3:  # the parser of all commands does not know the options of this one
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        for name, value in vars(found).items():
            if isinstance(value, Path):
                setattr(found, name, user_path(value))
        return found, rest

    def error(self, message: str) -> None:  # type: ignore[override]  # raises rather than exits
        """Raises a UserError with one sentence for a message of argparse."""
        command = " ".join(self.prog.split()[:3])  # without the name of a subcommand
        raise UserError(self._explain(message) or f"{message[0].upper()}{message[1:]}; see {command} --help.")

    def _explain(self, message: str) -> str | None:
        command = " ".join(self.prog.split()[:4])
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        options = [option[2:] for option in options if option != "--help"]
        if match := re.match(r"unrecognized arguments: (\S+)", message):
            wrong = match[1].partition("=")[0]
            if not wrong.startswith("-"):
                return f"{wrong!r} belongs to no option; see {command} --help."
            name = wrong.lstrip("-")
            if self._takes_run() and nearest(name, options) is None and re.search("ckpt|checkpoint|run|model", name):
                return f"There is no option {wrong}; give the run first, without an option."
            return f"There is no option {wrong}; {suggest(name, options, '--')}"
        if match := re.match(r"the following arguments are required: (.+)", message):
            missing = match[1].replace(", ", " and ")
            verb = "are" if " and " in missing else "is"
            return f"{missing} {verb} missing; see {command} --help."
        if match := re.match(r"argument ([^:]+): expected .*argument", message):
            return f"{match[1]} has no value; see {command} --help."
        if match := re.match(r"argument ([^:]+): invalid choice: '(.*)' \(choose from (.+)\)$", message):
            name, value, choices = match[1], match[2], re.findall(r"[\w.-]+", match[3])
            near = nearest(value, choices)
            hint = f"did you mean {near}?" if near else f"it must be one of {', '.join(choices)}."
            return f"There is no command {value!r}; {hint}" if name == "COMMAND" else f"{name} is {value!r}; {hint}"
        if match := re.match(r"argument ([^:]+): invalid (\w+) value: (.+)$", message):
            return f"{match[1]} is {match[3]}; it must be {_KINDS.get(match[2], match[2])}."
        if match := re.match(r"argument ([^:]+): (.+)$", message):
            return f"{match[1]} {match[2].rstrip('.')}."
        return None

    def _takes_run(self) -> bool:
        return any(not action.option_strings and action.dest == "checkpoint" for action in self._actions)
