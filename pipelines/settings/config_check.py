"""Checks what jsonargparse accepts or fails on with a traceback: wrong YAML structure, null, NaN, infinity."""

import math
from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from jsonargparse import Namespace

from common.earlier_names import current_class_path
from common.errors import UserError
from common.messages.shortening import shorten
from common.ranges import check_range
from common.user_paths import expand
from common.yaml_text import load_yaml, read_yaml_file, yaml_leaves
from pipelines.settings.classes import CLASS_KEYS, GROUPS, settings_of_class
from pipelines.settings.type_words import in_words
from pipelines.settings.written_settings import WrittenSettings

_LARGEST_SEED = 2**32 - 1  # numpy's
_LARGEST = 2**63 - 1  # torch's int64
_AT_LEAST_ONE = {  # Lightning and torch divide by them in the middle of a run
    *("trainer.accumulate_grad_batches", "trainer.check_val_every_n_epoch", "lr_scheduler.step_size"),
    *("lr_scheduler.T_max", "lr_scheduler.T_0"),
}


def check_file(file: Path) -> None:
    """Checks that a configuration file is YAML with settings by name, and each class with its settings in init_args.

    Raises:
        ValueError: If it is not valid; the message names the file, the key and the line.
        OSError: If it can't be read.
    """
    text = read_yaml_file(file)
    content = load_yaml(text, str(file))
    if content is None:
        raise UserError(f"{file} is empty; give a YAML file with settings, such as the config.yaml of a run.")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else repr(shorten(str(content)))
        raise UserError(f"{file} is {kind}; it must have settings by name, such as model: LinearSVM.")
    lines = {key: line for key, line, _ in reversed(list(yaml_leaves(text)))}

    def place(key: str) -> str:
        line = next((line for found, line in lines.items() if f"{found}.".startswith(f"{key}.")), None)
        return f"{file}, line {line}" if line else str(file)

    for key, value in content.items():
        if not isinstance(key, str):
            raise UserError(f"{place(str(key))}: the name of a setting is {key!r}; it must be text, such as model.")
        if key == "config":
            raise UserError(f"{place(key)}: a file can't name another one as 'config'; give --config twice.")
        if key in GROUPS and not isinstance(value, dict):
            raise UserError(f"{place(key)}: {key} is {_shown(value)}; it must have settings by name, or be left out.")
        if key in CLASS_KEYS and value is not None and not isinstance(value, str | dict):
            raise UserError(
                f"{place(key)}: {key} is {_shown(value)}; it must be the name of a class, such as {CLASS_KEYS[key]}."
            )
        _check_classes(key, value, place)


def _check_classes(key: str, value: Any, place: Any) -> None:
    """Checks each mapping with a class_path, at `key` and below it."""
    if isinstance(value, list):
        for entry in value:
            _check_classes(key, entry, place)
    if not isinstance(value, dict):
        return
    for inner in value:
        if not isinstance(inner, str) and key in CLASS_KEYS:
            raise UserError(f"{place(key)}: the name of a setting is {inner!r}; it must be text.")
    if "class_path" in value:
        path, settings = value["class_path"], value.get("init_args", {})
        if not isinstance(path, str) or not path:
            where = place(f"{key}.class_path")
            raise UserError(f"{where}: the class_path of {key} is {_shown(path)}; it must be the name of a class.")
        if not isinstance(settings, dict):
            raise UserError(
                f"{place(f'{key}.init_args')}: the init_args of {key} are {_shown(settings)}; give settings by name, "
                "or leave init_args out."
            )
        if wrong := sorted(value.keys() - {"class_path", "init_args", "dict_kwargs"}):
            raise UserError(
                f"{place(f'{key}.{wrong[0]}')}: {key} has {wrong[0]!r} beside class_path; its settings belong in "
                "init_args."
            )
    for name, inner in value.items():
        _check_classes(key if name == "init_args" else f"{key}.{name}", inner, place)


def _shown(value: Any) -> str:
    return "null" if value is None else repr(shorten(str(value)))


def expand_paths(config: Any) -> Any:
    """Replaces the leading ~ or $VARIABLE of every text in parsed settings, in place; returns the settings.

    A shell replaces them only at the start of a word, and not at all in a file.
    """
    if isinstance(config, str):
        return expand(config)
    if isinstance(config, list):
        return [expand_paths(entry) for entry in config]
    if isinstance(config, dict | Namespace):
        for key, value in list(vars(config).items() if isinstance(config, Namespace) else config.items()):
            if isinstance(value, str | list | dict | Namespace):
                expanded = expand_paths(value)
                if isinstance(config, Namespace):
                    setattr(config, key, expanded)
                else:
                    config[key] = expanded
    return config


def check_values(config: Mapping[str, Any], arguments: Sequence[str], linked: Sequence[str]) -> None:
    """Checks the parsed settings: the seed's range, null only where a setting is optional, and no infinite number.

    Args:
        config: The parsed settings.
        arguments: The command line, by which a message names where a value is written.
        linked: Settings of models that stay null until the data module is built.

    Raises:
        ValueError: If a value is not accepted; the message names the key, and the file and line if it is in a file.
    """
    written: WrittenSettings | None = None
    seed = config["seed_everything"]
    if isinstance(seed, int):
        check_range("--seed_everything", seed, 0 <= seed <= _LARGEST_SEED, f"in [0, {_LARGEST_SEED}]")
    _check_root(config, arguments)
    for key, name, value, owner, parameter in _all_settings(config):
        if value is None and parameter.default not in (None, Parameter.empty) and name not in linked:
            hint = settings_of_class(owner).get(name)
            accepted = "" if hint is None or _accepts_null(hint) else in_words(hint)
            if not accepted:
                continue
        elif isinstance(value, int) and f"{key}.{name}" in _AT_LEAST_ONE and value < 1:
            accepted = "at least 1"
        elif any(isinstance(entry, int) and abs(entry) > _LARGEST for entry in _entries(value)):
            value, accepted = shorten(str(value)), f"at most {_LARGEST}"
        elif isinstance(value, float) and not math.isfinite(value) and not key.startswith("trainer"):
            accepted = "a finite number"
        else:
            continue
        written = written or WrittenSettings(arguments)
        given = written.find(f"{key}.{name}")
        place = f" ({given.place})" if given and given.place else ""
        shown = "null" if value is None else value
        if given and given.value.strip() == "~":
            shown = "~, which is null in YAML"
        raise UserError(f"--{key}.{name} is {shown}{place}; it must be {accepted}.")


def _check_root(config: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Refuses a data folder that does not exist: a mistyped one would be created, and gigabytes downloaded into it.

    That of a trained model is not checked, since predictions need no data; the default folder is created.
    """
    root = config.get("data.init_args.root")
    if not isinstance(root, str) or Path(root).exists():
        return
    given = WrittenSettings(arguments).find("data.root")
    if given is not None and "config.yaml" not in given.place:
        place = f" ({given.place})" if given.place else ""
        raise UserError(f"--data.root is {root!r}{place}, but there is no such folder; correct it, or make the folder.")


def _entries(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _accepts_null(hint: Any) -> bool:
    return hint in (None, Any, NoneType) or NoneType in get_args(hint)


def _all_settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, type, Parameter]]:
    """Yields key of the class, name and value of the setting, class and parameter, for each importable class."""
    from pydoc import locate

    owners: list[tuple[str, Any, Any]] = [(key, owner, config[key]) for key, owner in GROUPS.items()]
    classes = [(key, config.get(key)) for key in CLASS_KEYS]
    callbacks = config["trainer"].get("callbacks") or []
    classes += [("trainer.callbacks", value) for value in (callbacks if isinstance(callbacks, list) else [callbacks])]
    for key, value in classes:
        if value and value.get("class_path") and value.get("init_args"):
            owners.append((key, locate(current_class_path(value["class_path"])), value["init_args"]))
    for key, owner, settings in owners:
        if not isinstance(owner, type):
            continue
        for name, parameter in signature(owner).parameters.items():
            if name in settings:
                yield key, name, settings[name], owner, parameter
