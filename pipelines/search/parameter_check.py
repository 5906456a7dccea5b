"""Checks a sweep's parameters against the real command line before anything is started.

It runs in a process of its own, `python -m pipelines.search.parameter_check`, since it imports torch and Lightning: command
lines in on standard input, JSON, and the first complaint out on standard output.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from common.errors import UserError
from pipelines.search.sweep_file import SweepFile
from pipelines.search.trial_command import train_arguments, trial_command


def check_parameters(sweep: SweepFile) -> None:
    """Parses command lines that between them have every category and both ends of every range.

    A command that does not start `pipelines.train` is left unchecked: only that program knows what it takes.

    Raises:
        ValueError: the command line does not know a parameter, or does not take one of its values.
    """
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
    complaint = json.loads(answer.stdout.splitlines()[-1])
    if complaint is not None:
        raise UserError(f"{sweep.path}: {complaint}")


def _points(sweep: SweepFile) -> list[dict[str, Any]]:
    examples = {name: distribution.examples for name, distribution in sweep.parameters.items()}
    first = {name: values[0] for name, values in examples.items()}
    others = [{**first, name: value} for name, values in examples.items() for value in values[1:]]
    return [first, *others]


def _first_complaint(lines: list[list[str]]) -> str | None:
    from pipelines.run.cli import TopicCLI, quiet
    from pipelines.train import resolve

    class Parsed(Exception):
        """Nothing was wrong; there is nothing left to do."""

    class ParsingOnly(TopicCLI):
        """The command line proper, up to the point where it would make something."""

        built: ClassVar[dict[str, Any]] = {}  # by the first line for all, since it takes two thirds of the time

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
    print(json.dumps(_first_complaint(json.load(sys.stdin))))
