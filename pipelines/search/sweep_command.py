"""Reads the command of a sweep file, and finds mistakes that would make every trial fail or ignore its parameters.

Forms: https://docs.wandb.ai/models/sweeps/define-sweep-configuration#command-example
"""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from common.errors import UserError
from pipelines.search.distributions import Distribution
from pipelines.trials.trial_command import MACROS, train_arguments

_DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")
_VARIABLE = re.compile(r"\$\{envvar:([^}]*)\}")
_ALMOST_ARGS = re.compile(r"[$({]+\s*(args\w*)\s*[)}]*,?")
_SHELLS = ("sh", "bash", "dash", "zsh")


def read_command(content: dict[str, Any]) -> tuple[str, ...]:
    """Returns the words of the command, with the macros that W&B fills in for each run.

    Args:
        content: The sweep file: `command`, or the `program` that W&B's default command starts.

    Raises:
        ValueError: If there is neither, or a word can't be one of a command.
    """
    command = content.get("command")
    program = content.get("program")
    if command is None:
        if not isinstance(program, str):
            raise UserError("there is neither a command nor a program; give the command that starts a run.")
        command = list(_DEFAULT)
    if isinstance(command, str):
        raise UserError(f"the command is one text; give a list of words: {json.dumps(_split(command))}.")
    if not isinstance(command, list) or not command:
        raise UserError(f"the command is {command!r}; give a list of words.")
    words = []
    for word in command:
        if isinstance(word, bool) or not isinstance(word, str | int | float):
            raise UserError(f"the command has {word!r}, which YAML does not read as text; write it in quotes.")
        if word == "${program}":
            if not isinstance(program, str):
                raise UserError("the command has ${program}, but there is no program; give one.")
            word = program
        words.append(str(word))
    for word in words:
        _check_word(word)
    return tuple(words)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is not closed
        return text.split()


def _check_word(word: str) -> None:
    macro = re.fullmatch(r"\$\{([^}]*)\}", word)
    if macro and not _VARIABLE.fullmatch(word) and macro[1] not in MACROS:
        variable = macro[1].rpartition(":")[2]
        hint = f"; an environment variable is ${{envvar:{variable}}}" if variable.isupper() else ""
        raise UserError(f"the command has the unknown macro {word}; use one of {_macro_list()}{hint}.")
    if (almost := _ALMOST_ARGS.fullmatch(word)) and not macro:
        raise UserError(f"the command has {word}, which is not a macro; write ${{{almost[1]}}} in quotes.")
    if macro is None:
        for name in re.findall(r"\$\{(\w+)\}", word):
            if name in MACROS:
                raise UserError(
                    f"the command has {word!r}, but ${{{name}}} must be a word of its own; write two words."
                )
    option = re.match(r"--?[A-Za-z][\w.-]*(?=\s)", word)
    if option:
        raise UserError(
            f"the command has {word!r} as one word; give {', '.join([option[0], *_split(word[option.end() :])])} as "
            "words of their own."
        )


def _macro_list() -> str:
    return ", ".join(f"${{{name}}}" for name in (*MACROS, "envvar:NAME"))


def check_command(words: tuple[str, ...], parameters: dict[str, Distribution]) -> None:
    """Finds what would fail in every trial that is started here, or would lose values on the way to it.

    Args:
        words: The command, as `read_command` returns it.
        parameters: The parameters whose values it passes.

    Raises:
        ValueError: If the program, an environment variable or a macro for the values is missing, or the macro can't
            carry some value.
    """
    for name in _VARIABLE.findall(" ".join(words)):
        if name not in os.environ:
            raise UserError(f"the command has ${{envvar:{name}}}, but there is no such environment variable; set it.")
    arguments = train_arguments(words)
    rest = words[: len(words) - len(arguments or [])]  # `pipelines.train` replaces a variable in its paths itself
    for word in () if any(Path(word).name in _SHELLS for word in words) else rest:
        if variable := re.match(r"(?:--?[\w.-]+=)?\$(\w+)", word):
            raise UserError(f"the command has {word}, which no shell replaces; write ${{envvar:{variable[1]}}}.")
    _check_program(words)
    macros = [word[2:-1] for word in words if word.startswith("${args")]
    if not macros:
        raise UserError("the command has no ${args}, so a trial would not get its values; add it as the last word.")
    if arguments is not None:
        _check_macro(words, macros[0], parameters)


def _check_program(words: tuple[str, ...]) -> None:
    rest = list(words)
    if rest[0] in ("${env}", "/usr/bin/env", "env"):
        del rest[0]
        while rest and re.match(r"[A-Za-z_]\w*=", rest[0]):  # variables that env sets
            del rest[0]
    rest = [_VARIABLE.sub(lambda match: os.environ[match[1]], word) for word in rest]
    if not rest:
        raise UserError("the command starts no program; give one.")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if rest[0] != "${interpreter}" and shutil.which(rest[0], path=path) is None:
        raise UserError(f"the command starts {rest[0]}, which is not installed here; correct it.")
    script = rest[1] if len(rest) > 1 else ""
    is_python = rest[0] == "${interpreter}" or Path(rest[0]).name.startswith("python")
    if is_python and script and not script.startswith(("-", "${")) and not Path(script).exists():
        raise UserError(
            f"the program {script} is not in {Path.cwd()}; give its path from there, such as pipelines/train.py."
        )


def _check_macro(words: tuple[str, ...], macro: str, parameters: dict[str, Distribution]) -> None:
    """Checks that a macro carries all values to `pipelines.train`."""
    before = words[words.index(f"${{{macro}}}") - 1]
    instead = 'end the command with --config, "${args_json_file}"'
    if macro == "args_json_file":
        if before not in ("--config", "-c"):
            raise UserError("the command has ${args_json_file} without --config; write --config before it.")
        for name in ("config", "ckpt_path"):
            if name in parameters:
                raise UserError(
                    f"parameter {name} can't be in the file of ${{args_json_file}}; end the command with ${{args}}."
                )
        return
    for name, distribution in parameters.items():
        for value in distribution.examples:
            if macro == "args_no_boolean_flags" and isinstance(value, bool):
                word = str(value).lower()
                raise UserError(f"parameter {name} has the value {word}, which ${{{macro}}} leaves out; {instead}.")
            if value is not None and _contains_null(value):  # a null by itself is understood as the word None
                raise UserError(
                    f"parameter {name} has a list with null, which ${{{macro}}} passes on as the word None; {instead}."
                )


def _contains_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_contains_null(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_contains_null(inner) for inner in value)
    return value is None
