"""Checks a sweep's parameters with the parser of `pipelines.train` before any trial is started.

The check runs in a process of its own, `python -m pipelines.search.parameter_check`, because it imports torch and
Lightning. It reads command lines from standard input and writes what it found to standard output, both as JSON.
"""

import json
import re
import subprocess
import sys
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.errors import UserError
from pipelines.search.sweep_command import check_command
from pipelines.search.sweep_file import SweepFile
from pipelines.trials.trial_command import train_arguments, trial_command


def check_parameters(sweep: SweepFile) -> str | None:
    """Parses command lines that together contain every category and both ends of every range.

    Of a command that starts another program than `pipelines.train` only its own words are checked.

    Returns:
        Name of the model's class, without its module; None if it is unknown.

    Raises:
        ValueError: If the command can't be started or does not pass the values on, or the command line has no such
            parameter, or does not accept one of its values.
    """
    try:
        check_command(sweep.command, sweep.parameters)
    except ValueError as problem:
        raise UserError(f"{sweep.path}: {problem}") from None
    if train_arguments(sweep.command) is None:
        return None
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
    found = json.loads(answer.stdout.splitlines()[-1])
    error = found["error"] or _metric_error(sweep, found["monitor"], found["mode"])
    if error is not None:
        error = re.sub(rf"{re.escape(folder)}/\d+\.json(, line \d+)?", "the file of values", error)
        raise UserError(f"{sweep.path}: {error}")
    model: str | None = found["model"]
    return model


def _metric_error(sweep: SweepFile, monitor: str | None, mode: str) -> str | None:
    """Compares the sweep's metric with the one by which the topic chooses its best checkpoint."""
    if monitor is None:
        return None
    goal = {"max": "maximize", "min": "minimize"}[mode]
    if sweep.metric == monitor:
        wrong = f"the metric's goal is {sweep.goal}, but the best checkpoint is that of the {mode}imum {monitor}"
        return None if sweep.goal == goal else f"{wrong}; give goal: {goal}."
    split, _, name = monitor.partition("/")
    given_split, slash, given = sweep.metric.partition("/")
    if slash:
        meant = given_split == split and bool(name.startswith(given) or get_close_matches(given, [name], 1, 0.8))
    else:
        letters = re.sub("[^a-z]", "", sweep.metric.lower())
        short = letters.removeprefix(split)
        meant = letters in (name, split + name) or (short != letters and short != "" and name.startswith(short))
    return f"no run logs the metric {sweep.metric!r}; did you mean {monitor}?" if meant else None


def _points(sweep: SweepFile) -> list[dict[str, Any]]:
    """The first example of every parameter, and each further example with the others at their first."""
    examples = {name: distribution.examples for name, distribution in sweep.parameters.items()}
    first = {name: values[0] for name, values in examples.items()}
    others = [{**first, name: value} for name, values in examples.items() for value in values[1:]]
    return [first, *others]


def _check(lines: list[list[str]]) -> dict[str, str | None]:
    """Parses command lines and creates data module, model and optimizer of each.

    Returns:
        The first `error`, or None; `monitor` and `mode` by which the runs choose their best checkpoint; the `model`'s
        class.

    Models are created without memory, weights from elsewhere or a vocabulary, and no data is read: what only data or
    files can show is left to the runs.
    """
    found: dict[str, str | None] = {"error": None, "monitor": None, "mode": None, "model": None}
    import torch

    from common.vocabulary import SPECIAL_WORDS
    from pipelines.console.lightning_messages import quiet
    from pipelines.run.build import Untrained
    from pipelines.settings.shared_parser import SharedParser
    from pipelines.train import resolve

    shared = SharedParser()

    class Checked(Exception):
        """The command line was checked as far as that is possible without data."""

    class Checking(Untrained):
        """The command line of `pipelines.train`, stopped before it creates a trainer."""

        def setup_parser(self, *arguments: Any) -> None:
            shared.set_up(self, partial(super().setup_parser, *arguments))

        def before_instantiate_classes(self) -> None:
            super().before_instantiate_classes()
            settings = self.config[self.subcommand]
            found.update({name: settings.get(f"checkpoint.{name}") for name in ("monitor", "mode")})
            found["model"] = str(settings.get("model.class_path")).rpartition(".")[2]
            for key in ("pretrained", "checkpoint"):
                if settings.get(f"model.init_args.{key}"):
                    settings[f"model.init_args.{key}"] = None

        def _attribute_of_data(self, name: str, data: Any) -> Any:
            if name == "vocabulary" and hasattr(type(data), name):
                return [*SPECIAL_WORDS, "word"]
            try:
                return super()._attribute_of_data(name, data)
            except OSError as error:
                raise Checked from error

        def instantiate_classes(self) -> None:
            shared.read(self)
            try:
                with torch.device("meta"):
                    super().instantiate_classes()
            except UserError:
                raise
            except Exception as error:  # of a model that can't be created without memory, say
                raise Checked from error
            raise Checked

    quiet()
    for line in lines:
        try:
            Checking(*resolve(line))
        except Checked:
            continue
        except ValueError as error:
            found["error"] = str(error)
            break
    return found


if __name__ == "__main__":
    print(json.dumps(_check(json.load(sys.stdin))))
