"""Explains in one sentence what is wrong with a command line or a configuration file.

jsonargparse lists every way in which a value failed to parse, over many lines. `explain` picks the one that a person
can act on and adds the accepted names.
"""

import inspect
import re
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import torch

import callbacks
import datamodules
import modules
from common.earlier_names import RENAMED

_ROOTS = [f"{root}.class_path" for root in ("model", "data", "optimizer", "lr_scheduler")]
_KINDS = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "text"}


def explain(message: str, known: Iterable[str]) -> str:
    """Returns one sentence for a message of jsonargparse (4.53 or newer; others are shortened to one line).

    Args:
        message: Message of the parser.
        known: Options of the command, without dashes.
    """
    options = sorted(known)
    # Lines such as "- Expected a <class 'NoneType'>" only mean that the value is optional.
    text = " ".join(re.sub(r"- Expected a <class 'NoneType'>", "", message).split())
    if match := re.search(r'^(?:Parser key|Problem with key) "([^"]+)"', text):
        return _explain_key(match[1], text)
    if match := re.search(r"unrecognized arguments: (.+)", text):
        wrong = match[1].split()[0]
        name = wrong.lstrip("-").partition("=")[0]
        if not wrong.startswith("-"):
            return f"{wrong!r} belongs to no option; write every setting as --key value or --key=value."
        return f"There is no option --{name}; {_suggest(name, options, '--')}"
    if match := re.search(r"does not accept option '([^']+)'", text):
        return f"The configuration has an unknown key {match[1]!r}; {_suggest(match[1], options + _ROOTS)}"
    if match := re.search(r"arguments are required: (?:\w+\.)?(\S+)", text):
        return f"The configuration has no {match[1]!r}; set --config to a topic, or --{match[1]} to a class."
    if match := re.search(r"(?:Problems parsing config:|Unexpected config:)(.+)", text):
        return f"The configuration file is not valid YAML with one setting a line ({match[1].strip()}); correct it."
    return f"{text.rstrip('.')}; see --help."


def _explain_key(key: str, text: str) -> str:
    """Explains an invalid value of a key, which is a class with settings or a plain value."""
    path = re.search(r"given class_path '([^']+)'", text)
    name = path[1].rsplit(".", 1)[-1] if path else ""
    inner = re.search(r'Parser key "([^"]+)"', text[len(f'Parser key "{key}"') :])
    option = f"--{key}.{inner[1]}" if inner else f"--{key}"
    if path and (match := re.search(r"Option '([^']+)' is not accepted", text)):
        if new_name := RENAMED.get(name, {}).get(match[1]):
            value = ", the probability of dropping: 1 − keep_prob" if match[1] == "keep_prob" else ""
            return f"{name} has no setting {match[1]!r} any more; it is called {new_name} now{value}."
        return f"{name} has no setting {match[1]!r}; {_suggest(match[1], _settings(path[1]))}"
    if path and re.search(r"has no attribute|No module named|Import of|Unable to import", text):
        return f"There is no class {path[1]!r} for {key}; {_suggest(name, _classes(key))}"
    if match := re.search(r"Expected a dot import path string: (\S+)", text):
        return f"There is no class {match[1]!r} for {key}; {_suggest(match[1], _classes(key))}"
    given = re.search(r"(?:Got value|Given value): (.+?)(?: Given value type|$| - Expected)", text)
    value = given[1].strip() if given else "something else"
    if match := re.search(r"Literal\[([^\]]+)\]", text):
        return f"{option} is {value!r}; it must be one of {match[1]}."
    if kinds := re.findall(r"Expected an? <class '([^']+)'>", text):
        return f"{option} is {value!r}; it must be {' or '.join(_KINDS.get(kind, kind) for kind in kinds)}."
    reason = re.search(r"Errors: - (.+?)(?: Given value|$)", text)
    return f"{option} can't be {value!r}" + (f" ({reason[1].strip()})" if reason else "") + "; see --help."


def _classes(key: str) -> list[str]:
    """Returns the class names that a key accepts."""
    homes: dict[str, Any] = {
        "model": modules.__all__,
        "data": datamodules.__all__,
        "trainer.callbacks": callbacks.__all__,
        "optimizer": [name for name in dir(torch.optim) if name[0].isupper()],
        "lr_scheduler": [name for name in dir(torch.optim.lr_scheduler) if name.endswith(("LR", "Restarts"))],
    }
    return list(homes.get(key, []))


def _settings(class_path: str) -> list[str]:
    """Returns the names of a class's settings, including those that it passes to its base classes."""
    module, _, name = class_path.rpartition(".")
    names: list[str] = []
    for base in inspect.getmro(getattr(import_module(module), name)):
        parameters = inspect.signature(vars(base)["__init__"]).parameters if "__init__" in vars(base) else {}
        names += [
            p.name for p in parameters.values() if p.name not in ("self", "params", "optimizer", "args", "kwargs")
        ]
        if parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return names


def _suggest(wrong: str, accepted: list[str], prefix: str = "") -> str:
    near = get_close_matches(wrong, accepted, 1, 0.6)
    if near:
        return f"did you mean {prefix}{near[0]}?"
    if 0 < len(accepted) <= 20:
        return f"use one of {', '.join(prefix + name for name in accepted)}."
    return "see --help for the accepted names."
