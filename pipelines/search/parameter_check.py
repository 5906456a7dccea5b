"""Checks a sweep's parameters with the parser of `pipelines.train` before any trial is started.

The check runs in a process of its own, `python -m pipelines.search.parameter_check`, because it imports torch and
Lightning. It reads command lines from standard input and writes the first error to standard output, both as JSON.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from common.errors import UserError
from pipelines.search.sweep_command import check_command
from pipelines.search.sweep_file import SweepFile
from pipelines.trials.trial_command import train_arguments, trial_command


def check_parameters(sweep: SweepFile) -> None:
    """Parses command lines that together contain every category and both ends of every range.

    Of a command that starts another program than `pipelines.train` only its own words are checked.

    Raises:
        ValueError: If the command can't be started or does not pass the values on, or the command line has no such
            parameter, or does not accept one of its values.
    """
    try:
        check_command(sweep.command, sweep.parameters)
    except ValueError as problem:
        raise UserError(f"{sweep.path}: {problem}") from None
    if train_arguments(sweep.command) is None:
        return
    with TemporaryDirectory() as folder:
        lines = []
        for number, point in enumerate(_points(sweep)):
            words = trial_command(sweep.command, sweep.nested(point), Path(folder) / f"{number}.json")
            lines.append(train_arguments(words) or [])
        answer = subprocess.run(
            [sys.executable, "-m", "pipelines.search.parameter_check"],
            input=json.dumps(lines),
            capture_output=True,
            text=True,
            check=False,
        )
    if answer.returncode:
        raise RuntimeError(answer.stderr)
    error = json.loads(answer.stdout.splitlines()[-1])
    if error is not None:
        raise UserError(f"{sweep.path}: {error}")


def _points(sweep: SweepFile) -> list[dict[str, Any]]:
    """The first example of every parameter, and each further example with the others at their first."""
    examples = {name: distribution.examples for name, distribution in sweep.parameters.items()}
    first = {name: values[0] for name, values in examples.items()}
    others = [{**first, name: value} for name, values in examples.items() for value in values[1:]]
    return [first, *others]


def _first_error(lines: list[list[str]]) -> str | None:
    """Parses command lines; returns the message of the first error, or None."""
    from pipelines.run.cli import TopicCLI, quiet
    from pipelines.train import resolve

    class Parsed(Exception):
        """The command line was parsed without an error."""

    class ParsingOnly(TopicCLI):
        """The command line of `pipelines.train`, stopped before it instantiates any class."""

        built: ClassVar[dict[str, Any]] = {}  # shared by all command lines: building it takes two thirds of the time

        def setup_parser(self, *arguments: Any) -> None:
            if not self.built:
                before = set(vars(self))
                super().setup_parser(*arguments)
                self.built.update({name: value for name, value in vars(self).items() if name not in before})
            vars(self).update(self.built)

        def before_instantiate_classes(self) -> None:
            raise Parsed

    quiet()
    for line in lines:
        try:
            ParsingOnly(*resolve(line))
        except Parsed:
            continue
        except ValueError as error:
            return str(error)
    return None


if __name__ == "__main__":
    print(json.dumps(_first_error(json.load(sys.stdin))))
