"""The command line of one trial, word for word what a W&B agent would start.

Macros: https://docs.wandb.ai/models/sweeps/define-sweep-configuration#command-macros.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError

_VARIABLE = re.compile(r"\$\{envvar:(\w+)\}")


def trial_command(template: tuple[str, ...], values: dict[str, Any], file: Path) -> list[str]:
    """Fills in the macros.

    Args:
        template: the sweep file's command.
        values: the trial's parameters as W&B hands them over, nested where the file nests.
        file: where ${args_json_file} is written, if the command asks for it.

    Raises:
        ValueError: a macro that is none.
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
                raise UserError(f"The command has the macro {word}, which is none of ${{{'}, ${'.join(macros)}}}.")
            words += macros[word[2:-1]]
        else:
            words.append(word)
    return words


def train_arguments(command: Sequence[str]) -> list[str] | None:
    """Returns what a command hands to `pipelines.train`, or None if it starts another program.

    The three ways to start it are `python -m pipelines.train`, `python pipelines/train.py` (the program of a sweep that
    W&B's page makes) and `l231n`.
    """
    for position, word in enumerate(command):
        path = Path(word)
        if word == "pipelines.train" or path.parts[-2:] == ("pipelines", "train.py") or path.name == "l231n":
            return list(command[position + 1 :])
    return None
