"""Explains in one sentence what is wrong with a command line or a configuration file.

jsonargparse lists every way in which a value failed to parse, over many lines. `explain` picks the one that the
user can act on, and names the setting as the user wrote it and what is accepted.
"""

import inspect
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from common.earlier_names import RENAMED
from common.errors import UserError
from common.messages.shortening import shorten
from common.yaml_text import InvalidYAML, load_yaml
from pipelines.console.near_names import suggest
from pipelines.settings.classes import CLASS_KEYS, GROUPS, class_names, find_class, settings_of_class
from pipelines.settings.type_words import in_words
from pipelines.settings.unknown_options import explain_unknown_key, explain_unknown_option
from pipelines.settings.written_settings import Written, WrittenSettings
from pipelines.tracking.wandb_options import OPTIONS


def explain(message: str, known: Iterable[str], arguments: Sequence[str] = ()) -> str:
    """Returns one sentence for a message of jsonargparse (4.53 or newer; others are shortened to one line).

    Args:
        message: Message of the parser.
        known: Options of the command, without dashes.
        arguments: The command line.
    """
    options = sorted(known)
    written = WrittenSettings(arguments)
    # Lines such as "- Expected a <class 'NoneType'>" only mean that the value is optional.
    text = " ".join(re.sub(r"- Expected a <class 'NoneType'>(?:\. Got value: .*)?", "", message).split())
    if match := re.search(r'^(?:Parser key|Problem with key) "([^"]+)"', text):
        return _explain_key(match[1], text, written)
    if match := re.search(r"unrecognized arguments: (.+)", text):
        classes = {root: found for root in CLASS_KEYS if (found := _written_class(root, written))}
        return explain_unknown_option(match[1].split()[0], options, classes)
    if match := re.search(r"does not accept option '([^']+)'", text):
        known_keys = [*options, *(f"{root}.class_path" for root in CLASS_KEYS)]
        meant = suggest(match[1], known_keys)
        if not meant.startswith("did you mean"):
            classes = {root: found for root in CLASS_KEYS if (found := _written_class(root, written))}
            meant = explain_unknown_key(match[1], options, classes) or meant
        place = _place(written.find(match[1].removesuffix(".class_path")))
        return f"The configuration has an unknown key {shorten(match[1])!r}{place}; {meant}"
    if match := re.search(r"arguments are required: (?:\w+\.)?(\S+)", text):
        return f"The configuration has no {match[1]!r}; set --config to a topic, or --{match[1]} to a class."
    if match := re.search(r"argument (?:-\w/)?--([\w.]+).*: expected .*argument", text):
        key = next((s.key for s in reversed(written.settings) if not s.value and s.key.startswith(match[1])), match[1])
        return f"--{key} has no value; write --{key} VALUE."
    if match := re.search(r'Invalid option "([^"]*)" for --print_config', text):
        return f"--print_config is {match[1]!r}; write --print_config alone."
    return f"{shorten(text.rstrip('.'), 300)}; see --help."


def _explain_key(key: str, text: str, written: WrittenSettings) -> str:
    """Explains an invalid value of a key, which is a class with settings or a plain value."""
    if refused := _refused_text(written):
        return refused
    if key == "trainer.logger" and (homeless := _logger_setting(written)):
        return homeless
    if match := re.search(r"Problem with given class_path '([^']*)':\s*(.*)", text):
        return _explain_class(key, match[1], match[2], written)
    given = written.find(key)
    if given is not None and not given.value and not given.place:
        return f"--{key} has no value; write --{key} VALUE."
    if given is not None and key in CLASS_KEYS and (missing := _undefined(find_class(given.value, key))):
        return f"{given.value} does not define {missing}{_place(given)}; define it, or use a subclass that does."
    if match := re.search(r"Expected a dot import path string: (\S+)", text):
        return _no_class(key, match[1], written)
    if "does not correspond to a subclass of" in text and given is not None:
        return _no_class(key, given.value, written)
    if "Unable to load config" in text:
        value, example = shorten(given.value if given else ""), f"--{key}.{_first_setting(key)}"
        return f"--{key} is {value!r}{_place(given)}; give its settings one by one, such as {example}."
    if "Not a valid subclass of" in text or "is not iterable" in text:
        example = CLASS_KEYS.get(key, "callbacks.Templates")
        return f"--{key} is {_value(given, text)}{_place(given)}; it must be the name of a class, such as {example}."
    if key in CLASS_KEYS and given is not None and "." in given.value:  # its module fails in another way
        return _no_class(key, given.value, written)
    group, _, name = key.rpartition(".")
    hints = settings_of_class(GROUPS[group]) if group in GROUPS else {}
    return _wrong_value(key, hints.get(name, int if key == "seed_everything" else None), text, written)


def _logger_setting(written: WrittenSettings) -> str | None:
    """Returns a sentence for a setting of a logger where no logger is named; None if there is none."""
    named = written.find("trainer.logger")
    own = [setting for setting in written.settings if setting.key.startswith("trainer.logger.")]
    if not own or (named is not None and named.value.lower() not in ("true", "false", "null", "")):
        return None
    name = own[-1].key.rpartition(".")[2]
    instead = f"that of W&B, the default, is --wandb.{name}" if name in OPTIONS else "W&B, the default, has --wandb.KEY"
    return (
        f"--{own[-1].key}{_place(own[-1])} belongs to no logger; {instead}. For another one, name its class first, "
        "such as --trainer.logger TensorBoardLogger."
    )


def _explain_class(key: str, path: str, problem: str, written: WrittenSettings) -> str:
    """Explains what is wrong with a class or with one of its settings.

    Args:
        key: Key of the class, such as "optimizer".
        path: Path of the class.
        problem: The parser's message about it.
        written: The settings as they are written.
    """
    name = path.rpartition(".")[2]
    if match := re.match(r'(?:Parser key|Problem with key) "([^"]+)"', problem):
        inner = f"{key}.{match[1]}"
        if nested := re.search(r"Problem with given class_path '([^']*)':\s*(.*)", problem):
            return _explain_class(inner, nested[1], nested[2], written)
        return _wrong_value(inner, _settings(path).get(match[1]), problem, written)
    if match := re.match(r"(?:Option '([^']+)' is not accepted|.*does not accept option '([^']+)')", problem):
        wrong = match[1] or match[2]
        if new_name := RENAMED.get(name, {}).get(wrong):
            value = ", the probability of dropping: 1 − keep_prob" if wrong == "keep_prob" else ""
            return f"{name} has no setting {wrong!r} any more; it is called {new_name} now{value}."
        if inspect.isabstract(find_class(path)) or name in ("Callback", "LightningModule", "LightningDataModule"):
            return (
                f"{key} has the setting {shorten(wrong)!r} of no class; give class_path, and its settings in init_args."
            )
        return f"{name} has no setting {shorten(wrong)!r}{_place(written.find(f'{key}.{wrong}'))}; " + suggest(
            wrong, list(_settings(path))
        )
    if match := re.match(r"the following arguments are required: (\S+)", problem):
        return f"{name} needs {match[1].rstrip(',')}; set --{key}.{match[1].rstrip(',')}."
    return _no_class(key, path, written)


def _wrong_value(key: str, hint: Any, text: str, written: WrittenSettings) -> str:
    """Says what a setting is, as it is written, and what it must be."""
    given = written.find(key)
    value = _value(given, text)
    accepted = "" if hint is None else in_words(hint, null=value.strip("'\"").lower() in ("none", "nil", "nan"))
    if not accepted:
        if match := re.search(r"Literal\[([^\]]+)\]", text):
            accepted = f"one of {match[1]}"
        elif kinds := re.findall(r"Expected an? <class '([^']+)'>", text):
            named = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "tuple": tuple, "dict": dict}
            accepted = " or ".join(dict.fromkeys(in_words(named[kind]) if kind in named else kind for kind in kinds))
    if not accepted:
        reason = re.search(r"Errors: - (.+?)(?: Given value|$)", text)
        return (
            f"--{key} can't be {value}" + (f" ({shorten(reason[1].strip(), 200)})" if reason else "") + "; see --help."
        )
    return f"--{key} is {value}{_place(given)}; it must be {accepted}{_correction(given, accepted)}."


def _correction(given: Written | None, accepted: str) -> str:
    """Returns how to write what was probably meant."""
    value = given.value.strip() if given else ""
    if "integer" in accepted and re.fullmatch(r"[-+]?[0-9.]+[eE]\+?[0-9]+", value) and float(value).is_integer():
        return f", such as {int(float(value))}"
    if "number" in accepted and (number := value.replace("−", "-").replace(",", ".")) != value:
        return f", such as {number}" if re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+", number) else ""
    return ""


def _refused_text(written: WrittenSettings) -> str | None:
    """Returns what is wrong with a value of the command line that jsonargparse reports for its whole class.

    A value is not UTF-8 text, or is YAML that is refused, such as a mapping with a key twice.
    """
    for setting in written.settings:
        if setting.place:
            continue
        if any("\ud800" <= character <= "\udfff" for character in setting.value):  # bytes, as os.fsdecode keeps them
            value = shorten(setting.value)
            return f"--{setting.key} is {value!r}, which is not UTF-8 text; correct it, or rename the file or folder."
        if set(setting.value) & set("{[&"):
            try:
                load_yaml(setting.value, f"--{setting.key}")
            except InvalidYAML:  # plain text to the parser
                continue
            except UserError as error:
                return str(error)
    return None


def _value(given: Written | None, text: str) -> str:
    """Returns a value in quotes as it is written, else as the parser's message has it."""
    if given is not None:
        return repr(shorten(given.value))
    said = re.search(r"(?:Got value|Given value): (.+?)(?: Given value type|$| - Expected| Subclass types)", text)
    value = said[1].strip() if said else "another kind of value"
    if match := re.match(r"\[?Namespace\(class_path='([^']+)'", value):
        value = match[1]
    elif match := re.match(r"NestedArg\(key='([^']*)', val=(.*)\)", value):
        value = match[2].strip("'\"")
    return repr(shorten(value))


def _place(given: Written | None) -> str:
    return f" ({given.place})" if given is not None and given.place else ""


def _no_class(key: str, path: str, written: WrittenSettings) -> str:
    """Explains why a class can't be imported: its module fails, or has no such class, or there is no module."""
    given = written.find(key)
    module, _, name = path.rpartition(".")
    known = class_names(key)
    if parsed := _setting_without_class(key, path, written):
        return parsed
    if module:
        try:
            found: Any = import_module(module)
        except ModuleNotFoundError as error:
            if error.name and not f"{module}.".startswith(f"{error.name}."):
                return (
                    f"{module} can't be imported (there is no module {error.name!r}); install it or correct {module}."
                )
            if module.partition(".")[0] not in ("modules", "datamodules", "callbacks"):
                return (
                    f"There is no module {error.name!r} for {key} {path}{_place(given)}; it must be installed, or a "
                    "file beside the configuration or in the working folder."
                )
        except Exception as error:  # a user's own file may fail in any way
            line = getattr(error, "lineno", None)
            where = f" in line {line}" if line else ""
            return (
                f"{module} can't be imported ({type(error).__name__}{where}: {shorten(str(error), 200)}); correct it."
            )
        else:
            if isinstance(getattr(found, name, None), type):
                base = {"model": "LightningModule", "data": "LightningDataModule"}.get(key)
                if base and not module.startswith(("modules", "datamodules")):
                    example = {"model": "modules.Classifier", "data": "datamodules.ImageDataModule"}[key]
                    return (
                        f"{path}{_place(given)} is not a {base}; derive it from {base}, or from a class that is one, "
                        f"such as {example}."
                    )
                return f"{path} is not a class for {key}{_place(given)}; {suggest(name, known)}"
            if module.partition(".")[0] not in ("modules", "datamodules", "callbacks", "torch", "lightning"):
                known = [own for own, value in vars(found).items() if isinstance(value, type)]
    return f"There is no class {shorten(path)!r} for {key}{_place(given)}; {suggest(name, known)}"


def _undefined(found: type | None) -> str:
    """Returns the names of a class's abstract methods, such as "inputs, read"; empty if it has none."""
    return ", ".join(sorted(getattr(found, "__abstractmethods__", ())))


def _setting_without_class(key: str, value: str, written: WrittenSettings) -> str | None:
    """Returns a sentence for a wrong value that the parser takes for the path of a class; None if it is one."""
    given = written.find_value(value, key)
    if given is None or given.key == key:
        return None
    owner = _written_class(key, written)
    hint = settings_of_class(owner).get(given.key.removeprefix(f"{key}.")) if owner else None
    return _wrong_value(given.key, hint, "", written) if hint is not None and in_words(hint) else None


def _written_class(key: str, written: WrittenSettings) -> type | None:
    given = written.find(key)
    return find_class(given.value, key) if given else None


def _settings(path: str) -> dict[str, Any]:
    """Returns the settings of a class and their type hints; none if it can't be imported."""
    owner = find_class(path)
    return {} if owner is None else settings_of_class(owner)


def _first_setting(key: str) -> str:
    return {"trainer": "max_epochs 5", "checkpoint": "save_top_k 1", "wandb": "mode offline"}.get(key, "KEY VALUE")
