"""Builds the command line of a trial, word for word the one that a W&B agent starts.

Macros: https://docs.wandb.ai/models/sweeps/define-sweep-configuration#command-macros.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError

MACROS = (
    "env",
    "interpreter",
    "program",
    "args",
    "args_no_hyphens",
    "args_no_equals",
    "args_no_boolean_flags",
    "args_json",
    "args_json_file",
    "args_append_hydra",
    "args_override_hydra",
)
_VARIABLE = re.compile(r"\$\{envvar:(\w+)\}")


def trial_command(template: tuple[str, ...], values: dict[str, Any], file: Path) -> list[str]:
    """Replaces the macros of a sweep file's command.

    Args:
        template: Command of the sweep file, word by word.
        values: Parameters of the trial as W&B passes them, nested where the file is nested.
        file: Path at which the values are written if the command contains ${args_json_file}.

    Raises:
        ValueError: If a macro is unknown.
    """
    flags = {name: f"{name}={value}" for name, value in values.items()}
    macros: dict[str, list[str]] = {
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
        "args": [f"--{flag}" for flag in flags.values()],
        "args_no_hyphens": list(flags.values()),
        "args_no_equals": [word for name, value in values.items() for word in (f"--{name}", str(value))],
        "args_no_boolean_flags": [
            f"--{name}" if values[name] is True else f"--{flag}"
            for name, flag in flags.items()
            if values[name] is not False
        ],
        "args_json": [json.dumps(values)],
        "args_json_file": [str(file)],
        "args_append_hydra": [f"+{flag}" for flag in flags.values()],
        "args_override_hydra": [f"++{flag}" for flag in flags.values()],
    }
    if "${args_json_file}" in template:
        file.write_text(json.dumps(values))
    words: list[str] = []
    for word in template:
        word = _VARIABLE.sub(lambda match: os.environ.get(match[1], match[1]), word)
        if word.startswith("${") and word.endswith("}"):
            if word[2:-1] not in macros:
                raise UserError(f"The command has the unknown macro {word}; use one of ${{{'}, ${'.join(macros)}}}.")
            words += macros[word[2:-1]]
        else:
            words.append(word)
    return words


def train_arguments(command: Sequence[str]) -> list[str] | None:
    """Returns the arguments that a command passes to `pipelines.train`, or None if it starts another program.

    The three ways to start it are `python -m pipelines.train`, `python pipelines/train.py` (the program of a sweep made
    on W&B's page) and `l231n`.
    """
    for position, word in enumerate(command):
        path = Path(word)
        if word == "pipelines.train" or path.parts[-2:] == ("pipelines", "train.py") or path.name == "l231n":
            return list(command[position + 1 :])
    return None
